"""Tests of ``posx.results.attainable``."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest

from fixtures.cells import (
    EFFECTIVE,
    FEW,
    LONG,
    L,
    Shelf,
    cell_of,
    change,
    gain,
    half,
    losses,
    plain_loop,
    shelf,  # noqa: F401
)
from posx.results.aggregate import aggregate


@pytest.mark.parametrize(
    "at, long, share",
    [(4.9, 4.8, 0.5), (4.8, 4.8, 1.0), (5.0, 4.8, 0.0), (5.1, 4.8, -0.5), (4.7, 4.8, 1.5), (6.0, 4.8, -5.0)],
)
@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_share_of_the_attainable_gain(
    shelf: Shelf, at: float, long: float, share: float, seeds: tuple[int, ...]
) -> None:
    """Half of it at 4.9, all at 4.8, less than nothing at 5.1, more than all at 4.7: no bound is put on it."""
    found = cell_of(aggregate(gain(shelf, at, long, seeds), FEW), length=256, base_context=L).share
    assert found is not None
    assert found.attainable == pytest.approx(0.2, abs=1e-6)
    assert found.share == pytest.approx(share, abs=1e-5)
    assert found.long == pytest.approx(4.8, abs=1e-6)
    assert found.long_gain == pytest.approx(0.5, abs=1e-6)
    assert found.seeds == seeds
    assert found.attainable_interval is not None
    assert 0 < found.attainable_interval[0] < 0.2 < found.attainable_interval[1]
    assert found.interval is not None
    assert found.interval[0] < share < found.interval[1]


def test_the_ratio_is_bootstrapped_whole(shelf: Shelf) -> None:
    """Against the quantiles of one ratio a replicate, by loops: 24 documents, one seed, one factor for both parts."""
    before, after, top = (losses() + change(m, 0.05, seed=s) for m, s in ((0, 0), (-0.1, 1), (-0.2, 2)))
    records = [shelf.put(before), shelf.put(after, length=256), shelf.put(top, length=256, **LONG)]
    upper, lower = plain_loop([(before, after)], 8000), plain_loop([(before, top)], 8000)  # the same draws
    draw, wide = random.Random(3), math.sqrt(EFFECTIVE / (EFFECTIVE - 1))
    ratios = []
    for u, v in zip(upper, lower, strict=True):
        factor = wide / math.sqrt(draw.gammavariate(23 / 2, 2) / 23)
        ratios.append((0.1 + u * factor) / (0.2 + v * factor))
    low, high = np.quantile(ratios, [0.025, 0.975])
    found = cell_of(aggregate(records, 20_000), length=256, base_context=L).share
    assert found is not None
    assert found.interval is not None
    assert found.interval == pytest.approx((low, high), abs=0.06 * (high - low))


def test_a_sure_share_of_an_unsure_gain(shelf: Shelf) -> None:
    """Where the one gain is half of the other in every document, their ratio is known, however they vary."""
    step = change(-0.2, 0.1, seed=4)
    records = [
        shelf.put(losses()),
        shelf.put(losses() + step / 2, length=256),
        shelf.put(losses() + step, length=256, **LONG),
    ]
    found = cell_of(aggregate(records, FEW), length=256, base_context=L).share
    assert found is not None
    assert found.attainable_interval is not None
    assert half(found.attainable_interval) > 0.02
    assert found.interval == pytest.approx((0.5, 0.5), abs=1e-5)


@pytest.mark.parametrize(
    "long, spread", [(4.98, 0.5), (5.0, 0.0), (5.2, 0.01)], ids=["unsure", "nothing", "a loss for sure"]
)
def test_a_dash_unless_there_is_something_to_attain(shelf: Shelf, long: float, spread: float) -> None:
    found = cell_of(aggregate(gain(shelf, 4.9, long, spread=spread), FEW), length=256, base_context=L).share
    assert found is not None
    assert (found.share, found.interval) == (None, None)
    assert found.attainable == pytest.approx(5.0 - long, abs=1e-6)
    assert found.attainable_interval is not None
    assert found.attainable_interval[0] <= 0


def test_seeds_that_not_all_three_have_are_left_out(shelf: Shelf) -> None:
    """Seed 0 has no long model, seed 3 no short one, and seed 4 gave no number at 256."""
    records = gain(shelf, seeds=(0, 1, 2), long_seeds=(1, 2, 3, 4))
    # Seed 0 gains a whole nat, and would pull the mean if it were counted.
    records = [r for r in records if not (r.seed == 0 and r.base_context == L)]
    records += [shelf.put(losses(0), seed=0), shelf.put(losses(0) - 1.0, seed=0, length=256)]
    records += [shelf.put(losses(4), seed=4), shelf.failed(seed=4, length=256)]
    found = cell_of(aggregate(records, FEW), length=256, base_context=L).share
    assert found is not None
    assert found.seeds == (1, 2)
    assert found.share == pytest.approx(0.5, abs=1e-5)
    assert found.attainable == pytest.approx(0.2, abs=1e-6)


def test_no_seed_in_common_is_no_share(shelf: Shelf) -> None:
    records = gain(shelf, seeds=(0, 1), long_seeds=(2, 3))
    assert cell_of(aggregate(records, FEW), length=256, base_context=L).share is None


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"recipe_sha256": "ab" * 32}, id="other recipe"),
        pytest.param({"base_context": 128, "train_context": 128}, id="trained at another length"),
        pytest.param({"targets_sha256": "66" * 32}, id="other targets"),
        pytest.param({"dtype": "bfloat16"}, id="other dtype"),
        pytest.param({"extension": "pi"}, id="not as it was trained"),
    ],
)
def test_no_share_without_a_long_training_of_the_same_recipe(shelf: Shelf, changes: dict[str, Any]) -> None:
    cells = aggregate(gain(shelf, **changes), FEW)
    assert cell_of(cells, length=256, config_sha256="33" * 32).share is None


def test_the_long_model_has_no_share_of_its_own(shelf: Shelf) -> None:
    cells = aggregate(gain(shelf), FEW)
    assert cell_of(cells, length=256, base_context=256).share is None
    assert cell_of(cells, length=L, base_context=256).share is None
    assert cell_of(cells, length=L, base_context=L).share is None


def test_an_extension_has_a_share(shelf: Shelf) -> None:
    """Of the same gain, against the same weights without it."""
    records = [
        *gain(shelf, at=5.5),
        shelf.put(losses() + change(0.3, 0.01), extension="pi"),
        shelf.put(losses() + change(-0.15, 0.01), extension="pi", length=256),
    ]
    found = cell_of(aggregate(records, FEW), length=256, extension="pi").share
    assert found is not None
    assert found.share == pytest.approx(0.75, abs=1e-5)


def test_the_long_models_own_gain_needs_its_number_at_l(shelf: Shelf) -> None:
    found = cell_of(aggregate(gain(shelf, short=None), FEW), length=256, base_context=L).share
    assert found is not None
    assert found.long_gain is None
    assert found.share == pytest.approx(0.5, abs=1e-5)


def test_the_long_models_own_gain_is_paired_by_seed(shelf: Shelf) -> None:
    """Seed 1, a bad one, has no number at L: the mean at L of seed 0 less the mean at 256 of both is no gain."""
    records = gain(shelf, seeds=(0, 1), long_seeds=(0,))
    records.append(shelf.put(losses(1) + 1.0, length=256, **LONG | {"seed": 1}))
    found = cell_of(aggregate(records, FEW), length=256, base_context=L).share
    assert found is not None
    assert found.long_gain is None or found.long_gain == pytest.approx(0.5, abs=1e-6)


def test_without_losses_the_attainable_gain_stays_and_the_share_is_a_dash(shelf: Shelf) -> None:
    records = gain(shelf)
    next(r for r in records if r.base_context == 256).path.with_suffix(".parquet").unlink()  # type: ignore[union-attr]
    found = cell_of(aggregate(records, FEW), length=256, base_context=L).share
    assert found is not None
    assert found.attainable == pytest.approx(0.2, abs=1e-6)
    assert (found.attainable_interval, found.share, found.interval) == (None, None, None)
