"""Protocols: which tokens are scored at a length. Each is a module, named as in ``eval.protocol``."""

from __future__ import annotations

from importlib import import_module

from posx.config.schema import EvalConfig
from posx.data.corpus import Corpus
from posx.evaluation.protocols.base import Protocol


def make_protocol(corpus: Corpus, config: EvalConfig, base_context: int) -> Protocol:
    """The protocol of a complete evaluation config: the class in the module of its name. Raises PosxError."""
    module = import_module(f"{__name__}.{config.protocol.replace('-', '_')}")
    (found,) = (
        one for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, Protocol) and getattr(one, "name", "") == config.protocol
    )  # fmt: skip
    return found(corpus, config, base_context)
