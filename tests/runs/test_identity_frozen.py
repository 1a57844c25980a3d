"""Names of jobs, groups and cells: those of 0.3.0 stay the same, and every change of a result changes the name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from posx.config.schema import RunConfig
from posx.runs import identity
from posx.runs.identity import cell_key, group_hash, job_hash, recipe_hash

# Taken from committed results. ``changes`` are relative to ``config``. Jobs with cells were run by
# 0.3.0. The control and two fine-tunes were run by 0.1.0, whose job names 0.3.0 kept; drop and pose were named by
# running the code of 0.3.0, since no committed result has them.
FROZEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "fixtures" / "identity_0.3.0.json").read_text(encoding="utf-8")
)
CORPUS, TOKENIZER = FROZEN["corpus_sha256"], FROZEN["tokenizer_sha256"]
JOBS = {job["from"] + " " + job["name"]: job for job in FROZEN["jobs"]}
CELLS = {cell["key"]: cell for job in FROZEN["jobs"] for cell in job["cells"]}

# What each name ignores. Anything else must change it.
JOB_IGNORES = {
    "data.cache_dir",
    "data.path",
    "train.threads",
    "train.log_every",
    "train.device",
    "train.checkpoint_every",
    "start.run",
    "start.weights_sha256",
}
GROUP_IGNORES = {*JOB_IGNORES, "label", "train.seed"}
RECIPE_IGNORES = {*GROUP_IGNORES, "train.context"}


def config_of(values: dict[str, Any]) -> RunConfig:
    """The config of a mapping as a run stores it; missing fields have their defaults."""
    default = RunConfig()
    sections = {}
    for name, value in values.items():
        section = getattr(default, name)
        sections[name] = type(section)(**value) if is_dataclass(section) else value
    return RunConfig(**sections)


def stored(changes: dict[str, Any]) -> dict[str, Any]:
    """The config of the fixture with changes; a scheme is replaced completely."""
    merged = dict(FROZEN["config"])
    for name, value in changes.items():
        merged[name] = {**merged[name], **value} if isinstance(value, dict) and name != "scheme" else value
    return merged


def other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return value + "x"
    return 1 if value is None else value + 1


def variations() -> Iterator[tuple[str, RunConfig]]:
    """Every field of a config, with a config that differs only in that field."""
    values = asdict(config_of(FROZEN["config"]))
    for section, fields in values.items():
        if not isinstance(fields, dict):
            yield section, config_of({**values, section: other(fields)})
            continue
        for name, value in fields.items():
            yield f"{section}.{name}", config_of({**values, section: {**fields, name: other(value)}})


# ---------------------------------------------------------------- the names of 0.3.0


def test_the_fixture_has_at_least_ten_jobs() -> None:
    assert len([job for job in FROZEN["jobs"] if job["cells"]]) >= 10
    assert any("reach" in job["changes"].get("train", {}) for job in FROZEN["jobs"])


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_job_names_of_0_3_0_stay(job: dict[str, Any]) -> None:
    assert job["name"].endswith("-" + job_hash(config_of(stored(job["changes"])), CORPUS, TOKENIZER))


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_group_and_recipe_hashes_of_0_3_0_stay(job: dict[str, Any]) -> None:
    config = config_of(stored(job["changes"]))
    assert (group_hash(config), recipe_hash(config)) == (job["group"], job["recipe"])


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_cell_keys_of_0_3_0_stay(cell: dict[str, Any]) -> None:
    """If the numbers change, NUMERICS must be raised and this test needs new keys."""
    assert cell_key(cell["weights_sha256"], cell["asked"]) == cell["key"]


# ---------------------------------------------------------------- what a name depends on


def differs(name: Callable[[RunConfig], str]) -> set[str]:
    """The fields that change a name."""
    plain = name(config_of(FROZEN["config"]))
    return {field for field, config in variations() if name(config) != plain}


def all_fields() -> set[str]:
    return {field for field, _ in variations()}


def test_every_field_is_varied() -> None:
    assert all_fields() > JOB_IGNORES | RECIPE_IGNORES
    assert {"train.recipe", "train.reach", "scheme.base", "label", "model.tie_embeddings"} < all_fields()


def test_a_job_name_depends_on_all_fields_that_affect_its_result_and_on_its_label() -> None:
    assert differs(lambda config: job_hash(config, CORPUS, TOKENIZER)) == all_fields() - JOB_IGNORES


def test_a_job_name_depends_on_corpus_and_tokenizer() -> None:
    config = config_of(FROZEN["config"])
    names = [job_hash(config, *texts) for texts in ((CORPUS, TOKENIZER), (CORPUS, CORPUS), (TOKENIZER, TOKENIZER))]
    assert len(set(names)) == 3


def test_a_group_hash_ignores_only_the_seed_and_the_ignored_fields() -> None:
    assert differs(group_hash) == all_fields() - GROUP_IGNORES


def test_a_recipe_hash_also_ignores_the_training_context() -> None:
    assert differs(recipe_hash) == all_fields() - RECIPE_IGNORES


def test_hashing_leaves_the_config_unchanged() -> None:
    config = config_of(stored(JOBS[next(iter(JOBS))]["changes"]))
    before = asdict(config)
    job_hash(config, CORPUS, TOKENIZER), group_hash(config), recipe_hash(config)
    assert asdict(config) == before


def test_a_cell_is_named_by_everything_it_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, request = "w" * 64, ["pi", {"pi": {"s": 2.0}}, 128, "t" * 64, "float32"]
    keys = [cell_key(weights, request), cell_key("v" * 64, request)]
    for index, value in enumerate(["ntk", {"pi": {"s": 4.0}}, 256, "u" * 64, "bfloat16"]):
        keys.append(cell_key(weights, [*request[:index], value, *request[index + 1 :]]))
    monkeypatch.setattr(identity, "NUMERICS", "another")
    keys.append(cell_key(weights, request))
    assert len(set(keys)) == len(keys) == 8


# ---------------------------------------------------------------- fields that were added later


@pytest.mark.parametrize("key, default", [("recipe", "none"), ("reach", None)])
def test_a_later_field_at_its_default_is_left_out(key: str, default: str | None) -> None:
    without = config_of(FROZEN["config"])
    written = config_of(stored({"train": {key: default}}))
    assert key not in identity.hashed(written)["train"]
    assert job_hash(written, CORPUS, TOKENIZER) == job_hash(without, CORPUS, TOKENIZER)
    assert group_hash(written) == group_hash(without)


def test_a_new_field_needs_only_a_line_in_LATER(monkeypatch: pytest.MonkeyPatch) -> None:
    """optim.eps stands for the new field."""
    monkeypatch.setitem(identity.LATER, "optim.eps", 1e-8)
    assert "eps" not in identity.hashed(config_of(FROZEN["config"]))["optim"]
    assert identity.hashed(config_of(stored({"optim": {"eps": 1e-6}})))["optim"]["eps"] == 1e-6
