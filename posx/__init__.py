"""posx: a harness for length extrapolation.

It exports the functions that scripts use most; :mod:`posx.api` has the rest. Modules are imported on first use.
"""

__version__ = "0.4.0"

__all__ = [
    "Catalog",
    "PosxError",
    "Progress",
    "Record",
    "Run",
    "RunConfig",
    "Table",
    "compose",
    "compose_finetune",
    "evaluate",
    "finetune",
    "load_records",
    "load_run",
    "sweep",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'posx' has no attribute '{name}'")
    from importlib import import_module

    value = getattr(import_module("posx.api"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
