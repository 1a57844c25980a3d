"""Tests of ``posx.extensions.longrope``: factors."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fixtures.longrope_runs import spec
from fixtures.models import extensions, make_scheme
from posx.config.compose import as_overrides, compose_eval
from posx.config.schema import ModelConfig
from posx.errors import PosxError
from posx.models.binding import check_fit, parse_extension, spec_name
from posx.models.build import compose_run


def test_a_file_and_its_numbers_are_one_extension(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name contains the numbers: it changes with the file, and does not depend on spelling."""
    path = tmp_path / "a+b (1).yaml"
    path.write_text(yaml.safe_dump({"factors": [1, 1.25, 4.0], "n": 4, "attention": 1.0, "run": "any"}))
    assert spec_name([spec(f"longrope(factors={path})")]) == "longrope(factors=1:1.25:4, n=4, attention=1)"
    assert spec("longrope(factors=1.0:1.250:4,n=4,attention=1)") == spec(f"longrope( factors = {path} )")
    assert spec(f"longrope(factors={path}, n=0)").params == {"factors": "1:1.25:4", "attention": 1.0}
    assert spec(f"window(w=4)+longrope(factors={path})".split("+", 1)[1]).params["n"] == 4
    path.write_text(yaml.safe_dump({"factors": [1, 1.25, 5.0], "n": 0, "attention": None}))
    assert spec_name([spec(f"longrope(factors={path})")]) == "longrope(factors=1:1.25:5)"
    monkeypatch.chdir(tmp_path)
    assert spec(f"longrope(factors={path.name})").params == {"factors": "1:1.25:5"}


def test_factors_pass_through_flags_and_overrides() -> None:
    """Colons are special in YAML, commas in Hydra, and brackets in both."""
    text = "longrope(factors=1:1.2:2.5:4:5:6:7:1e2, n=2)+window(w=5)"
    config = compose_eval(as_overrides([("--extension", "eval.extensions", [text, "pi"])], []))
    assert config.extensions == [text, "pi"]
    tiny = ["model.d_model=32", "model.n_heads=2", "train.context=16"]
    stored = "longrope(factors=1:1.2:2.5:4:5:6:7:100, n=2, s=1)+window(w=5)"
    for overrides in (
        as_overrides([("--extension", "train.extension", text)], tiny),
        [*tiny, f"train.extension='{text}'"],
    ):
        assert compose_run(["scheme=rope", *overrides]).train.extension == stored
    assert spec_name(parse_extension(stored)) == stored


@pytest.mark.parametrize(
    "inside, expected_message",
    [
        ("", "requires factors.*posx search longrope RUN"),
        ("factors=", "requires factors"),
        ("factors=1:0.5", "a factor of 0.5"),
        ("factors=1:-2", "a factor of -2"),
        ("factors=0", "a factor of 0"),
        ("factors=1:nan", "a factor of nan"),
        ("factors=1:inf", "a factor of inf"),
        ("factors=1::2", "neither numbers separated by colons nor a file"),
        ("factors=there/is/none.yaml", "neither numbers separated by colons nor a file"),
        ("factors=1:2, n=-1", "n=-1"),
        ("factors=1:2, n=1.5", "a whole number"),
        ("factors=1:2, attention=0", "attention=0"),
        ("factors=1:2, s=0.5", "s=0.5"),
        ("factor=1:2", "Did you mean longrope.factors"),
    ],
)
def test_invalid_factors_are_refused(inside: str, expected_message: str) -> None:
    with pytest.raises(PosxError, match=expected_message) as raised:
        parse_extension(f"longrope({inside})" if inside else "longrope")
    assert raised.value.hint


@pytest.mark.parametrize(
    "content, expected_message",
    [
        ("", "has no longrope factors"),
        ("[1, 2]", "has no longrope factors"),
        ("factors: []", "has no longrope factors"),
        ("factors: [1, two]", "has no longrope factors"),
        ("factors: [1, true]", "has no longrope factors"),
        ("factors: 1.5", "has no longrope factors"),
        ("lambda: [1, 2]", "has no longrope factors"),
        ("factors: [1, 0.5]", "a factor of 0.5"),
        ("factors: [1, .nan]", "a factor of nan"),
        ("factors: [1, 2]\nn: 1.5", "takes a whole number"),
        ("factors: [1, 2]\nattention: strong", "takes a number or null"),
        ("factors: [1, 2", "not valid YAML"),
    ],
)
def test_files_without_factors_are_refused(tmp_path: Path, content: str, expected_message: str) -> None:
    path = tmp_path / "factors.yaml"
    path.write_text(content)
    with pytest.raises(PosxError, match=expected_message) as raised:
        parse_extension(f"longrope(factors={path})")
    assert raised.value.hint
    with pytest.raises(PosxError, match="is a directory"):
        parse_extension(f"longrope(factors={tmp_path})")


def test_a_wrong_count_is_refused_before_any_work() -> None:
    scheme = make_scheme("partial-rope", ModelConfig(d_model=48, n_heads=3), fraction=0.5)
    with pytest.raises(PosxError, match="given 1 factor, but partial-rope rotates 4 pairs"):
        check_fit([spec("longrope(factors=2)")], "partial-rope", scheme, extensions())
    with pytest.raises(PosxError, match="given 5 factors"):
        compose_run(["scheme=rope", "model.head_dim=8", "train.extension='longrope(factors=1:2:3:4:5)'"])
