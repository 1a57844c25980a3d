"""A whole evaluation cell again, by other people's models and plain loops.

The tokens come from the corpus folder by numpy, the weights from the checkpoint into transformers, and each
target gets a forward pass of its own over its own context. Of posx's windows, batches, tails and sums nothing is
used.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from data_helpers import corpus_of, sentence, tiny_config, trained, write_jsonl
from posx.config.schema import EvalConfig
from posx.data.corpus import split_documents
from posx.errors import PosxError
from posx.evaluation.evaluate import evaluate
from posx.evaluation.plan import make_plan
from posx.models.build import build_model
from posx.results.aggregate import aggregate
from posx.results.records import Record, read_record, read_records
from posx.runs.directory import Run, open_run
from posx.utils.console import Display
from posx.utils.files import sha256_file
from posx.verify.oracles import hosts

CONTEXT = 16
SPLIT = "test"


@dataclass(frozen=True)
class Trained:
    """A run, and what the oracle reads of it: ids of each test document, bytes of each token."""

    run: Run
    documents: list[list[int]]
    token_bytes: list[int]


def make(folder: Path, scheme: str) -> Trained:
    """Thirty steps on documents of some 30 to 130 tokens; enough that positions matter to the loss."""
    path = write_jsonl(folder / "a.jsonl", [sentence(12 + (13 * n) % 53, n) for n in range(36)])
    config = tiny_config(path, f"scheme={scheme}", "train.steps=30", f"data.cache_dir={folder / 'cache'}")
    run = trained(folder / "runs", scheme, config)
    corpus = corpus_of(config).path
    ids, offsets = np.fromfile(corpus / f"{SPLIT}.bin", np.uint16), np.load(corpus / f"{SPLIT}.offsets.npy")
    documents = [ids[offsets[d] : offsets[d + 1]].tolist() for d in range(len(offsets) - 1)]
    tokenizer = Tokenizer.from_file(str(run.path / "tokenizer.json"))
    # In the byte-level alphabet a character is a byte.
    sizes = [len(tokenizer.id_to_token(n) or "") for n in range(tokenizer.get_vocab_size())]
    return Trained(run, documents, sizes)


@pytest.fixture(scope="module")
def rope(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return make(tmp_path_factory.mktemp("rope"), "rope")


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return make(tmp_path_factory.mktemp("learned"), "learned")


def host_of(run: Run, factor: float = 1.0) -> torch.nn.Module:
    """The run's weights in GPT-NeoX (rope, its positions divided by ``factor``) or GPT-2 (learned)."""
    (folder,) = (run.path / "checkpoints").glob("step-*")
    weights = load_file(folder / "model.safetensors")
    model = build_model(run.config, len(weights["tokens.weight"]))
    model.load_state_dict(weights)
    if run.config.scheme["name"] == "learned":
        return hosts.gpt2(model, weights["scheme.table"])
    rotation: dict[str, Any] = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0}
    if factor != 1:
        rotation |= {"rope_type": "linear", "factor": factor}
    return hosts.neox(model, rotation)


Key = tuple[int, int]


class Target(NamedTuple):
    """What the oracle finds for one target."""

    nats: float
    context: int  # tokens that the model saw before it


class Row(NamedTuple):
    """What is kept of one target beside the record."""

    nats: float
    bytes: int
    context: int


@torch.no_grad()
def target_of(host: torch.nn.Module, context: list[int], target: int) -> Target:
    """One token after its context, in float64 from the logits on."""
    logits = host(input_ids=torch.tensor([context])).logits[0, -1].double()
    return Target(float(torch.logsumexp(logits, 0) - logits[target]), len(context))


def by_fixed_targets(trained: Trained, length: int, stride: int, least: int, factor: float = 1.0) -> dict[Key, Target]:
    """By (document, position): all targets with ``least`` tokens before them."""
    host, found = host_of(trained.run, factor), {}
    for d, ids in enumerate(trained.documents):
        position = least
        while position + stride <= len(ids):
            last = position + stride - 1
            for target in range(position, position + stride):
                found[d, target] = target_of(host, ids[last - length : target], ids[target])
            position += stride
    return found


def by_non_overlapping(trained: Trained, length: int) -> dict[Key, Target]:
    host, found = host_of(trained.run), {}
    for d, ids in enumerate(trained.documents):
        for target in range(1, len(ids)):
            start = (target - 1) // length * length
            found[d, target] = target_of(host, ids[start:target], ids[target])
    return found


def by_stream(trained: Trained, length: int) -> dict[Key, Target]:
    host, found = host_of(trained.run), {}
    places = [(d, n) for d, ids in enumerate(trained.documents) for n in range(len(ids))]
    ids = [token for document in trained.documents for token in document]
    for target in range(1, len(ids)):
        start = (target - 1) // length * length
        found[places[target]] = target_of(host, ids[start:target], ids[target])
    return found


