"""Tests of ``posx.cli.bench``."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fixtures.measured import (
    refused,
    text,  # noqa: F401
    tiny,
)
from posx.bench import growth as scaling
from posx.bench import schemes as bench
from posx.cli.bench import numbers


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--schemes", "rpoe"], "Did you mean rope"),
        (["--schemes", ","], "--schemes is empty"),
        (["--schemes", ""], "--schemes is empty"),
        (["--lengths", "4y"], "'4y' is not a valid length"),
        (["--lengths", "0.5x"], "A multiple must be at least 1"),
        (["--lengths", " "], "--lengths is empty"),
        (["--lengths", "1x", "eval.lengths=[2x]"], "eval.lengths"),
        (["--lengths", "1000x"], "use lengths up to"),
        (["--burst", "nan"], "is not between 0 and 600 seconds"),
        (["--burst", "1e9"], "is not between 0 and 600 seconds"),
        (["--burst", "-1"], "is not between 0 and 600 seconds"),
        (["scheme=rope"], "Use --schemes"),
        (["scheme.base=10"], "Use --schemes"),
        (["eval.extensions=[pi]"], "without extensions"),
        (["model.n_layer=3"], "model.n_layers"),
        (["rope"], "'rope' is not an override"),
        (["train.context=100000", "train.batch_tokens=100000"], "the longest training document"),
        (["--contexts", "8"], "Add --scaling"),
        (["--from", "scaling.json"], "Add --scaling"),
        (["--scaling", "--schemes", "rope"], "scheme=NAME"),
        (["--scaling", "--contexts", "8,x"], "is not a positive whole number"),
        (["--scaling", "--contexts", "0"], "is not a positive whole number"),
        (["--scaling", "--widths", ","], "--widths is empty"),
        (["--scaling", "--widths", "100"], "Use 64 or 128"),
        (["--scaling", "--widths", "63"], "Use 64."),
        (["--scaling", "--contexts", "none", "--widths", "none", "--corpus-mb", "none"], "There is nothing to measure"),
        (["--scaling", "--contexts", "1"], "train.context"),
        (["--scaling", "--from", "nowhere.json"], "nowhere.json is missing"),
        (["--scaling", "--from", "nowhere.json"], "Name the output directory of posx bench --scaling"),
        (["--scaling", "--from", "a.json", "--widths", "64"], "--from redraws an earlier measurement"),
    ],
)
def test_mistakes_are_sentences(text: Path, arguments: list[str], said: str) -> None:
    if "--from" not in arguments:
        arguments = [*tiny(text), *arguments]
        for key in ("train.context", "train.batch_tokens"):
            if any(argument.startswith(key) for argument in arguments[12:]):
                arguments = [a for n, a in enumerate(arguments) if n >= 12 or not a.startswith(key)]
    assert said in refused(*arguments)


@pytest.mark.parametrize("flags", [[], ["--scaling"]])
def test_an_output_that_cannot_be_written_is_refused_before_any_work(
    text: Path, tmp_path: Path, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (bench, scaling):
        monkeypatch.setattr(module, "measure", lambda *rest: pytest.fail("it measured"))
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused(*tiny(text), *flags, "-o", tmp_path / "file" / "deep" / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_directory_is_no_table(text: Path, tmp_path: Path) -> None:
    assert "it is a directory" in refused(*tiny(text), "-o", tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_before_any_work() -> None:
    assert "torch sees no GPU" in refused("--scaling", "train.device=cuda")


def test_numbers() -> None:
    assert numbers("256, 8,256", "--contexts") == [8, 256]
    assert numbers("none", "--contexts") == []
    assert numbers(None, "--contexts") is None
