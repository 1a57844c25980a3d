"""Which values settings accept and refuse, and the messages."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge

from posx.config.schema import EvalConfig, EvalRoot, Note, OneOf, RunConfig
from posx.config.validate import check_eval, check_train, typed
from posx.errors import PosxError


@dataclass
class Inner:
    a: int = 1
    c: list[int] = field(default_factory=list)


@dataclass
class Plain:
    """Settings of a user's class: no ranges, and no types from posx."""

    i: int = 1
    f: float = 1.0
    b: bool = False
    s: str = ""
    oi: int | None = None
    li: list[int] = field(default_factory=list)
    ls: list[str] = field(default_factory=list)
    d: dict[str, list[str]] = field(default_factory=dict)
    any: Any = None
    n: Inner = field(default_factory=Inner)
    choice: Literal["x", "y"] = "x"


def refused(schema: Any, values: Any, **where: str) -> PosxError:
    with pytest.raises(PosxError) as caught:
        typed(schema, values, **where)
    assert caught.value.message[-1] == "."
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("key", "given", "stored"),
    [
        ("i", "3", 3),
        ("i", -3, -3),
        ("f", 3, 3.0),
        ("f", "1e-3", 1e-3),  # YAML 1.1 reads this as text
        ("f", "inf", math.inf),
        ("b", 1, True),
        ("b", 0, False),
        ("b", "On", True),
        ("b", "no", False),
        ("s", 3000, "3000"),
        ("s", 1.5, "1.5"),
        ("s", True, "True"),
        ("s", "${train.steps}", "${train.steps}"),
        ("s", "\\${x}", "\\${x}"),
        ("s", "???", "???"),
        ("oi", None, None),
        ("oi", "7", 7),
        ("li", ["1", 2], [1, 2]),
        ("ls", [1, "2x"], ["1", "2x"]),
        ("d", {"rope": ["pi", "${q}"]}, {"rope": ["pi", "${q}"]}),
        ("any", {"a": [1, "${q}"]}, {"a": [1, "${q}"]}),
        ("n", {"a": "5"}, Inner(5)),
        ("choice", "y", "y"),
    ],
)
def test_values_as_written_in_yaml_and_on_the_command_line_are_accepted(key: str, given: Any, stored: Any) -> None:
    value = getattr(typed(Plain, {key: given}), key)
    assert value == stored
    assert type(value) is type(stored)


@pytest.mark.parametrize(
    ("key", "given", "sentence"),
    [
        ("i", 3.0, "p.i takes a whole number, but '3.0' was given in f."),
        ("i", True, "p.i takes a whole number, but 'True' was given in f."),
        ("i", "x", "p.i takes a whole number, but 'x' was given in f."),
        ("i", None, "p.i takes a whole number, but 'null' was given in f."),
        ("f", False, "p.f takes a number, but 'False' was given in f."),
        ("b", 1.0, "p.b takes true or false, but '1.0' was given in f."),
        ("b", "t", "p.b takes true or false, but 't' was given in f."),
        ("s", [1], "p.s takes text, but '[1]' was given in f."),
        ("s", None, "p.s takes text, but 'null' was given in f."),
        ("oi", "x", "p.oi takes a whole number or null, but 'x' was given in f."),
        ("li", 1, "p.li takes a list, but '1' was given in f."),
        ("li", [1, "x"], "p.li[1] takes a whole number, but 'x' was given in f."),
        ("ls", "ab", "p.ls takes a list, but 'ab' was given in f."),
        ("d", [1], "p.d takes keys and values, but '[1]' was given in f."),
        ("d", {"a": "b"}, "p.d.a takes a list, but 'b' was given in f."),
        ("d", {1: ["b"]}, "p.d: the key 1 is not text in f."),
        ("n", 5, "p.n takes keys and values, but '5' was given in f."),
        ("n", None, "p.n takes keys and values, but 'null' was given in f."),
        ("n", {"a": "x"}, "p.n.a takes a whole number, but 'x' was given in f."),
        ("n", {"c": [1, 1.5]}, "p.n.c[1] takes a whole number, but '1.5' was given in f."),
        ("n", {"q": 1}, "There is no setting 'p.n.q' in f."),
        ("ii", 1, "There is no setting 'p.ii' in f."),
        (5, 1, "There is no setting 'p.5' in f."),
        ("choice", "z", "p.choice=z in f is not a valid choice."),
    ],
)
def test_invalid_values_are_refused(key: Any, given: Any, sentence: str) -> None:
    assert refused(Plain, {key: given}, prefix="p.", source=" in f").message == sentence


def test_missing_values_are_the_defaults() -> None:
    assert typed(Plain, None) == typed(Plain, {}) == Plain()
    assert typed(RunConfig, None) == RunConfig()


@pytest.mark.parametrize("values", ["x", [], 0])
def test_a_config_must_be_keys_and_values(values: Any) -> None:
    assert refused(Plain, values).message == f"A config takes keys and values, but '{values}' was given."
    assert refused(Plain, values, prefix="scheme.").message.startswith("scheme takes keys and values")


