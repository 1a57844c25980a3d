"""longrope and resonance beyond their comparisons: known values, the first positions, files, and what composes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from helpers import CONTEXT, extend, extensions, gap, make_model, make_scheme, named, random_tokens
from posx.config.compose import as_overrides, compose_eval
from posx.config.schema import ModelConfig
from posx.errors import PosxError, Unsupported
from posx.extensions.base import Extension, Target
from posx.extensions.longrope import LongRope
from posx.models.binding import bind, check_fit, fits, freeze, parse_extension, spec_name
from posx.models.build import compose_run
from posx.verify.oracles import written

LONG = 4 * CONTEXT
FAR = Target(CONTEXT, LONG)


def longrope(*factors: float, **others: Any) -> LongRope:
    return LongRope(LongRope.Config(factors=":".join(map(str, factors)), **others))


def spec(text: str) -> Extension:
    (found,) = parse_extension(text)
    return found


# ---------------------------------------------------------------- longrope


def test_known_values() -> None:
    """θ = 1 and 0.01 over 1 and 2; at 4 times 16 tokens √(1 + ln 4 / ln 16) = √1.5."""
    theta = make_scheme("rope", ModelConfig(d_model=4, n_heads=1)).frequencies()
    extension = longrope(1, 2, n=3)
    assert extension.spectrum(theta, FAR).tolist() == pytest.approx([1, 0.005])
    assert extension.amplitude(FAR) == pytest.approx(math.sqrt(1.5))
    assert extension.resolved(FAR) == {"s": 4.0, "factors": [1.0, 2.0], "n": 3, "amplitude": math.sqrt(1.5)}
    assert longrope(1, 2, attention=1.25).amplitude(FAR) == 1.25


@pytest.mark.parametrize("length", [1, CONTEXT - 1, CONTEXT])
def test_up_to_l_nothing_changes(length: int) -> None:
    theta = make_scheme("rope", ModelConfig(d_model=4, n_heads=1)).frequencies()
    here, extension = Target(CONTEXT, length), longrope(2, 3, n=3, attention=1.25)
    assert extension.spectrum(theta, here) is theta
    assert (extension.amplitude(here), extension.unscaled(here)) == (1.0, 0)
    assert extension.unscaled(Target(CONTEXT, CONTEXT + 1)) == 3


@torch.no_grad()
@pytest.mark.parametrize("name", ["rope", "partial-rope", "p-rope", "xpos"])
def test_factors_of_s_are_pi(name: str) -> None:
    """To the bit, with no temperature; and the first positions are then those that pi had divided."""
    model = make_model(name)
    tokens, pairs = random_tokens(LONG), model.scheme.rotated // 2
    factors = ":".join(["4"] * pairs)
    pi = model(tokens, extension=extend(model, LONG, pi={}))
    ours = model(tokens, extension=extend(model, LONG, longrope={"factors": factors, "attention": 1.0}))
    assert torch.equal(ours, pi)
    kept = extend(model, LONG, longrope={"factors": factors, "attention": 1.0, "n": LONG})
    assert torch.equal(model(tokens, extension=kept), model(tokens))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(1, 50), min_size=2, max_size=2),
    st.integers(0, 40),
    st.integers(0, 40),
    st.integers(17, 1024),
    st.booleans(),
)
def test_angles_are_the_formula(factors: list[float], n: int, trained_n: int, length: int, rows: bool) -> None:
    """p·θ·I(λ, n̂) in float64, of what was trained with on top of that; positions of a batch, and fractions."""
    scheme = make_scheme("rope", ModelConfig(d_model=4, n_heads=1))
    positions = torch.arange(0, 60, 1.5)
    positions = positions.view(2, -1) if rows else positions
    asked = named("longrope", factors=":".join(map(str, factors)), n=n)
    before = named("longrope", factors="2:3", n=trained_n, s=2.0)
    found = bind([asked], scheme, length, [before]).angles(positions, scheme.frequencies())
    for place, p in enumerate(positions.flatten().tolist()):
        for k, theta in enumerate(written.frequencies(4)):
            expected = p * theta
            expected /= 1 if p < n else factors[k]
            expected /= 1 if p < trained_n else (2, 3)[k]
            assert found.flatten(0, -2)[place, k].item() == pytest.approx(expected, rel=1e-6)


@torch.no_grad()
def test_the_first_positions_are_those_of_the_model() -> None:
    """Queries and keys of n tokens, and no more of them, are rotated as without the extension."""
    model = make_model("rope", n_layers=1)
    factors = ":".join(str(2 + k) for k in range(8))
    extension = extend(model, LONG, longrope={"factors": factors, "attention": 1.0, "n": 5})
    tokens = random_tokens(LONG)
    ours, plain = model(tokens, extension=extension), model(tokens)
    assert gap(ours[:, :5], plain[:, :5]) < 2e-5
    assert gap(ours[:, 5:6], plain[:, 5:6]) > 1e-3


def test_what_a_fine_tune_keeps_is_a_text() -> None:
    """With its scale, and nothing of a file."""
    (kept,) = freeze([spec("longrope(factors=1:2.50:4, n=2)")], CONTEXT, LONG)
    assert str(kept) == "longrope(factors=1:2.5:4, n=2, s=4)"
    again, theta = spec(str(kept)), torch.tensor([1.0, 0.1, 0.01])
    for length in (3, CONTEXT, LONG, 1000):
        here = Target(CONTEXT, length)
        assert torch.equal(again.spectrum(theta, here), longrope(1, 2.5, 4).spectrum(theta, FAR))
        assert (again.amplitude(here), again.unscaled(here)) == (longrope(1).amplitude(FAR), 2)


def test_layers_of_unlike_widths_are_no_silent_broadcast() -> None:
    with pytest.raises(Unsupported, match="1 factors for a layer that rotates 2 pairs"):
        longrope(2).spectrum(torch.tensor([1.0, 0.1]), FAR)


def test_linear_attention_has_no_place_for_its_temperature() -> None:
    assert not fits(LongRope, make_scheme("linear-rope", ModelConfig()))
    assert fits(extensions()["resonance"], make_scheme("linear-rope", ModelConfig()))


# ---------------------------------------------------------------- how factors are given


def test_a_file_and_its_numbers_are_one_extension(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name holds the numbers: of a changed file it is another, and of an unlike spelling the same."""
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
    """Colons mean something to YAML, commas to Hydra, and brackets to both."""
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
    "inside, said",
    [
        ("", "has none.*posx search longrope RUN"),
        ("factors=", "has none"),
        ("factors=1:0.5", "a factor of 0.5"),
        ("factors=1:-2", "a factor of -2"),
        ("factors=0", "a factor of 0"),
        ("factors=1:nan", "a factor of nan"),
        ("factors=1:inf", "a factor of inf"),
        ("factors=1::2", "neither numbers with colons between nor a file"),
        ("factors=there/is/none.yaml", "neither numbers with colons between nor a file"),
        ("factors=1:2, n=-1", "n=-1"),
        ("factors=1:2, n=1.5", "a whole number"),
        ("factors=1:2, attention=0", "attention=0"),
        ("factors=1:2, s=0.5", "s=0.5"),
        ("factor=1:2", "Did you mean longrope.factors"),
    ],
)
def test_factors_that_are_none_are_refused(inside: str, said: str) -> None:
    with pytest.raises(PosxError, match=said) as raised:
        parse_extension(f"longrope({inside})" if inside else "longrope")
    assert raised.value.hint


