"""What every scheme, and the decoder around it, keeps to.

Tolerances. Weights are sharp (``helpers.sharpen``): outputs are of size 1 to 5. Where the same products are
taken in the same shapes the claim is bit-equality. Where shapes differ, float32 sums in another order move an
output by about 1e-6: ROUNDING leaves room for ten times that. A change that matters moves it by more than
VISIBLE.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import posx.models.attention.blockwise
import posx.models.attention.context
import posx.models.attention.dense
import posx.models.attention.dispatch
import posx.models.attention.sdpa
import posx.models.attention.tiled
import posx.models.loss
from helpers import (
    CONTEXT,
    FAMILIES,
    RELATIVE,
    SCHEMES,
    VARIANTS,
    extend,
    extensions,
    gap,
    make_model,
    make_scheme,
    named,
    random_tokens,
    rotated,
)
from posx.config.schema import IGNORED, ModelConfig
from posx.errors import PosxError, Unsupported
from posx.extensions.base import NONE, Applied
from posx.models.attention.context import Call
from posx.models.attention.dispatch import choose, plan
from posx.models.binding import check_fit
from posx.models.decoder import Decoder, count_parameters, initialise
from posx.models.loss import head_cross_entropy, nll
from posx.schemes import rope
from posx.schemes.alibi import Alibi
from posx.schemes.base import Closure, Scheme, Site
from posx.verify.oracles.contract import slopes

ROUNDING = 2e-5
BF16_ROUNDING = 3e-2  # of outputs of size 1: products of bf16 values, softmax weights and the result rounded
VISIBLE = 1e-2
# Grouped keys and an explicit head width for llama, three heads for gpt.
SHAPES: dict[str, dict[str, Any]] = {
    "gpt": {},
    "llama": {"n_heads": 4, "n_kv_heads": 2, "head_dim": 16},
}
NAMES = (*SCHEMES, *VARIANTS)
every_scheme = pytest.mark.parametrize("name", NAMES)
# Order is known from positions alone, and what they do for each pair can be seen without the mask. The others know
# it from the keys between two tokens, or have an attention of their own.
BY_POSITION = [s for s in NAMES if make_scheme(s, ModelConfig()).by_position and s != "linear-rope"]
# Tokens stand at 0, 1, 2, …, however many there are.
FROM_ZERO = [s for s in NAMES if type(make_scheme(s, ModelConfig())).positions is Scheme.positions]
both_families = pytest.mark.parametrize("family", FAMILIES)


def small(name: str, family: str, **settings: Any) -> Decoder:
    return make_model(name, family=family, **SHAPES[family], **settings)


def plain(model: Decoder) -> bool:
    """Whether torch's fused kernel may be used: nothing is added to the logits."""
    return posx.models.attention.dispatch.is_plain(model.scheme, NONE)


# ---------------------------------------------------------------- one positional signal at a time


