"""What an extension is: something done to a trained model at a longer length. No parameters, no state.

An extension overrides the hook that it ``changes``::

    positions(p, target)        the positions that the scheme sees         ("positions")
    spectrum(theta, target)     the angular frequencies of a rotary scheme ("spectrum")
    mask(target) -> f(b,h,i,j)  which keys a query may see, by index       ("mask")

Several compose with ``+``: at most one changes the spectrum and one the positions; masks intersect. The order
does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from torch import Tensor

from posx.errors import PosxError

Mask = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


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
    changes: ClassVar[str] = ""  # the hook: "positions", "spectrum", "mask"
    formula: ClassVar[str] = ""  # one line, for `posx extensions`

    def __init__(self, config: Any):
        self.config = config

    @classmethod
    def check(cls, config: Any) -> None:
        """Raise PosxError where these parameters make no sense."""

    def resolved(self, target: Target) -> dict[str, Any]:
        """The parameters as they act at this target, for the record."""
        return asdict(self.config)

    def positions(self, positions: Tensor, target: Target) -> Tensor:
        """Positions [T] or [B, T] as the scheme shall see them; may return fractions."""
        return positions

    def spectrum(self, frequencies: Tensor, target: Target) -> Tensor:
        """Frequencies θ [R/2] in radians a position, highest first, float32."""
        return frequencies

    def mask(self, target: Target) -> Mask | None:
        """f(b, h, i, j) → bool over key indices: True where query index i may see key index j ≤ i."""
        return None


@dataclass(frozen=True)
class Applied:
    """Extensions bound to one scheme and one length: what a forward pass needs. Empty: no extension."""

    extensions: tuple[Extension, ...] = ()
    target: Target = Target(1, 1)

    def positions(self, positions: Tensor) -> Tensor:
        """Positions as the scheme shall see them."""
        for extension in self.extensions:
            positions = extension.positions(positions, self.target)
        return positions

    def spectrum(self, frequencies: Tensor) -> Tensor:
        """Frequencies as the scheme shall use them."""
        for extension in self.extensions:
            frequencies = extension.spectrum(frequencies, self.target)
        return frequencies

    def masks(self) -> list[Mask]:
        """All masks; a key is seen where every one of them is True."""
        masks = (extension.mask(self.target) for extension in self.extensions)
        return [mask for mask in masks if mask is not None]

    def resolved(self) -> dict[str, Any]:
        """Parameters as they act at this target, one level a name where several are composed."""
        return {type(e).__name__.lower(): e.resolved(self.target) for e in self.extensions}


NONE = Applied()


def refuse_two_of_a_kind(named: Iterable[tuple[str, Extension]]) -> None:
    """Masks intersect, but two that scale the same thing have no meaning together."""
    seen: dict[str, str] = {}
    for name, extension in named:
        kind = extension.changes
        if kind in seen and kind != "mask":
            raise PosxError(
                f"{seen[kind]} and {name} both change the {kind}; together they have no meaning.",
                f"Use {seen[kind]} or {name}, one at a time.",
            )
        seen[kind] = name
