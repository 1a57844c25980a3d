"""Validation of configs: types and ranges as annotated at the fields, with readable errors.

pydantic checks all fields in one pass. :func:`check_train` and :func:`check_eval` check constraints between settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from posx.config.schema import DataConfig, EvalConfig, ModelConfig, Note, OneOf, RunConfig
from posx.errors import PosxError, unknown

T = TypeVar("T")


def typed(schema: type[T], values: Any, prefix: str = "", source: str = "") -> T:
    """Convert ``values`` to the dataclass ``schema``. Raises PosxError for unknown keys and invalid values.

    In errors, ``prefix`` ("scheme.") is added before keys and ``source`` (" in sweep.yaml") after them.
    """
    from pydantic import ValidationError  # imported late: commands that only read records need no configs

    from posx.config.pydantic_adapter import adapter

    try:
        return adapter(schema).validate_python({} if values is None else values)  # type: ignore[arg-type]
    except ValidationError as error:
        raise _convert(schema, min(error.errors(include_url=False), key=_rank), prefix, source) from None


# ---------------------------------------------------------------- error messages

_LIMITS = {  # bound → how a value beyond it is described, and how the limit is described
    "ge": ("small", "at least"),
    "gt": ("small", "more than"),
    "le": ("large", "at most"),
    "lt": ("large", "less than"),
}
_UNKNOWN_KEY = ("extra_forbidden", "invalid_key")
_OUT_OF_RANGE = ("greater_than_equal", "greater_than", "less_than_equal", "less_than", "literal_error")
_WORDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text", list: "a list"}
_EXAMPLE = "See posx config for an example."


def _rank(error: Mapping[str, Any]) -> int:
    """Unknown keys are reported before wrong types, and wrong types before values out of range."""
    return 0 if error["type"] in _UNKNOWN_KEY else 2 if error["type"] in _OUT_OF_RANGE else 1


def _convert(schema: type, error: Mapping[str, Any], prefix: str, source: str) -> PosxError:
    """Convert one of pydantic's errors."""
    path, hint = _locate(schema, error["loc"])
    bare, metadata = _bare(hint)
    key, kind, value = prefix + _joined(path), error["type"], error["input"]
    if kind in _UNKNOWN_KEY:
        section = f"{key}." if path else prefix
        settings = [section + field.name for field in fields(bare) if not field.name.startswith("_")]
        return unknown("setting", f"{section}{error['loc'][len(path)]}", settings, source)
    if error["loc"][-1:] == ("[key]",):
        return PosxError(f"{prefix}{_joined(path[:-1])}: the key {value} is not text{source}.", f"Write '{value}'.")
    if kind == "missing":
        return PosxError(f"{key} is missing{source}.", f"It takes {_describe(hint)}.")
    if kind == "literal_error" and isinstance(value, str):
        choices = next((item.choices for item in metadata if isinstance(item, OneOf)), get_args(bare))
        return PosxError(f"{key}={value}{source} is not a valid choice.", unknown(key, value, choices).hint)
    text = "null" if value is None else value
    if is_dataclass(bare):
        section = key.rstrip(".") or "A config"
        return PosxError(f"{section} takes keys and values, but '{text}' was given{source}.", "Write key: value.")
    if kind == "literal_error" or kind.endswith("_type"):
        return PosxError(f"{key} takes {_describe(hint)}, but '{text}' was given{source}.", _EXAMPLE)
    if kind not in _OUT_OF_RANGE:  # a constraint defined by a user
        return PosxError(f"{key}={text}{source} cannot be used: {error['msg']}.", _EXAMPLE)
    ((bound, limit),) = error["ctx"].items()
    size, wording = _LIMITS[bound]
    note = next((item for item in metadata if isinstance(item, Note)), Note())
    why = f": {note.why}" if note.why and size == "small" else ""
    limit_hint = f"Set {key} to {wording} {limit:{',' if isinstance(limit, int) else 'g'}}."
    text = f"{value:g}" if isinstance(value, float) else value
    return PosxError(f"{key}={text}{source} is too {size}{why}.", note.hint or limit_hint)


def _locate(schema: type, location: Sequence[str | int]) -> tuple[list[str | int], Any]:
    """The part of a location that names settings, and the annotation of the last one."""
    path: list[str | int] = []
    hint: Any = schema
    for part in location:
        bare, _ = _bare(hint)
        hints = get_type_hints(bare, include_extras=True) if is_dataclass(bare) else {}
        if part in hints:
            hint = hints[part]
        elif get_origin(bare) in (list, dict) and part != "[key]":
            hint = get_args(bare)[-1]
        else:  # an unknown key, or the member of a union
            break
        path.append(part)
    return path, hint


