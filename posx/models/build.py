"""Build a model from a config: complete and check a scheme's settings, freeze an extension, create modules."""

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
    """Check the training extension and fix its scale for the positions that training reaches."""
    extensions = parse(config.train.extension) if parse else parse_extension(config.train.extension, catalog)
    if TRAINED in config.train.extension:
        raise PosxError(
            f"train.extension={config.train.extension} is not an extension to train with.",
            "Use a name such as pi. Without train.extension, a fine-tune keeps the extension of its parent run.",
        )
    scheme = scheme_of(config, catalog)
    if extensions:
        check_fit(extensions, config.scheme["name"], scheme, known_extensions(catalog))
    train, last = config.train, scheme.last_position
    fits_table = train.reached <= config.base_context or any(e.changes == "positions" for e in extensions)
    if not fits_table and last is not None and train.reached > last + 1:
        requested = f"train.context={train.context}" if train.reach is None else f"train.reach={train.reach}"
        raise PosxError(
            f"{config.scheme['name']} positions end at {last + 1}, but {requested} was requested.",
            f"Train with --extension interpolate, or at a context up to {last + 1}.",
        )
    config.train.extension = spec_name(freeze(extensions, config.base_context, train.reached))
    return config


def complete_scheme(
    given: Any, shape: ModelShape, catalog: Catalog = PACKAGED, prefix: str = "scheme."
) -> dict[str, Any]:
    """A scheme's config with its class, all settings, and those of its inner schemes. Raises PosxError.

    ``given``: a name, or a mapping with at least ``name`` or ``_target_``. Names refer to YAML files.
    """
    if isinstance(given, str):
        given = {"name": given}
    if not isinstance(given, dict) or not ("_target_" in given or given.get("name")):
        field, _, number = prefix.rstrip(".").rpartition(".")
        example = f"{field}=[rope,nope]" if number.isdigit() else f"{field}.{number}=rope, or {{name: rope, base: 500}}"
        raise PosxError(f"{prefix.rstrip('.')} must be a scheme, not '{given}'.", f"Example: {example}.")
    if "_target_" not in given:
        given = {**catalog.settings("scheme", given["name"]), **given}
    values = dict(given)
    name, target = values.pop("name", ""), values.pop("_target_", None)
    cls = load_class(target, Scheme, catalog)
    for key in set(CARD) - {field.name for field in fields(cls.Config)}:
        values.pop(key, None)  # from the YAML, for lists only
    settings: Any = typed(cls.Config, values, prefix)
    for field in cls.inner_fields:
        value = getattr(settings, field)
        if isinstance(value, list):
            inner: Any = [
                complete_scheme(item, cls.inner_shape(settings, shape, number), catalog, f"{prefix}{field}.{number}.")
                for number, item in enumerate(value)
            ]
        else:
            inner = complete_scheme(value, cls.inner_shape(settings, shape), catalog, f"{prefix}{field}.")
        setattr(settings, field, inner)
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
        make_scheme(inner_config, cls.inner_shape(settings, shape, number), catalog)
        for number, inner_config in enumerate(inner_configs(cls, config))
    ]
    with_inner: Any = cls  # its __init__ also takes inner schemes
    return with_inner(settings, shape, inner)


def inner_configs(cls: type[Scheme], config: dict[str, Any]) -> list[dict[str, Any]]:
    """The configs of a scheme's inner schemes."""
    values = (config[name] for name in cls.inner_fields)
    return [inner for value in values for inner in (value if isinstance(value, list) else [value])]


def scheme_of(config: RunConfig, catalog: Catalog = PACKAGED) -> Scheme:
    """The untrained scheme of a run. Raises PosxError."""
    shape = model_shape(config.model, config.base_context)
    return make_scheme(complete_scheme(config.scheme, shape, catalog), shape, catalog)


def build_model(config: RunConfig, vocab_size: int, catalog: Catalog = PACKAGED) -> Decoder:
    """The untrained model of a config."""
    return Decoder(config.model, scheme_of(config, catalog), vocab_size)
