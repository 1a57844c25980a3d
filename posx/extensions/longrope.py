"""LongRoPE: each pair's frequency divided by a factor of its own, which a search finds.

    θ_k → θ_k / λ_k  at positions p ≥ n,  θ_k as it was at p < n;  cos and sin · √(1 + ln s / ln L)

where ℓ > L, or everywhere with s fixed; up to L the very same bits, as with transformers' short factors of 1.

Source: Ding et al. 2024, arXiv 2402.13753, section 3.1: the angle of position p is p·θ_k times 1 or 1 / λ_k. The factor
of cos and sin is that of its released code and of transformers' rope type ``longrope``, there for a fixed s.
Shapes: λ [R/2], float32.
Trap: with n > 0 the angle jumps at n, and a logit depends on more than the distance. The first positions keep their
angles, but not their length: a temperature is for all (the released code leaves it off them). Factors serve the length
that they were searched for.
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

SEARCH = "Search them: posx search longrope RUN --length 4x."
EXAMPLE = "Write one for each rotated pair, such as factors=1:1.2:2.5:4, or name the YAML of posx search longrope."


@dataclass
class LongRopeConfig:
    """``factors``: λ_1:λ_2:…, one a pair, or the path of a search's YAML, whose n and attention count if left out.

    ``n``: positions that are not rescaled. ``attention``: what cos and sin are multiplied by; None: by s and L. ``s``:
    None: max(1, ℓ / L) at each length ℓ.
    """

    factors: str = ""
    n: int = 0
    attention: float | None = None
    s: float | None = None


class LongRope(Scaled):
    """Factors by pair."""

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
            raise PosxError("longrope needs factors, one for each rotated pair, and has none.", SEARCH)
        wrong = next((value for value in factors if not 1 <= value < math.inf), None)
        if wrong is not None:
            raise PosxError(f"longrope with a factor of {wrong:g}: each must be a number of at least 1.", EXAMPLE)
        if config.n < 0:
            raise PosxError(f"longrope with n={config.n}: there are no positions below 0.", "n=0 rescales all.")
        if config.attention is not None and not 0 < config.attention < math.inf:
            raise PosxError(
                f"longrope with attention={config.attention:g}: cos and sin need a factor above 0.",
                "Leave it out for √(1 + ln s / ln L), or give attention=1.",
            )

    def check_scheme(self, name: str, target: Target) -> None:
        count = len(numbers(self.config.factors) or [])
        if 2 * count != target.rotated:
            raise PosxError(
                f"longrope was given {count} factor{'' if count == 1 else 's'}, but {name} rotates "
                f"{target.rotated // 2} pairs here.",
                "Factors are searched for one model: posx search longrope RUN --length 4x.",
            )

    @classmethod
    def variants(cls, target: Target) -> list[dict[str, Any]]:
        return []  # nobody knows factors before a search

    def resolved(self, target: Target) -> dict[str, Any]:
        return {
            **super().resolved(target),
            "factors": numbers(self.config.factors),
            "n": self.config.n,
            "amplitude": self.amplitude(target),
        }

    def frozen(self, target: Target) -> dict[str, Any]:
        return super().resolved(target)  # factors, n and attention are numbers already

    def spectrum(self, frequencies: Tensor, target: Target) -> Tensor:
        if self.scale(target) == 1:
            return frequencies
        factors = numbers(self.config.factors) or []
        if len(factors) != len(frequencies):
            raise Unsupported(
                f"longrope has {len(factors)} factors for a layer that rotates {len(frequencies)} pairs.",
                "Layers that rotate unlike numbers of pairs cannot share factors.",
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
    """``1:1.2:4`` as numbers; None where it is something else."""
    try:
        return [float(part) for part in text.split(":")]
    except ValueError:
        return None


def written(factors: Sequence[float]) -> str:
    """Numbers as ``1:1.2:4``: equal factors give equal names of records."""
    return ":".join(f"{value:.6g}" for value in factors)


def from_file(path: str, load: Callable[[Path, str], Any]) -> dict[str, Any]:
    """Factors, n and attention of a search's YAML, where it has them. Raises PosxError."""
    if not Path(path).expanduser().exists():
        raise PosxError(f"longrope's factors '{path}' are neither numbers with colons between nor a file.", EXAMPLE)
    found = load(Path(path).expanduser(), "file of longrope's factors")
    factors = found.get("factors") if isinstance(found, dict) else None
    # YAML's true is one of Python's whole numbers.
    if not (isinstance(factors, list) and factors and all(type(value) in (int, float) for value in factors)):
        raise PosxError(f"{path} holds no factors of longrope: a list of numbers under factors.", SEARCH)
    others = {key: found[key] for key in ("n", "attention") if found.get(key) is not None}
    return {"factors": written(factors), **others}