def ask(run: Run, lengths: list[str], **settings: Any) -> list[Record]:
    config = EvalConfig(lengths=lengths, device="cpu", threads=1, **settings)
    return evaluate(make_plan(open_run(run.path), config), Display(quiet=True))


def fresh(trained: Trained, folder: Path) -> Trained:
    """A copy of the run without records, for a test of its own."""
    shutil.copytree(trained.run.path, folder / "run", ignore=shutil.ignore_patterns("eval"))
    return Trained(open_run(folder / "run"), trained.documents, trained.token_bytes)


def cell(records: list[Record], length: int, extension: str = "none") -> Record:
    (found,) = (r for r in records if (r.length, r.extension) == (length, extension))
    return found


def stored(run: Run, record: Record) -> dict[Key, Row]:
    """By (document, position), as kept beside the record."""
    for path in (run.path / "eval").glob("*.json"):
        if read_record(path) == record:
            rows = pq.read_table(path.with_suffix(".parquet")).to_pylist()
            assert len({(row["document"], row["position"]) for row in rows}) == len(rows)
            return {(r["document"], r["position"]): Row(r["nll"], r["bytes"], r["context"]) for r in rows}
    raise AssertionError("the record is not in the run's eval folder")


def same(trained: Trained, record: Record, expected: dict[Key, Target]) -> None:
    """Every target alone to 1e-5 nats, with what it saw, and the sums of the record."""
    kept = stored(trained.run, record)
    assert kept.keys() == expected.keys()
    worst = max(abs(kept[key].nats - target.nats) for key, target in expected.items())
    assert worst < 1e-5
    sizes = {(d, n): trained.token_bytes[trained.documents[d][n]] for d, n in expected}
    assert {key: row.bytes for key, row in kept.items()} == sizes
    assert {key: row.context for key, row in kept.items()} == {key: t.context for key, t in expected.items()}
    assert record.status == "ok"
    assert record.nats == pytest.approx(math.fsum(t.nats for t in expected.values()), abs=1e-5 * len(expected))
    assert record.bytes == sum(sizes.values())
    assert record.n_targets == len(expected)
    assert record.n_documents == len({d for d, _ in expected})


# ---------------------------------------------------------------- whole cells


@pytest.mark.parametrize("stride, least", [(1, 52), (5, 37)])
def test_fixed_targets_of_rope(rope: Trained, tmp_path: Path, stride: int, least: int) -> None:
    own = fresh(rope, tmp_path)
    records = ask(own.run, ["1x", "23", "37"], stride=stride, target_context=least)
    expected = {length: by_fixed_targets(own, length, stride, least) for length in (16, 23, 37)}
    assert len(expected[16]) >= 64
    for length, targets in expected.items():
        same(own, cell(records, length), targets)
    (digest,) = {r.targets_sha256 for r in records}
    assert len(digest) == 64
    # The oracle would not notice a window of another length if it made no difference.
    assert max(abs(expected[16][k].nats - expected[23][k].nats) for k in expected[16]) > 1e-3


def test_the_window_of_an_extension_holds_too(rope: Trained, tmp_path: Path) -> None:
    own = fresh(rope, tmp_path)
    records = ask(own.run, ["2x"], extensions=["pi"], stride=3, target_context=40)
    same(own, cell(records, 32, "pi"), by_fixed_targets(own, 32, 3, 40, factor=2.0))


def test_fixed_targets_of_learned(learned: Trained, tmp_path: Path) -> None:
    own = fresh(learned, tmp_path)
    records = ask(own.run, ["1x", "9"], stride=4, target_context=33, batch_tokens=50)
    for length in (9, 16):
        same(own, cell(records, length), by_fixed_targets(own, length, 4, 33))


@pytest.mark.parametrize("length", [16, 41, 150])
@pytest.mark.parametrize("protocol, oracle", [("non-overlapping", by_non_overlapping), ("stream", by_stream)])
def test_protocols_that_score_every_token(
    rope: Trained,
    tmp_path: Path,
    protocol: str,
    oracle: Callable[[Trained, int], dict[Key, Target]],
    length: int,
) -> None:
    own = fresh(rope, tmp_path)
    records = ask(own.run, [str(length)], protocol=protocol)
    same(own, cell(records, length), oracle(own, length))


# ---------------------------------------------------------------- what must make no difference


