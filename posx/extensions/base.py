"""Base class of test-time extensions, which change a trained model's computation at longer lengths. They are stateless.

An extension overrides the hooks for what it ``changes``::

    positions(p, target)        positions that the scheme receives             ("positions")
    spectrum(theta, target)     angular frequencies of a rotary scheme         ("spectrum"; rounding: "wavelengths")
    unscaled(target)            number of first positions that keep their angles
    amplitude(target)           factor of the cosines and sines
    branches(target)            positions of some pairs of query and key       ("distances")
    slopes(target)              factor of linear biases                        ("slopes")
    temperature(i, target)      factor of queries                              ("temperature")
    sharpness(target)           factor of logits                               ("temperature")
    mask(target) -> f(b,h,i,j)  keys that a query can see, by index            ("mask")

Extensions are combined with ``+``: at most one can change the spectrum, and one the positions or distances.
Wavelengths can be rounded before or after another change of the spectrum. Masks intersect and temperatures multiply.
The order does not matter.
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
    """Different positions for some pairs: if ``where`` is True, query i is at ``queries(i)`` and key j at ``keys(j)``.

    All three take key indices; positions have the shape of the indices, int64 or float32.
    """

    queries: Callable[[Tensor], Tensor]
    keys: Callable[[Tensor], Tensor]
    where: Mask


@dataclass(frozen=True)
class Target:
    """What an extension depends on: ``context`` is L and ``length`` is ℓ, both in tokens.

    ``last_position``: the scheme's last position (None: unlimited). ``rotated``: the number of dimensions per head
    that a rotary scheme rotates (0: none).
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
    """Base class; ``config`` is an instance of ``Config``, ``name`` is the name on the command line."""

    Config: ClassVar[type]
    # "positions", "spectrum", "wavelengths", "distances", "slopes", "temperature" or "mask"
    changes: ClassVar[str] = ""
    formula: ClassVar[str] = ""  # used if the YAML has none

    name: str = ""
    overrides: ClassVar[frozenset[str]] = frozenset()  # the hooks that it overrides

    def __init_subclass__(cls, **more: Any) -> None:
        """Record which hooks the class overrides. Nothing else inspects this."""
        super().__init_subclass__(**more)
        cls.overrides = frozenset(name for name in HOOKS if getattr(cls, name) is not getattr(Extension, name))

    def __init__(self, config: Any):
        self.config = config

    @classmethod
    def of(cls, config: Any, name: str) -> Extension:
        """An extension with this config and name."""
        extension = cls(config)
        extension.name = name
        return extension

    def with_params(self, params: dict[str, Any]) -> Extension:
        """A copy with some parameters replaced."""
        return self.of(replace(self.config, **params), self.name)

    @property
    def params(self) -> dict[str, Any]:
        """Parameters that differ from their defaults."""
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
        """Replace file names in the parameters by the files' contents, before a Config is created.

        ``load(path, description)`` parses YAML.
        """
        return given

    @classmethod
    def check(cls, config: Any) -> None:
        """Raise PosxError if these parameters are invalid."""

    def check_scheme(self, name: str, target: Target) -> None:
        """Raise PosxError if the parameters do not fit this scheme. Called before any work is done."""

    @classmethod
    def variants(cls, target: Target) -> list[dict[str, Any]]:
        """Parameters that `posx recommend` evaluates at this target, defaults first."""
        return [{}]

    def resolved(self, target: Target) -> dict[str, Any]:
        """The effective parameters at this target, for the record."""
        return asdict(self.config)

    def frozen(self, target: Target) -> dict[str, Any]:
        """Parameters with the same effect at every length as the current ones at this target, for a fine-tuned run."""
        return {k: v for k, v in self.resolved(target).items() if k in asdict(self.config)}

    def positions(self, positions: Tensor, target: Target) -> Tensor:
        """Positions [T] or [B, T] for the scheme; may be fractional."""
        return positions

    @property
    def turn(self) -> int:
        """Order of :meth:`spectrum` calls: negative before scaling extensions, positive after them."""
        return 0

    def spectrum(self, frequencies: Tensor, target: Target) -> Tensor:
        """Frequencies θ [R/2] in radians per position, highest first, float32."""
        return frequencies

    def unscaled(self, target: Target) -> int:
        """Positions below this value are rotated as without this extension."""
        return 0

    def amplitude(self, target: Target) -> float:
        """Factor of the cosines and sines of a rotation, for q and for k."""
        return 1.0

    def branches(self, target: Target) -> tuple[Branch, ...]:
        """Different positions for some pairs. Branches must not overlap.

        Schemes that do not support "distances" ignore them.
        """
        return ()

    def slopes(self, target: Target) -> float:
        """Factor of the slopes of a linear bias."""
        return 1.0

    def temperature(self, index: Tensor, target: Target) -> Tensor | None:
        """Factor of the queries at these key indices [Tq], float32 [Tq]; None: 1."""
        return None

    def sharpness(self, target: Target) -> float:
        """Factor of the logits, including biases."""
        return 1.0

    def mask(self, target: Target) -> Mask | None:
        """f(b, h, i, j) → bool over key indices: True if query i can see key j ≤ i."""
        return None


