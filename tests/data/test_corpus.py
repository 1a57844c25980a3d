"""Tests of ``posx.data.corpus``."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from fixtures.corpora import many, python, sentence, silent, text_data, write_jsonl
from fixtures.texts import build, digest, size
from posx.config.schema import TokenizerConfig
from posx.data import corpus as corpora
from posx.data import tokenizer as tokens
from posx.data.corpus import open_corpus, prepare
from posx.data.splitting import split_documents
from posx.data.tokenizer import train_tokenizer
from posx.errors import PosxError

SPLITS = ("train", "validation", "test")


def plain_sha256(*parts: object) -> str:
    """Hash of bytes, or of JSON; each part is preceded by its length."""
    total = b""
    for part in parts:
        content = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode()
        total += f"{len(content)}:".encode() + content
    return hashlib.sha256(total).hexdigest()


def plain_pieces(texts: list[str]) -> list[str]:
    """Cut after white space, into about twenty pieces for all texts."""
    total = sum(len(text) for text in texts)
    pieces = []
    for text in texts:
        parts = (len(text) * 20 + total - 1) // total
        start = 0
        for part in range(1, parts + 1):
            end = len(text) * part // parts
            if part < parts:
                for index in range(end - 1, min(len(text), end + len(text) // (4 * parts))):
                    if re.match(r"\s", text[index]):
                        end = index + 1
                        break
            if text[start:end].strip():
                pieces.append(text[start:end])
            start = max(start, end)
    return pieces


def plain_corpus(texts: list[str], vocab_size: int) -> tuple[str, dict[str, bytes | str], dict[str, list[np.ndarray]]]:
    """The rules of version 1 in the simplest form, all in memory: key, facts, and ids by split."""
    key = plain_sha256(
        {"version": 1, "vocab_size": vocab_size}, [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    )
    unique = list(dict.fromkeys(texts))
    if len(unique) < 20:
        unique = list(dict.fromkeys(plain_pieces(unique)))
    ordered = sorted(unique, key=digest)
    splits: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for text in ordered:
        for name in ("test", "validation", "train"):
            enough = size(splits[name]) >= 0.10 * size(ordered) and len(splits[name]) >= 2
            if name == "train" or not enough:
                splits[name].append(text)
                break
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(splits["train"], trainer)
    ids = {name: [np.array(made.encode(text).ids, np.uint16) for text in part] for name, part in splits.items()}
    facts = {
        "sha256": plain_sha256(*[[plain_sha256(text.encode()) for text in splits[name]] for name in SPLITS]),
        "tokenizer": made.to_str(pretty=True),
    }
    return key[:24], facts, ids


def speech(words: int, seed: int) -> str:
    """Text that is difficult for pre-tokenisers: contractions, numbers, runs of white space, other scripts."""
    draw = np.random.default_rng(seed)
    odd = [
        "it's",
        "we'll",
        "'tis",
        "1,234.5",
        "a-b",
        "東京。",
        "Ärger",
        "👍🏽",
        "...",
        "\u00a0x",
        "e\u0301t",
        "x_1",
        "\x1c",
    ]
    gaps = [" "] * 8 + ["  ", "\n", " \n ", "\t", "\r\n", "\n\n\n", ", ", ". ", "' ", "\u2003"]
    return "".join(f"{draw.choice(odd + sentence(9, seed).split())}{draw.choice(gaps)}" for _ in range(words))


TEXTS = {
    "many": [speech(5 + (17 * n) % 90, n) for n in range(70)],
    "with copies": [speech(5 + (17 * n) % 90, n % 41) for n in range(70)],
    "twenty": [speech(30, n) for n in range(20)],
    "few": [speech(40 + 60 * n, n) for n in range(7)],
    "few with copies": [speech(90, n % 3) for n in range(9)],
    "one": [speech(1500, 1)],
    "one with repetitions": ["the same " * 900 + speech(400, 1)],
    "one without spaces": ["".join(chr(0x4E00 + (n * 7919) % 5003) for n in range(3000))],
    "uneven": [*(speech(2, n) for n in range(40)), *(speech(150, n) for n in range(40, 44))],
}


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("small", [False, True], ids=["whole", "in parts"])
def test_a_corpus_equals_that_of_a_simple_implementation_byte_for_byte(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, kind: str, small: bool
) -> None:
    if small:
        monkeypatch.setattr(tokens, "PART", 40)
        monkeypatch.setattr(tokens, "BATCH", 300)
    texts = TEXTS[kind]
    key, facts, ids = plain_corpus(texts, 400)
    made = build(write_jsonl(tmp_path / "a.jsonl", texts), 400)
    assert made.path == cache / "corpora" / key
    assert made.sha256 == facts["sha256"]
    assert (made.path / "tokenizer.json").read_text("utf-8") == facts["tokenizer"]
    for name in SPLITS:
        assert (made.path / f"{name}.bin").read_bytes() == np.concatenate(ids[name]).tobytes()
        offsets = np.load(made.path / f"{name}.offsets.npy")
        assert offsets.tolist() == [0, *np.cumsum([len(each) for each in ids[name]])]
    assert {p.name for p in made.path.iterdir()} == {
        *("corpus.json", "tokenizer.json", "token_bytes.npy"),
        *(f"{name}{suffix}" for name in SPLITS for suffix in (".bin", ".offsets.npy")),
    }


def test_the_tokenizer_of_a_large_corpus_is_trained_on_the_first_documents(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many whole documents as fit, in the order of their hashes. A note says so."""
    texts = many(60)
    path = write_jsonl(tmp_path / "a.jsonl", texts)
    train = split_documents(texts)[0]["train"]
    monkeypatch.setattr(corpora, "TOKENIZER_BYTES", size(train))
    all_of_it = build(path)
    assert all_of_it.notes == []
    for bound, fitting in [(size(train) - 1, len(train) - 1), (size(train[:9]), 9), (1, 1)]:
        shutil.rmtree(all_of_it.path)
        monkeypatch.setattr(corpora, "TOKENIZER_BYTES", bound)
        made = build(path)
        expected = train_tokenizer(train[:fitting], 300).to_str(pretty=True)
        assert (made.path / "tokenizer.json").read_text("utf-8") == expected
        assert [note for note in made.notes if f"the first {fitting} documents" in note]
        assert made.path == all_of_it.path
        assert made.sha256 == all_of_it.sha256