@pytest.mark.parametrize(
    "content, said",
    [
        ("", "holds no factors"),
        ("[1, 2]", "holds no factors"),
        ("factors: []", "holds no factors"),
        ("factors: [1, two]", "holds no factors"),
        ("factors: [1, true]", "holds no factors"),
        ("factors: 1.5", "holds no factors"),
        ("lambda: [1, 2]", "holds no factors"),
        ("factors: [1, 0.5]", "a factor of 0.5"),
        ("factors: [1, .nan]", "a factor of nan"),
        ("factors: [1, 2]\nn: 1.5", "takes a whole number"),
        ("factors: [1, 2]\nattention: strong", "takes a number or null"),
        ("factors: [1, 2", "not valid YAML"),
    ],
)
def test_files_that_hold_no_factors_are_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "factors.yaml"
    path.write_text(content)
    with pytest.raises(PosxError, match=said) as raised:
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


# ---------------------------------------------------------------- resonance


def resonant(theta: Tensor, *texts: str, length: int = LONG) -> Tensor:
    scheme = make_scheme("rope", ModelConfig(d_model=2 * len(theta), n_heads=1))
    before, *asked = [parse_extension(text) for text in texts]
    return bind(asked[0] if asked else before, scheme, length, before if asked else ()).spectrum(theta)


@pytest.mark.parametrize("length", [3, CONTEXT, LONG])
def test_wavelengths_are_whole_at_every_length(length: int) -> None:
    """2π → 6 and 628.3 → 628; a pair that stands still stands still."""
    found = resonant(torch.tensor([1.0, 0.01, 0.0]), "resonance", length=length)
    assert (2 * math.pi / found[:2]).tolist() == pytest.approx([6, 628])
    assert found[2] == 0


@pytest.mark.parametrize("scaled", ["pi(s=2.3)", "ntk", "yarn", "by-parts(ramp=paper)", "llama3", "longrope"])
def test_it_rounds_what_comes_out_of_a_scaling(scaled: str) -> None:
    """Whatever the order typed, and also where the model was trained with it and the scaling is on top."""
    theta = make_scheme("rope", ModelConfig(d_model=32, n_heads=1)).frequencies()
    scaled += "(factors=" + ":".join(str(1 + k / 8) for k in range(16)) + ")" if scaled == "longrope" else ""
    found = resonant(theta, f"resonance+{scaled}")
    expected = [2 * math.pi / round(2 * math.pi / t) for t in resonant(theta, scaled).double().tolist()]
    assert found.tolist() == pytest.approx(expected, rel=1e-6)
    for texts in ((f"{scaled}+resonance",), ("resonance", scaled)):
        assert torch.equal(resonant(theta, *texts), found)


def test_it_goes_with_one_other_scaling() -> None:
    scheme = make_scheme("rope", ModelConfig(d_model=16, n_heads=1))
    for text in ("resonance+yarn", "window+pi+resonance+log-n"):
        check_fit(parse_extension(text), "rope", scheme, extensions())
    for text in ("resonance+yarn+ntk", "longrope(factors=1:1:1:1:1:1:1:1)+pi"):
        with pytest.raises(PosxError, match="both change the spectrum"):
            check_fit(parse_extension(text), "rope", scheme, extensions())


@torch.no_grad()
def test_with_whole_wavelengths_a_head_repeats_itself() -> None:
    """The angles of the fastest pair are the same every six tokens: the purpose of it."""
    model = make_model("rope")
    cos, _ = model.scheme.prepare(torch.arange(LONG), extend(model, LONG, resonance={}))
    assert gap(cos[6:, 0], cos[:-6, 0]) < 2e-5
