"""From names in a config to objects: schemes, and extensions bound to a scheme and a length."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from posx.config.schema import RunConfig, TrainConfig
from posx.errors import PosxError
from posx.extensions.base import Applied, Bound, Extension, Target, moves, refuse_two_of_a_kind
from posx.models.decoder import model_shape
from posx.schemes.base import ModelShape, Scheme, names

T = TypeVar("T")


def load_class(target: Any, base: type[T], trust: bool = False) -> type[T]:
    """The class that ``_target_`` names; it must be a ``base``. Code from outside posx needs ``trust``."""
    kind = base.__name__.lower()
    if not isinstance(target, str) or "." not in target:
        raise PosxError(f"'{target}' names no {kind} class.", "Set _target_ to package.module.Class.")
    module, _, name = target.rpartition(".")
    if not trust and module.split(".")[0] != "posx":
        raise PosxError(
            f"{target} is not part of posx, and loading it runs its code.",
            "Add --trust if you trust its author.",
        )
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise PosxError(f"{target} cannot be loaded: {error}.", "Check _target_, and that it is installed.") from None
    if not (isinstance(found, type) and issubclass(found, base)):
        raise PosxError(
            f"{target} is not a posx {kind}.", f"It must be a subclass of {base.__module__}.{base.__name__}."
        )
    return found


def make_scheme(config: dict[str, Any], shape: ModelShape, trust: bool = False) -> Scheme:
    """The scheme of a resolved config: ``_target_``, ``name`` and the fields of the class's Config."""
    cls = load_class(config.get("_target_"), Scheme, trust)
    settings = cls.Config(**{f.name: config[f.name] for f in fields(cls.Config) if f.name in config})
    cls.check(settings, shape)
    if not cls.inner_fields:
        return cls(settings, shape)
    inner = [
        make_scheme(one, cls.inner_shape(settings, shape, place), trust)
        for place, one in enumerate(inner_configs(cls, config))
    ]
    with_inner: Any = cls  # whose __init__ takes them too
    return with_inner(settings, shape, inner)


def inner_configs(cls: type[Scheme], config: dict[str, Any]) -> list[dict[str, Any]]:
    """The configs of the schemes that this one names in its settings."""
    named = (config[name] for name in cls.inner_fields)
    return [one for value in named for one in (value if isinstance(value, list) else [value])]


def scheme_of(config: RunConfig, trust: bool = False) -> Scheme:
    """The untrained scheme of a run."""
    return make_scheme(config.scheme, model_shape(config.model, config.base_context), trust)


@dataclass(frozen=True)
class ExtensionSpec:
    """One extension as asked: its name, its class, its parameters that differ from the defaults."""

    name: str
    cls: type[Extension]
    params: dict[str, Any] = field(default_factory=dict)

    def make(self) -> Extension:
        """The extension itself."""
        return self.cls(self.cls.Config(**self.params))

    def unlike_default(self, more: dict[str, Any]) -> dict[str, Any]:
        """Its parameters with ``more`` of them, where they are not the default."""
        default = self.cls.Config()
        return {k: v for k, v in {**self.params, **more}.items() if v != getattr(default, k)}

    def __str__(self) -> str:
        inside = ", ".join(f"{k}={v:.10g}" if isinstance(v, float) else f"{k}={v}" for k, v in self.params.items())
        return f"{self.name}({inside})" if inside else self.name


def spec_name(specs: Sequence[ExtensionSpec]) -> str:
    """How tables and records call a composition; the order in which it was typed does not matter."""
    return "+".join(sorted(map(str, specs))) or "none"


def fits(extension: type[Extension], scheme: Scheme) -> bool:
    """Whether the scheme listens to what the extension changes; masks and temperatures want attention with logits."""
    if extension.changes in ("mask", "temperature"):
        return scheme.masks
    hook = "spectrum" if extension.changes == "wavelengths" else extension.changes
    sharpens = extension.amplitude is not Extension.amplitude  # a temperature, too
    return hook in scheme.accepts and (scheme.masks or not sharpens)


def only_masks(extension: type[Extension], scheme: Scheme) -> bool:
    """Whether the scheme, which knows no distances, leaves of such an extension the mask."""
    return moves(extension) and "distances" not in scheme.accepts


def check_fit(
    specs: Sequence[ExtensionSpec], scheme_name: str, scheme: Scheme, known: dict[str, type[Extension]]
) -> None:
    """Refuse, before any work, what this scheme would ignore, and compositions without a meaning."""
    for spec in specs:
        if not fits(spec.cls, scheme):
            fitting = sorted(name for name, cls in known.items() if fits(cls, scheme))
            raise PosxError(
                f"{spec.name} changes the {spec.cls.changes} and does not fit {scheme_name}, which has none to change.",
                f"For {scheme_name} there is {names(['none', *fitting])}.",
            )
    made = [(spec.name, spec.make()) for spec in specs]
    refuse_two_of_a_kind(made)
    context, rotated = scheme.shape.context, getattr(scheme, "rotated", 0)
    for _, extension in made:
        extension.check_scheme(scheme_name, Target(context, context, scheme.last_position, rotated))


def freeze(specs: Sequence[ExtensionSpec], base_context: int, reached: int) -> list[ExtensionSpec]:
    """The extensions as a run that is trained with them keeps them: with the scale of what its training reached."""
    target = Target(context=base_context, length=reached)
    return [replace(spec, params=spec.unlike_default(spec.make().frozen(target))) for spec in specs]


def check_reach(
    specs: Sequence[ExtensionSpec], config: dict[str, Any], shape: ModelShape, train: TrainConfig, trust: bool
) -> None:
    """Refuse to train past the scheme's last position, unless an extension leads back before it."""
    if train.reached <= shape.context or any(spec.cls.changes == "positions" for spec in specs):
        return
    last = make_scheme(config, shape, trust).last_position
    if last is not None and train.reached > last + 1:
        asked = f"train.context={train.context}" if train.reach is None else f"train.reach={train.reach}"
        raise PosxError(
            f"{config['name']} positions end at {last + 1}, but {asked} was asked.",
            f"Train with --extension interpolate, or at a context up to {last + 1}.",
        )


def bind(
    specs: Sequence[ExtensionSpec],
    scheme: Scheme,
    length: int,
    trained: Sequence[ExtensionSpec] = (),
    reached: int | None = None,
) -> Applied:
    """The extensions for one scheme at one length ℓ in tokens.

    Those that the model was ``trained`` with act at every length as they did where training ``reached`` so many
    positions (default: L). The others extend that: their s is ℓ / reached.
    """
    reached = reached or scheme.shape.context
    rotated, last = getattr(scheme, "rotated", 0), scheme.last_position
    before = Target(scheme.shape.context, reached, last, rotated)
    if last is not None and any(spec.cls.changes == "positions" for spec in trained):
        last = reached - 1  # training led all positions up to there into the table
    on_top = Target(reached, length, last, rotated)
    # By name, so that the order on the command line changes no bit of a result.
    return Applied(
        (
            *(Bound(spec.make(), before, True, spec.name) for spec in sorted(trained, key=str)),
            *(Bound(spec.make(), on_top, False, spec.name) for spec in sorted(specs, key=str)),
        )
    )
