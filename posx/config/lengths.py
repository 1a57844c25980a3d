"""Lengths in tokens: as a user writes them, and what an evaluation at several of them needs."""

from __future__ import annotations

import math
import re
from dataclasses import replace

from posx.config.schema import EvalConfig
from posx.errors import PosxError

MOST_TOKENS = 10**9  # of one window


def parse_length(text: str, context: int) -> int:
    """``3000`` or ``1.5x`` (a multiple of the base context, at least 1, that gives whole tokens) in tokens."""
    match = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)x", text.strip())
    if match is None:
        raise PosxError(
            f"'{text}' is not a length.",
            "Give tokens, such as 3000, or a multiple of the training context, such as 2x.",
        )
    if match.group(1):
        tokens = int(match.group(1))
        if tokens < 1:
            raise PosxError("A length of 0 tokens reads nothing.", "Give at least 1.")
        return _sane(text, tokens)
    multiple = float(match.group(2))
    if multiple < 1:
        raise PosxError(
            f"A multiple is at least 1, but {text} was given.",
            f"For a shorter context give tokens: {multiple * context:g}.",
        )
    exact = min(multiple * context, 10.0 * MOST_TOKENS)
    if abs(exact - round(exact)) > 1e-9:
        raise PosxError(
            f"{text} of a context of {context} is {exact:g}, not a whole number of tokens.",
            f"Give tokens: {math.floor(exact)} or {math.ceil(exact)}.",
        )
    return _sane(text, round(exact))


def _sane(text: str, tokens: int) -> int:
    if tokens > MOST_TOKENS:
        raise PosxError(f"A length of {text} is longer than any document.", f"Give at most {MOST_TOKENS} tokens.")
    return tokens


def comparable(config: EvalConfig, contexts: list[int]) -> EvalConfig:
    """``stride`` and ``target_context`` filled in, once for all models with these base contexts L.

    Set for each model alone, models of unlike L would be scored on unlike targets. S follows the smallest L, the
    context of the targets is the longest of 8x and the lengths asked (docs/protocol.md).
    """
    lengths = [parse_length(text, context) for context in contexts for text in config.lengths]
    return replace(
        config,
        stride=config.stride or max(1, min(contexts) // 32),
        target_context=config.target_context or max(*lengths, *(8 * context for context in contexts)),
    )


def check_windows(config: EvalConfig, lengths: list[int]) -> None:
    """Refuse a stride or a context of targets that these lengths cannot have."""
    if config.protocol not in ("fixed-targets", "curve"):
        return
    stride, target_context = config.stride or 1, config.target_context or max(lengths)
    if stride > min(lengths):
        raise PosxError(
            f"eval.stride={stride} scores more tokens than a window of {min(lengths)} holds.",
            "Give a stride no longer than the shortest length.",
        )
    if config.max_targets < stride:
        raise PosxError(
            f"eval.max_targets={config.max_targets} is less than one window scores (eval.stride={stride}).",
            f"Give eval.max_targets of at least {stride}.",
        )
    if target_context < max(lengths):
        raise PosxError(
            f"eval.target_context={target_context} is shorter than a length of {max(lengths)}: "
            "windows would cross the beginning of documents.",
            "Leave eval.target_context out, or make it at least as long.",
        )
