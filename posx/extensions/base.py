"""What an extension is: something done to a trained model at a longer length. No parameters, no state.

An extension overrides the hook that it ``changes``::

    positions(p, target)        the positions that the scheme sees         ("positions")
    spectrum(theta, target)     the angular frequencies of a rotary scheme ("spectrum"; "wavelengths": beside one)
    unscaled(target)            … but not at so many of the first positions
    amplitude(target)           … and what its cosines and sines are multiplied by
    branches(target)            where some pairs of query and key stand    ("distances")
    slopes(target)              what linear biases are multiplied by       ("slopes")
    temperature(i, target)      what queries are multiplied by             ("temperature")
    sharpness(target)           what logits are multiplied by              ("temperature")
    mask(target) -> f(b,h,i,j)  which keys a query may see, by index       ("mask")

Several compose with ``+``: at most one changes the spectrum and one the positions or distances; one may round
wavelengths before that or after it; masks intersect and temperatures multiply. The order does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from posx.errors import PosxError

Mask = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Branch:
    """Pairs that stand elsewhere: where ``where`` is True, query i is at ``queries(i)`` and key j at ``keys(j)``.

    All three take key indices; positions come back with the shape of the indices, int64 or float32.
    """

    queries: Callable[[Tensor], Tensor]
    keys: Callable[[Tensor], Tensor]
    where: Mask


@dataclass(frozen=True)
class Target:
    """What an extension may know: ``context`` is L, ``length`` ℓ, both in tokens.

    ``last_position`` is the scheme's last (None: they never end), ``rotated`` the number of dimensions of a
    head that a rotary scheme rotates (0: none).
    """

    context: int
    length: int
    last_position: int | None = None
    rotated: int = 0

    @property
    def scale(self) -> float:
        """s = max(1, ℓ / L)."""
        return max(1.0, self.length / self.context)


class Extension:
    """Base class; ``config`` is an instance of ``Config``."""

    Config: ClassVar[type]
    # "positions", "spectrum", "wavelengths", "distances", "slopes", "temperature" or "mask"
    changes: ClassVar[str] = ""
    formula: ClassVar[str] = ""  # one line, for `posx extensions`

    def __init__(self, config: Any):
        self.config = config

    @classmethod
    def read(cls, given: dict[str, Any], load: Callable[[Path, str], Any]) -> dict[str, Any]:
        """The parameters as given, with the content of a file in place of its name: before they are a Config.

        ``load(path, what it should be)`` parses YAML.
        """
        return given

    @classmethod
    def check(cls, config: Any) -> None:
        """Raise PosxError where these parameters make no sense."""

    def check_scheme(self, name: str, target: Target) -> None:
        """Raise PosxError where they do not suit this scheme. Called before any work is done."""

    @classmethod
    def variants(cls, target: Target) -> list[dict[str, Any]]:
        """Parameters worth trying at this target, the defaults first: what `posx recommend` evaluates."""
        return [{}]

    def resolved(self, target: Target) -> dict[str, Any]:
        """The parameters as they act at this target, for the record."""
        return asdict(self.config)

    def frozen(self, target: Target) -> dict[str, Any]:
        """Parameters that act everywhere as the current ones act at this target: what a fine-tune keeps."""
        return {k: v for k, v in self.resolved(target).items() if k in asdict(self.config)}

    def positions(self, positions: Tensor, target: Target) -> Tensor:
        """Positions [T] or [B, T] as the scheme shall see them; may return fractions."""
        return positions

    @property
    def turn(self) -> int:
        """When :meth:`spectrum` is asked: below 0 before the one that scales, above it after that."""
        return 0

    def spectrum(self, frequencies: Tensor, target: Target) -> Tensor:
        """Frequencies θ [R/2] in radians a position, highest first, float32."""
        return frequencies

    def unscaled(self, target: Target) -> int:
        """Positions below this are rotated as without this extension."""
        return 0

    def amplitude(self, target: Target) -> float:
        """What the cosines and sines of a rotation are multiplied by, for q and for k."""
        return 1.0

    def branches(self, target: Target) -> tuple[Branch, ...]:
        """Pairs that stand at other positions than their own, in branches that share no pair.

        A scheme that knows no distances leaves them where they are.
        """
        return ()

    def slopes(self, target: Target) -> float:
        """What the slopes of a linear bias are multiplied by."""
        return 1.0

    def temperature(self, index: Tensor, target: Target) -> Tensor | None:
        """What the queries at these key indices [Tq] are multiplied by, float32 [Tq]."""
        return None

    def sharpness(self, target: Target) -> float:
        """What logits are multiplied by, biases included."""
        return 1.0

    def mask(self, target: Target) -> Mask | None:
        """f(b, h, i, j) → bool over key indices: True where query index i may see key index j ≤ i."""
        return None


@dataclass(frozen=True)
class Bound:
    """An extension by ``name`` and what it acts on. ``trained``: the model was trained with it."""

    extension: Extension
    target: Target
    trained: bool = False
    name: str = ""


@dataclass(frozen=True)
class Applied:
    """Extensions bound to one scheme and one length: what a forward pass needs. Empty: no extension.

    What the model was trained with comes first: it belongs to the model, and the others act on top of both.
    """

    bound: tuple[Bound, ...] = ()

    def positions(self, positions: Tensor) -> Tensor:
        """Positions as the scheme shall see them."""
        for part in reversed(self.bound):  # into the trained range, from where the model's own takes them
            positions = part.extension.positions(positions, part.target)
        return positions

    def spectrum(self, frequencies: Tensor) -> Tensor:
        """Frequencies as the scheme shall use them."""
        for part in sorted(self.bound, key=lambda part: part.extension.turn):  # stable: else as they are bound
            frequencies = part.extension.spectrum(frequencies, part.target)
        return frequencies

    def angles(self, positions: Tensor, frequencies: Tensor) -> Tensor:
        """Angles in radians, float32 [.., R/2], of positions [..] at the scheme's own frequencies [R/2]."""
        angles = positions.float()[..., None] * self.spectrum(frequencies)
        for part in self.bound:
            first = part.extension.unscaled(part.target)
            if first > 0:
                others = Applied(tuple(other for other in self.bound if other is not part))
                angles = torch.where((positions < first)[..., None], others.angles(positions, frequencies), angles)
        return angles

    def amplitude(self) -> float:
        """What cosines and sines are multiplied by."""
        return math.prod(part.extension.amplitude(part.target) for part in self.bound)

    def temperature(self, index: Tensor) -> Tensor | None:
        """What the queries at these key indices are multiplied by; None: nothing is."""
        product = None
        for part in self.bound:
            factor = part.extension.temperature(index, part.target)
            if factor is not None:
                product = factor if product is None else product * factor
        return product

    def sharpness(self) -> float:
        """What logits are multiplied by."""
        return math.prod(part.extension.sharpness(part.target) for part in self.bound)

    def slopes(self) -> float:
        """What the slopes of a linear bias are multiplied by."""
        return math.prod(part.extension.slopes(part.target) for part in self.bound)

    def branches(self) -> tuple[Branch, ...]:
        """Pairs that stand elsewhere. Of two that say so, what is asked for stands before what the model knows."""
        for part in reversed(self.bound):
            found = part.extension.branches(part.target)
            if found:
                return found
        return ()

    def masks(self) -> list[Mask]:
        """All masks; a key is seen where every one of them is True."""
        masks = (part.extension.mask(part.target) for part in self.bound)
        return [mask for mask in masks if mask is not None]

    def resolved(self) -> dict[str, Any]:
        """Parameters as they act, by name; those that the model was trained with under ``trained``."""
        asked: dict[str, Any] = {}
        for part in self.bound:
            level = asked.setdefault("trained", {}) if part.trained else asked
            level[part.name or type(part.extension).__name__.lower()] = part.extension.resolved(part.target)
        return asked


NONE = Applied()


def moves(extension: type[Extension]) -> bool:
    """Whether it says where pairs stand, whatever else it does."""
    return extension.branches is not Extension.branches


def refuse_two_of_a_kind(named: Iterable[tuple[str, Extension]]) -> None:
    """Masks intersect and temperatures multiply, but two that scale the same thing have no meaning together."""
    seen: dict[str, str] = {}
    for name, extension in named:
        kinds = {extension.changes} | ({"distances"} if moves(type(extension)) else set())
        for kind in sorted(kinds - {"mask", "temperature"}):
            if kind in seen:
                raise PosxError(
                    f"{seen[kind]} and {name} both change the {kind}; together they have no meaning.",
                    f"Use {seen[kind]} or {name}, one at a time.",
                )
            seen[kind] = name
