"""Evaluation lengths: parsing, checks, and settings that models at several lengths share."""

from __future__ import annotations

import math
import re
from dataclasses import replace

from posx.config.schema import EvalConfig
from posx.errors import PosxError

MOST_TOKENS = 10**9  # of a window


def parse_length(text: str, context: int) -> int:
    """Tokens of ``3000`` or ``1.5x``, a multiple of the base context. Raises PosxError.

    A multiple must be at least 1 and give a whole number of tokens.
    """
    match = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)x", text.strip())
    if match is None:
        raise PosxError(
            f"'{text}' is not a valid length.",
            "Give tokens, such as 3000, or a multiple of the base context, such as 2x.",
        )
    if match.group(1):
        tokens = int(match.group(1))
        if tokens < 1:
            raise PosxError("A length of 0 tokens is not valid.", "Give at least 1.")
        return _within_limit(text, tokens)
    multiple = float(match.group(2))
    if multiple < 1:
        raise PosxError(
            f"A multiple must be at least 1, but {text} was given.",
            f"For a shorter length, give tokens: {multiple * context:g}.",
        )
    exact = min(multiple * context, 10.0 * MOST_TOKENS)
    if abs(exact - round(exact)) > 1e-9:
        raise PosxError(
            f"{text} of a base context of {context} is {exact:g}, not a whole number of tokens.",
            f"Give tokens: {math.floor(exact)} or {math.ceil(exact)}.",
        )
    return _within_limit(text, round(exact))


def _within_limit(text: str, tokens: int) -> int:
    if tokens > MOST_TOKENS:
        raise PosxError(f"A length of {text} is longer than any document.", f"Give at most {MOST_TOKENS} tokens.")
    return tokens


def comparable(config: EvalConfig, contexts: list[int]) -> EvalConfig:
    """The config with ``stride`` and ``target_context`` set, for all models with these base contexts L.

    If they were set per model, models with different L would be scored on different targets. The stride depends on the
    smallest L; the target context is the longest of 8x and the requested lengths (docs/protocol.md).
    """
    lengths = [parse_length(text, context) for context in contexts for text in config.lengths]
    return replace(
        config,
        stride=config.stride or max(1, min(contexts) // 32),
        target_context=config.target_context or max(*lengths, *(8 * context for context in contexts)),
    )


def check_windows(config: EvalConfig, lengths: list[int]) -> None:
    """Raise PosxError if the stride, the number of targets or the target context does not fit these lengths."""
    if config.protocol not in ("fixed-targets", "curve"):
        return
    stride, target_context = config.stride or 1, config.target_context or max(lengths)
    if stride > min(lengths):
        raise PosxError(
            f"eval.stride={stride} scores more tokens than a window of {min(lengths)} contains.",
            "Use a stride no longer than the shortest length.",
        )
    if config.max_targets < stride:
        raise PosxError(
            f"eval.max_targets={config.max_targets} is less than the targets of one window (eval.stride={stride}).",
            f"Set eval.max_targets to at least {stride}.",
        )
    if target_context < max(lengths):
        raise PosxError(
            f"eval.target_context={target_context} is shorter than the length {max(lengths)}: "
            "windows would begin before their documents.",
            "Omit eval.target_context, or make it at least as long.",
        )