@pytest.fixture
def without_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every query sees every key, the future too.

    ``dense_addend`` hides key j from the query at key index q_start + i while j > q_start + i. It is called
    here with a q_start behind all keys, so that it hides none; the closure was made from the true site and
    still gives the true distances. Callers ask for ``backend="dense"``: the fused kernel masks by itself.
    """
    masked = posx.models.attention.context.dense_addend

    def unmasked(site: Any, *rest: Any) -> Tensor:
        return masked(replace(site, q_start=site.k_pos.shape[-1]), *rest)

    for module in (posx.models.attention.dense, posx.models.attention.context):
        monkeypatch.setattr(module, "dense_addend", unmasked)


DOG_BITES_MAN = torch.tensor([[7, 33, 52]])
MAN_BITES_DOG = DOG_BITES_MAN.flip(1)


@torch.no_grad()
def bag_distance(model: Decoder) -> float:
    """How far the vectors of dog, bites and man are from those of the same words in the other sentence."""
    one, other = (model(t, backend="dense") for t in (DOG_BITES_MAN, MAN_BITES_DOG))
    return gap(one, other.flip(1))


@both_families
def test_dog_bites_man_is_man_bites_dog_to_nope(family: str, without_mask: None) -> None:
    assert bag_distance(small("nope", family)) < ROUNDING


@both_families
def test_nope_reads_order_from_the_mask(family: str) -> None:
    assert bag_distance(small("nope", family)) > VISIBLE


@both_families
@pytest.mark.parametrize("name", [s for s in BY_POSITION if s != "nope"])
def test_dog_bites_man_is_not_man_bites_dog_to_the_others(name: str, family: str, without_mask: None) -> None:
    assert bag_distance(small(name, family)) > VISIBLE


@torch.no_grad()
@both_families
def test_nope_is_permutation_equivariant_without_its_mask(family: str, without_mask: None) -> None:
    model, tokens = small("nope", family), random_tokens(3 * CONTEXT)
    for seed in range(5):
        order = torch.randperm(3 * CONTEXT, generator=torch.Generator().manual_seed(seed))
        assert gap(model(tokens[:, order], backend="dense"), model(tokens, backend="dense")[:, order]) < ROUNDING


@torch.no_grad()
@both_families
@pytest.mark.parametrize("name", BY_POSITION)
def test_positions_are_the_only_signal(name: str, family: str, without_mask: None) -> None:
    """All tokens at one position and no mask: no scheme knows the order by any other way."""
    model, tokens = small(name, family), random_tokens(CONTEXT)
    order = torch.randperm(CONTEXT, generator=torch.Generator().manual_seed(3))
    same = torch.full((CONTEXT,), 5)
    expected = model(tokens, same, backend="dense")[:, order]
    assert gap(model(tokens[:, order], same, backend="dense"), expected) < ROUNDING


@torch.no_grad()
@both_families
@pytest.mark.parametrize("name", [s for s in BY_POSITION if s in FROM_ZERO])
def test_positions_travel_with_their_tokens(name: str, family: str, without_mask: None) -> None:
    """Tokens and positions permuted together, no mask: the same bag of (token, position) pairs."""
    model, tokens = small(name, family), random_tokens(CONTEXT)
    order = torch.randperm(CONTEXT, generator=torch.Generator().manual_seed(4))
    expected = model(tokens, backend="dense")[:, order]
    assert gap(model(tokens[:, order], order, backend="dense"), expected) < ROUNDING


# ---------------------------------------------------------------- causality

MODELS = {(name, family): small(name, family) for name in NAMES for family in FAMILIES}


def ways(model: Decoder, extension: Applied = NONE, flex: bool = False) -> list[dict[str, Any]]:
    """Every way in which attention may be computed: with gradients the fused kernel only masks the future.

    FlexAttention, which torch traces anew at every call, only where it is asked for.
    """
    masked = torch.is_grad_enabled() and (not plain(model) or extension.masks())
    fused = [] if masked or model.scheme.needs_logits else [{"backend": "fused"}]
    # FlexAttention refuses to be differentiated on a CPU.
    alone = model.scheme.per_layer or model.scheme.has_own_attention
    kernel = [{"backend": "flex"}] if flex and not torch.is_grad_enabled() and not alone else []
    return [{"backend": "dense"}, {"backend": "tiles"}, *fused, *kernel, {"block": 3}]


@both_families
@every_scheme
@settings(max_examples=8, deadline=None, derandomize=True)
@given(data=st.data())
def test_the_future_never_reaches_the_past(name: str, family: str, data: st.DataObject) -> None:
    """Bit-equal: a masked key has a weight of exactly zero, in products of the same shape."""
    model = MODELS[name, family]
    length = data.draw(st.integers(2, CONTEXT), "length")
    kept = data.draw(st.integers(1, length - 1), "tokens kept")
    tokens = torch.tensor([data.draw(st.lists(st.integers(0, 60), min_size=length, max_size=length))])
    changed = tokens.clone()
    changed[:, kept:] = (changed[:, kept:] + data.draw(st.integers(1, 60), "shift")) % 61
    with torch.no_grad():
        for how in ways(model):
            before, after = model(tokens, **how), model(changed, **how)
            assert torch.equal(before[:, :kept], after[:, :kept]), how
            assert gap(before[:, kept], after[:, kept]) > 1e-4  # the change itself is seen at once


@torch.no_grad()
@both_families
@pytest.mark.parametrize("name", FROM_ZERO)
def test_a_prefix_alone_gives_what_it_gives_in_the_whole(name: str, family: str) -> None:
    model, tokens = MODELS[name, family], random_tokens(CONTEXT)
    whole = model(tokens)
    for length in range(1, CONTEXT):
        assert gap(model(tokens[:, :length]), whole[:, :length]) < ROUNDING


@both_families
@every_scheme
def test_no_gradient_flows_from_the_past_to_the_future(name: str, family: str) -> None:
    """d output(t) / d input(t + 1 …) is exactly zero, and no input up to t is ignored."""
    model, tokens = MODELS[name, family], random_tokens(CONTEXT, batch=1)
    for how in ways(model):
        seen: list[Tensor] = []
        hook = model.tokens.register_forward_hook(lambda *a, seen=seen: seen.append(a[2].retain_grad() or a[2]))
        # Not the sum: the outputs of a LayerNorm with equal weights would add up to a constant.
        model(tokens, **how)[0, 9].square().sum().backward()
        hook.remove()
        flow = seen[0].grad[0].abs().sum(-1)
        assert bool((flow[10:] == 0).all())
        assert bool((flow[:10] > 0).all())
    model.zero_grad()


# ---------------------------------------------------------------- relative schemes


@torch.no_grad()
@both_families
@pytest.mark.parametrize("shift", [1, 37, 1000])
@pytest.mark.parametrize("name", [*RELATIVE, *VARIANTS])
def test_only_distances_matter(name: str, shift: int, family: str) -> None:
    """All positions moved by n: the same output.

    With rope an angle p·θ ≤ p is rounded in float32, 2^-24 of p, for query and key each; through two layers
    with logits of about 10 that grows some tenfold. Positions themselves are exact.
    """
    model, tokens = small(name, family), random_tokens(2 * CONTEXT)
    positions = torch.arange(2 * CONTEXT)
    moved = model(tokens, positions + shift)
    exact = "rope" not in name and name not in ("xpos", "layers", "ssmax")
    difference = gap(moved, model(tokens, positions))
    assert difference == 0 if exact else difference < ROUNDING + 20 * shift * 2**-23


@torch.no_grad()
@pytest.mark.parametrize("fraction", [0.25, 0.5, 1.0])
def test_rope_scores_depend_on_distance_only(fraction: float) -> None:
    """One query and one key vector at all pairs of positions: scores are constant along diagonals."""
    scheme = make_scheme("rope", ModelConfig(d_model=32, n_heads=1), fraction=fraction)
    draw = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, 1, 1, 32, generator=draw).expand(-1, -1, 100, -1) for _ in range(2))
    turned_q, turned_k = rotated(scheme, q, k, torch.arange(100))
    scores = (turned_q.double() @ turned_k.double().mT)[0, 0]
    for distance in range(-99, 100):
        diagonal = scores.diagonal(distance)
        # Scores of about 10; angles up to 99 rounded at 2^-18.
        assert gap(diagonal, diagonal[:1].expand_as(diagonal)) < 32 * 99 * 2**-23


@pytest.mark.parametrize("fraction", [0.5, 1.0])
@pytest.mark.parametrize("learned", [False, True], ids=["given angles", "angles with gradients"])
def test_the_gradient_of_a_rotation_is_that_of_a_complex_product(fraction: float, learned: bool) -> None:
    """In float64 and by autograd: pairs as complex numbers, times e^(i p θ)."""
    draw = torch.Generator().manual_seed(0)
    x, wanted = (torch.randn(2, 3, 11, 8, generator=draw) for _ in range(2))
    half = int(fraction * 8) // 2
    angles = torch.randn(11, half, generator=draw).requires_grad_(learned)
    ours, theirs = x.clone().requires_grad_(), x.double().requires_grad_()
    found = rope.turned(ours, angles.cos(), angles.sin())
    pairs = torch.complex(theirs[..., :half], theirs[..., half : 2 * half]) * torch.exp(1j * angles.detach().double())
    exact = torch.cat([pairs.real, pairs.imag, theirs[..., 2 * half :]], dim=-1)
    assert gap(found, exact) < ROUNDING
    found.backward(wanted)
    exact.backward(wanted.double())
    assert gap(ours.grad, theirs.grad) < ROUNDING
    assert (angles.grad is not None and bool(angles.grad.any())) == learned


@torch.no_grad()
@pytest.mark.parametrize("fraction", [0.25, 0.5, 1.0])
def test_rope_keeps_norms(fraction: float) -> None:
    """Each pair keeps its norm to a few roundings; what is not rotated keeps every bit; position 0 too."""
    scheme = make_scheme("rope", ModelConfig(d_model=64, n_heads=2), fraction=fraction)
    q, k = torch.randn(2, 3, 2, 50, 32, generator=torch.Generator().manual_seed(0))
    half = scheme.rotated // 2
    for x, turned in zip((q, k), rotated(scheme, q, k, torch.arange(50)), strict=True):
        for pair in range(half):
            dims = [pair, pair + half]
            assert gap(turned[..., dims].norm(dim=-1), x[..., dims].norm(dim=-1)) < 2e-6
        assert torch.equal(turned[..., 2 * half :], x[..., 2 * half :])
        assert torch.equal(turned[..., 0, :], x[..., 0, :])


@torch.no_grad()
@both_families
@pytest.mark.parametrize("name", sorted({*RELATIVE, *VARIANTS} - {"linear-rope"}))  # there a weight is a quotient
def test_values_are_untouched(name: str, family: str) -> None:
    """A token alone attends to itself with weight 1: its output is its value, wherever it stands."""
    model, token = small(name, family), random_tokens(1, batch=8)
    at_zero = model(token, torch.tensor([0]))
    for position in (1, 5, 300):
        assert torch.equal(model(token, torch.tensor([position])), at_zero)


@pytest.mark.parametrize("base", [10000.0, 50.0])
def test_sinusoids_move_by_one_rotation(base: float) -> None:
    """PE(p + n) = M_n·PE(p) for all p. M_n is read off PE(n) itself, which holds sin and cos of n·θ."""
    scheme = make_scheme("sinusoidal", ModelConfig(d_model=24, n_heads=1), base=base)
    table = scheme.vectors(torch.arange(400)).double()
    for n in (1, 7, 150):
        move = torch.zeros(24, 24, dtype=torch.float64)
        for k in range(0, 24, 2):
            sine, cosine = table[n, k], table[n, k + 1]
            move[k, k] = move[k + 1, k + 1] = cosine
            move[k, k + 1], move[k + 1, k] = sine, -sine
        assert gap(move @ move.T, torch.eye(24)) < 1e-6
        # Three angles of at most 400, each rounded at 2^-23 of itself (θ and product).
        assert gap(table[: 400 - n] @ move.T, table[n:]) < 3 * 400 * 2**-23


# ---------------------------------------------------------------- any backend gives the same

EXTENDED = {  # per scheme: what may act beside a window
    "rope": {"pi": {}},
    "partial-rope": {"ntk": {}},
    "sinusoidal": {"interpolate": {}},
    "learned": {"interpolate": {}},
    "learned-concat": {"interpolate": {}},
}


def cases(model: Decoder, name: str) -> list[tuple[int, Applied]]:
    """(length, extension): none, a window, and a window with what else fits, beyond L where that works."""
    long = CONTEXT if model.scheme.last_position is not None else 29
    other = EXTENDED.get(name, {})
    if not model.scheme.masks:
        return [(long, NONE), (29, extend(model, 29, pi={})), (3, NONE)]
    return [
        (long, NONE),
        (long, extend(model, long, window={"w": 5})),
        (29, extend(model, 29, window={"w": 6}, **other)) if other else (long, extend(model, long, window={"w": 1})),
        (29, extend(model, 29, **other)) if other else (3, NONE),
    ]


@torch.no_grad()
@both_families
@every_scheme
def test_blocks_equal_the_whole(name: str, family: str) -> None:
    model = small(name, family)
    for length, extension in cases(model, name):
        tokens = random_tokens(length)
        whole = model(tokens, extension=extension, backend="dense")
        for block in (1, 3, 7, 16, 64):
            assert gap(model(tokens, extension=extension, block=block), whole) < ROUNDING, (length, block)
        for how in ways(model, extension, flex=True):
            assert gap(model(tokens, extension=extension, **how), whole) < ROUNDING, (length, how)
        if {"backend": "fused"} in ways(model, extension):
            assert choose(model.scheme, extension, Call(2, 3, backend="fused"), length, tokens.device).name == "fused"


@torch.no_grad()
@both_families
@every_scheme
def test_asking_for_the_fused_kernel_changes_no_number(name: str, family: str) -> None:
    """``backend`` chooses how attention is computed, never what: refused or the same."""
    model = small(name, family)
    for length, extension in cases(model, name):
        tokens = random_tokens(length)
        try:
            fused = model(tokens, extension=extension, backend="fused")
        except (PosxError, ValueError):
            continue
        whole = model(tokens, extension=extension, backend="dense")
        assert gap(fused, whole) < ROUNDING, (length, extension.resolved())


@torch.no_grad()
@pytest.mark.parametrize("name", [s for s in SCHEMES if small(s, "gpt").scheme.capabilities.bias_is_by_distance])
def test_a_bias_by_distance_is_one(name: str) -> None:
    """What is added for a query and a key, wherever they stand; the fused path reads all of it off the last query."""
    scheme, length = small(name, "gpt").scheme, 41
    heads = scheme.shape.n_heads

    def added(positions: Tensor) -> Tensor:
        site = Site(positions, positions, shared=scheme.prepare(positions, NONE))
        return posx.models.attention.context.dense_addend(site, scheme.bias(site), [], heads)[0]

    here, far = added(torch.arange(length)), added(torch.arange(1000, 1000 + length))
    torch.testing.assert_close(here, far, rtol=0, atol=0)
    torch.testing.assert_close(here[:, :-1, :-1], here[:, 1:, 1:], rtol=0, atol=0)


class Landmarks(Alibi):
    """A bias of its own, of the key's place too, which inherits what alibi says about itself."""

    def bias(self, site: Site) -> Closure:
        return lambda b, h, i, j: -self.slopes[h] * site.distance(b, i, j) + (j % 5 == 0)


