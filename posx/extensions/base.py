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
from dataclasses import asdict, dataclass, replace
from functools import cached_property
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


HOOKS = (
    "positions", "spectrum", "unscaled", "amplitude", "branches", "slopes", "temperature", "sharpness", "mask",
)  # fmt: skip


class Extension:
    """Base class; ``config`` is an instance of ``Config``, ``name`` what the command line calls it."""

    Config: ClassVar[type]
    # "positions", "spectrum", "wavelengths", "distances", "slopes", "temperature" or "mask"
    changes: ClassVar[str] = ""
    formula: ClassVar[str] = ""  # of an extension whose YAML states none

    name: str = ""
    overrides: ClassVar[frozenset[str]] = frozenset()  # the hooks that it overrides

    def __init_subclass__(cls, **more: Any) -> None:
        """The one place that looks at which hooks a class overrides."""
        super().__init_subclass__(**more)
        cls.overrides = frozenset(name for name in HOOKS if getattr(cls, name) is not getattr(Extension, name))

    def __init__(self, config: Any):
        self.config = config

    @classmethod
    def of(cls, config: Any, name: str) -> Extension:
        """With these parameters, under this name."""
        made = cls(config)
        made.name = name
        return made

    def with_params(self, params: dict[str, Any]) -> Extension:
        """The same with some other parameters."""
        return self.of(replace(self.config, **params), self.name)

    @property
    def params(self) -> dict[str, Any]:
        """Its parameters that are not the default."""
        default = self.Config()
        return {k: v for k, v in asdict(self.config).items() if v != getattr(default, k)}

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and (self.name, self.config) == (other.name, other.config)

    def __hash__(self) -> int:
        return hash((type(self), str(self)))

    def __str__(self) -> str:
        inside = ", ".join(f"{k}={v:.10g}" if isinstance(v, float) else f"{k}={v}" for k, v in self.params.items())
        return f"{self.name}({inside})" if inside else self.name

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
class Applied:
    """Extensions beside one scheme and one length: what a forward pass is given. Empty: no extension.

    ``trained`` is what the model was trained with, at the target of its training (``before``); ``asked`` acts on top of
    both, at ``target``.
    """

    asked: tuple[Extension, ...] = ()
    target: Target | None = None
    trained: tuple[Extension, ...] = ()
    before: Target | None = None

    @cached_property
    def parts(self) -> tuple[tuple[Extension, Target], ...]:
        """Each with its target; what the model was trained with comes first, for it belongs to the model."""
        return (*self._with(self.trained, self.before), *self._with(self.asked, self.target))

    @staticmethod
    def _with(extensions: tuple[Extension, ...], target: Target | None) -> tuple[tuple[Extension, Target], ...]:
        if not extensions:
            return ()
        assert target is not None
        return tuple((one, target) for one in extensions)

    def __bool__(self) -> bool:
        return bool(self.asked or self.trained)

    def without(self, extension: Extension) -> Applied:
        """All others."""
        asked, trained = (tuple(one for one in some if one is not extension) for some in (self.asked, self.trained))
        return replace(self, asked=asked, trained=trained)

    def positions(self, positions: Tensor) -> Tensor:
        """Positions as the scheme shall see them."""
        for one, target in reversed(self.parts):  # into the trained range, from where the model's own takes them
            positions = one.positions(positions, target)
        return positions

    def spectrum(self, frequencies: Tensor) -> Tensor:
        """Frequencies as the scheme shall use them."""
        for one, target in sorted(self.parts, key=lambda part: part[0].turn):  # stable: else as they are bound
            frequencies = one.spectrum(frequencies, target)
        return frequencies

    def angles(self, positions: Tensor, frequencies: Tensor) -> Tensor:
        """Angles in radians, float32 [.., R/2], of positions [..] at the scheme's own frequencies [R/2]."""
        angles = positions.float()[..., None] * self.spectrum(frequencies)
        for one, target in self.parts:
            first = one.unscaled(target)
            if first > 0:
                others = self.without(one)
                angles = torch.where((positions < first)[..., None], others.angles(positions, frequencies), angles)
        return angles

    def amplitude(self) -> float:
        """What cosines and sines are multiplied by."""
        return math.prod(one.amplitude(target) for one, target in self.parts)

    def temperature(self, index: Tensor) -> Tensor | None:
        """What the queries at these key indices are multiplied by; None: nothing is."""
        product = None
        for one, target in self.parts:
            factor = one.temperature(index, target)
            if factor is not None:
                product = factor if product is None else product * factor
        return product

    def sharpness(self) -> float:
        """What logits are multiplied by."""
        return math.prod(one.sharpness(target) for one, target in self.parts)

    def slopes(self) -> float:
        """What the slopes of a linear bias are multiplied by."""
        return math.prod(one.slopes(target) for one, target in self.parts)

    def branches(self) -> tuple[Branch, ...]:
        """Pairs that stand elsewhere. Of two that say so, what is asked for stands before what the model knows."""
        for one, target in reversed(self.parts):
            found = one.branches(target)
            if found:
                return found
        return ()

    def masks(self) -> list[Mask]:
        """All masks; a key is seen where every one of them is True."""
        masks = (one.mask(target) for one, target in self.parts)
        return [mask for mask in masks if mask is not None]

    def resolved(self) -> dict[str, Any]:
        """Parameters as they act, by name; those that the model was trained with under ``trained``."""
        levels = (self.trained, self.before), (self.asked, self.target)
        trained, asked = (
            {one.name or type(one).__name__.lower(): one.resolved(target) for one, target in self._with(some, at)}
            for some, at in levels
        )
        return ({"trained": trained} if trained else {}) | asked


NONE = Applied()


def moves(extension: type[Extension]) -> bool:
    """Whether it says where pairs stand, whatever else it does."""
    return "branches" in extension.overrides


def refuse_two_of_a_kind(extensions: Iterable[Extension]) -> None:
    """Masks intersect and temperatures multiply, but two that scale the same thing have no meaning together."""
    seen: dict[str, str] = {}
    for extension in extensions:
        kinds = {extension.changes} | ({"distances"} if moves(type(extension)) else set())
        for kind in sorted(kinds - {"mask", "temperature"}):
            if kind in seen:
                raise PosxError(
                    f"{seen[kind]} and {extension.name} both change the {kind}; together they have no meaning.",
                    f"Use {seen[kind]} or {extension.name}, one at a time.",
                )
            seen[kind] = extension.name
