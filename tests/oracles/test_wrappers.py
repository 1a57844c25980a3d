"""Schemes around others: what they draw, what they start from, what each layer gets, and what they refuse."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from data_helpers import by_hand
from helpers import CONTEXT, extend, gap, make_model, make_scheme, random_tokens
from posx.config.schema import ModelConfig
from posx.errors import PosxError, Unsupported
from posx.models.binding import fits
from posx.models.build import compose_run
from posx.models.classes import known_extensions
from posx.models.decoder import Decoder
from posx.runtime.generator import generator
from posx.training.loop import train_step
from posx.training.state import start

TOLERANCE = 2e-5


# ---------------------------------------------------------------- randomized, shape


def test_randomized_positions_are_a_sorted_sample() -> None:
    """Of 4,000 sequences of 5 out of 0 .. 19: every set of distinct, ascending numbers, each as often as the next.

    A number is in a sample with probability 1/4: 1,000 times, give or take 27. Order statistic k of n out of M has the
    mean k (M + 1) / (n + 1) − 1.
    """
    scheme = make_scheme("randomized", ModelConfig(), longest=20)
    sample = scheme.train_positions(4000, 5, torch.Generator().manual_seed(0))
    assert sample.shape == (4000, 5)
    assert sample.dtype == torch.int64
    assert bool((sample.diff() > 0).all())
    assert int(sample.min()) == 0
    assert int(sample.max()) == 19
    assert bool(((torch.bincount(sample.flatten(), minlength=20) - 1000).abs() < 5 * 27).all())
    expected = torch.tensor([k * 21 / 6 - 1 for k in range(1, 6)])
    assert gap(sample.double().mean(0), expected) < 0.3
    again = scheme.train_positions(4000, 5, torch.Generator().manual_seed(0))
    assert torch.equal(sample, again)


def test_randomized_positions_in_evaluation() -> None:
    def of(**settings: Any) -> Tensor:
        return make_scheme("randomized", ModelConfig(), longest=64, **settings).positions(22)

    sample = of(evaluation="sample")
    assert torch.equal(sample, of(evaluation="sample"))
    assert bool((sample.diff() > 0).all())
    assert len(sample) == 22
    assert not torch.equal(sample, torch.arange(22))
    assert torch.equal(of(evaluation="first"), torch.arange(22))
    assert of(evaluation="spread").tolist() == [3 * n for n in range(22)]
    assert torch.equal(make_scheme("randomized", ModelConfig(), longest=64).positions(64), torch.arange(64))
    with pytest.raises(Unsupported, match="randomized positions end at 64"):
        make_scheme("randomized", ModelConfig(), longest=64).positions(65)
    assert make_scheme("randomized", ModelConfig(), longest=None).last_position == 64 * CONTEXT - 1


@torch.no_grad()
@pytest.mark.parametrize("inner", ["sinusoidal", "learned", "rope", "alibi"])
def test_the_inner_scheme_sees_the_positions(inner: str) -> None:
    """The same weights: a model of the inner scheme itself, whose table is as long, at the drawn positions."""
    model = make_model("randomized", inner=inner, longest=40)
    itself = make_model(inner, context=40)
    itself.load_state_dict({k.replace("scheme.inner.", "scheme."): v for k, v in model.state_dict().items()})
    tokens = random_tokens(30)
    positions = model.scheme.positions(30)
    assert gap(model(tokens), itself(tokens, positions)) < TOLERANCE
    each = model.scheme.train_positions(2, 30, torch.Generator().manual_seed(3))
    assert gap(model(tokens, each), itself(tokens, each)) < TOLERANCE


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["randomized", "shape"])
def test_a_training_step_trains_the_drawn_positions(name: str, threads: int, tmp_path: Path) -> None:
    """Rows of a learned table get a gradient where they were drawn, and nowhere else; on any number of threads."""
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
    assert len(moved) > 0.8 * len(drawn.unique())  # a window may be short of tokens


@torch.no_grad()
def test_a_wrapper_knows_that_its_inner_scheme_differs_by_layer() -> None:
    """shape around ssmax, with another s in each layer: as ssmax itself at the same positions."""
    model = make_model("shape", n_layers=3, shift=4, inner={"name": "ssmax", "inner": "rope"})
    itself = make_model("ssmax", n_layers=3, inner="rope")
    itself.load_state_dict({k.replace("scheme.inner.", "scheme.", 1): v for k, v in model.state_dict().items()})
    tokens = random_tokens(20)
    assert gap(model(tokens), itself(tokens)) < TOLERANCE


@pytest.mark.parametrize("inner", ["nope", "cope", "forgetting", "cable", "stick-breaking"])
@pytest.mark.parametrize("outer", ["shape", "randomized"])
def test_who_does_not_hear_positions_is_refused(outer: str, inner: str) -> None:
    """Around them both would be the inner scheme itself, under another name."""
    with pytest.raises(PosxError, match="does not hear where tokens stand"):
        make_scheme(outer, ModelConfig(), inner=inner)


@pytest.mark.parametrize("outer", ["shape", "randomized"])
def test_an_inner_scheme_keeps_what_it_derives_from_the_context(outer: str) -> None:
    """A longer range of positions is one for tables alone: t5's buckets and fire's threshold follow L as they did."""
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
def test_what_a_wrapper_would_not_ask_is_refused(outer: str, inner: str) -> None:
    with pytest.raises(PosxError, match="cannot stand around"):
        make_scheme(outer, ModelConfig(n_layers=4), inner={"name": inner})


@torch.no_grad()
@pytest.mark.parametrize("outer", ["shape", "randomized"])
def test_a_wrapper_hands_on_a_term_on_the_values(outer: str) -> None:
    """And layers ask each scheme: shaw with values, given to a wrapper or as the only layer, is itself."""
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
def test_a_term_on_the_values_is_refused_where_it_would_be_lost(outer: str) -> None:
    with pytest.raises(PosxError, match=r"no more than that|more to it than add a bias"):
        make_scheme(outer, ModelConfig(), inner={"name": "shaw", "values": True})
    make_scheme(outer, ModelConfig(), inner={"name": "shaw", "values": False})


def test_shape_shifts_each_sequence_as_a_whole() -> None:
    """Of 8,000 shifts each of 0 .. 9 comes 800 times, give or take 27."""
    scheme = make_scheme("shape", ModelConfig(), shift=9)
    positions = scheme.train_positions(8000, 6, torch.Generator().manual_seed(0))
    assert bool((positions.diff() == 1).all())
    counts = torch.bincount(positions[:, 0], minlength=10)
    assert len(counts) == 10
    assert bool(((counts - 800).abs() < 5 * 27).all())
    assert torch.equal(scheme.positions(6), torch.arange(6))
    learned = make_scheme("shape", ModelConfig(), shift=9, inner="learned")
    assert learned.last_position == CONTEXT + 9 - 1


# ---------------------------------------------------------------- ssmax


def test_ssmax_starts_with_the_usual_softmax_at_the_end_of_the_context() -> None:
    """s · ln L = 1, so that the last query of L attends as in the inner scheme."""
    scheme = make_model("ssmax", sharp=False).scheme
    assert scheme.s.shape == (2, 3)
    assert float(scheme.s[1, 2] * math.log(CONTEXT)) == pytest.approx(1)
    with pytest.raises(PosxError, match="its inner scheme does more"):
        make_scheme("ssmax", ModelConfig(), inner="stick-breaking")


# ---------------------------------------------------------------- layers


@torch.no_grad()
def test_equal_layers_are_the_scheme_itself() -> None:
    tokens = random_tokens(29)
    for name in ("rope", "alibi", "stick-breaking", "linear-rope", "ssmax"):
        itself = make_model(name, n_layers=3)
        assert gap(make_model("layers", n_layers=3, layers=[name])(tokens), itself(tokens)) < TOLERANCE
        if not list(itself.scheme.parameters()):  # else two places have parameters of their own
            assert gap(make_model("layers", n_layers=3, layers=[name, name])(tokens), itself(tokens)) < TOLERANCE


@torch.no_grad()
def test_schemes_of_layers_have_parameters_for_their_own_layers_alone() -> None:
    """Gates in layers 0 and 2 of three: two rows, and layer 2 has the second."""
    model = make_model("layers", n_layers=3, layers=["forgetting", "nope"])
    assert model.scheme.inner[0].weight.shape[0] == 2
    tokens = random_tokens(20)
    before = [model(tokens)]
    for row in (0, 1):
        model.scheme.inner[0].offset[row] -= 3.0
        before.append(model(tokens))
    assert gap(before[0], before[1]) > 1e-2
    assert gap(before[1], before[2]) > 1e-2


def test_layers_that_cannot_be() -> None:
    for layers, said in ((["sinusoidal", "nope"], "acts on all layers"), ([], "names 0"), (["rope"] * 3, "names 3")):
        with pytest.raises(PosxError, match=said):
            make_scheme("layers", ModelConfig(n_layers=2), layers=layers)


@torch.no_grad()
def test_an_extension_acts_on_the_layers_that_listen() -> None:
    model = make_model("layers", layers=["rope", "nope"])
    known = known_extensions()
    assert fits(known["pi"], model.scheme)
    assert not fits(known["interpolate"], model.scheme)
    tokens = random_tokens(40)
    slow = make_model("layers", layers=["rope", "nope"])
    slow.scheme.inner[0].frequencies = lambda device=None: (
        type(slow.scheme.inner[0]).frequencies(slow.scheme.inner[0], device) / 2.5
    )
    assert gap(model(tokens, extension=extend(model, 40, pi={})), slow(tokens)) < TOLERANCE


# ---------------------------------------------------------------- dape


def test_dape_wants_a_bias() -> None:
    with pytest.raises(PosxError, match="wants an inner scheme with a bias"):
        make_scheme("dape", ModelConfig(), inner="rope")
    with pytest.raises(PosxError, match="leaves no unit"):
        make_scheme("dape", ModelConfig(), hidden=0)


# ---------------------------------------------------------------- configs


def test_an_inner_scheme_is_written_out_in_the_config() -> None:
    config = compose_run(["scheme=randomized", "scheme.inner=rope"])
    rope = {"name": "rope", "_target_": "posx.schemes.rope.Rope", "base": 10000.0, "fraction": 1.0}
    assert config.scheme["inner"] == rope
    config = compose_run(["scheme=ssmax", "scheme.inner={name: rope, base: 500}"])
    assert config.scheme["inner"] == {**rope, "base": 500.0}
    config = compose_run(["scheme=layers", "scheme.layers=[alibi,nope]"])
    assert [one["name"] for one in config.scheme["layers"]] == ["alibi", "nope"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["scheme=ssmax", "scheme.inner=ropr"], "ropr"),
        (["scheme=ssmax", "scheme.inner=3"], "takes a scheme"),
        (["scheme=ssmax", "scheme.inner={name: rope, bse: 500}"], "scheme.inner.bse"),
        (["scheme=ssmax", "scheme.inner={name: rope, base: 0}"], "scheme.base"),
        (["scheme=layers", "scheme.layers=[rope,nop]"], "nop"),
        (["scheme=layers", "scheme.layers=rope"], "takes a list"),
        (["scheme=randomized", "scheme.longest=8"], "too few positions"),
        (["scheme=randomized", "scheme.evaluation=any"], "sample, spread or first"),
        (["scheme=shape", "scheme.shift=-1"], "below 0"),
    ],
)
def test_inner_schemes_that_cannot_be_are_sentences(overrides: list[str], said: str) -> None:
    with pytest.raises(PosxError, match=said) as error:
        compose_run(overrides)
    assert error.value.hint


def test_a_model_of_a_wrapper_is_a_decoder() -> None:
    assert isinstance(make_model("dape", inner="kerple-log"), Decoder)
