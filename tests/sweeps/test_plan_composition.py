"""Tests of ``posx.sweeps.plan``: how often Hydra composes, and that nothing is lost by it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from posx.config import compose
from posx.config.catalog import PACKAGED, Catalog
from posx.models import binding
from posx.models.build import compose_run
from posx.sweeps.plan import JobPlan, read_sweep

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "while",
    "every",
    "dog",
    "ran",
    "past",
    "old",
    "trees",
    "and",
    "two",
    "birds",
    "sang",
    "about",
    "rain",
]
TINY = [
    "data=text", "model.n_layers=1", "model.d_model=16", "model.n_heads=2", "tokenizer.vocab_size=300",
    "train.context=8", "train.steps=3", "train.batch_tokens=64", "train.device=cpu", "eval.max_targets=128",
]  # fmt: skip
TUNES = {
    "context": "2x",
    "steps": [1, 2],
    "extensions": {"rope": ["none", "pi"]},
    "recipes": {"rope": ["none", "pose", "drop"]},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two rows, two seeds, controls and fine-tunes."""
    text = tmp_path / "text"
    text.mkdir()
    for number in range(24):
        words = [WORDS[(number * 7 + n * (n + number)) % len(WORDS)] for n in range(160)]
        (text / f"{number}.txt").write_text(" ".join(words), "utf-8")
    return write(tmp_path / "s.yaml", text)


def write(path: Path, text: Path, **settings: Any) -> Path:
    values = {
        "schemes": ["rope", {"scheme": "alibi", "label": "it's 1", "overrides": ["train.log_every=2"]}],
        "seeds": [0, 3],
        "overrides": [*TINY, f"data.path={text}", f"data.cache_dir={path.parent / 'cache'}"],
        "lengths": ["1x", "2x"],
        "extensions": {"rope": ["none", "pi"]},
        "controls": ["2x"],
        "finetune": TUNES,
        **settings,
    }
    path.write_text(yaml.safe_dump(values), "utf-8")
    return path


def jobs_of(path: Path) -> list[JobPlan]:
    return read_sweep(path, [], lambda text: None, PACKAGED).jobs


def test_hydra_composes_each_row_once_and_the_evaluation_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    composed: list[str] = []
    real = compose._compose

    def counted(root: str, *rest: Any) -> dict[str, Any]:
        composed.append(root)
        return real(root, *rest)

    monkeypatch.setattr(compose, "_compose", counted)
    jobs = jobs_of(file)
    assert len(jobs) == 2 * (1 + 1 + 2 * 6) + 2 * (1 + 1 + 2 * 2)
    assert sorted(composed) == ["eval", "train", "train"]


def test_an_extension_of_a_row_is_parsed_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the evaluation, for training, and for the recipe of each fine-tune."""
    parsed: list[str] = []
    real = binding._parse_one

    def counted(name: str, inside: str, text: str, catalog: Catalog) -> Any:
        parsed.append(text)
        return real(name, inside, text, catalog)

    monkeypatch.setattr(binding, "_parse_one", counted)
    jobs_of(file)
    assert sorted(parsed) == ["pi", "pi(s=2)"]


def test_every_job_is_what_hydra_composes_of_all_its_overrides(file: Path) -> None:
    overrides = yaml.safe_load(file.read_text("utf-8"))["overrides"]
    own = [o for o in overrides if not o.startswith("eval.")]
    found = [job.config for job in jobs_of(file) if job.after is None]
    rows = [("rope", "rope", []), ("alibi", "it's 1", ["train.log_every=2"])]
    expected = [
        compose_run([f"scheme={scheme}", *own, *more, f"label={label}", f"train.seed={seed}", f"train.{length}"])
        for scheme, label, more in rows
        for seed in (0, 3)
        for length in ("context=8", "context=16")
    ]
    assert [asdict(config) for config in found] == [asdict(config) for config in expected]


def test_a_setting_that_follows_from_another_follows_in_every_job(file: Path) -> None:
    """An interpolation of Hydra: the control's width is its own."""
    text = file.parent / "text"
    own = [*TINY, f"data.path={text}", f"data.cache_dir={file.parent / 'cache'}", "model.d_ff=${train.context}"]
    path = write(file.parent / "t.yaml", text, overrides=own, schemes=["rope"], finetune={})
    assert [(job.config.train.context, job.config.model.d_ff) for job in jobs_of(path)] == [(8, 8), (16, 16)] * 2


def test_a_setting_in_a_users_own_card_follows_too(file: Path) -> None:
    """Only the card interpolates: no override shows that the control's frequency base is its own."""
    catalog = Catalog(file.parent / "mine")
    card = file.parent / "mine" / "scheme" / "wide.yaml"
    card.parent.mkdir(parents=True)
    card.write_text("_target_: posx.schemes.rope.Rope\nbase: ${train.context}\n", "utf-8")
    path = write(file.parent / "t.yaml", file.parent / "text", schemes=["wide"], extensions={}, finetune={})
    found = [job.config for job in read_sweep(path, [], str, catalog).jobs]
    assert [(config.train.context, config.scheme["base"]) for config in found] == [(8, 8.0), (16, 16.0)] * 2
