"""Tests of ``posx.sweeps.file``."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from fixtures.corpora import child_environment
from fixtures.models import posx
from fixtures.sweep_files import (
    TINY,
    text,  # noqa: F401
)

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def children_import_this_posx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs are processes of their own."""
    monkeypatch.setenv("PYTHONPATH", child_environment()["PYTHONPATH"])


def test_the_quickstart_is_as_the_readme_says(tmp_path: Path) -> None:
    from posx.config.catalog import packaged_configs

    file = yaml.safe_load((packaged_configs() / "sweep" / "quick.yaml").read_text("utf-8"))
    schemes = [row if isinstance(row, str) else row["scheme"] for row in file["schemes"]]
    assert schemes == ["nope", "sinusoidal", "learned", "rope", "alibi", "t5"]
    assert set(file["extensions"]["rope"]) >= {"none", "pi", "ntk"}
    assert file["lengths"] == ["1x", "2x", "4x", "8x"]


BROKEN: dict[str, tuple[str, str]] = {
    "empty": ("", "has no schemes"),
    "no yaml": ("schemes: [rope\n", "not valid YAML"),
    "tab": ("schemes:\n\t- rope\n", "not valid YAML"),
    "a list": ("- rope\n", "s.yaml"),
    "a word": ("rope\n", "s.yaml"),
    "unknown key": ("schemez: [rope]\n", "Did you mean schemes"),
    "unknown key of a row": ("schemes: [{schem: rope}]\n", "Did you mean scheme"),
    "unknown scheme": ("schemes: [rop]\n", "Did you mean rope"),
    "a row without a scheme": ("schemes: [{label: a}]\n", "has no scheme"),
    "an empty row": ("schemes: [null]\n", "has no scheme"),
    "a number as a row": ("schemes: [3]\n", "s.yaml"),
    "one scheme as a word": ("schemes: rope\n", "takes a list"),
    "no schemes": ("schemes: []\n", "has no schemes"),
    "no seeds": ("schemes: [rope]\nseeds: []\n", "has no seeds"),
    "seeds as a number": ("schemes: [rope]\nseeds: 3\n", "seeds takes a list"),
    "seeds as words": ("schemes: [rope]\nseeds: [one]\n", "whole number"),
    "a fraction as a seed": ("schemes: [rope]\nseeds: [1.5]\n", "whole number"),
    "a negative seed": ("schemes: [rope]\nseeds: [-1]\n", "train.seed=-1"),
    "a seed twice": ("schemes: [rope]\nseeds: [0, 0]\n", "twice"),
    "a label twice": ("schemes: [rope, rope]\n", "twice"),
    "a label twice by hand": ("schemes: [rope, {scheme: alibi, label: rope}]\n", "twice"),
    "unknown extension": ("schemes: [rope]\nextensions: {rope: [pii]}\n", "Did you mean pi"),
    "an extension that does not fit": ("schemes: [rope]\nextensions: {rope: [interpolate]}\n", "does not fit rope"),
    "two that do not go together": ("schemes: [rope]\nextensions: {rope: [pi+ntk]}\n", "not both"),
    "extensions of no row": ("schemes: [rope]\nextensions: {rop: [pi]}\n", "Did you mean rope"),
    "extensions as a list": ("schemes: [rope]\nextensions: [pi]\n", "extensions takes"),
    "an extension as a word": ("schemes: [rope]\nextensions: {rope: pi}\n", "takes a list"),
    "no extension": ("schemes: [rope]\nextensions: {rope: []}\n", "xtension"),
    "lengths as a word": ("schemes: [rope]\nlengths: 2x\n", "lengths takes a list"),
    "a bad length": ("schemes: [rope]\nlengths: [two]\n", "is not a valid length"),
    "no length": ("schemes: [rope]\nlengths: []\n", "ength"),
    "a length that no document has": (
        "schemes: [rope]\nlengths: [1x, 1000x]\n",
        "It has enough targets with a context",
    ),
    "a context that no document fills": (
        "schemes: [{scheme: rope, overrides: [train.context=512, train.batch_tokens=512]}]\nlengths: [1x]\n",
        "train.context=512",
    ),
    "a stride longer than a window": ("schemes: [rope]\noverrides: [eval.stride=9]\n", "eval.stride=9"),
    "a target context that is too short": (
        "schemes: [rope]\noverrides: [eval.target_context=9]\n",
        "eval.target_context=9",
    ),
    "overrides as a word": ("schemes: [rope]\noverrides: train.steps=3\n", "overrides takes a list"),
    "an override as a mapping": ("schemes: [rope]\noverrides: [{train.steps: 3}]\n", "override"),
    "an unknown override": ("schemes: [rope]\noverrides: [train.stepz=3]\n", "Did you mean train.steps"),
    "an override without a value": ("schemes: [rope]\noverrides: [train.steps]\n", "train.steps"),
    "a bad row override": ("schemes: [{scheme: rope, overrides: [model.n_heads=3]}]\n", "does not divide"),
    "missing data": ("schemes: [rope]\noverrides: [data=text, data.path=nowhere.txt]\n", "nowhere.txt"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_a_sentence_before_any_work(
    tmp_path: Path, text: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content, says = BROKEN[name]
    Path("s.yaml").write_text(content, "utf-8")
    tiny = [o for o in [*TINY, f"data.path={text}"] if o.partition("=")[0] not in content or "overrides" not in content]
    # --dry-run checks just as much, and were nothing refused, no job would start here.
    result = posx("sweep", "s.yaml", *tiny, "--dry-run", code=2)
    message = result.stderr.partition("Error: ")[2]
    assert says in " ".join(message.split())
    assert 1 <= len([line for line in message.splitlines() if line.strip()]) <= 2
    assert result.stdout == ""
    assert [p.name for p in tmp_path.iterdir()] == ["s.yaml"]


def test_what_is_no_file_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("folder.yaml").mkdir()
    Path("binary.yaml").write_bytes(b"\xff\xfe")
    for name, says in (
        ("missing.yaml", "no sweep file missing.yaml"),
        ("quik", "Did you mean quick"),
        ("binary.yaml", "not UTF-8"),
        ("folder", "is a directory"),
        ("folder.yaml", "is a directory"),
    ):
        assert says in posx("sweep", name, "--dry-run", code=2).stderr
    posx("sweep", "quick", "--workers", "0", code=2)
