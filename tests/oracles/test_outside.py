"""Whole cells recomputed from outside: the target set from the protocol's words, every NLL by transformers.

Which tokens are scored, from how far back they are read and what is added up is written out here again, as plain
loops over lists of token ids. Of posx an evaluation's answers are read (records, Parquet), and the trained weights.
Then: what must not matter, and does not, but for the rounding of float32.
"""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tokenizers import Tokenizer
from typer.testing import CliRunner

from data_helpers import TINY, WORDS, child_environment, corpus_of, sentence, tiny_config, trained, write_jsonl
from posx.cli.app import app
from posx.config.schema import EvalConfig
from posx.data.corpus import Corpus, Split
from posx.evaluation import scorer as scoring
from posx.evaluation.evaluate import evaluate
from posx.evaluation.plan import make_plan
from posx.evaluation.protocols.fixed_targets import targets_of
from posx.extensions.base import NONE
from posx.models.attention import sdpa
from posx.models.attention import tiled as tiles
from posx.models.attention.dispatch import forced
from posx.models.build import build_model
from posx.models.loss import nll
from posx.results.records import Record, read_records
from posx.runs.directory import Run, open_run
from posx.utils.console import Display
from posx.verify.oracles import hosts

CONTEXT = 16
LEAST = 48  # eval.target_context: 3x
EXACT = 1e-5  # nats, of one target

# Two ways to add up the same float32 products differ in each of a few dozen sums by half a unit in the last place. An
# NLL of 4 to 8 nats has units of 2^-21 = 4.8e-7: sixteen of them for one target, and, since they fall either way, far
# less than one a target in a sum, which is held to 2^-22 of itself: what one rounding of each number could do at worst.
ONE_TARGET = 16 * 2.0**-21
OF_A_SUM = 2.0**-22

Key = tuple[int, int, int]  # document, position in it, tokens before it


@dataclass(frozen=True)
class Trained:
    """A run, a model of transformers with its weights, and the test documents as token ids."""

    run: Run
    host: Any
    documents: list[list[int]]
    sizes: list[int]  # bytes of each token of the vocabulary
    memory: dict[tuple[int, ...], float]

    @torch.no_grad()
    def nats(self, ids: list[int], first: int, target: int) -> float:
        """Of token ``target`` of a text after its tokens from ``first`` on; in float64 from the logits on."""
        key = tuple(ids[first : target + 1])
        if key not in self.memory:
            logits = self.host(input_ids=torch.tensor([ids[first:target]])).logits[0, -1].double()
            self.memory[key] = float(torch.logsumexp(logits, 0) - logits[ids[target]])
        return self.memory[key]


def texts() -> list[str]:
    """Documents of a single letter, of a few words, and of some 80 to 200 tokens."""
    words = [word for word in dict.fromkeys(WORDS) if word.isascii()]
    short = [f"{a} {b}" for a in words[:6] for b in words[6:12]]
    some = [sentence(2 + n % 7, 500 + n) for n in range(24)]
    return [*"bcdefghijklm", *words, *short, *some, *(sentence(45 + (29 * n) % 61, n) for n in range(36))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("outside")
    write_jsonl(path / "a.jsonl", texts())
    return path


def make(folder: Path, scheme: str) -> Trained:
    """Thirty steps: enough that the tokens before a target, and their order, matter to its loss."""
    config = tiny_config(folder / "a.jsonl", f"scheme={scheme}", "train.steps=30", f"data.cache_dir={folder / 'cache'}")
    run = trained(folder / "runs", scheme, config)
    corpus = corpus_of(config).path
    ids, offsets = np.fromfile(corpus / "test.bin", np.uint16), np.load(corpus / "test.offsets.npy")
    documents = [ids[a:b].tolist() for a, b in pairwise(offsets)]
    tokenizer = Tokenizer.from_file(str(run.path / "tokenizer.json"))
    # In the byte-level alphabet a character is a byte.
    sizes = [len(tokenizer.id_to_token(n) or "") for n in range(tokenizer.get_vocab_size())]
    (checkpoint,) = (run.path / "checkpoints").glob("step-*")
    weights = load_file(checkpoint / "model.safetensors")
    model = build_model(run.config, len(sizes))
    model.load_state_dict(weights)
    rotation = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0}
    host = hosts.neox(model, rotation) if scheme == "rope" else hosts.mpt(model)
    return Trained(run, host, documents, sizes, {})


@pytest.fixture(scope="module")
def rope(folder: Path) -> Trained:
    return make(folder, "rope")


@pytest.fixture(scope="module")
def alibi(folder: Path) -> Trained:
    return make(folder, "alibi")


@pytest.fixture(params=["rope", "alibi"])
def either(request: pytest.FixtureRequest) -> Trained:
    return request.getfixturevalue(request.param)