def _bare(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type without null and annotations, and the annotations."""
    metadata: tuple[Any, ...] = ()
    while True:
        inner = [arg for arg in get_args(hint) if arg is not NoneType]
        if get_origin(hint) is Annotated:
            metadata += hint.__metadata__
            hint = inner[0]
        elif get_origin(hint) in (Union, UnionType) and len(inner) == 1:
            hint = inner[0]
        else:
            return hint, metadata


def _describe(hint: Any) -> str:
    """Describe a type in words."""
    bare, _ = _bare(hint)
    if get_origin(bare) in (Union, UnionType):
        words = [_describe(arg) for arg in get_args(bare) if arg is not NoneType]
    elif get_origin(bare) is Literal:
        words = ["text"]
    else:
        words = [_WORDS.get(get_origin(bare) or bare, "keys and values")]
    return " or ".join([*words, *(["null"] if _is_optional(hint) else [])])


def _is_optional(hint: Any) -> bool:
    return hint is NoneType or (
        get_origin(hint) in (Annotated, Union, UnionType) and any(map(_is_optional, get_args(hint)))
    )


def _joined(path: Sequence[str | int]) -> str:
    """``eval.lengths[0]``"""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


# ---------------------------------------------------------------- constraints between settings


def check_train(config: RunConfig) -> None:
    """Check constraints between settings of a run. Raises PosxError."""
    _check_text(config.data)
    _check_heads(config.model)
    train = config.train
    if train.batch_tokens < train.context:
        raise PosxError(
            f"train.batch_tokens={train.batch_tokens} is smaller than one window.",
            f"Set train.batch_tokens to at least {train.context}.",
        )
    sequences = train.batch_tokens // train.context
    if sequences % train.accumulation:
        raise PosxError(
            f"train.accumulation={train.accumulation} does not divide the {sequences} windows of a step.",
            "Use a divisor, or change train.batch_tokens.",
        )
    _check_recipe(config)


def _check_text(data: DataConfig) -> None:
    if data.source == "text" and not data.path:
        raise PosxError(
            "data=text requires data.path.",
            "Add data.path=PATH: a .txt, .jsonl or .parquet file, or a directory.",
        )
    if data.source == "sotu" and data.path:
        raise PosxError(
            f"data.path={data.path} was given, but data=sotu does not read files.",
            "Add data=text to train on your own text.",
        )


def _check_heads(model: ModelConfig) -> None:
    if model.head_dim is None and model.d_model % model.n_heads:
        fits = [n for n in range(1, model.d_model + 1) if model.d_model % n == 0]
        near = sorted(sorted(fits, key=lambda n: abs(n - model.n_heads))[:3])
        raise PosxError(
            f"model.n_heads={model.n_heads} does not divide model.d_model={model.d_model}.",
            f"Try model.n_heads={' or '.join(map(str, near))}, or set model.head_dim.",
        )
    if model.n_kv_heads is not None and model.n_heads % model.n_kv_heads:
        raise PosxError(
            f"model.n_kv_heads={model.n_kv_heads} does not divide model.n_heads={model.n_heads}.",
            "Use a divisor of n_heads: each group of heads shares one key head.",
        )


def _check_recipe(config: RunConfig) -> None:
    """Check the settings of training that a recipe depends on."""
    train = config.train
    if not config.start.run and (train.recipe != "none" or train.reach is not None):
        raise needs_a_start(f"train.recipe={train.recipe}")
    if train.recipe != "pose":
        if train.reach is not None:
            raise PosxError(
                f"train.reach={train.reach} requires pose, but train.recipe={train.recipe}.",
                "Add --recipe pose, or omit train.reach.",
            )
        return
    if train.reach is None or train.reach <= train.context:
        reason = "no length was given" if train.reach is None else f"train.reach={train.reach} was given"
        raise PosxError(
            f"pose simulates positions beyond its windows of {train.context} tokens, but {reason}.",
            f"Add --reach 4x, or another length above {train.context}.",
        )


def needs_a_start(setting: str) -> PosxError:
    """The error for a fine-tuning setting in a run from scratch."""
    return PosxError(f"{setting} requires trained weights, but no run was given.", "Use posx train --from RUN.")


def check_eval(config: EvalConfig) -> None:
    """The same for an evaluation. :func:`posx.config.lengths.parse_length` parses lengths."""
    if not config.lengths:
        raise PosxError("No evaluation length given.", "Add --length 2x, or eval.lengths=[1x,2x,4x].")
    if not config.extensions:
        raise PosxError("No extension given.", "Use --extension none for the unmodified model.")