def test_unknown_keys_are_reported_before_types_and_types_before_ranges() -> None:
    assert "train.stepz" in refused(RunConfig, {"train": {"context": 0, "steps": "x", "stepz": 1}}).message
    assert "train.steps takes" in refused(RunConfig, {"train": {"context": 0, "steps": "x"}}).message
    error = refused(RunConfig, {"train": {"stepz": 1}})
    assert error.hint.startswith("Did you mean train.steps")
    assert "train.threads" in error.hint


@pytest.mark.parametrize(
    ("key", "value", "message", "hint"),
    [
        (
            "train.context",
            1,
            "train.context=1 is too small: predicting a token requires at least one token before it.",
            "Set train.context to at least 2.",
        ),
        ("train.context", 10**8, "train.context=100000000 is too large.", "Set train.context to at most 10,000,000."),
        ("train.steps", -1, "train.steps=-1 is too small.", "Set train.steps to at least 1."),
        ("train.threads", 0, "train.threads=0 is too small.", "Set train.threads to at least 1."),
        ("train.seed", 2**64, f"train.seed={2**64} is too large.", f"Set train.seed to at most {2**63 - 1:,}."),
        ("optim.lr", 0, "optim.lr=0 is too small.", "Typical rates are between 1e-4 and 5e-3."),
        ("optim.lr", math.inf, "optim.lr=inf is too large.", "Typical rates are between 1e-4 and 5e-3."),
        ("optim.beta1", 1, "optim.beta1=1 is too large.", "Set optim.beta1 to less than 1."),
        ("optim.final_lr", 2, "optim.final_lr=2 is too large.", "Set optim.final_lr to at most 1."),
        ("optim.weight_decay", math.nan, "optim.weight_decay=nan is too small.", "Set optim.weight_decay to at least"),
        ("train.dtype", "float16", "train.dtype=float16 is not a valid choice.", "Did you mean bfloat16"),
        ("train.compile", True, "train.compile=True is not a valid choice.", "Available: auto, off, on."),
        ("data.source", None, "data.source takes text, but 'null' was given.", "See posx config"),
    ],
)
def test_the_hint_for_a_value_out_of_range_names_the_limit(key: str, value: Any, message: str, hint: str) -> None:
    section, name = key.split(".")
    error = refused(RunConfig, {section: {name: value}})
    assert error.message == message
    assert error.hint.startswith(hint)


def test_limits_are_inclusive() -> None:
    edges = {"context": 2, "steps": 1, "threads": None, "seed": 2**63 - 1, "batch_tokens": 10**8}
    train = typed(RunConfig, {"train": edges, "optim": {"beta1": 0, "final_lr": 1, "warmup_steps": 0}}).train
    assert {key: getattr(train, key) for key in edges} == edges


def test_ranges_in_a_users_class_are_checked() -> None:
    @dataclass
    class Own:
        needed: int
        power: Annotated[float, Ge(0), Note("a kernel is positive", "Use 1.")] = 1.0
        kernel: Annotated[str, OneOf("log", "power")] = "log"

    globals()["Own"] = Own
    assert typed(Own, {"needed": 1, "kernel": "power"}) == Own(1, kernel="power")
    assert str(refused(Own, {"needed": 1, "power": -1})) == "power=-1 is too small: a kernel is positive. Use 1."
    assert refused(Own, {"needed": 1, "kernel": "powre"}).hint == "Did you mean power? Available: log, power."
    assert str(refused(Own, {})) == "needed is missing. It takes a whole number."


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("data", {"source": "text"}, "data=text requires data.path"),
        ("data", {"path": "a.txt"}, "data=sotu does not read files"),
        ("model", {"n_heads": 3}, "model.n_heads=3 does not divide model.d_model=128"),
        ("model", {"n_kv_heads": 3}, "model.n_kv_heads=3 does not divide model.n_heads=4"),
        ("train", {"batch_tokens": 63}, "train.batch_tokens=63 is smaller than one window"),
        ("train", {"batch_tokens": -1}, "train.batch_tokens=-1 is smaller than one window"),
        ("train", {"accumulation": 7}, "does not divide the 128 windows of a step"),
        ("train", {"recipe": "drop"}, "no run was given"),
        ("train", {"reach": 256}, "no run was given"),
    ],
)
def test_constraints_between_settings(section: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(PosxError, match=message):
        check_train(typed(RunConfig, {section: values}))


def test_an_evaluation_requires_a_length_and_an_extension() -> None:
    check_eval(EvalConfig())
    with pytest.raises(PosxError, match="No evaluation length given"):
        check_eval(EvalConfig(lengths=[]))
    with pytest.raises(PosxError, match="No extension given"):
        check_eval(EvalConfig(extensions=[]))
    assert refused(EvalRoot, {"eval": {"protocol": "streem"}}).message == "eval.protocol=streem is not a valid choice."


def test_config_modules_do_not_import_pydantic_at_once() -> None:
    program = "import sys, posx.config.validate, posx.config.compose; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