def fresh(trained: Trained, folder: Path) -> Trained:
    """A copy of the run without records, for a test of its own."""
    shutil.copytree(trained.run.path, folder / "run", ignore=shutil.ignore_patterns("eval"))
    return replace(trained, run=open_run(folder / "run"))


def ask(trained: Trained, *lengths: int, **settings: Any) -> dict[int, Record]:
    settings = {"target_context": LEAST, "threads": 1, **settings}
    config = EvalConfig(lengths=list(map(str, lengths)), device="cpu", **settings)
    found = evaluate(make_plan(open_run(trained.run.path), config), Display(quiet=True))
    return {record.length: record for record in found}


def kept(record: Record) -> dict[Key, tuple[float, int]]:
    """What is stored of each target: nats and bytes."""
    assert record.path is not None
    rows = pq.read_table(record.path.with_suffix(".parquet")).to_pylist()
    found = {(row["document"], row["position"], row["context"]): (row["nll"], row["bytes"]) for row in rows}
    assert len(found) == len(rows) == record.n_targets
    return found


def same(trained: Trained, record: Record, expected: dict[Key, float]) -> None:
    """Every target alone to 1e-5 nats; and what the record says of them all."""
    found = kept(record)
    assert found.keys() == expected.keys()
    assert max(abs(found[key][0] - nats) for key, nats in expected.items()) < EXACT
    sizes = {(d, n, c): trained.sizes[trained.documents[d][n]] for d, n, c in expected}
    assert {key: size for key, (_, size) in found.items()} == sizes
    assert record.status == "ok"
    assert record.n_targets == len(expected)
    assert record.n_documents == len({d for d, _, _ in expected})
    assert record.bytes == sum(sizes.values())
    assert record.nats == pytest.approx(math.fsum(expected.values()), abs=EXACT * math.sqrt(len(expected)))
    assert record.nats == pytest.approx(math.fsum(nats for nats, _ in found.values()), rel=1e-12)


# ---------------------------------------------------------------- which tokens are scored, in plain words


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


def drawn(trained: Trained, record: Record) -> list[tuple[int, int]]:
    """The tails that were stored beside a record, as (document, position of the last target)."""
    # Those of a curve are stored under the hash of the tails, for its own hash goes with its length.
    name = "*" if record.protocol == "curve" else record.targets_sha256[:16]
    (path,) = (trained.run.path / "eval").glob(f"targets-{name}.parquet")
    begins = np.cumsum([0, *map(len, trained.documents)])
    rows = pq.read_table(path).to_pylist()
    assert record.protocol == "curve" or pq.read_schema(path).metadata[b"sha256"].decode() == record.targets_sha256
    return [(row["document"], row["last_target"] - int(begins[row["document"]])) for row in rows]


@pytest.mark.parametrize("stride", [1, 2, 5])
@pytest.mark.parametrize("least", [37, LEAST, 101])
def test_every_token_that_qualifies_is_a_target(rope: Trained, tmp_path: Path, stride: int, least: int) -> None:
    own = fresh(rope, tmp_path)
    record = ask(own, CONTEXT, stride=stride, target_context=least, max_targets=10**6)[CONTEXT]
    tails, left = all_tails(own.documents, least, stride)
    assert drawn(own, record) == tails
    assert (record.n_targets, record.left_out) == (len(tails) * stride, left)
    assert (record.stride, record.target_context) == (stride, least)
    scored = {(d, n) for d, n, _ in kept(record)}
    assert scored == {(d, last - back) for d, last in tails for back in range(stride)}
    assert min(n for _, n in scored) >= least


@pytest.mark.parametrize("stride, most", [(1, 100), (2, 101), (5, 69), (5, 150)])
def test_drawn_targets_are_whole_tails_in_even_shares(rope: Trained, tmp_path: Path, stride: int, most: int) -> None:
    """None gives more than its share: whoever gives less than another has no more to give."""
    own = fresh(rope, tmp_path)
    record = ask(own, CONTEXT, stride=stride, max_targets=most)[CONTEXT]
    tails, left = all_tails(own.documents, LEAST, stride)
    chosen = drawn(own, record)
    assert len(tails) > most // stride == len(chosen) == len(set(chosen)) == record.n_targets // stride
    assert chosen == sorted(chosen)
    assert set(chosen) <= set(tails)
    assert record.left_out == left
    there, gave = Counter(d for d, _ in tails), Counter(d for d, _ in chosen)
    largest = max(gave.values())
    assert all(gave[d] == there[d] or gave[d] >= largest - 1 for d in there)
    assert chosen != [tail for d in sorted(gave) for tail in [t for t in tails if t[0] == d][: gave[d]]]


