"""From a config to a model: a scheme's settings completed and checked, an extension frozen, modules made."""

from __future__ import annotations

import copy
from dataclasses import asdict, fields
from typing import Any

from posx.config.catalog import CARD, PACKAGED, Catalog
from posx.config.compose import compose_settings
from posx.config.schema import TRAINED, RunConfig
from posx.config.validate import typed
from posx.errors import PosxError
from posx.models.binding import Parse, check_fit, freeze, parse_extension, spec_name
from posx.models.classes import known_extensions, load_class
from posx.models.decoder import Decoder, model_shape
from posx.schemes.base import ModelShape, Scheme

# ---------------------------------------------------------------- configs


def compose_run(overrides: list[str], catalog: Catalog = PACKAGED) -> RunConfig:
    """The config of a training run, complete and checked. Raises PosxError."""
    return freeze_extension(complete(compose_settings(overrides, catalog), catalog), catalog)


def complete(config: RunConfig, catalog: Catalog = PACKAGED) -> RunConfig:
    """A copy with all of the scheme's settings, checked by its class against the model. Raises PosxError."""
    config = copy.deepcopy(config)
    config.scheme = complete_scheme(config.scheme, model_shape(config.model, config.base_context), catalog)
    return config


def freeze_extension(config: RunConfig, catalog: Catalog = PACKAGED, parse: Parse | None = None) -> RunConfig:
    """Check the extension that is to be trained with, and fix its scale at that of the positions it is trained at."""
    extensions = parse(config.train.extension) if parse else parse_extension(config.train.extension, catalog)
    if TRAINED in config.train.extension:
        raise PosxError(
            f"train.extension={config.train.extension} does not say which extension to train with.",
            "Name it, such as pi; without one a fine-tune keeps that of the run that it starts from.",
        )
    scheme = scheme_of(config, catalog)
    if extensions:
        check_fit(extensions, config.scheme["name"], scheme, known_extensions(catalog))
    train, last = config.train, scheme.last_position
    reaches = train.reached <= config.base_context or any(one.changes == "positions" for one in extensions)
    if not reaches and last is not None and train.reached > last + 1:
        asked = f"train.context={train.context}" if train.reach is None else f"train.reach={train.reach}"
        raise PosxError(
            f"{config.scheme['name']} positions end at {last + 1}, but {asked} was requested.",
            f"Train with --extension interpolate, or at a context up to {last + 1}.",
        )
    config.train.extension = spec_name(freeze(extensions, config.base_context, train.reached))
    return config


def complete_scheme(
    given: Any, shape: ModelShape, catalog: Catalog = PACKAGED, prefix: str = "scheme."
) -> dict[str, Any]:
    """A scheme's config with its class, all its settings, and those of the schemes that it names. Raises PosxError.

    ``given`` is a name, or has at least a ``name`` or a ``_target_``; a name stands for its YAML.
    """
    if isinstance(given, str):
        given = {"name": given}
    if not isinstance(given, dict) or not ("_target_" in given or given.get("name")):
        field, _, number = prefix.rstrip(".").rpartition(".")
        example = f"{field}=[rope,nope]" if number.isdigit() else f"{field}.{number}=rope, or {{name: rope, base: 500}}"
        raise PosxError(f"{prefix.rstrip('.')} takes a scheme, but '{given}' was given.", f"Write {example}.")
    if "_target_" not in given:
        given = {**catalog.settings("scheme", given["name"]), **given}
    own = dict(given)
    name, target = own.pop("name", ""), own.pop("_target_", None)
    cls = load_class(target, Scheme, catalog)
    for key in set(CARD) - {one.name for one in fields(cls.Config)}:
        own.pop(key, None)  # composed from its YAML, for lists
    settings: Any = typed(cls.Config, own, prefix)
    for field in cls.inner_fields:
        value = getattr(settings, field)
        if isinstance(value, list):
            found: Any = [
                complete_scheme(one, cls.inner_shape(settings, shape, number), catalog, f"{prefix}{field}.{number}.")
                for number, one in enumerate(value)
            ]
        else:
            found = complete_scheme(value, cls.inner_shape(settings, shape), catalog, f"{prefix}{field}.")
        setattr(settings, field, found)
    cls.check(settings, shape)
    return {"name": name, "_target_": target, **asdict(settings)}


# ---------------------------------------------------------------- modules


def make_scheme(config: dict[str, Any], shape: ModelShape, catalog: Catalog = PACKAGED) -> Scheme:
    """The scheme of a complete config: ``_target_``, ``name`` and the fields of the class's Config."""
    cls = load_class(config.get("_target_"), Scheme, catalog)
    settings = cls.Config(**{f.name: config[f.name] for f in fields(cls.Config) if f.name in config})
    cls.check(settings, shape)
    if not cls.inner_fields:
        return cls(settings, shape)
    inner = [
        make_scheme(one, cls.inner_shape(settings, shape, place), catalog)
        for place, one in enumerate(inner_configs(cls, config))
    ]
    with_inner: Any = cls  # whose __init__ takes them too
    return with_inner(settings, shape, inner)


def inner_configs(cls: type[Scheme], config: dict[str, Any]) -> list[dict[str, Any]]:
    """The configs of the schemes that this one names in its settings."""
    named = (config[name] for name in cls.inner_fields)
    return [one for value in named for one in (value if isinstance(value, list) else [value])]


def scheme_of(config: RunConfig, catalog: Catalog = PACKAGED) -> Scheme:
    """The untrained scheme of a run. Raises PosxError."""
    shape = model_shape(config.model, config.base_context)
    return make_scheme(complete_scheme(config.scheme, shape, catalog), shape, catalog)


def build_model(config: RunConfig, vocab_size: int, catalog: Catalog = PACKAGED) -> Decoder:
    """The untrained model of a config."""
    return Decoder(config.model, scheme_of(config, catalog), vocab_size)
