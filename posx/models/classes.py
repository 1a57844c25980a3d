"""Load classes by the ``_target_`` of a config. Code outside posx is imported only if the catalog trusts it."""

from __future__ import annotations

import importlib
import sys
from typing import Any, TypeVar

from posx.config.catalog import PACKAGED, Catalog
from posx.errors import PosxError
from posx.extensions.base import Extension
from posx.schemes.base import Scheme

T = TypeVar("T")

# Targets of classes that were passed as objects in this process, so that their code has already run.
_passed: set[str] = set()


def trust_class(cls: type, base: type) -> str:
    """The ``_target_`` of a class that was passed as an object; this process loads it from now on. Raises PosxError."""
    kind = base.__name__.lower()
    if not issubclass(cls, base):
        raise PosxError(
            f"{cls.__qualname__} is not a posx {kind}.", f"It must be a subclass of {base.__module__}.{base.__name__}."
        )
    if getattr(sys.modules.get(cls.__module__), cls.__qualname__, None) is not cls:
        raise PosxError(
            f"{cls.__qualname__} cannot be found in {cls.__module__}, so a run could not load it later.",
            "Define it at the top level of a module, a script or a notebook.",
        )
    target = f"{cls.__module__}.{cls.__qualname__}"
    _passed.add(target)
    return target


def may_load(target: str, catalog: Catalog = PACKAGED) -> bool:
    """Whether this class may be imported: it is part of posx, trusted by the catalog, or was passed as an object."""
    return catalog.trust or target in _passed or target.split(".")[0] == "posx"


def name_of(target: str, group: str, catalog: Catalog = PACKAGED) -> str | None:
    """The option of a group whose config has this class and no settings, or None."""
    options = catalog.options(group)
    return next((name for name in options if catalog.settings(group, name) == {"_target_": target}), None)


def load_class(target: Any, base: type[T], catalog: Catalog = PACKAGED) -> type[T]:
    """The class that ``_target_`` names; it must be a ``base``. Raises PosxError."""
    kind = base.__name__.lower()
    if not isinstance(target, str) or "." not in target:
        raise PosxError(f"'{target}' is not the path of a {kind} class.", "Set _target_ to package.module.Class.")
    module, _, name = target.rpartition(".")
    if not may_load(target, catalog):
        raise PosxError(
            f"{target} is not part of posx, and loading it runs its code.",
            "Add --trust if you trust its author.",
        )
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise PosxError(f"{target} cannot be loaded: {error}.", "Check _target_, and that it is installed.") from None
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise PosxError(
            f"{target} is not a posx {kind}.", f"It must be a subclass of {base.__module__}.{base.__name__}."
        )
    return cls


def formula_of(
    group: str, name: str, part: Scheme | Extension | type[Scheme] | type[Extension], catalog: Catalog = PACKAGED
) -> str:
    """The formula of a scheme or an extension: from its YAML, or from its class."""
    return catalog.card(group, name).get("formula", "") or part.formula


def known_extensions(catalog: Catalog = PACKAGED) -> dict[str, type[Extension]]:
    """Name → class of every extension."""
    return {
        name: load_class(catalog.read("extension", name).get("_target_"), Extension, catalog)
        for name in catalog.options("extension")
    }


def known_schemes(catalog: Catalog = PACKAGED) -> dict[str, tuple[type[Scheme], dict[str, Any]]]:
    """Name → (class, settings of its YAML) of every scheme."""
    schemes = {}
    for name in catalog.options("scheme"):
        settings = catalog.settings("scheme", name)
        schemes[name] = (load_class(settings.pop("_target_", None), Scheme, catalog), settings)
    return schemes
