"""Tests of ``posx.results.curves``."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest

from fixtures.plotted import (
    at,
    shelf,  # noqa: F401
)
from fixtures.records import DOCUMENTS, ROPE, Shelf, by_document, hardness
from posx.results.aggregate import aggregate
from posx.results.curves import by_each_document
from posx.results.parts import bucket_edges, octaves


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    """What a failed drawing left open must not count against the next test."""
    yield
    plt.close("all")


def test_buckets_of_context_part_all_contexts() -> None:
    assert bucket_edges(20).tolist() == [1, 2, 3, 4, 6, 8, 12, 16, 24]
    assert octaves(16).tolist()[:6] == [1, 2, 3, 5, 9, 17]
    for edges_of in (bucket_edges, octaves):
        for longest in (1, 2, 3, 4, 5, 7, 8, 63, 64, 65, 96, 100, 1000):
            edges = edges_of(longest).tolist()
            for context in range(1, longest + 1):
                assert sum(low <= context < high for low, high in pairwise(edges)) == 1
            assert edges == sorted(set(edges))


def test_a_document_is_compared_under_the_same_weights(shelf: Shelf) -> None:
    """Seeds 0 and 1 have a number at 1x, seeds 1 and 2 at 8x: as many on either side, and only seed 1 on both."""
    change = by_document(0.1, 0.3, seed=7)
    for seed in (0, 1):
        shelf.put(hardness(seed), seed=seed, **ROPE)
    for seed in (1, 2):
        shelf.put(hardness(seed) + change, seed=seed, length=512, **ROPE)
    cells = aggregate(shelf.records)
    line = by_each_document(at(cells, "rope", 512), at(cells, "rope", 64))
    wanted = sorted(float(change[document == DOCUMENTS].mean()) for document in np.unique(DOCUMENTS))
    assert [p.mean for p in line.points] == pytest.approx(wanted, abs=1e-5)