@pytest.mark.parametrize("protocol", ["fixed-targets", "non-overlapping"])
def test_batch_tokens_change_rounding_alone(rope: Trained, tmp_path: Path, protocol: str) -> None:
    settings: dict[str, Any] = {"protocol": protocol, "stride": 3, "target_context": 40}
    found = []
    for number, batch in enumerate((1, 100, 16384)):
        (tmp_path / str(number)).mkdir()
        own = fresh(rope, tmp_path / str(number))
        record = cell(ask(own.run, ["33"], batch_tokens=batch, **settings), 33)
        found.append((record, stored(own.run, record)))
    first, kept = found[0]
    for record, values in found[1:]:
        assert values.keys() == kept.keys()
        assert max(abs(values[k].nats - kept[k].nats) for k in kept) < 5e-6
        assert record.nats == pytest.approx(first.nats, rel=1e-6)
        assert (record.bytes, record.targets_sha256) == (first.bytes, first.targets_sha256)


def test_the_same_targets_at_every_length(rope: Trained, tmp_path: Path) -> None:
    """Drawn ones too, in the same order."""
    own = fresh(rope, tmp_path)
    records = ask(own.run, ["1x", "2x", "40"], stride=2, target_context=40, max_targets=50, seed=3)
    assert sorted(r.length for r in records) == [16, 32, 40]
    keys = [list(stored(own.run, r)) for r in records]
    assert keys[0] == keys[1] == keys[2]
    assert len(keys[0]) == 50 == records[0].n_targets
    assert all(position >= 40 for _, position in keys[0])
    assert len({r.targets_sha256 for r in records}) == 1
    assert len({r.bytes for r in records}) == 1
    other = cell(ask(own.run, ["1x"], stride=2, target_context=40, max_targets=50, seed=4), 16)
    assert list(stored(own.run, other)) != keys[0]
    assert other.targets_sha256 != records[0].targets_sha256


def test_the_control_is_there_unasked(rope: Trained, tmp_path: Path) -> None:
    own = fresh(rope, tmp_path)
    records = ask(own.run, ["2x"], extensions=["pi"], target_context=40)
    assert {(r.length, r.extension) for r in records} == {(32, "pi"), (16, "none")}
    control = cell(records, 16)
    kept = {read_record(p).length: read_record(p) for p in (own.run.path / "eval").glob("*.json")}
    assert kept[16] == control
    assert control.nats == pytest.approx(math.fsum(t.nats for t in by_fixed_targets(own, 16, 1, 40).values()), rel=1e-6)


# ---------------------------------------------------------------- records


def change_weights(run: Run) -> str:
    """As further training would: another checkpoint, with a manifest of its own. Returns its sha256."""
    (folder,) = run.checkpoints.iterdir()
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights["norm.weight"] = weights["norm.weight"] * 1.5
    save_file(weights, path)
    about = json.loads((folder / "manifest.json").read_text())
    about[path.name] = {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    (folder / "manifest.json").write_text(json.dumps(about))
    return about[path.name]["sha256"]


def test_records_are_kept_until_the_weights_change(rope: Trained, tmp_path: Path) -> None:
    own = fresh(rope, tmp_path)
    settings: dict[str, Any] = {"stride": 3, "target_context": 40}
    first = cell(ask(own.run, ["2x"], **settings), 32)
    files = {p: p.stat().st_mtime_ns for p in (own.run.path / "eval").iterdir()}
    assert ask(own.run, ["2x"], **settings) == ask(own.run, ["2x"], batch_tokens=64, **settings)
    assert {p: p.stat().st_mtime_ns for p in (own.run.path / "eval").iterdir()} == files

    digest = change_weights(own.run)
    again = cell(ask(own.run, ["2x"], **settings), 32)
    assert again.checkpoint_sha256 == digest != first.checkpoint_sha256
    same(own, again, by_fixed_targets(own, 32, 3, 40))


def test_a_table_shows_the_newest_weights(rope: Trained, tmp_path: Path) -> None:
    """Evaluated half way and again at the end, a run has records of both; only the last are its own."""
    own, lengths = fresh(rope, tmp_path), ["1x", "18", "20", "24", "28", "2x"]
    ask(own.run, lengths, target_context=40)
    change_weights(own.run)
    newest = {r.length: r for r in ask(own.run, lengths, target_context=40)}
    cells = aggregate(read_records(tmp_path, []))
    control = newest[CONTEXT].nats_per_token
    assert control is not None
    assert {c.length: c.nats_per_token for c in cells} == {n: r.nats_per_token for n, r in newest.items()}
    for found in cells:
        expected = newest[found.length].nats_per_token
        assert expected is not None
        assert found.delta == pytest.approx(expected - control, abs=1e-9)


@pytest.mark.parametrize("change", ["split", "stride", "target_context", "seed", "max_targets", "protocol"])
def test_another_question_gets_another_record(rope: Trained, tmp_path: Path, change: str) -> None:
    own = fresh(rope, tmp_path)
    asked: dict[str, Any] = {"stride": 3, "target_context": 40, "seed": 0, "max_targets": 60, "split": SPLIT}
    other = {"split": "validation", "stride": 2, "target_context": 41, "seed": 1, "max_targets": 57}
    other["protocol"] = "non-overlapping"
    first, second = (ask(own.run, ["1x"], **a)[0] for a in (asked, {**asked, change: other[change]}))
    assert second.targets_sha256 != first.targets_sha256
    if change != "seed":  # a record's seed is that of its run
        assert (getattr(first, change), getattr(second, change)) == (
            asked.get(change, "fixed-targets"),
            other[change],
        )
    assert len(list((own.run.path / "eval").glob("*.json"))) == 2


def test_changed_text_is_refused(tmp_path: Path) -> None:
    """The test split of another text may hold what the run was trained on."""
    own = make(tmp_path, "nope")
    path = Path(own.run.config.data.path or "")
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join([*lines[:-1], lines[-1].replace("No ", "Number ")]), "utf-8")
    with pytest.raises(PosxError, match="trained on"):
        ask(own.run, ["1x"], target_context=40)
    assert not list((own.run.path / "eval").glob("*.json"))


