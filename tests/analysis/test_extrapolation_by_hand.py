"""Tests of ``posx.analysis.extrapolation``: by hand."""

from __future__ import annotations

import math

import pytest

from fixtures.cases import EXERCISE, explained, fact
from fixtures.models import posx
from posx.schemes.facts import digits

WIDE = ("model.n_heads=2", "model.d_model=128")  # heads of 64 dimensions


def wavelengths(dims: int, base: float = 10000.0) -> list[float]:
    return [2 * math.pi * base ** (2 * k / dims) for k in range(dims // 2)]


@pytest.mark.parametrize(
    ("settings", "dims", "base"),
    [
        (WIDE, 64, 10000.0),
        ((*WIDE, "scheme.base=500"), 64, 500.0),
        ((*WIDE, "scheme.fraction=0.5"), 32, 10000.0),
        (("model.n_heads=8",), 16, 10000.0),
    ],
)
def test_rope_by_hand(settings: tuple[str, ...], dims: int, base: float) -> None:
    found = explained("rope", *settings)
    waves = wavelengths(dims, base)
    slow = [k for k, wave in enumerate(waves) if wave > 2048]
    trained, now, values = fact(found, "pairs with an incomplete rotation")
    assert values["which"] == values["further"] == slow  # 2999 θ ≥ 2048 θ
    assert trained.startswith(f"{len(slow)} (k = {slow[0]}–{slow[-1]})")
    assert now.startswith("all rotate further")
    for k, before, after in zip(slow, values["trained"], values["angles"], strict=True):
        assert before == pytest.approx(2047 * 2 * math.pi / waves[k], rel=1e-5)
        assert after == pytest.approx(2999 * 2 * math.pi / waves[k], rel=1e-5)
    trained, _, values = fact(found, "pairs with a full rotation")
    assert trained == f"{len(waves) - len(slow)} of {dims // 2} (k = 0–{slow[0] - 1})"
    trained, now, values = fact(found, f"slowest pair, k = {dims // 2 - 1}")
    assert values["wavelength"] == pytest.approx(waves[-1], rel=1e-5)
    assert trained.startswith(f"{digits(2047 * 2 * math.pi / waves[-1])} rad")
    assert now == f"{digits(2999 * 2 * math.pi / waves[-1])} rad"
    assert fact(found, "distances to keys")[:2] == ("0–2047", "0–2999: 952 are new")


def test_rope_of_64_dimensions_has_twelve_slow_pairs() -> None:
    """2π · 10000^(2k / 64) > 2048 from k = 20.1 on: k = 21 .. 31."""
    assert math.log(2048 / (2 * math.pi)) / math.log(10000) * 32 == pytest.approx(20.1, abs=0.05)
    assert fact(explained("rope", *WIDE), "pairs with an incomplete rotation")[2]["which"] == list(range(21, 32))


@pytest.mark.parametrize("extension", ["pi", "ntk", "by-parts", "yarn", "llama3", "window", "none"])
def test_rope_after_an_extension(extension: str) -> None:
    """pi: (ℓ − 1) / s < L. ntk: the slowest pair is divided by s, the ones before by less. window: d < 2048."""
    found = explained("rope", "--extension", extension, *WIDE)
    if extension == "none":
        assert all("extended" not in row for row in found["facts"])
        return
    slow, s = list(range(21, 32)), 3000 / 2048
    _, now, values = fact(found, "pairs with an incomplete rotation", "extended")
    theta = [10000 ** (-k / 32) for k in range(32)]
    ntk = [theta[k] * s ** (-k / 31) for k in slow]
    further = {"ntk": [k for k, own in zip(slow, ntk, strict=True) if own * 2999 >= theta[k] * 2048]}
    assert values["further"] == further.get(extension, [])
    assert fact(found, "pairs with an incomplete rotation")[2]["further"] == slow
    if extension == "pi":
        assert now.startswith("none rotates further")
        assert values["angles"][-1] == pytest.approx(2999 / s * theta[31], rel=1e-5)
        assert fact(found, "angle between adjacent tokens, k = 0", "extended")[1] == f"{digits(1 / s)} rad"
        assert values["angles"][-1] < 2048 * theta[31]
    if extension == "ntk":
        assert further["ntk"] == slow[:-1]
        assert values["angles"] == pytest.approx([2999 * own for own in ntk], rel=1e-5)
    if extension == "window":
        assert fact(found, "distances to keys", "extended")[1] == "0–2047: none are new"
        assert fact(found, "keys of the last query", "extended")[1] == "2048"
        assert values["angles"][0] == pytest.approx(2047 * theta[21], rel=1e-5)
    if extension == "yarn":
        by = fact(found, "products of rotated pairs are multiplied by", "extended")[2]["by"]
        assert by == pytest.approx((0.1 * math.log(s) + 1) ** 2)


@pytest.mark.parametrize(
    ("extension", "farthest", "new"),
    [
        ("rerope", 1024, 0),
        ("dual-chunk", 2047, 0),
        ("sinks", 2047, 0),
        ("lm-infinite", 2048, 10),  # its limit is one more than was trained
        ("self-extend", 2999 // 2 + 512 - 256, 0),
        ("leaky-rerope", 2047, 0),
    ],
)
@pytest.mark.parametrize("name", ["rope", "t5"])
def test_changed_distances(name: str, extension: str, farthest: int, new: int) -> None:
    found = explained(name, "--extension", extension)
    values = fact(found, "distances to keys", "extended")[2]
    assert values == {"new": new, "farthest": pytest.approx(farthest, abs=1e-3)}
    if name == "rope" and not new:
        assert fact(found, "pairs with an incomplete rotation", "extended")[2]["further"] == []


def test_slopes_and_logits_that_are_multiplied() -> None:
    found = explained(
        "alibi", "--extension", "alibi-scale+temperature", case=("--train-length", "2048", "--length", "2x")
    )
    assert fact(found, "logits are multiplied by", "extended")[2]["by"] == pytest.approx(1 + 0.1 * math.log(2))
    added = fact(found, "added to the farthest key's logit, by head", "extended")[2]["added"]
    slopes = [2.0 ** (-2 * h) for h in range(1, 5)]
    assert added == pytest.approx([-m / 2 * 4095 * (1 + 0.1 * math.log(2)) for m in slopes], rel=1e-5)
    assert fact(found, "bias per head", "extended")[2]["slopes"] == [2.0**-9, 2.0**-3]


def test_p_rope_xpos_and_partial_rope() -> None:
    trained, _, values = fact(explained("p-rope", *WIDE), "pairs with a full rotation")
    assert trained == "21 of 32 (k = 0–20); 8 never rotate"
    assert fact(explained("p-rope", *WIDE), "pairs with an incomplete rotation")[2]["which"] == [21, 22, 23]
    waves = wavelengths(16)  # a quarter of 64 dimensions
    assert fact(explained("partial-rope", *WIDE), "pairs with an incomplete rotation")[2]["which"] == [
        k for k, wave in enumerate(waves) if wave > 2048
    ]
    found = explained("xpos", *WIDE)
    trained, _, values = fact(found, "remaining fraction of the farthest key's logit, k = 0 … 31")
    ends = [0.4 / 1.4, (62 + 0.4 * 64) / (1.4 * 64)]
    assert values["left"] == pytest.approx([zeta ** (2999 / 512) for zeta in ends], rel=1e-5)
    assert trained.startswith(digits((0.4 / 1.4) ** (2047 / 512)))


def test_learned_has_no_rows_for_952_positions() -> None:
    found = explained("learned")
    assert fact(found, "positions")[:2] == ("2048 rows, 0–2047", "0–2999: 952 have no row")
    assert "learned positions end at 2048" in found["refused"]["none"]
    assert found["cures"] == ["interpolate"]
    assert any("--extension interpolate" in line for line in found["commands"])
    assert any(
        "952 have no row" in line for line in posx("explain", "--scheme", "learned", *EXERCISE).stdout.splitlines()
    )
    stretched = explained("learned", "--extension", "interpolate")
    assert fact(stretched, "positions", "extended")[1] == f"0–2047 in steps of {digits(2047 / 2999)}: all have rows"
    assert list(stretched["refused"]) == ["none"]


@pytest.mark.parametrize(("buckets", "most"), [(32, 128), (16, 64), (32, 4096)])
def test_t5_by_hand(buckets: int, most: int) -> None:
    """Bucket of d: d below half, then half + ⌊ln(d / half) / ln(most / half) · half⌋, 31 at most."""
    half = buckets // 2

    def bucket(d: int) -> int:
        grown = half + int(math.log(max(d, 1) / half) / math.log(most / half) * half)
        return d if d < half else min(buckets - 1, grown)

    found = explained("t5", f"scheme.buckets={buckets}", f"scheme.max_distance={most}")
    first = next(d for d in range(5000) if bucket(d) == buckets - 1)
    trained, now, values = fact(found, "keys in the last bucket")
    assert values == {"first": first, "keys": max(0, 3000 - first)}
    assert (buckets, most, first) != (32, 128, first) or first == 113
    if first < 2048:
        assert trained == f"{2048 - first} of 2048 keys (distance {first} and up)"
        assert now == f"{3000 - first} of 3000 keys ({(3000 - first) / 3000:.0%})"
    seen = {bucket(d) for d in range(2048)}
    trained, _, values = fact(found, "buckets of the table")
    assert trained == f"{len(seen)} of {buckets} trained"
    assert values["new"] == sorted({bucket(d) for d in range(3000)} - seen)


@pytest.mark.parametrize("heads", [4, 8])
def test_alibi_by_hand(heads: int) -> None:
    found = explained("alibi", f"model.n_heads={heads}")
    slopes = [2.0 ** (-8 * h / heads) for h in range(1, heads + 1)]
    trained, now, values = fact(found, "added to the farthest key's logit, by head")
    assert values["added"] == pytest.approx([-m * 2999 for m in slopes])
    assert trained == f"{digits(-slopes[-1] * 2047)} to {digits(-slopes[0] * 2047)}"
    _, now, values = fact(found, "its weight relative to the query's own token, at most")
    assert values["weight"] == pytest.approx(math.exp(-slopes[-1] * 2999))
    assert now.startswith("e^-11.7 = ")
    assert "linear in d" in fact(found, "bias per head")[1]
    windowed = explained("alibi", f"model.n_heads={heads}", "--extension", "window(w=100)")
    _, _, values = fact(windowed, "added to the farthest key's logit, by head", "extended")
    assert values["added"] == pytest.approx([-m * 99 for m in slopes])


def test_nope_and_ssmax_depend_only_on_the_number_of_keys() -> None:
    found = explained("nope")
    assert [row["what"] for row in found["facts"]] == ["keys of the last query", "entropy of uniform attention"]
    assert fact(found, "keys of the last query")[:2] == ("2048", "3000")
    trained, now, values = fact(found, "entropy of uniform attention")
    assert (trained, now) == ("ln 2048 = 7.62 nats", "ln 3000 = 8.01 nats")
    assert values["nats"] == math.log(3000)
    _, now, _ = fact(explained("ssmax"), "factor ln n of the logits")
    assert now == f"8.01 ({math.log(3000) / math.log(2048) - 1:+.1%})"
    sharper = fact(explained("nope", "--extension", "log-n"), "the last query is multiplied by", "extended")[2]
    assert sharper["by"] == pytest.approx(math.log(3000) / math.log(2048))


def test_sinusoids_by_hand() -> None:
    found = explained("sinusoidal", "model.d_model=128")
    slow = [k for k, wave in enumerate(wavelengths(128)) if wave > 2048]
    assert fact(found, "pairs with an incomplete rotation")[2]["further"] == slow
    assert fact(found, "positions")[:2] == ("0–2047", "0–2999: 952 are new")
    (known, last) = ([[f(p / w * 2 * math.pi) for w in wavelengths(128) for f in (math.sin, math.cos)] for p in some]
                     for some in (range(2048), [2999]))  # fmt: skip
    nearest = max(sum(a * b for a, b in zip(one, last[0], strict=True)) / 64 for one in known)
    assert fact(found, "cosine of the last vector to the nearest trained one")[2]["cosine"] == pytest.approx(
        nearest, abs=1e-4
    )
    stretched = explained("sinusoidal", "--extension", "interpolate")
    assert fact(stretched, "positions", "extended")[1].startswith("0–2047.3 in steps of 0.683: none are new")
    assert fact(stretched, "pairs with an incomplete rotation", "extended")[2]["further"] == []
    distances = explained("transformer-xl", "model.d_model=128")
    assert fact(distances, "pairs with an incomplete rotation")[2]["further"] == slow


def test_facts_of_shaw_cope_randomized_and_shape() -> None:
    assert fact(explained("shaw"), "keys that share the last vector")[:2] == (
        "2032 of 2048 keys (distance 16 and up)", "2984 of 3000 keys (99%)")  # fmt: skip
    assert fact(explained("shaw", "scheme.clip=2500"), "rows of the table")[2] == {"new": 453}  # 2048 .. 2500
    found = explained("cope")
    assert fact(found, "position of the farthest key, gates half open")[:2] == ("1024", "1500")
    assert fact(found, "keys at the cap p_max, all gates open")[2] == {"p_max": 2047, "capped": 953}
    found = explained("randomized")
    assert fact(found, "drawn positions")[1] == "3000 from the same range: none are new"
    assert fact(found, "pairs with a full rotation")[2]["whole"] == sum(w <= 131072 for w in wavelengths(128))
    found = explained("shape")
    assert fact(found, "positions")[1] == "0–2999: 452 are new"  # 2048 + 500 were trained
    over = explained("shape", "scheme.inner=rope")
    assert fact(over, "distances to keys")[1] == "0–2999: 952 are new"
    assert explained("randomized", "scheme.longest=2500")["refused"] == {"none": "randomized positions end at 2500."}


def test_sums_over_gates_by_hand() -> None:
    """ln σ(5) for each token, −softplus(−5) too."""
    each = -math.log1p(math.exp(-5))
    for name in ("forgetting", "cable"):
        values = fact(explained(name), "added to the farthest key's logit, by head")[2]["added"]
        assert values == pytest.approx([2999 * each] * 4, rel=1e-4)
        assert fact(explained(name), "tokens between query and farthest key")[:2] == ("up to 2046", "2998")
    assert fact(explained("stick-breaking"), "factors in the farthest key's weight")[2] == {"factors": 2999}
    assert fact(explained("linear-rope"), "terms in numerator and denominator")[2] == {"products": 3000}


def test_the_input_of_fire_is_at_most_one() -> None:
    trained, _, values = fact(explained("fire"), "input of the network, c = 0.100")
    assert values["farthest"] == pytest.approx(1, abs=1e-5)
    assert trained == "0–1.00"
    _, _, values = fact(explained("fire"), "… for distance 1, last query")
    assert values["near"] == pytest.approx(math.log(1.1) / math.log(300.9), rel=1e-4)


def test_dape_counts_new_biases() -> None:
    """Over alibi, all distances from 2048 on have new biases, below the trained ones in each head."""
    assert fact(explained("dape"), "input biases of the network")[2] == {"new": 952}
    assert fact(explained("dape", "--extension", "window"), "input biases of the network", "extended")[2] == {"new": 0}