def test_tokens_and_offsets_on_disk_decode_to_the_documents(tmp_path: Path, cache: Path) -> None:
    texts = many(45)
    corpus = build(write_jsonl(tmp_path / "a.jsonl", texts))
    splits, _ = split_documents(texts)
    reader = Tokenizer.from_file(str(corpus.path / "tokenizer.json"))
    for name in SPLITS:
        ids = np.fromfile(corpus.path / f"{name}.bin", dtype=np.uint16)
        offsets = np.load(corpus.path / f"{name}.offsets.npy")
        assert offsets.dtype == np.int64
        assert (offsets[0], offsets[-1]) == (0, len(ids))
        parts = [ids[a:b] for a, b in pairwise(offsets)]
        assert [reader.decode(part.tolist()) for part in parts] == splits[name]
        opened = corpus.splits[name]
        assert np.array_equal(opened.tokens, ids)
        assert opened.lengths.tolist() == [len(part) for part in parts]
        assert corpus.facts["splits"][name] == {
            "documents": len(parts),
            "tokens": len(ids),
            "bytes": size(splits[name]),
        }
        assert int(corpus.token_bytes[ids].astype(int).sum()) == size(splits[name])
    assert corpus.vocab_size == 300 == reader.get_vocab_size()
    assert corpus.tokenizer_sha256 == hashlib.sha256((corpus.path / "tokenizer.json").read_bytes()).hexdigest()


def test_a_note_says_that_a_text_is_too_small_for_the_vocabulary(tmp_path: Path, cache: Path) -> None:
    corpus = build(write_jsonl(tmp_path / "a.jsonl", many(30)), vocab_size=5000)
    assert 256 < corpus.vocab_size < 5000
    assert [n for n in corpus.notes if f"only {corpus.vocab_size} tokens" in n and "vocab_size=5000" in n]


def test_the_tokenizer_is_trained_only_on_training_documents(tmp_path: Path, cache: Path) -> None:
    texts = many(40)
    splits, _ = split_documents(texts)
    before = build(write_jsonl(tmp_path / "a.jsonl", texts))
    for held in ("test", "validation"):
        other = _changed(texts, splits[held][0], held)
        after = build(write_jsonl(tmp_path / "b.jsonl", other))
        assert after.tokenizer_sha256 == before.tokenizer_sha256
        assert after.sha256 != before.sha256
    other = _changed(texts, splits["train"][0], "train")
    assert build(write_jsonl(tmp_path / "c.jsonl", other)).tokenizer_sha256 != before.tokenizer_sha256


def _changed(texts: list[str], old: str, split: str) -> list[str]:
    """Replace ``old`` by another text of the same size and split, without moving other texts."""
    others = {name: set(part) - {old} for name, part in split_documents(texts)[0].items()}
    for number in range(2000):
        new = (f"{number} " + "zebra quagga " * len(old)).encode()[: len(old.encode())].decode()
        candidate = [new if text == old else text for text in texts]
        parts = {name: set(part) - {new} for name, part in split_documents(candidate)[0].items()}
        if parts == others:
            return candidate
    raise AssertionError("no suitable text was found")


def test_slow_work_reports_progress(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "SECONDS_BETWEEN_LINES", -1.0)
    said: list[str] = []
    path = write_jsonl(tmp_path / "a.jsonl", ["x" * 50_000 + f" {n}" for n in range(40)])
    prepare(text_data(path), TokenizerConfig(300), said.append)
    assert f"Reading {path}: 2 MB" in said
    assert re.fullmatch(r"Preparing the corpus .*, only once.*", said[40])
    assert "Training the tokenizer: 1 of 2 MB" in said
    assert "Tokenising the train split: 2 of 2 MB" in said


