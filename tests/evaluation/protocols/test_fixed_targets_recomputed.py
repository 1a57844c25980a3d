"""Tests of ``posx.evaluation.protocols.fixed_targets``: recomputed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.corpora import corpus_of
from fixtures.recomputed_runs import (
    CONTEXT,
    LEAST,
    Key,
    Trained,
    alibi,  # noqa: F401 - a fixture
    assert_losses,
    copy_without_records,
    either,  # noqa: F401
    evaluate_run,
    folder,  # noqa: F401 - a fixture
    rope,  # noqa: F401
    sampled_tails,
    stored_losses,
)
from posx.config.schema import EvalConfig
from posx.data.corpus import Corpus, Split
from posx.evaluation.protocols.fixed_targets import targets_of


def test_the_documents_are_a_trial(rope: Trained) -> None:
    """Odd lengths, a single token, shorter than the context and than every window, and some that are long enough."""
    lengths = [len(ids) for ids in rope.documents]
    assert min(lengths) == 1
    assert any(1 < n < CONTEXT for n in lengths)
    assert sum(n % 2 for n in lengths) > 2
    assert sum(n > LEAST for n in lengths) >= 3
    assert {n % 5 for n in lengths if n > LEAST} != {LEAST % 5}  # ragged rests with a stride of 5


def all_tails(documents: list[list[int]], least: int, stride: int) -> tuple[list[tuple[int, int]], int]:
    """(document, position of its last target) of every tail of ``stride`` targets that may be scored, in the order of
    the text, and how many targets are in ragged rests.

    A target has at least ``least`` tokens of its document before it.
    """
    tails, left = [], 0
    for d, ids in enumerate(documents):
        qualified = [position for position in range(len(ids)) if position >= least]
        while len(qualified) >= stride:
            tail, qualified = qualified[:stride], qualified[stride:]
            tails.append((d, tail[-1]))
        left += len(qualified)
    return tails, left


@pytest.mark.parametrize("stride", [1, 2, 5])
@pytest.mark.parametrize("least", [37, LEAST, 101])
def test_every_token_that_qualifies_is_a_target(rope: Trained, tmp_path: Path, stride: int, least: int) -> None:
    own = copy_without_records(rope, tmp_path)
    record = evaluate_run(own, CONTEXT, stride=stride, target_context=least, max_targets=10**6)[CONTEXT]
    tails, left = all_tails(own.documents, least, stride)
    assert sampled_tails(own, record) == tails
    assert (record.n_targets, record.left_out) == (len(tails) * stride, left)
    assert (record.stride, record.target_context) == (stride, least)
    scored = {(d, n) for d, n, _ in stored_losses(record)}
    assert scored == {(d, last - back) for d, last in tails for back in range(stride)}
    assert min(n for _, n in scored) >= least


@pytest.mark.parametrize("stride, most", [(1, 100), (2, 101), (5, 69), (5, 150)])
def test_drawn_targets_are_whole_tails_in_even_shares(rope: Trained, tmp_path: Path, stride: int, most: int) -> None:
    """None gives more than its share: whoever gives less than another has no more to give."""
    own = copy_without_records(rope, tmp_path)
    record = evaluate_run(own, CONTEXT, stride=stride, max_targets=most)[CONTEXT]
    tails, left = all_tails(own.documents, LEAST, stride)
    chosen = sampled_tails(own, record)
    assert len(tails) > most // stride == len(chosen) == len(set(chosen)) == record.n_targets // stride
    assert chosen == sorted(chosen)
    assert set(chosen) <= set(tails)
    assert record.left_out == left
    there, gave = Counter(d for d, _ in tails), Counter(d for d, _ in chosen)
    largest = max(gave.values())
    assert all(gave[d] == there[d] or gave[d] >= largest - 1 for d in there)
    assert chosen != [tail for d in sorted(gave) for tail in [t for t in tails if t[0] == d][: gave[d]]]


def test_a_draw_is_a_function_of_its_seed(rope: Trained, tmp_path: Path) -> None:
    own = copy_without_records(rope, tmp_path)
    sets = [sampled_tails(own, evaluate_run(own, CONTEXT, max_targets=64, seed=seed)[CONTEXT]) for seed in (0, 1, 0)]
    assert sets[0] == sets[2] != sets[1]


INGREDIENTS: dict[str, dict[str, Any]] = {
    "split": {"split": "validation"},
    "target_context": {"target_context": LEAST - 1},
    "stride": {"stride": 2},
    "max_targets": {"max_targets": 10**6 - 1},
    "seed": {"seed": 1},
}


@pytest.mark.parametrize("what", [*INGREDIENTS, "corpus", "tokenizer", "positions"])
def test_the_hash_changes_with_each_ingredient(rope: Trained, what: str) -> None:
    """Of itself, and not only because the ingredient changes the positions: they stay, wherever that can be."""
    config = EvalConfig(target_context=LEAST, stride=1, max_targets=10**6)
    corpus = corpus_of(rope.run.config)
    test = corpus.splits["test"]
    corpus = replace(corpus, splits={**corpus.splits, "validation": test})
    before = targets_of(corpus, config, CONTEXT)
    assert targets_of(corpus, replace(config), CONTEXT).sha256 == before.sha256
    changed: Corpus = corpus
    if what == "corpus":
        changed = replace(corpus, sha256="0" * 64)
    elif what == "tokenizer":
        changed = replace(corpus, tokenizer_sha256="0" * 64)
    elif what == "positions":
        offsets = test.offsets[:-1]  # the last document away
        changed = replace(corpus, splits={**corpus.splits, "test": Split(test.tokens[: offsets[-1]], offsets)})
    after = targets_of(changed, replace(config, **INGREDIENTS.get(what, {})), CONTEXT)
    assert len(after.sha256) == len(before.sha256) == 64
    assert after.sha256 != before.sha256
    moved = what in ("target_context", "stride", "positions")
    assert np.array_equal(after.ends, before.ends) is not moved


@pytest.mark.parametrize("stride", [1, 2, 5])
def test_fixed_targets(either: Trained, tmp_path: Path, stride: int) -> None:
    """The same targets at 1x, 37 tokens and 3x: a window's end stays, only how far back it reaches changes."""
    own = copy_without_records(either, tmp_path)
    records = evaluate_run(own, CONTEXT, 37, LEAST, stride=stride, max_targets=66)
    assert {r.targets_sha256 for r in records.values()} == {records[CONTEXT].targets_sha256}
    scored: list[dict[Key, float]] = []
    for length, record in records.items():
        expected = {}
        for d, last in sampled_tails(own, record):
            for target in range(last - stride + 1, last + 1):
                first = last - length  # the window feeds the ``length`` tokens before its last target
                expected[d, target, target - first] = own.nats(own.documents[d], first, target)
        assert_losses(own, record, expected)
        assert {context for _, _, context in expected} == set(range(length - stride + 1, length + 1))
        scored.append(expected)
    at_1x, at_37, _ = ({key[:2]: nats for key, nats in one.items()} for one in scored)
    assert at_1x.keys() == at_37.keys()
    # An oracle that would not notice a window of another length could not tell anything.
    assert max(abs(at_1x[key] - at_37[key]) for key in at_1x) > 1e-3
