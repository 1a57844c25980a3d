"""Convert Python values, mappings and classes to the strings and configs that the command line uses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from posx.config.catalog import Catalog
from posx.config.compose import quote
from posx.errors import PosxError
from posx.extensions.base import Extension
from posx.models.classes import name_of, trust_class
from posx.schemes.base import Scheme


def as_texts(overrides: Sequence[str] | Mapping[str, Any], catalog: Catalog) -> list[str]:
    """Overrides in the form of the command line."""
    if isinstance(overrides, str):
        raise PosxError(f"'{overrides}' is a string; overrides must be a list or a mapping.", f"Use ['{overrides}'].")
    if not isinstance(overrides, Mapping):
        return _strings(overrides)
    values = dict(overrides)
    if not isinstance(values.get("train.extension", ""), str):
        values["train.extension"] = extension_text(values["train.extension"], catalog)
    return [f"{key}={as_text(value)}" for key, value in values.items()]


def _strings(overrides: Iterable[object]) -> list[str]:
    texts = list(overrides) if isinstance(overrides, Iterable) else [overrides]
    for text in texts:
        if not isinstance(text, str):
            raise PosxError(
                f"Overrides must be a list of strings or a mapping, not {text!r}.",
                'Example: ["train.steps=100"], or {"train.steps": 100}.',
            )
    return [str(text) for text in texts]


def as_text(value: Any) -> str:
    """A value in Hydra's syntax."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{as_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Iterable) and not isinstance(value, str):
        return "[" + ",".join(map(as_text, value)) + "]"
    return quote(value)


def extension_text(extension: str | type[Extension] | Extension, catalog: Catalog) -> str:
    """``pi(s=4)`` for a string or an extension with a YAML; else ``package.module.Class(s=4)``."""
    if isinstance(extension, str):
        return extension
    cls = extension if isinstance(extension, type) else type(extension)
    target = trust_class(cls, Extension)
    name = name_of(target, "extension", catalog) or target
    return name if isinstance(extension, type) else str(cls.of(extension.config, name))


def scheme_config(cls: type[Scheme], catalog: Catalog) -> dict[str, str]:
    """``name`` and ``_target_`` of a scheme class. The default name of ``MyScheme`` is my-scheme."""
    target = trust_class(cls, Scheme)
    existing_name = name_of(target, "scheme", catalog)
    name = existing_name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", cls.__name__).lower()
    if (
        existing_name is None
        and name in catalog.options("scheme")
        and catalog.read("scheme", name).get("_target_") != target
    ):
        raise PosxError(f"A scheme named {name} exists, and it is not {target}.", "Give the class another name.")
    return {"name": name, "_target_": target}