def interrupted(*arguments: object, **more: object) -> Iterator[np.ndarray]:
    yield np.zeros(3, np.uint16)
    raise KeyboardInterrupt


@pytest.mark.parametrize("stage", ["documents", "train_tokenizer", "encode", "write_json", "write_text"])
def test_an_interrupted_build_leaves_nothing(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    data = text_data(write_jsonl(tmp_path / "a.jsonl", many(30)))

    def stop(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(corpora, stage, interrupted if stage == "encode" else stop)
        patch.setattr(corpora, "LARGE_BYTES", 0)
        patch.setattr(corpora.time, "time_ns", lambda: 2**62)
        with pytest.raises(KeyboardInterrupt):
            prepare(data, TokenizerConfig(300), silent)
    left = [path for path in cache.rglob("*") if path.is_file() or path.name.startswith(".")]
    if stage == "write_text":  # called after the corpus is complete
        assert open_corpus(left[0].parent).vocab_size == 300
        assert {path.parent for path in left} == {left[0].parent}
    else:
        assert left == []
    assert prepare(data, TokenizerConfig(300), silent).vocab_size == 300


FULL_DISK = """
import resource, sys
from posx.config.schema import DataConfig, TokenizerConfig
from posx.data.corpus import prepare
from posx.errors import PosxError
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    prepare(DataConfig(name="text", source="text", path=sys.argv[1]), TokenizerConfig(300), print)
except PosxError as error:
    print(error.code, error, error.hint)
"""


@pytest.mark.parametrize("room", [10_000, 210_000])
def test_a_full_disk_is_reported(tmp_path: Path, cache: Path, room: int) -> None:
    """The disk is full while documents are stored, or while their tokens are written."""
    path = write_jsonl(tmp_path / "a.jsonl", ["".join(map(chr, range(200, 400))) * 13 + str(n) for n in range(40)])
    done = python(FULL_DISK, path, room)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("2 The corpus cannot be written to "), done.stdout
    assert "POSX_CACHE" in done.stdout
    assert [p for p in cache.rglob("*") if p.name != "corpora"] == []


def test_a_file_that_changes_while_it_is_read_is_reported(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", many(30))
    passes = iter([many(30), many(31)])
    monkeypatch.setattr(corpora, "documents", lambda data: iter(next(passes)))
    with pytest.raises(PosxError, match="changed while it was being read"):
        build(path)
    assert list((cache / "corpora").iterdir()) == []


MEMORY = """
import sys
from pathlib import Path
from posx.config.schema import DataConfig, TokenizerConfig
from posx.data.corpus import prepare
from posx.data.sources import documents
import pyarrow.parquet

def memory(field):
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field)]
    return int(line.split()[1]) / 1000

data = DataConfig(name="text", source="text", path=sys.argv[1])
idle = memory("VmRSS")
if sys.argv[2] == "prepare":
    total = sum(part["bytes"] for part in prepare(data, TokenizerConfig(1000), print).facts["splits"].values())
else:
    total = sum(len(text.encode()) for text in documents(data))
print(total / 1e6, memory("VmHWM") - idle)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 60 MB of text in 3,000 documents, as .jsonl and as one row group of Parquet.

    It has few distinct, long words, so that there are few tokens: memory is used by the text.
    """
    folder = tmp_path_factory.mktemp("large")
    draw = np.random.default_rng(0)
    words = ["".join(draw.choice(list("etaoinshrdlu"), 60)) for _ in range(40)]
    texts = [f"{n} " + " ".join(draw.choice(words, 328)) for n in range(3000)]
    write_jsonl(folder / "a.jsonl", texts)
    pq.write_table(pa.table({"text": texts}), folder / "a.parquet", use_dictionary=False, write_batch_size=64)
    return folder


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
@pytest.mark.parametrize("what, name", [("prepare", "a.jsonl"), ("read", "a.jsonl"), ("read", "a.parquet")])
def test_memory_does_not_grow_with_the_text(large: Path, cache: Path, what: str, name: str) -> None:
    """Preparing 60 MB takes about 30 MB more than the idle process; with all text in memory, 180 MB."""
    done = python(MEMORY, large / name, what, OMP_NUM_THREADS="1", RAYON_NUM_THREADS="2")
    assert done.returncode == 0, done.stderr
    megabytes, peak = map(float, done.stdout.splitlines()[-1].split())
    assert megabytes > 59
    assert peak < 90


def test_corpus_facts_are_plain_json(tmp_path: Path, cache: Path) -> None:
    corpus = build(write_jsonl(tmp_path / "a.jsonl", [sentence(900, 1)]))
    facts = json.loads((corpus.path / "corpus.json").read_text("utf-8"))
    assert facts == corpus.facts
    assert "same documents" in " ".join(corpus.notes)