def test_a_draw_is_a_function_of_its_seed(rope: Trained, tmp_path: Path) -> None:
    own = fresh(rope, tmp_path)
    sets = [drawn(own, ask(own, CONTEXT, max_targets=64, seed=seed)[CONTEXT]) for seed in (0, 1, 0)]
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


# ---------------------------------------------------------------- whole cells, by brute force


@pytest.mark.parametrize("stride", [1, 2, 5])
def test_fixed_targets(either: Trained, tmp_path: Path, stride: int) -> None:
    """The same targets at 1x, 37 tokens and 3x: a window's end stays, only how far back it reaches changes."""
    own = fresh(either, tmp_path)
    records = ask(own, CONTEXT, 37, LEAST, stride=stride, max_targets=66)
    assert {r.targets_sha256 for r in records.values()} == {records[CONTEXT].targets_sha256}
    scored: list[dict[Key, float]] = []
    for length, record in records.items():
        expected = {}
        for d, last in drawn(own, record):
            for target in range(last - stride + 1, last + 1):
                first = last - length  # the window feeds the ``length`` tokens before its last target
                expected[d, target, target - first] = own.nats(own.documents[d], first, target)
        same(own, record, expected)
        assert {context for _, _, context in expected} == set(range(length - stride + 1, length + 1))
        scored.append(expected)
    at_1x, at_37, _ = ({key[:2]: nats for key, nats in one.items()} for one in scored)
    assert at_1x.keys() == at_37.keys()
    # An oracle that would not notice a window of another length could not tell anything.
    assert max(abs(at_1x[key] - at_37[key]) for key in at_1x) > 1e-3


@pytest.mark.parametrize("length", [5, CONTEXT, 37, 3 * CONTEXT])
def test_non_overlapping(either: Trained, tmp_path: Path, length: int) -> None:
    """Each document is cut into windows of ℓ, every token but its first is scored, ragged tails included."""
    own = fresh(either, tmp_path)
    record = ask(own, length, protocol="non-overlapping")[length]
    expected = {}
    for d, ids in enumerate(own.documents):
        first = 0
        while first + 1 < len(ids):
            for target in range(first + 1, min(first + length, len(ids) - 1) + 1):
                expected[d, target, target - first] = own.nats(ids, first, target)
            first += length
    assert len(expected) == sum(len(ids) - 1 for ids in own.documents)
    assert {c for _, _, c in expected} == set(range(1, length + 1))
    same(own, record, expected)
    assert (record.stride, record.target_context, record.max_targets) == (None, None, None)


@pytest.mark.parametrize("length", [CONTEXT, 37])
def test_stream(rope: Trained, tmp_path: Path, length: int) -> None:
    """Documents joined into one stream that is cut into windows of ℓ."""
    own = fresh(rope, tmp_path)
    record = ask(own, length, protocol="stream")[length]
    stream = [token for ids in own.documents for token in ids]
    places = [(d, n) for d, ids in enumerate(own.documents) for n in range(len(ids))]
    expected = {}
    for first in range(0, len(stream), length):
        for target in range(first + 1, min(first + length, len(stream) - 1) + 1):
            expected[(*places[target], target - first)] = own.nats(stream, first, target)
    assert len(expected) == len(stream) - 1
    same(own, record, expected)


@pytest.mark.parametrize("scheme, length", [("rope", CONTEXT), ("rope", 37), ("alibi", 23)])
def test_curve(request: pytest.FixtureRequest, tmp_path: Path, scheme: str, length: int) -> None:
    """Whole windows are scored: a target at context c has exactly the c tokens before it, from c = 1 to ℓ."""
    own = fresh(request.getfixturevalue(scheme), tmp_path)
    records = ask(own, length, protocol="curve", stride=13, max_targets=65)
    assert list(records) == [length]
    tails = drawn(own, records[length])
    assert len(tails) == 5
    expected = {}
    for d, last in tails:
        for context in range(1, length + 1):
            target = last - length + context
            expected[d, target, context] = own.nats(own.documents[d], target - context, target)
    same(own, records[length], expected)
    by_context = Counter(context for _, _, context in kept(records[length]))
    assert by_context == dict.fromkeys(range(1, length + 1), 5)


def test_curves_of_unlike_lengths_are_not_the_same_targets(rope: Trained, tmp_path: Path) -> None:
    """Their targets differ, and so must their hashes; and that of the tails alone."""
    own = fresh(rope, tmp_path)
    asked: dict[str, Any] = {"stride": 13, "max_targets": 65}
    curves = ask(own, CONTEXT, 37, protocol="curve", **asked)
    tails = ask(own, 37, **asked)
    assert len({r.targets_sha256 for r in [*curves.values(), *tails.values()]}) == 3
    assert {r.n_targets for r in tails.values()} == {65}


# ---------------------------------------------------------------- what must not matter


