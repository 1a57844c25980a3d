"""Tests of extensions that change distances between query and key."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fixtures.models import CONTEXT, make_model, random_tokens
from fixtures.moved_pairs import bound
from posx.errors import Unsupported
from posx.extensions.base import Applied

pytestmark = pytest.mark.every_processor

WITHIN = {  # distances that stay below L, at every length
    "self-extend(w=4)": 4, "leaky-rerope": 8, "leaky-rerope(w=3)": 3, "dual-chunk": 12, "dual-chunk(s=5)": 5,
    "sinks": 12, "sinks(n=2, w=5)": 5,
}  # fmt: skip


def distances(extension: Applied, length: int) -> Tensor:
    """Distances between queries and keys, float64 [T, T], NaN for masked keys; branches may not overlap."""
    i, j = torch.arange(length)[:, None], torch.arange(length)
    found = (i - j).double().expand(length, length).clone()
    taken = torch.zeros(length, length, dtype=torch.bool)
    zero = torch.zeros((), dtype=torch.long)
    for branch in extension.branches():
        where = branch.where(zero, zero, i, j).expand(length, length) & (i >= j)
        assert not (taken & where).any(), "two branches share a pair"
        taken |= where
        apart = branch.queries(i).double() - branch.keys(j).double()
        found = torch.where(where, apart.expand(length, length), found)
    for mask in extension.masks():
        found = found.masked_fill(~mask(zero, zero, i, j), float("nan"))
    return found.masked_fill(i < j, float("nan"))


@given(st.sampled_from(sorted(WITHIN)), st.integers(1, 300))
def test_distances_stay_among_those_trained(text: str, length: int) -> None:
    """All are from 0 to L − 1, and the nearest ones are unchanged."""
    model = make_model("rope")
    try:
        extension = bound(text, model, length)
        found = distances(extension, length)
    except Unsupported:
        assert text.startswith("self-extend")
        assert length > (CONTEXT - 4) * 4 + 4
        return
    seen = found[~found.isnan()]
    assert seen.min() >= 0
    assert seen.max() <= CONTEXT - 1 + 1e-4  # fractions in float32
    near = torch.arange(length)[:, None] - torch.arange(length)
    near = (near >= 0) & (near < WITHIN[text]) & ~torch.isnan(found)
    if not text.startswith("dual-chunk"):
        exact = (torch.arange(length)[:, None] - torch.arange(length)).double()
        assert torch.equal(found[near], exact[near])


@given(st.integers(1, 300))
def test_distance_limits_of_lm_infinite_and_rerope(length: int) -> None:
    model = make_model("rope")
    for text, most in (("rerope", CONTEXT // 2), ("rerope(w=3)", 3), ("lm-infinite", CONTEXT)):
        found = distances(bound(text, model, length), length)
        assert float(found[~found.isnan()].max()) == min(most, length - 1)


def test_known_distances() -> None:
    """The last query's, by hand."""
    model = make_model("rope")

    def last(text: str, length: int) -> list[float | None]:
        row = distances(bound(text, model, length), length)[-1].tolist()
        return [None if x != x else x for x in row]

    # ⌊9/2⌋ − ⌊j/2⌋ + 4 − 2 for the six keys at a distance of at least 4.
    assert last("self-extend(w=4, G=2)", 10) == [6, 6, 5, 5, 4, 4, 3, 2, 1, 0]
    # The cache has keys 0, 1 and 7, 8, 9 at positions 0 to 4.
    assert last("sinks(n=2, w=3)", 10) == [4, 3, None, None, None, None, None, 2, 1, 0]
    assert last("lm-infinite(n=1, w=3, limit=4)", 10) == [4, *[None] * 6, 2, 1, 0]
    # Chunks of 4, positions to 5: query 9 is at 4 + 1 for the previous chunk, at 5 for earlier ones.
    assert last("dual-chunk(s=4, last=5)", 10) == [5, 4, 3, 2, 5, 4, 3, 2, 1, 0]
    assert last("leaky-rerope(w=2, k=4)", 8) == [3.25, 3.0, 2.75, 2.5, 2.25, 2.0, 1, 0]


@pytest.mark.parametrize(
    "text, length", [("self-extend", 300), ("sinks(n=16)", 40), ("sinks(n=8, w=9)", 40), ("dual-chunk(s=17)", 40)]
)
def test_unsupported_lengths_are_refused(text: str, length: int) -> None:
    """Unsupported, so that only one cell of a table is missing."""
    model = make_model("rope")
    with pytest.raises(Unsupported):
        model(random_tokens(length, batch=1), extension=bound(text, model, length))
