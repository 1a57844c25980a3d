"""Tests of ``posx.training.recipes.drop``."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from fixtures.corpora import corpus_of, tiny_config
from fixtures.finetuned_runs import EXACT, SEEN, as_gpt2, ask, by_host, gap, losses, tuned, weights
from fixtures.recipe_runs import (
    DROP,
    REACH,
    STEPS,
    L,
    runs,  # noqa: F401
    text,  # noqa: F401
)
from posx.data.sampling import Slices
from posx.errors import PosxError
from posx.models.build import build_model
from posx.runs.directory import create, metrics, open_run
from posx.training.finetune import compose_finetune
from posx.training.resume import resume
from posx.training.state import start
from posx.utils.console import Display
from posx.verify.oracles import host_models as hosts


@torch.no_grad()
def test_a_dropped_model_is_nope_with_the_weights_of_rope(runs: Path, tmp_path: Path) -> None:
    """Before any step, bit for bit; and the very start that resume makes of it."""
    first = open_run(runs / "rope")
    config = tuned(first, *DROP)
    assert config.scheme == {"name": "nope", "_target_": "posx.schemes.nope.Nope"}
    run, corpus = create(tmp_path, "run", config, resume=False), corpus_of(config)
    session = start(config, corpus)
    resume(run, session, corpus, Display(quiet=True))
    nope = build_model(open_run(runs / "nope").config, corpus.vocab_size)
    nope.load_state_dict(weights(first))
    tokens = torch.from_numpy(session.slices.batch(0, 0, 4)[0])
    assert torch.equal(session.model(tokens), nope(tokens))
    rope = build_model(first.config, corpus.vocab_size)
    rope.load_state_dict(weights(first))
    assert float((rope(tokens) - nope(tokens)).abs().max()) > SEEN


@torch.no_grad()
def test_a_step_of_drop_is_taken_without_positions(runs: Path) -> None:
    """The first loss, by GPT-2 whose position table is zero, on the batch that comes next."""
    first, run = open_run(runs / "rope"), open_run(runs / "rope-drop")
    tokens, targets = Slices(corpus_of(run.config).splits["train"], L).batch(0, STEPS, 128 // L)
    model = build_model(first.config, len(weights(first)["tokens.weight"]))
    model.load_state_dict(weights(first))
    logits, _ = hosts.run(hosts.gpt2(model), torch.from_numpy(tokens))
    expected = float(F.cross_entropy(logits.double().flatten(0, 1), torch.from_numpy(targets).flatten()))
    assert metrics(run)[0]["nats_per_token"] == pytest.approx(expected, abs=EXACT)


def test_a_dropped_model_is_evaluated_without_positions(runs: Path) -> None:
    run = open_run(runs / "rope-drop")
    for record in ask(run, [L, REACH, 128], "trained").values():
        host = as_gpt2(run, torch.zeros(128, run.config.model.d_model))
        assert gap(losses(record), by_host(run, record, host)) < EXACT
        assert (record.scheme, record.scheme_params, record.train_recipe) == ("nope", {}, "drop")


ROTATES_ONLY = ["rope", "partial-rope scheme.fraction=0.5", "p-rope", "xpos", "layers scheme.layers=[rope,nope]"]


@pytest.mark.parametrize("scheme", ROTATES_ONLY)
def test_the_rotary_schemes_can_be_dropped(text: Path, scheme: str) -> None:
    """And no parameter is lost or made by it."""
    first = tiny_config(text, *f"scheme={scheme}".split())
    config = compose_finetune(first, "first", DROP)
    shapes = [{n: p.shape for n, p in build_model(one, 300).named_parameters()} for one in (first, config)]
    assert shapes[0] == shapes[1]
    assert config.scheme["name"] == "nope"


def test_positions_of_pi_can_be_dropped_with_it(runs: Path) -> None:
    pose = open_run(runs / "rope-pose").config
    with pytest.raises(PosxError, match=r"pi changes the spectrum and does not fit nope"):
        compose_finetune(pose, "rope-pose", DROP)
    config = compose_finetune(pose, "rope-pose", [*DROP, "train.extension=none"])
    assert (config.scheme["name"], config.train.extension, config.train.reach) == ("nope", "none", None)