def alike(record: Record, other: Record) -> None:
    """The same targets, and float32 rounding between their numbers: see ONE_TARGET and OF_A_SUM."""
    found, values = kept(record), kept(other)
    assert found.keys() == values.keys()
    assert max(abs(found[key][0] - values[key][0]) for key in found) <= ONE_TARGET
    assert record.nats is not None
    assert other.nats == pytest.approx(record.nats, rel=OF_A_SUM)
    assert (other.bytes, other.n_targets, other.targets_sha256) == (
        record.bytes,
        record.n_targets,
        record.targets_sha256,
    )


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As every test has it, also after this one."""
    yield
    torch.set_num_threads(1)


PROTOCOLS: dict[str, dict[str, Any]] = {
    "fixed-targets": {"stride": 5, "max_targets": 200},
    "non-overlapping": {},
    "stream": {},
    "curve": {"stride": 5, "max_targets": 65},
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.usefixtures("one_thread")
def test_batches_threads_and_blocks_change_no_sum(
    either: Trained, tmp_path: Path, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows a batch, threads, the path that attention takes, queries a block, rows of logits at a time."""
    number = 0

    def number_of(**settings: Any) -> Record:
        nonlocal number
        number += 1
        (tmp_path / str(number)).mkdir()
        own = fresh(either, tmp_path / str(number))
        return ask(own, 37, protocol=protocol, **PROTOCOLS[protocol], **settings)[37]

    base = number_of()
    for settings in ({"batch_tokens": 1}, {"batch_tokens": 100}, {"batch_tokens": 10**6}):
        alike(base, number_of(**settings))
    alike(base, number_of(threads=2, batch_tokens=10**6))
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "LOGIT_ROWS", 7)
        alike(base, number_of())
    assert base.backend == ("fused" if sdpa.is_fast() else "tiles")
    with monkeypatch.context() as patch:
        patch.setattr(tiles, "FEWEST_QUERIES", 3)
        for most in (1, 10_000, 64 * 2**20):  # a head and three queries a tile, some, and all
            patch.setattr(tiles, "TILE_BYTES", most)
            with forced("tiles"):
                alike(base, number_of())
    for backend in ("dense", "blocks", "tiles", "fused"):
        with forced(backend):
            other = number_of()
        assert other.backend == backend
        alike(base, other)


@pytest.mark.parametrize("length", [37, 3 * CONTEXT])
def test_the_size_of_a_block_changes_no_sum(either: Trained, length: int) -> None:
    """Asked of the model itself, with and without all queries in the last layer."""
    (checkpoint,) = (either.run.path / "checkpoints").glob("step-*")
    model = build_model(either.run.config, len(either.sizes)).eval()
    model.load_state_dict(load_file(checkpoint / "model.safetensors"))
    ids = torch.tensor([d[: length + 1] for d in either.documents if len(d) > length])

    @torch.inference_mode()
    def losses(tail: int | None, **how: Any) -> torch.Tensor:
        hidden = model(ids[:, :-1], extension=NONE, tail=tail, **how)
        return nll(model.logits(hidden).flatten(0, 1), ids[:, -hidden.shape[1] :].flatten()).double()

    for tail in (None, 5):
        whole = losses(tail, backend="dense")
        assert len(whole) == len(ids) * (tail or length)
        for block in (1, 2, 5, 16, length - 1, length, 1000):
            part = losses(tail, block=block)
            assert float((part - whole).abs().max()) <= ONE_TARGET
            assert float(part.sum()) == pytest.approx(float(whole.sum()), rel=OF_A_SUM)


def test_workers_change_no_sum(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two jobs side by side with a thread each, and the first alone with all threads: processes of their own."""
    monkeypatch.setenv("PYTHONPATH", child_environment()["PYTHONPATH"])
    tiny = [o for o in TINY if not o.startswith("train.threads")]
    common = ["data=text", f"data.path={folder / 'a.jsonl'}", *tiny, "train.steps=3", "eval.max_targets=128"]
    found = {}
    for workers, seeds in ((2, [0, 1]), (1, [0])):
        values = {
            "schemes": ["rope"],
            "seeds": seeds,
            "overrides": [*common, f"eval.target_context={LEAST}"],
            "lengths": ["1x", "37", "3x"],
        }
        path = tmp_path / f"s{workers}.yaml"
        path.write_text(yaml.safe_dump(values), "utf-8")
        runs = tmp_path / f"runs{workers}"
        result = CliRunner().invoke(app, ["sweep", str(path), "--workers", str(workers), "--runs-dir", str(runs)])
        assert result.exit_code == 0, result.stderr
        found[workers] = {r.length: r for r in read_records(runs, []) if r.seed == 0}
    assert found[1].keys() == found[2].keys() == {CONTEXT, 37, LEAST}
    for length, record in found[1].items():
        alike(record, found[2][length])
