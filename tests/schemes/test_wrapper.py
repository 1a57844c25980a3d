"""Tests of ``posx.schemes.wrapper``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fixtures.corpora import by_hand
from fixtures.models import CONTEXT, gap, make_model, make_scheme, random_tokens
from fixtures.wrapped_schemes import TOLERANCE
from posx.config.schema import ModelConfig
from posx.errors import PosxError
from posx.models.build import compose_run
from posx.runtime.generator import generator
from posx.training.loop import train_step
from posx.training.state import start

pytestmark = pytest.mark.every_processor


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["randomized", "shape"])
def test_a_training_step_trains_the_drawn_positions(name: str, threads: int, tmp_path: Path) -> None:
    """Only drawn rows of a learned table get a gradient, with any number of threads."""
    own = {"randomized": "scheme.longest=200", "shape": "scheme.shift=184"}[name]
    corpus = by_hand([40] * 30)
    corpus.splits["train"] = corpus.splits["test"]
    tiny = ["model.n_layers=1", "model.d_model=16", "model.n_heads=2", "train.context=16", "train.batch_tokens=64"]
    config = compose_run([f"scheme={name}", "scheme.inner=learned", own, *tiny, "train.seed=3",
                          f"train.threads={threads}", "train.compile=off", "optim.weight_decay=0"])  # fmt: skip
    before = torch.get_num_threads()
    try:
        session = start(config, corpus)
        scheme = session.model.scheme
        initial = scheme.inner.table.detach().clone()
        drawn = scheme.train_positions(4, 16, generator(3, "positions of step 0"))
        train_step(session, 0)
    finally:
        torch.set_num_threads(before)
    moved = (scheme.inner.table.detach() != initial).any(-1).nonzero().flatten()
    assert int(moved.max()) >= 16
    assert set(moved.tolist()) <= set(drawn.unique().tolist())
    assert len(moved) > 0.8 * len(drawn.unique())  # a window can have fewer tokens


@torch.no_grad()
def test_inner_scheme_can_differ_by_layer() -> None:
    """shape around ssmax, with a different s per layer, equals ssmax at the same positions."""
    model = make_model("shape", n_layers=3, shift=4, inner={"name": "ssmax", "inner": "rope"})
    itself = make_model("ssmax", n_layers=3, inner="rope")
    itself.load_state_dict({k.replace("scheme.inner.", "scheme.", 1): v for k, v in model.state_dict().items()})
    tokens = random_tokens(20)
    assert gap(model(tokens), itself(tokens)) < TOLERANCE


@pytest.mark.parametrize("inner", ["nope", "cope", "forgetting", "cable", "stick-breaking"])
@pytest.mark.parametrize("outer", ["shape", "randomized"])
def test_inner_scheme_without_positions_is_refused(outer: str, inner: str) -> None:
    """The wrapper would have no effect."""
    with pytest.raises(PosxError, match="does not use them"):
        make_scheme(outer, ModelConfig(), inner=inner)


@pytest.mark.parametrize("outer", ["shape", "randomized"])
def test_defaults_that_depend_on_the_context_do_not_change(outer: str) -> None:
    """A longer range of positions affects only tables; t5's buckets and fire's threshold still depend on L."""
    for inner in ("t5", "fire", "ssmax"):
        own = {"name": inner, **({"buckets": 8} if inner == "t5" else {})}
        inside: Any = make_scheme(outer, ModelConfig(), inner=own).inner
        alone: Any = make_scheme(inner, ModelConfig())
        assert inside.shape.context == alone.shape.context == CONTEXT
        if inner == "t5":
            assert inside.reach(inside.config, inside.shape) == CONTEXT
        if inner == "fire":
            assert inside.threshold == CONTEXT


@pytest.mark.parametrize("inner", ["randomized", "shape", "layers"])
@pytest.mark.parametrize("outer", ["ssmax", "shape", "randomized"])
def test_inner_scheme_that_chooses_positions_or_layers_is_refused(outer: str, inner: str) -> None:
    with pytest.raises(PosxError, match="cannot wrap"):
        make_scheme(outer, ModelConfig(n_layers=4), inner={"name": inner})


@torch.no_grad()
@pytest.mark.parametrize("outer", ["shape", "randomized"])
def test_wrapper_forwards_the_value_term(outer: str) -> None:
    """shaw with values gives the same result in a wrapper, and as the only entry of layers."""
    inner, tokens = {"name": "shaw", "values": True, "clip": 7}, random_tokens(30)
    itself = make_model("shaw", values=True, clip=7)
    own = {k.removeprefix("scheme."): v for k, v in itself.state_dict().items() if k.startswith("scheme.")}
    shared = {k: v for k, v in itself.state_dict().items() if not k.startswith("scheme.")}
    for model, prefix in [
        (make_model(outer, inner=inner), "scheme.inner."),
        (make_model("layers", layers=[inner]), "scheme.inner.0."),
    ]:
        model.load_state_dict({**shared, **{prefix + k: v for k, v in own.items()}})
        positions = torch.arange(30)
        assert gap(model(tokens, positions), itself(tokens, positions)) == 0


@pytest.mark.parametrize("outer", ["dape", "ssmax"])
def test_unsupported_value_term_is_refused(outer: str) -> None:
    with pytest.raises(PosxError, match=r"only adds a bias|does not support inner schemes"):
        make_scheme(outer, ModelConfig(), inner={"name": "shaw", "values": True})
    make_scheme(outer, ModelConfig(), inner={"name": "shaw", "values": False})
