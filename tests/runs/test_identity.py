"""Tests of ``posx.runs.identity``."""

from __future__ import annotations

from pathlib import Path

from fixtures.corpora import tiny_config
from fixtures.finetuned_runs import (
    TO_4X,
    finetune,
    own,  # noqa: F401
    record_of,
    runs,  # noqa: F401
    text,  # noqa: F401
)
from posx.runs.directory import open_run
from posx.runs.identity import group_hash, recipe_hash


def test_fine_tunes_of_different_seeds_share_a_row_and_those_of_different_recipes_do_not(own: Path) -> None:
    of_1 = finetune(own, "rope-1", "rope-1-pi", "--extension", "pi", *TO_4X)
    of_31 = finetune(own, "rope-31", "rope-31-pi", "--extension", "pi", *TO_4X)
    first, second, other = (record_of(own, name) for name in ("rope-pi", of_1.name, of_31.name))
    assert (first.seed, second.seed) == (0, 1)
    assert first.checkpoint_sha256 != second.checkpoint_sha256
    assert first.config_sha256 == second.config_sha256
    assert first.label == second.label
    assert first.parent_sha256 == second.parent_sha256 != other.parent_sha256
    assert first.config_sha256 != other.config_sha256
    assert len({record_of(own, n).config_sha256 for n in ("rope", "rope-pi", "rope-ntk", "rope-31")}) == 4


def test_a_recipe_hash_ignores_only_seed_and_training_context(text: Path, runs: Path) -> None:
    base = tiny_config(text, "scheme=rope")
    same_recipe = [
        tiny_config(text, "scheme=rope", *more)
        for more in (["train.context=64"], ["train.seed=3"], ["train.context=32", "train.seed=1", "label=x"])
    ]
    assert {recipe_hash(config) for config in same_recipe} == {recipe_hash(base)}
    assert group_hash(same_recipe[0]) != group_hash(base) == group_hash(same_recipe[1])
    others = [
        tiny_config(text, "scheme=rope", more)
        for more in ("train.steps=401", "optim.lr=0.02", "scheme.base=500", "model.d_ff=64", "train.batch_tokens=256")
    ]
    others += [tiny_config(text, "scheme=alibi"), open_run(runs / "rope-pi").config]
    assert len({recipe_hash(config) for config in [base, *others]}) == len(others) + 1