@torch.no_grad()
def test_a_subclass_with_a_bias_of_its_own_says_its_own_of_it() -> None:
    model = small("alibi", "gpt")
    assert model.scheme.bias_is_by_distance
    model.scheme = Landmarks(model.scheme.config, model.scheme.shape)
    assert not model.scheme.bias_is_by_distance
    tokens = random_tokens(29)
    assert gap(model(tokens, backend="fused"), model(tokens, backend="dense")) < ROUNDING


@torch.inference_mode()
@pytest.mark.parametrize("name", ["t5", "alibi"])
def test_a_bias_stays_float32_beside_bf16(name: str) -> None:
    """A bias of 300 ± 0.5 in bf16 would be one of 300, 301 and 302: what it says would be lost.

    Only queries, keys, values and weights are rounded: by 2^-9 each, where a lost bias moves logits by up to 1.
    """
    torch.manual_seed(0)
    scheme, length, heads, width = small(name, "gpt").scheme, 70, 4, 16
    if name == "t5":
        scheme.table.uniform_(299.5, 300.5)
    else:
        scheme.slopes.copy_(torch.tensor([3.01, 1.003, 0.507, 0.253])[: len(scheme.slopes)])
    heads = scheme.shape.n_heads
    q, k, v = (torch.randn(2, heads, length, width) for _ in range(3))
    positions = torch.arange(length)
    dense = plan(scheme, positions, NONE, Call(2, heads, backend="dense"))
    exact = posx.models.attention.dispatch.attend_rotated(q, k, v, dense)
    fused = plan(scheme, positions, NONE, Call(2, heads, backend="fused"))
    assert fused.by_distance is not None
    with torch.autocast("cpu", torch.bfloat16):
        found = posx.models.attention.dispatch.attend_rotated(*(x.bfloat16() for x in (q, k, v)), fused)
    assert found.dtype == torch.bfloat16
    assert gap(found.float(), exact) < BF16_ROUNDING