def test_learned_past_its_table_is_a_record_with_a_reason(learned: Trained, tmp_path: Path) -> None:
    own = fresh(learned, tmp_path)
    records = ask(own.run, ["1x", "2x"], target_context=40)
    past, control = cell(records, 32), cell(records, 16)
    assert (past.status, past.nats) == ("unsupported", None)
    assert "16" in past.reason
    assert "interpolate" in past.reason
    assert control.status == "ok"
    assert past.targets_sha256 == control.targets_sha256
    assert [r for r in map(read_record, (own.run.path / "eval").glob("*.json")) if r == past]


def test_learned_past_its_table_alone_is_an_error(learned: Trained, tmp_path: Path) -> None:
    own = fresh(learned, tmp_path)
    for _ in range(2):  # computed, and kept from before
        with pytest.raises(PosxError, match="interpolate") as caught:
            ask(own.run, ["2x"], target_context=40)
        assert caught.value.code == 2
    statuses = {r.length: r.status for r in map(read_record, (own.run.path / "eval").glob("*.json"))}
    assert statuses == {16: "ok", 32: "unsupported"}


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"lengths": ["2x"], "target_context": 20}, "target_context=20"),
        ({"lengths": ["4"], "stride": 5}, "eval.stride=5"),
        ({"lengths": ["1x"], "stride": 17}, "eval.stride=17"),
        ({"lengths": ["4x"], "extensions": ["interpolate"]}, "interpolate"),
        ({"lengths": ["500"]}, "eval.target_context="),
    ],
)
def test_what_cannot_be_is_refused(rope: Trained, tmp_path: Path, settings: dict[str, Any], sentence: str) -> None:
    own = fresh(rope, tmp_path)
    with pytest.raises(PosxError) as caught:
        ask(own.run, **settings)
    assert sentence in str(caught.value)
    assert caught.value.code == 2
    assert not list((own.run.path / "eval").glob("*.json"))


def follow_the_advice(run: Run, lengths: list[str]) -> None:
    """Too few targets: where the sentence names a context, an evaluation with it goes through."""
    with pytest.raises(PosxError) as caught:
        ask(run, lengths)
    if "eval.target_context=" in caught.value.hint:
        advised = caught.value.hint.split("eval.target_context=")[1].split(".")[0]
        records = ask(run, [advised], target_context=int(advised))
        assert cell(records, int(advised)).n_targets >= 64
    else:
        assert "longer documents" in caught.value.hint


def test_the_advice_for_too_short_documents_can_be_followed(rope: Trained, tmp_path: Path) -> None:
    follow_the_advice(fresh(rope, tmp_path).run, ["500"])


def test_the_advice_holds_where_test_documents_are_shorter_than_the_context(tmp_path: Path) -> None:
    """Long documents to train on, and a test split where not even the 1x control has its targets."""
    short = [f"{n:04d} ab cd ef" for n in range(400)]
    texts = next(
        texts
        for n in range(1000, 1100)
        if (texts := [*short, sentence(60, n)])[-1] in split_documents(texts)[0]["train"]
    )
    config = tiny_config(
        write_jsonl(tmp_path / "a.jsonl", texts), "train.steps=1", f"data.cache_dir={tmp_path / 'cache'}"
    )
    assert corpus_of(config).splits[SPLIT].lengths.max() <= CONTEXT
    follow_the_advice(trained(tmp_path / "runs", "short", config), ["1x"])
