"""Engines, which run the jobs of a sweep. Each is a module that is found by its name."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from posx.errors import unknown
from posx.sweeps.engines.base import Engine


def make_engine(name: str, workers: int | None) -> Engine:
    """The engine in the module of this name, for ``workers`` jobs at a time. Raises PosxError."""
    known = [module.name for module in iter_modules(__path__) if module.name != "base"]
    if name not in known:
        raise unknown("engine", name, known)
    module = import_module(f"{__name__}.{name}")
    (found,) = (one for one in vars(module).values() if isinstance(one, type) and getattr(one, "name", "") == name)
    engine: Engine = found(workers)
    return engine