@torch.no_grad()
@every_scheme
@pytest.mark.parametrize(
    "positions",
    [torch.arange(29) + 7, 2 * torch.arange(29), torch.arange(29) + (torch.arange(29) > 11), torch.arange(29) / 2],
    ids=["later", "spread", "a gap", "halves"],
)
def test_the_fused_kernel_knows_distances_between_any_positions(name: str, positions: Tensor) -> None:
    model = small(name, "gpt")
    if model.scheme.last_position is not None:
        positions = positions[positions <= model.scheme.last_position]
    if positions.is_floating_point() and "learned" in name:
        positions = positions[positions == positions.floor()].long()
    tokens = random_tokens(len(positions))
    assert gap(model(tokens, positions, backend="fused"), model(tokens, positions, backend="dense")) < ROUNDING


@both_families
@every_scheme
def test_small_tiles_and_blocks_change_no_number(name: str, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tiles of one head and few queries, and blocks of sixteen queries, as at long contexts."""
    model = small(name, family)
    for length, extension in cases(model, name):
        tokens = random_tokens(length)
        whole = model(tokens, extension=extension, backend="dense")
        for most, queries in ((1, 1), (2000, 5), (3000, 64), (10**6, 7)):
            monkeypatch.setattr(posx.models.attention.tiled, "TILE_BYTES", most)
            monkeypatch.setattr(posx.models.attention.tiled, "QUERIES", queries)
            monkeypatch.setattr(posx.models.attention.tiled, "FEWEST_QUERIES", min(queries, 4))
            monkeypatch.setattr(posx.models.attention.blockwise, "BLOCK_BYTES", most)
            monkeypatch.setattr(posx.models.attention.sdpa, "MASK_QUERIES", queries)
            monkeypatch.setattr(posx.models.attention.sdpa, "MASK_BYTES", most)
            for backend in ("tiles", "blocks", "fused"):
                assert gap(model(tokens, extension=extension, backend=backend), whole) < ROUNDING
                with torch.no_grad():
                    assert gap(model(tokens, extension=extension, backend=backend), whole) < ROUNDING
                    assert gap(model(tokens, extension=extension, backend=backend, tail=3), whole[:, -3:]) < ROUNDING


@torch.no_grad()
@both_families
@every_scheme
def test_the_tail_is_the_end_of_the_whole(name: str, family: str) -> None:
    model = small(name, family)
    for length, extension in cases(model, name):
        tokens = random_tokens(length)
        whole = model(tokens, extension=extension, backend="dense")
        for how in ways(model, extension):
            for tail in {1, 2, length // 2 + 1, length}:
                end = model(tokens, extension=extension, tail=tail, **how)
                assert gap(end, whole[:, -tail:]) < ROUNDING, (length, tail, how)


@torch.no_grad()
@both_families
@every_scheme
def test_positions_for_each_sequence(name: str, family: str) -> None:
    """[B, T] with equal rows is [T]; with different rows each sequence is as it would be alone."""
    model = small(name, family)
    for length, extension in cases(model, name):
        tokens, positions = random_tokens(length, batch=3), torch.arange(length)
        expected = model(tokens, positions, extension=extension)
        rows = positions.expand(3, -1)
        for how in [*ways(model, extension), {"tail": 2}]:
            got = model(tokens, rows, extension=extension, **how)
            assert gap(got, expected[:, -got.shape[1] :]) < ROUNDING, how

    length = 7
    tokens = random_tokens(length, batch=3)
    spread = torch.stack([torch.arange(7), torch.arange(7) + 9, torch.tensor([0, 1, 3, 4, 8, 11, 15])])
    for how in [*ways(model, flex=True), {"tail": 2}]:
        together = model(tokens, spread, **how)
        for b in range(3):
            assert gap(together[b : b + 1], model(tokens[b : b + 1], spread[b], **how)) < ROUNDING, how


# ---------------------------------------------------------------- parameters


def shared_parameters(model: Decoder) -> dict[str, Tensor]:
    return {name: p for name, p in model.named_parameters() if not name.startswith("scheme.")}


@both_families
@every_scheme
def test_shared_parameters_start_equal(name: str, family: str) -> None:
    """Equal seeds: what a scheme shares with nope has the same bits. Another seed: no matrix is the same."""
    nope, model = (shared_parameters(small(n, family, sharp=False, seed=5)) for n in ("nope", name))
    other = shared_parameters(small(name, family, sharp=False, seed=6))
    narrower = name.endswith("-concat")
    assert model.keys() == nope.keys()
    for key, value in model.items():
        if not (narrower and key == "tokens.weight"):
            assert torch.equal(value, nope[key]), key
        if value.ndim > 1:
            assert float((value == other[key]).double().mean()) < 0.01, key


@every_scheme
def test_initial_values_are_those_of_gpt2(name: str) -> None:
    """0.02, over √(2 · layers) where a matrix writes to the stream; norms are one. To 4 standard errors."""
    model = make_model(name, n_layers=3, d_model=96, sharp=False)
    for key, value in shared_parameters(model).items():
        if value.ndim == 1:
            assert bool((value == 1).all()), key
            continue
        writes = key.endswith((".out.weight", ".down.weight"))
        wanted = 0.02 / 6**0.5 if writes else 0.02
        assert abs(float(value.detach().std()) / wanted - 1) < 4 / (2 * value.numel()) ** 0.5, key
        assert abs(float(value.detach().mean())) < 4 * wanted / value.numel() ** 0.5, key


@every_scheme
def test_initialise_ignores_what_was_drawn_before(name: str) -> None:
    model = make_model(name, seed=3, sharp=False)
    torch.rand(17)
    again = make_model(name, seed=1, sharp=False)
    initialise(again, 3)
    for key, value in model.named_parameters():
        assert torch.equal(value, again.get_parameter(key)), key


@both_families
@pytest.mark.parametrize("name", ["sinusoidal", "learned"])
@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_concatenating_does_not_grow_the_model(name: str, family: str, tie_embeddings: bool) -> None:
    """V·C + L·C when added, V·(C − w) + L·w when concatenated; all else is equal."""
    added, beside = (
        count_parameters(small(n, family, tie_embeddings=tie_embeddings)) for n in (name, f"{name}-concat")
    )
    rows = CONTEXT if name == "learned" else 0
    assert beside["total"] <= added["total"]
    assert added["total"] - beside["total"] == 61 * 12 + rows * (48 - 12)
    assert added["scheme"] == rows * 48
    assert beside["scheme"] == rows * 12
    assert added["non_embedding"] - beside["non_embedding"] == rows * (48 - 12)


@both_families
@every_scheme
@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_gradients_reach_every_parameter(name: str, family: str, tie_embeddings: bool) -> None:
    """One step at the training length, from posx's own initial values, over every token as a target.

    Of the scheme's parameters every single number: a row or a bucket that no training length reaches would
    stay as it was drawn. Of the others each matrix as a whole.
    """
    model = small(name, family, tie_embeddings=tie_embeddings, sharp=False).train()
    tokens = random_tokens(CONTEXT + 1, batch=8)
    hidden = model.readable(model(tokens[:, :-1])).flatten(0, 1)
    head_cross_entropy(hidden, model.head_weight, tokens[:, 1:].flatten(), torch.float32).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert bool(parameter.grad.isfinite().all()), key
        assert float(parameter.grad.norm()) > 1e-6, key
        # Of dape's units some are on, or some off, for all pairs at first: their offset cancels in the softmax.
        if key.startswith("scheme.") and key != "scheme.first_offset":
            assert bool((parameter.grad != 0).all()), key


@both_families
@every_scheme
def test_gradients_are_the_slopes_of_the_loss(name: str, family: str) -> None:
    """Autograd beside central differences, in both families; rounding and curvature leave less than 2 %."""
    assert slopes(name, (None, False), family=family, **SHAPES[family]) < 2e-2


# ---------------------------------------------------------------- loss


def loss_and_gradients(how: Any, hidden: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    value = how(h, w)
    (0.37 * value).backward()  # a factor, as gradient accumulation or a mean would give
    return value.detach(), h.grad, w.grad


@pytest.mark.parametrize("rows", [1, 37, 512, 513, 1061])
@pytest.mark.parametrize("ignored", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("sharpness", [1.0, 100.0])
def test_head_cross_entropy_is_torchs(
    rows: int, ignored: float, sharpness: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Value and both gradients; relative 1e-5, which is a hundred roundings of float32. In chunks of chunks."""
    monkeypatch.setattr(posx.models.loss, "CHUNK", {"cpu": 200})
    monkeypatch.setattr(posx.models.loss, "ROW_BYTES", {"cpu": 30 * 4 * 97})
    monkeypatch.setattr(posx.models.loss, "GRADIENT_BYTES", 2 * 200 * 97 * 4)  # two chunks to a product for the weight
    draw = torch.Generator().manual_seed(rows)
    hidden, weight = torch.randn(rows, 24, generator=draw), torch.randn(97, 24, generator=draw)
    hidden *= sharpness  # of 100: targets of a probability below float32's smallest
    targets = torch.randint(97, (rows,), generator=draw)
    targets[torch.rand(rows, generator=draw) < ignored] = IGNORED

    def theirs(h: Tensor, w: Tensor) -> Tensor:
        return F.cross_entropy(h @ w.T, targets, reduction="sum", ignore_index=IGNORED)

    def ours(h: Tensor, w: Tensor) -> Tensor:
        return head_cross_entropy(h, w, targets, torch.float32)

    found, expected = loss_and_gradients(ours, hidden, weight), loss_and_gradients(theirs, hidden, weight)
    for value, wanted in zip(found, expected, strict=True):
        assert gap(value, wanted) <= 1e-5 * float(wanted.abs().max())
    each = nll(hidden @ weight.T, targets)
    assert float(each.double().sum()) == pytest.approx(float(expected[0]), rel=1e-5)
    assert bool((each[targets == IGNORED] == 0).all())
    assert torch.equal(found[1][targets == IGNORED], torch.zeros(int((targets == IGNORED).sum()), 24))


def test_head_cross_entropy_in_bf16() -> None:
    """Products of bf16 values (2^-9 each, sums of 24), added up in float32: within 2 % of float32."""
    draw = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(1100, 24, generator=draw), 0.3 * torch.randn(97, 24, generator=draw)
    targets = torch.randint(97, (1100,), generator=draw)

    def by(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        return loss_and_gradients(lambda h, w: head_cross_entropy(h, w, targets, dtype), hidden, weight)

    for value, wanted in zip(by(torch.bfloat16), by(torch.float32), strict=True):
        assert value.dtype == torch.float32
        assert gap(value, wanted) < 0.02 * float(wanted.abs().max())


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("name", ["learned", "learned-concat"])
def test_learned_refuses_past_its_table(name: str) -> None:
    model = small(name, "gpt")
    assert model.scheme.last_position == CONTEXT - 1
    model(random_tokens(CONTEXT))
    with pytest.raises(Unsupported, match=r"end at 16\..*--extension interpolate.*up to 16"):
        model(random_tokens(CONTEXT + 1))
    with pytest.raises(Unsupported, match="interpolate"):
        model(random_tokens(3), positions=torch.tensor([0, 1, CONTEXT]))
    with pytest.raises(Unsupported, match="interpolate"):
        model(random_tokens(CONTEXT + 1), extension=extend(model, CONTEXT + 1, window={}))


BAD_SETTINGS = [
    ("rope", {"head_dim": 7}, {}, r"rotates pairs.*head of 7 .*not an even number"),
    ("rope", {"head_dim": 1}, {}, "not an even number"),
    ("rope", {}, {"fraction": 0.3}, r"scheme.fraction=0.3 of a head of 16 .*4.8"),
    ("rope", {}, {"fraction": 0.0}, "must lie above 0"),
    ("rope", {}, {"fraction": 1.5}, "must lie above 0"),
    ("rope", {}, {"base": 1.0}, "must be above 1"),
    ("partial-rope", {"head_dim": 4}, {}, "not an even number"),
    ("sinusoidal", {}, {"base": 0.5}, "must be above 1"),
    ("sinusoidal", {}, {"combine": "sum"}, "add or concat, but 'sum'"),
    ("sinusoidal", {}, {"width": 8}, r"only means something for scheme.combine=concat"),
    ("learned-concat", {}, {"width": 48}, r"Give a width from 1 to 47"),
    ("learned-concat", {}, {"width": 0}, "does not fit"),
    ("t5", {}, {"buckets": 1}, "too few"),
    ("t5", {}, {"buckets": 32}, r"none is left below max_distance=16"),
    ("t5", {}, {"buckets": 32, "max_distance": 16}, r"below 32, or a larger scheme.max_distance"),
]


@pytest.mark.parametrize("name, shape, own, message", BAD_SETTINGS)
def test_settings_that_cannot_work_are_refused(
    name: str, shape: dict[str, int], own: dict[str, Any], message: str
) -> None:
    """In a sentence that ends in a way out."""
    with pytest.raises(PosxError, match=message) as raised:
        make_scheme(name, ModelConfig(d_model=48, n_heads=3, **shape), **own)
    assert raised.value.hint
    assert raised.value.code == 2


def test_limits_themselves_are_fine() -> None:
    """One step inside each refusal above; the smallest settings give finite outputs."""
    for name, own in [
        ("rope", {"fraction": 0.125}),
        ("learned-concat", {"width": 47}),
        ("sinusoidal-concat", {"width": 1}),
        ("t5", {"buckets": 2}),
        ("t5", {"buckets": 31}),
    ]:
        model = make_model(name, **own)
        assert bool(model(random_tokens(CONTEXT)).isfinite().all()), name


@pytest.mark.parametrize(
    "asked, name, message",
    [
        (
            {"ntk": {}},
            "alibi",
            r"ntk changes the spectrum and does not fit alibi.*none, alibi-scale, .*temperature and window",
        ),
        ({"pi": {}}, "learned", r"pi changes the spectrum.*none, interpolate, lm-infinite, .*and window"),
        (
            {"interpolate": {}},
            "rope",
            r"interpolate changes the positions.*none, abf, .*ntk, pi, .*window and yarn",
        ),
        ({"pi": {}, "ntk": {}}, "rope", r"pi and ntk both change the spectrum"),
        ({"pi": {}, "window": {}}, "nope", r"pi changes the spectrum"),
        ({"resonance": {}}, "alibi", r"resonance changes the wavelengths and does not fit alibi"),
        ({"longrope": {"factors": "1:2:3"}}, "rope", r"given 3 factors, but rope rotates 8 pairs"),
    ],
)
def test_extensions_that_do_not_fit_are_refused(asked: dict[str, Any], name: str, message: str) -> None:
    known = extensions()
    specs = [named(e, **params) for e, params in asked.items()]
    with pytest.raises(PosxError, match=message):
        check_fit(specs, name, small(name, "gpt").scheme, known)


@pytest.mark.parametrize(
    "name, bad, good",
    [
        ("pi", {"s": 0.5}, {"s": 1}),
        ("ntk", {"s": 0.0}, {"s": 1}),
        ("window", {"w": 0}, {"w": 1}),
        ("dynamic-ntk", {"f": 0.5}, {"f": 1}),
        ("dynamic-ntk", {"s": 0.5}, {"s": 1}),
        ("abf", {"base": 1.0}, {"base": 1.1}),
        ("by-parts", {"slow": 32.0}, {"slow": 31.9}),
        ("by-parts", {"ramp": "linear"}, {"ramp": "paper"}),
        ("yarn", {"s": 0.9}, {"s": 1}),
        ("llama3", {"low": 4.0}, {"low": 3.9}),
    ],
)
def test_extension_settings_that_make_no_sense_are_refused(
    name: str, bad: dict[str, Any], good: dict[str, Any]
) -> None:
    cls = extensions()[name]
    with pytest.raises(PosxError) as raised:
        cls.check(cls.Config(**bad))
    assert raised.value.hint
    for fine in ({}, good):
        cls.check(cls.Config(**fine))
