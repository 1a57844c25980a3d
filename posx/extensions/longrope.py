"""LongRoPE: the frequency of each pair is divided by a separate factor, found by a search.

    θ_k → θ_k / λ_k  at positions p ≥ n,  unchanged at p < n;  cos and sin · √(1 + ln s / ln L)

for ℓ > L, or at every length if s is fixed. Up to L nothing changes, to the bit, as with short factors of 1 in
transformers.

Source: Ding et al. 2024, arXiv 2402.13753, section 3.1: the angle of position p is p·θ_k times 1 or 1 / λ_k. The factor
of cos and sin is as in the released code and in transformers' rope type ``longrope``, there for a fixed s.
Shapes: λ [R/2], float32.
Pitfall: with n > 0 the angle jumps at n, and a logit depends on more than the distance. The first positions keep their
angles, but cos and sin are scaled at all positions (the released code exempts the first ones). Factors are valid only
for the length that they were searched for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from posx.errors import PosxError, Unsupported
from posx.extensions.base import Target
from posx.extensions.pi import Scaled

SEARCH = "Search for them: posx search longrope RUN --length 4x."
EXAMPLE = "Give one per rotated pair, such as factors=1:1.2:2.5:4, or a YAML file written by posx search longrope."


@dataclass
class LongRopeConfig:
    """``factors``: λ_1:λ_2:…, one per pair, or a YAML file of a search, which also has defaults for n and attention.

    ``n``: number of first positions that are not rescaled. ``attention``: factor of cos and sin, None: computed from s
    and L. ``s``: fixed scale, None: max(1, ℓ / L) at each length ℓ.
    """

    factors: str = ""
    n: int = 0
    attention: float | None = None
    s: float | None = None


class LongRope(Scaled):
    """A factor per pair."""

    Config = LongRopeConfig
    changes = "spectrum"

    @classmethod
    def read(cls, given: dict[str, Any], load: Callable[[Path, str], Any]) -> dict[str, Any]:
        text = str(given.get("factors", ""))
        if not text:
            return given
        factors = numbers(text)
        read = from_file(text, load) if factors is None else {"factors": written(factors)}
        return {**read, **{key: value for key, value in given.items() if key != "factors"}}

    @classmethod
    def check(cls, config: Any) -> None:
        super().check(config)
        factors = numbers(config.factors)
        if not factors:
            raise PosxError("longrope requires factors, one per rotated pair.", SEARCH)
        wrong = next((value for value in factors if not 1 <= value < math.inf), None)
        if wrong is not None:
            raise PosxError(f"longrope has a factor of {wrong:g}; each must be at least 1 and finite.", EXAMPLE)
        if config.n < 0:
            raise PosxError(f"longrope with n={config.n}: n must be at least 0.", "n=0 rescales all positions.")
        if config.attention is not None and not 0 < config.attention < math.inf:
            raise PosxError(
                f"longrope with attention={config.attention:g}: it must be above 0 and finite.",
                "Omit it for √(1 + ln s / ln L), or use attention=1.",
            )

    def check_scheme(self, name: str, target: Target) -> None:
        count = len(numbers(self.config.factors) or [])
        if 2 * count != target.rotated:
            raise PosxError(
                f"longrope was given {count} factor{'' if count == 1 else 's'}, but {name} rotates "
                f"{target.rotated // 2} pairs here.",
                "Factors are specific to a model. Search for them: posx search longrope RUN --length 4x.",
            )

    @classmethod
    def variants(cls, target: Target) -> list[dict[str, Any]]:
        return []  # factors are unknown before a search

    def resolved(self, target: Target) -> dict[str, Any]:
        return {
            **super().resolved(target),
            "factors": numbers(self.config.factors),
            "n": self.config.n,
            "amplitude": self.amplitude(target),
        }

    def frozen(self, target: Target) -> dict[str, Any]:
        return super().resolved(target)  # factors, n and attention do not depend on the length

    def spectrum(self, frequencies: Tensor, target: Target) -> Tensor:
        if self.scale(target) == 1:
            return frequencies
        factors = numbers(self.config.factors) or []
        if len(factors) != len(frequencies):
            raise Unsupported(
                f"longrope has {len(factors)} factors for a layer that rotates {len(frequencies)} pairs.",
                "Use schemes that rotate the same number of pairs in every layer.",
            )
        return frequencies / torch.tensor(factors, device=frequencies.device, dtype=torch.float32)

    def unscaled(self, target: Target) -> int:
        return 0 if self.scale(target) == 1 else self.config.n

    def amplitude(self, target: Target) -> float:
        s = self.scale(target)
        if s == 1:
            return 1.0
        return attention_of(s, target.context) if self.config.attention is None else float(self.config.attention)


def attention_of(s: float, context: int) -> float:
    """√(1 + ln s / ln L)."""
    return math.sqrt(1 + math.log(s) / math.log(context))


def numbers(text: str) -> list[float] | None:
    """Parse ``1:1.2:4``; None if the text has another form."""
    try:
        return [float(part) for part in text.split(":")]
    except ValueError:
        return None


def written(factors: Sequence[float]) -> str:
    """Format factors as ``1:1.2:4``, so that equal factors give equal record names."""
    return ":".join(f"{value:.6g}" for value in factors)


def from_file(path: str, load: Callable[[Path, str], Any]) -> dict[str, Any]:
    """Factors, n and attention from a search's YAML file. Raises PosxError."""
    if not Path(path).expanduser().exists():
        raise PosxError(f"longrope's factors '{path}' are neither numbers separated by colons nor a file.", EXAMPLE)
    content = load(Path(path).expanduser(), "file of longrope factors")
    factors = content.get("factors") if isinstance(content, dict) else None
    # type() instead of isinstance(): bool is a subclass of int.
    if not (isinstance(factors, list) and factors and all(type(value) in (int, float) for value in factors)):
        raise PosxError(f"{path} has no longrope factors: it must have a list of numbers under 'factors'.", SEARCH)
    others = {key: content[key] for key in ("n", "attention") if content.get(key) is not None}
    return {"factors": written(factors), **others}
