"""Values of a config as its dataclass; what does not fit is a sentence."""

from __future__ import annotations

import re
from dataclasses import is_dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from posx.errors import PosxError, unknown

T = TypeVar("T")


def typed(schema: type[T], values: Any, prefix: str = "", source: str = "") -> T:
    """``values`` as the dataclass ``schema``; unknown keys and wrong types are sentences.

    ``prefix`` ("scheme.") is put before keys, ``source`` (" in sweep.yaml") after them.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException, ValidationError

    _known_keys(schema, values, prefix, source)
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), _without_interpolation(values or {}))
        return OmegaConf.to_object(merged)  # type: ignore[return-value]
    except ValidationError as error:
        path = re.findall(r"[^.\[\]]+", error.full_key or "")
        wanted, given = _wanted(schema, path), _lookup(values, path)
        raise PosxError(
            f"{prefix}{error.full_key} takes {wanted}, but '{'null' if given is None else given}' was given{source}.",
            "See posx config for an example.",
        ) from None
    except OmegaConfBaseException as error:
        raise PosxError(f"The config cannot be read{source}: {' '.join(str(error).split())}") from None


def _known_keys(schema: Any, values: Any, prefix: str, source: str) -> None:
    if values is None:
        return
    if not isinstance(values, dict):
        what = prefix.rstrip(".") or "A config"
        raise PosxError(f"{what} takes keys and values, but '{values}' was given{source}.", "Write key: value.")
    hints = get_type_hints(schema)
    for key, value in values.items():
        if key not in hints:
            raise unknown("setting", f"{prefix}{key}", [f"{prefix}{h}" for h in hints if not h.startswith("_")], source)
        kind = get_origin(hints[key])
        if (kind is list and not isinstance(value, list)) or (kind is dict and not isinstance(value, dict)):
            wanted = "a list" if kind is list else "keys and values"
            raise PosxError(f"{prefix}{key} takes {wanted}, but '{value}' was given{source}.", "See posx config.")
        if is_dataclass(hints[key]):
            _known_keys(hints[key], value, f"{prefix}{key}.", source)


def _without_interpolation(values: Any) -> Any:
    """Hydra has resolved what was to be resolved; a ``${`` that is left, in a file's name say, means itself."""
    if isinstance(values, dict):
        return {key: _without_interpolation(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_without_interpolation(value) for value in values]
    if isinstance(values, str):
        return re.sub(r"(\\*)\$\{", lambda match: match.group(1) * 2 + r"\${", values)
    return values


_TYPE_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def _wanted(schema: Any, path: list[str]) -> str:
    """The type at a path of keys and list indices, in words."""
    hint: Any = schema
    for part in path:
        if is_dataclass(hint):
            hint = get_type_hints(hint).get(part, str)
        elif get_origin(hint) in (list, dict):
            hint = get_args(hint)[-1]
    inner = [a for a in get_args(hint) if a is not type(None)] if type(None) in get_args(hint) else [hint]
    fallback = "a list" if get_origin(inner[0]) is list else "keys and values"
    words = _TYPE_WORDS.get(inner[0], fallback)
    return f"{words} or null" if type(None) in get_args(hint) else words


def _lookup(values: Any, path: list[str]) -> Any:
    for part in path:
        if isinstance(values, dict):
            values = values.get(part)
        elif isinstance(values, list) and part.isdigit():
            values = values[int(part)]
    return values
