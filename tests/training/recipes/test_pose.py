"""Tests of ``posx.training.recipes.pose``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fixtures.corpora import by_hand, corpus_of, tiny_config
from fixtures.finetuned_runs import EXACT, SEEN, as_gpt2, as_neox, ask, by_host, gap, losses, resized, weights
from fixtures.recipe_runs import (
    POSE,
    REACH,
    STEPS,
    L,
    runs,  # noqa: F401
    text,  # noqa: F401
)
from fixtures.window_texts import LENGTHS, bounds, chi_square, home
from posx.config.schema import IGNORED
from posx.data.sampling import Slices
from posx.runs.directory import metrics, open_run
from posx.runtime.generator import generator
from posx.training.finetune import compose_finetune
from posx.training.recipes.pose import skipping
from posx.training.state import start

PI_4 = {"rope_type": "linear", "factor": 4.0}


def drawn(rows: int, n: int, reach: int, seed: int = 0) -> list[tuple[int, int, list[int]]]:
    """(l, u, positions) of each row; u as the last position tells it."""
    first, positions = skipping(rows, n, reach, torch.Generator().manual_seed(seed))
    assert positions.dtype == torch.int64
    found = []
    for cut, row in zip(first.tolist(), positions.tolist(), strict=True):
        found.append((cut, row[-1] - (n - 1), row))
    return found


@given(st.integers(2, 40), st.integers(0, 100), st.integers(0, 2**40))
@settings(max_examples=150, deadline=None)
def test_positions_are_two_chunks_with_a_skip(n: int, further: int, seed: int) -> None:
    """Equations 3 and 4 of the paper, in plain Python, with u_0 = 0; all below the reach."""
    for cut, skip, row in drawn(5, n, n + further, seed):
        lengths, biases = [cut, n - cut], [0, skip]
        assert min(lengths) >= 1
        assert 0 <= skip <= further
        chunks = [[biases[i] + sum(lengths[:i]) + place for place in range(lengths[i])] for i in range(2)]
        assert row == [*chunks[0], *chunks[1]]


def test_every_cut_and_every_skip_is_equally_likely() -> None:
    """Both at once: chi-square over all pairs, so that neither tells of the other."""
    n, reach = 5, 12
    pairs = Counter((cut, skip) for seed in range(40) for cut, skip, _ in drawn(200, n, reach, seed))
    assert sorted(pairs) == [(cut, skip) for cut in range(1, n) for skip in range(reach - n + 1)]
    assert chi_square(np.array(list(pairs.values()))) < 4.5


def test_all_positions_and_all_distances_come_up() -> None:
    """What pose is for: every distance from 1 to the reach − 1, in windows of 8 of 40 tokens."""
    rows = [row for _, _, row in drawn(4000, 8, 40)]
    assert {place for row in rows for place in row} == set(range(40))
    assert {late - early for row in rows for early in row for late in row if late > early} == set(range(1, 40))


@given(LENGTHS.filter(lambda lengths: max(lengths) >= 2), st.integers(2, 40), st.integers(0, 2**40), st.data())
@settings(max_examples=150, deadline=None)
def test_the_text_of_the_second_chunk_is_of_the_same_document(
    lengths: list[int], context: int, seed: int, data: Any
) -> None:
    """Equation 5 with v_0 = 0. Token n of the split is the number n, so that a token tells its place."""
    split = by_hand(lengths).splits["test"]
    cuts = data.draw(st.lists(st.integers(1, context - 1), min_size=4, max_size=4))
    plain, _ = Slices(split, context).batch(seed, 3, 4)
    tokens, targets = Slices(split, context).batch(seed, 3, 4, np.array(cuts))
    for cut, before, row, wanted in zip(cuts, plain.tolist(), tokens.tolist(), targets.tolist(), strict=True):
        end = bounds(lengths)[home(row[0], lengths)][1]
        assert row[:cut] == before[:cut], "windows begin where they do without pose"
        if end - row[0] <= context + 1:
            assert row == before, "a document that a window holds whole has nowhere to go on"
            continue
        assert row[cut] >= row[cut - 1] + 1
        assert row[cut:] == list(range(row[cut], row[cut] + context - cut))
        assert wanted == [*row[1:], row[-1] + 1]
        assert wanted[-1] < end
        assert IGNORED not in wanted


def test_the_second_chunk_begins_anywhere_in_the_rest() -> None:
    """Chi-square over what lies between the chunks, of the windows that begin where the document does."""
    slices, cuts = Slices(by_hand([20]).splits["test"], 8), np.full(400, 3)
    rows = np.concatenate([slices.batch(seed, 0, 400, cuts)[0] for seed in range(40)])
    at_start = rows[rows[:, 0] == 0]
    seen, counts = np.unique(at_start[:, 3] - at_start[:, 2] - 1, return_counts=True)
    assert seen.tolist() == list(range(20 - 9 + 1))  # a window reads 9 of 20 tokens
    assert chi_square(counts) < 4.5


@torch.no_grad()
def test_a_step_of_pose_is_that_of_an_oracle_at_these_positions(runs: Path) -> None:
    """The first loss, by GPT-NeoX with pi: the first run's weights, batch 30, positions drawn from the step alone."""
    first, run = open_run(runs / "rope"), open_run(runs / "rope-pose")
    cuts, positions = skipping(128 // L, L, REACH, generator(0, f"positions of step {STEPS}"))
    slices = Slices(corpus_of(run.config).splits["train"], L)

    def loss(tokens: np.ndarray, targets: np.ndarray, where: Tensor, **rope: Any) -> float:
        # With a mask of its own: without one transformers takes a skip for the beginning of another sequence.
        mask = torch.full((L, L), float("-inf")).triu(1)[None, None]
        out = as_neox(first, **rope)(input_ids=torch.from_numpy(tokens), position_ids=where, attention_mask=mask)
        return float(F.cross_entropy(out.logits.double().flatten(0, 1), torch.from_numpy(targets).flatten()))

    batch = slices.batch(0, STEPS, 128 // L, cuts.numpy())
    plain, straight = slices.batch(0, STEPS, 128 // L), torch.arange(L)[None]
    seen = metrics(run)[0]["nats_per_token"]
    assert seen == pytest.approx(loss(*batch, positions, **PI_4), abs=EXACT)
    others = [loss(*batch, positions), loss(*batch, straight, **PI_4), loss(*plain, positions, **PI_4)]
    assert min(abs(other - seen) for other in others) > SEEN


def test_pose_freezes_the_extension_at_its_reach(runs: Path) -> None:
    """64 / 16, though no window is longer than 16."""
    run = open_run(runs / "rope-pose")
    train = run.config.train
    assert (train.context, train.reach, train.reached, train.extension) == (L, REACH, REACH, "pi(s=4)")
    assert run.config.base_context == L
    lineage = run.meta["lineage"]
    assert (lineage["base_context"], lineage["train_context"], lineage["train_extension"]) == (L, L, "pi(s=4)")
    base = open_run(runs / "rope").config
    for extension, frozen in (("ntk", "ntk(s=4)"), ("pi(s=5)", "pi(s=5)"), ("pi+resonance", "pi(s=4)+resonance")):
        assert compose_finetune(base, "rope", [*POSE, f"train.extension='{extension}'"]).train.extension == frozen


def test_what_pose_trained_with_acts_at_every_length_and_others_extend_its_reach(runs: Path) -> None:
    """pi(s=4) below, at and above the reach; pi on top of it at 8x is s = 128 / 64."""
    run = open_run(runs / "rope-pose")
    found = ask(run, [L, 40, REACH, 128], "trained") | ask(run, [REACH, 128], "pi")
    for (extension, length), record in found.items():
        on_top = 2.0 if (extension, length) == ("trained+pi", 128) else 1.0
        host = as_neox(run, rope_type="linear", factor=4 * on_top)
        assert gap(losses(record), by_host(run, record, host)) < EXACT
        assert record.extension_params["trained"] == {"pi": {"s": 4.0}}
    assert found["trained+pi", 128].extension_params["pi"] == {"s": 2.0}
    assert gap(losses(found["trained", L]), by_host(run, found["trained", L], as_neox(run))) > SEEN


def test_learned_positions_are_spread_over_the_reach(runs: Path) -> None:
    """Table and interpolation: 16 rows over 64 positions, and over 128 on top. Trained in windows of 16 tokens."""
    run = open_run(runs / "learned-pose")
    table = weights(run)["scheme.table"]
    assert len(table) == L
    found = ask(run, [L, REACH], "trained") | ask(run, [128], "interpolate")
    for (_, length), record in found.items():
        host = as_gpt2(run, resized(table, 128 if length == 128 else REACH))
        assert gap(losses(record), by_host(run, record, host)) < EXACT
    past = ask(run, [L, 128], "trained")["trained", 128]
    assert past.status == "unsupported"
    assert "up to 64" in past.reason


@pytest.mark.parametrize(
    "scheme", ["alibi", "fire", "linear-rope", "p-rope", "shaw", "sinusoidal", "t5 scheme.buckets=16", "xpos"]
)
def test_pose_trains_other_schemes_at_its_positions(text: Path, scheme: str) -> None:
    """Rows of a batch at positions of their own are those rows, each by itself at its positions."""
    config = compose_finetune(tiny_config(text, *f"scheme={scheme}".split()), "first", POSE)
    session = start(config, corpus_of(config))
    tokens = torch.from_numpy(session.slices.batch(0, 0, 4)[0])
    _, positions = skipping(4, L, REACH, generator(0, "some"))
    with torch.no_grad():
        together = session.model(tokens, positions, extension=session.extension)
        alone = [session.model(tokens[n : n + 1], positions[n], extension=session.extension) for n in range(4)]
    assert float((together - torch.cat(alone)).abs().max()) < 1e-5
    assert int(positions.max()) > L