@dataclass(frozen=True)
class Applied:
    """Extensions bound to a scheme and a length, as a forward pass receives them. Empty: no extension.

    ``trained``: extensions that the model was trained with, at the target of its training (``before``). ``asked``:
    requested extensions, applied on top at ``target``.
    """

    asked: tuple[Extension, ...] = ()
    target: Target | None = None
    trained: tuple[Extension, ...] = ()
    before: Target | None = None

    @cached_property
    def parts(self) -> tuple[tuple[Extension, Target], ...]:
        """Each extension with its target; those that the model was trained with come first."""
        return (*self._with(self.trained, self.before), *self._with(self.asked, self.target))

    @staticmethod
    def _with(extensions: tuple[Extension, ...], target: Target | None) -> tuple[tuple[Extension, Target], ...]:
        if not extensions:
            return ()
        assert target is not None
        return tuple((extension, target) for extension in extensions)

    def __bool__(self) -> bool:
        return bool(self.asked or self.trained)

    def without(self, extension: Extension) -> Applied:
        """A copy without this extension."""
        asked, trained = (tuple(e for e in group if e is not extension) for group in (self.asked, self.trained))
        return replace(self, asked=asked, trained=trained)

    def positions(self, positions: Tensor) -> Tensor:
        """Positions for the scheme."""
        for extension, target in reversed(self.parts):  # requested first: into the range that the trained ones expect
            positions = extension.positions(positions, target)
        return positions

    def spectrum(self, frequencies: Tensor) -> Tensor:
        """Frequencies for the scheme."""
        for extension, target in sorted(self.parts, key=lambda part: part[0].turn):  # the sort is stable
            frequencies = extension.spectrum(frequencies, target)
        return frequencies

    def angles(self, positions: Tensor, frequencies: Tensor) -> Tensor:
        """Angles in radians, float32 [.., R/2], of positions [..] at the scheme's own frequencies [R/2]."""
        angles = positions.float()[..., None] * self.spectrum(frequencies)
        for extension, target in self.parts:
            first = extension.unscaled(target)
            if first > 0:
                others = self.without(extension)
                angles = torch.where((positions < first)[..., None], others.angles(positions, frequencies), angles)
        return angles

    def amplitude(self) -> float:
        """Factor of cosines and sines."""
        return math.prod(extension.amplitude(target) for extension, target in self.parts)

    def temperature(self, index: Tensor) -> Tensor | None:
        """Factor of the queries at these key indices; None: 1."""
        product = None
        for extension, target in self.parts:
            factor = extension.temperature(index, target)
            if factor is not None:
                product = factor if product is None else product * factor
        return product

    def sharpness(self) -> float:
        """Factor of the logits."""
        return math.prod(extension.sharpness(target) for extension, target in self.parts)

    def slopes(self) -> float:
        """Factor of the slopes of a linear bias."""
        return math.prod(extension.slopes(target) for extension, target in self.parts)

    def branches(self) -> tuple[Branch, ...]:
        """Branches of one extension; requested extensions take precedence over those of training."""
        for extension, target in reversed(self.parts):
            branches = extension.branches(target)
            if branches:
                return branches
        return ()

    def masks(self) -> list[Mask]:
        """All masks; a key is visible if all of them are True."""
        masks = (extension.mask(target) for extension, target in self.parts)
        return [mask for mask in masks if mask is not None]

    def resolved(self) -> dict[str, Any]:
        """Effective parameters by name; those of extensions that the model was trained with are under ``trained``."""
        levels = (self.trained, self.before), (self.asked, self.target)
        trained, asked = (
            {e.name or type(e).__name__.lower(): e.resolved(target) for e, target in self._with(group, at)}
            for group, at in levels
        )
        return ({"trained": trained} if trained else {}) | asked


NONE = Applied()


def moves(extension: type[Extension]) -> bool:
    """Whether an extension changes positions of pairs, in addition to other changes."""
    return "branches" in extension.overrides


def refuse_two_of_a_kind(extensions: Iterable[Extension]) -> None:
    """Raise PosxError if two extensions change the same thing, unless it is a mask or a temperature."""
    seen: dict[str, str] = {}
    for extension in extensions:
        kinds = {extension.changes} | ({"distances"} if moves(type(extension)) else set())
        for kind in sorted(kinds - {"mask", "temperature"}):
            if kind in seen:
                raise PosxError(
                    f"{seen[kind]} and {extension.name} both change the {kind} and cannot be combined.",
                    f"Use {seen[kind]} or {extension.name}, not both.",
                )
            seen[kind] = extension.name
