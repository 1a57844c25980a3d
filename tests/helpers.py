"""What the tests share: schemes and small models of them, extensions bound, posx as a command."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from typer.testing import CliRunner

from posx.cli.app import app
from posx.extensions.base import NONE, Applied, Extension
from posx.models.binding import bind
from posx.models.classes import known_extensions, known_schemes
from posx.models.decoder import Decoder
from posx.schemes.base import Scheme, Site
from posx.verify.oracles.small import (
    CONTEXT,
    TINY,
    VARIANTS,
    VOCAB,
    gap,
    make_model,
    make_scheme,
    random_tokens,
    sharpen,
)

__all__ = [
    "CONTEXT", "TINY", "VARIANTS", "VOCAB", "extend", "extensions", "gap", "make_model", "make_scheme", "named",
    "needed",
    "posx", "random_tokens", "rotated", "schemes", "sharpen",
]  # fmt: skip

torch.set_num_threads(1)

FAMILIES = ("gpt", "llama")
SCHEMES = tuple(sorted(known_schemes()))
# Schemes whose logits may depend on i − j alone.
ABSOLUTE = ("fire", "learned", "learned-concat", "randomized", "shape", "sinusoidal", "sinusoidal-concat")
RELATIVE = tuple(s for s in SCHEMES if s not in ABSOLUTE)
# Schemes whose attention can leave out keys.
MASKABLE = tuple(s for s, (cls, _) in sorted(known_schemes().items()) if getattr(cls, "masks", True))
schemes = functools.cache(known_schemes)
extensions = functools.cache(known_extensions)


def rotated(scheme: Scheme, q: Tensor, k: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """What the scheme makes of q and k [B, H, T, D] at these positions."""
    return scheme.rotate(q, k, Site(positions, positions, shared=scheme.prepare(positions, NONE)))


def named(name: str, **params: Any) -> Extension:
    """An extension by its name on the command line."""
    cls = extensions()[name]
    return cls.of(cls.Config(**params), name)


def extend(model: Decoder, length: int, **asked: dict[str, Any]) -> Applied:
    """Extensions by name with their parameters, bound at this length: ``extend(model, 64, pi={})``."""
    specs = [named(name, **params) for name, params in asked.items()]
    return bind(specs, model.scheme, length)


def needed(name: str, scheme: Scheme) -> dict[str, Any]:
    """The parameters of an extension that has no defaults for this scheme, or none that reach 4x of 16 tokens."""
    pairs = getattr(scheme, "rotated", 0) // 2
    factors = ":".join(str(1 + k) for k in range(pairs))
    return {"longrope": {"factors": factors}, "self-extend": {"w": 8}}.get(name, {})


def posx(*arguments: object, code: int = 0) -> Any:
    """A command in this process; anything but a clean exit with this code is a failure with its output."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, f"exit code {result.exit_code}\n{result.stdout}\n{result.stderr}"
    return result
