"""Oracles of extensions that change distances of query–key pairs, visible keys, or the scale of logits.

Each is compared with loops over pairs in float64, which compute the paper's distance of every pair and apply the scheme
at that distance. Lengths are below, at and above the training context of 16, including one that is not a multiple, and
for the last queries 64 times the training context.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from posx.models.binding import bind, parse_extension
from posx.verify.oracles import papers as written
from posx.verify.oracles.layer import FAR, LAYER, Comparison, Layer, Pairs
from posx.verify.oracles.small_models import CONTEXT

Distance = Callable[[int, int], float | None]  # of query and key; None: hidden
USES_DISTANCES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("rope", {}),
    ("partial-rope", {"fraction": 0.5}),
    ("xpos", {"scale_base": 32.0}),
    ("alibi", {}),
    ("t5", {}),
    ("kerple-log", {}),
    ("shaw", {"clip": 9, "values": True}),
)
PLACES = (CONTEXT - 3, CONTEXT, CONTEXT + 1, 41)
LONG = 64 * CONTEXT


def expected(a: Layer, name: str, distance: Distance, scale: float = 1.0, slope: float = 1.0) -> Tensor:
    """A layer of this scheme with these distances; logits times ``scale``, alibi's slopes times ``slope``."""
    turned: list[float] = []
    arguments: dict[str, Any] = {"scale": scale, "last": a.last}
    if name in ("rope", "xpos"):
        turned = written.frequencies(a.width)
    elif name == "partial-rope":
        turned = written.frequencies(a.width // 2)
    if name == "xpos":  # ζ_k^(d / scale_base), ζ_k = (2k + 0.4 D) / 1.4 D
        zeta = [(2 * n + 0.4 * a.width) / (1.4 * a.width) for n in range(a.width // 2)]
        arguments["fading"] = lambda n, d: zeta[n] ** (d / 32.0)
    elif name == "alibi":
        m = written.alibi_slopes(a.heads)
        arguments["addend"] = lambda b, h, i, d: -m[h] * slope * d
    elif name == "t5":
        table = a.own("table")
        arguments["addend"] = lambda b, h, i, d: float(table[h, written.t5_bucket(d, table.shape[1], CONTEXT)])
    elif name == "kerple-log":
        r1, r2 = a.own("r1").tolist(), a.own("r2").tolist()
        arguments["addend"] = lambda b, h, i, d: written.kerple("log", r1[h], r2[h], d)
    elif name == "shaw":
        keys, values = a.own("table")[LAYER].double(), a.own("value_table")[LAYER]
        row = lambda d: min(round(d), len(keys) - 1)  # noqa: E731
        arguments["addend"] = lambda b, h, i, d: float(a.q[b, h, i].double() @ keys[row(d)]) / math.sqrt(a.width)
        arguments["value_addend"] = lambda d: values[row(d)]
    return written.moved(a.q, a.k, a.v, turned, distance, **arguments)


def at_distances(
    text: str,
    distance: Callable[[int], Distance],
    schemes: Sequence[tuple[str, dict[str, Any]]] = USES_DISTANCES,
    places: Sequence[int] = (*PLACES, LONG),
    scale: Callable[[int], float] = lambda length: 1.0,
    slope: Callable[[int], float] = lambda length: 1.0,
) -> Callable[[], Pairs]:
    """The extension ``text`` compared with ``distance``, ``scale`` and ``slope``, functions of the length."""

    def pairs() -> Pairs:
        for name, settings in schemes:
            for heads, width, lengths in ((3, 8, PLACES), (2, 4, (41, LONG))):
                for length in filter(places.__contains__, lengths):
                    layer = Layer(name, heads, width, length, **settings)
                    applied = bind(parse_extension(text), layer.scheme, length)
                    tail = 3 if length < LONG else 2
                    layer.last = None if length < LONG else tail
                    theirs = expected(layer, name, distance(length), scale(length), slope(length))
                    yield layer.attended(last=tail, extension=applied), theirs[:, :, -tail:]
                    if length < LONG:
                        yield layer.attended(extension=applied), theirs
                        yield layer.attended(block=5, extension=applied), theirs

    return pairs


# ---------------------------------------------------------------- distances, from the papers


def self_extend(w: int, group: int) -> Distance:
    """d below w, else ⌊i/G⌋ − ⌊j/G⌋ + w − w/G."""
    return lambda i, j: i - j if i - j < w else math.floor(i / group) - math.floor(j / group) + w - w / group


def group_for(length: int, w: int = CONTEXT // 4) -> int:
    """The smallest divisor of w that keeps distances below L."""
    fits = [g for g in (1, 2, 4) if (length - 1) // g + w - w // g <= CONTEXT - 1]
    return 1 if length <= CONTEXT else fits[0]


def rerope(w: int) -> Distance:
    """min(d, w)."""
    return lambda i, j: min(i - j, w)


def leaky(w: int, k: float) -> Distance:
    """d below w, else w + (d − w)/k. Not for tables, which round it: in float32 they may use the next row."""
    return lambda i, j: i - j if i - j < w else w + (i - j - w) / k


def dual_chunk(s: int, last: int) -> Distance:
    """Distances within a chunk, to the previous chunk, and to earlier chunks."""

    def distance(i: int, j: int) -> float:
        chunks = math.floor(i / s) - math.floor(j / s)
        if chunks == 0:
            return i - j
        return (min(s + i % s, last) if chunks == 1 else last) - j % s

    return distance


def sinks(n: int, w: int) -> Distance:
    """Distances in a cache of at most n + w keys, whose positions are their indices in the cache."""

    def distance(i: int, j: int) -> float | None:
        cache = [key for key in range(i + 1) if key < n or key > i - w]
        return cache.index(i) - cache.index(j) if j in cache else None

    return distance


def lm_infinite(n: int, w: int, limit: int) -> Distance:
    """min(d, limit), for the first n keys and the last w."""
    return lambda i, j: min(i - j, limit) if j < n or i - j < w else None


def leak(length: int) -> float:
    """k for w = L/2, such that the farthest of ℓ keys, at distance ℓ − 1, has an effective distance below L."""
    return (length - 1 - CONTEXT // 2) / (CONTEXT - 1 - CONTEXT // 2) if length > CONTEXT else 1.0


LOOPS = "the paper's formula in float64"
OTHERS: tuple[tuple[str, dict[str, Any]], ...] = (("nope", {}), ("rope", {}), ("alibi", {}), ("shaw", {"clip": 9, "values": True}))  # fmt: skip  # noqa: E501
ALL_KEYS: Callable[[int], Distance] = lambda length: lambda i, j: i - j  # noqa: E731
KIND: Any = {"kind": "extension", "tolerance": FAR}
ELSEWHERE: tuple[Comparison, ...] = (
    Comparison("self-extend", LOOPS, at_distances(
        "self-extend", lambda length: self_extend(4, group_for(length)), places=PLACES), **KIND),
    Comparison("self-extend", f"{LOOPS}, w=8 and G=4", at_distances(
        "self-extend(w=8, G=4)", lambda length: self_extend(8, 4)), **KIND),
    Comparison("rerope", LOOPS, at_distances("rerope", lambda length: rerope(CONTEXT // 2)), **KIND),
    Comparison("leaky-rerope", LOOPS, at_distances(
        "leaky-rerope", lambda length: leaky(CONTEXT // 2, leak(length)),
        schemes=[scheme for scheme in USES_DISTANCES if scheme[0] not in ("shaw", "t5")]), **KIND),
    Comparison("dual-chunk", LOOPS, at_distances(
        "dual-chunk", lambda length: dual_chunk(12, CONTEXT - 1)), **KIND),
    Comparison("dual-chunk", f"{LOOPS}, chunks of 5", at_distances(
        "dual-chunk(s=5, last=11)", lambda length: dual_chunk(5, 11)), **KIND),
    Comparison("sinks", f"{LOOPS}, by a cache", at_distances("sinks", lambda length: sinks(4, CONTEXT - 4)), **KIND),
    Comparison("sinks", f"{LOOPS}, n=1 and w=3", at_distances(
        "sinks(n=1, w=3)", lambda length: sinks(1, 3), schemes=OTHERS), **KIND),
    Comparison("lm-infinite", LOOPS, at_distances(
        "lm-infinite", lambda length: lm_infinite(10, CONTEXT, CONTEXT)), **KIND),
    Comparison("lm-infinite", f"{LOOPS}, n=2, w=5 and limit=7", at_distances(
        "lm-infinite(n=2, w=5, limit=7)", lambda length: lm_infinite(2, 5, 7), schemes=OTHERS), **KIND),
    Comparison("temperature", LOOPS, at_distances(
        "temperature(c=0.4)", ALL_KEYS, schemes=OTHERS,
        scale=lambda length: 1 + 0.4 * math.log(max(1.0, length / CONTEXT))), **KIND),
    Comparison("alibi-scale", LOOPS, at_distances(
        "alibi-scale", ALL_KEYS, schemes=[("alibi", {})], slope=lambda length: min(1.0, CONTEXT / length)), **KIND),
)  # fmt: skip
