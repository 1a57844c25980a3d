"""Adapter of config dataclasses to pydantic: types and ranges as annotated, no unknown keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Strict, TypeAdapter
from typing_extensions import TypedDict


@cache
def adapter(schema: Any) -> TypeAdapter[Any]:
    """Converts keys and values to the dataclass ``schema``, or raises pydantic's ValidationError."""
    return TypeAdapter(_inputs(schema))


def _inputs(schema: Any) -> Any:
    """The valid inputs for a dataclass: keys with values as annotated. Defaults are those of the dataclass."""
    hints = get_type_hints(schema, include_extras=True)
    keys: dict[str, Any] = {}
    for field in fields(schema):
        required = field.default is MISSING and field.default_factory is MISSING
        keys[field.name] = (Required if required else NotRequired)[_lenient(hints[field.name])]
    inputs = TypedDict(schema.__name__, keys)  # type: ignore[misc]
    inputs.__pydantic_config__ = ConfigDict(extra="forbid", arbitrary_types_allowed=True)  # type: ignore[attr-defined]
    return Annotated[inputs, AfterValidator(lambda values: schema(**values))]


def _lenient(hint: Any) -> Any:
    """A type that also accepts the forms of YAML and the command line: "3" for 3, 3000 for text."""
    if hint in _READ:
        return Annotated[hint, Strict(), BeforeValidator(_READ[hint])]
    if is_dataclass(hint):
        return _inputs(hint)
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return Annotated[(_lenient(inner[0]), *hint.__metadata__)]
    if origin is Literal and all(isinstance(choice, str) for choice in inner):
        return Annotated[hint, BeforeValidator(_text)]
    if origin in (Union, UnionType):
        return Union[tuple(map(_lenient, inner))]  # noqa: UP007 - built at run time
    if origin in (list, dict):
        *keys, values = inner
        return origin[(*(Annotated[key, Strict()] for key in keys), _lenient(values))]
    return hint


def _whole(value: Any) -> Any:
    return _parsed(int, value) if isinstance(value, str) else value


def _number(value: Any) -> Any:
    return _parsed(float, value) if isinstance(value, str) else value


def _parsed(kind: Callable[[str], Any], text: str) -> Any:
    """The parsed text, or the text itself if it is not of that kind, for the error."""
    try:
        return kind(text)
    except ValueError:
        return text


def _truth(value: Any) -> Any:
    words = {"true": True, "yes": True, "on": True, "y": True, "false": False, "no": False, "off": False, "n": False}
    if isinstance(value, str):
        value = words.get(value.lower(), _parsed(int, value))
    return value != 0 if isinstance(value, int) else value


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, (bool, int, float)) else value


_READ: dict[Any, Callable[[Any], Any]] = {int: _whole, float: _number, bool: _truth, str: _text}
