"""Splits, tokens, the cache."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from data_helpers import child_environment, many, python, sentence, silent, text_data, write_jsonl
from posx.config.schema import DataConfig, TokenizerConfig
from posx.data import corpus as corpora
from posx.data import tokenizer as tokens
from posx.data.corpus import Corpus, open_corpus, prepare, split_documents
from posx.data.tokenizer import encode, load_tokenizer, token_bytes, train_tokenizer
from posx.errors import PosxError

SPLITS = ("train", "validation", "test")


def build(path: Path, vocab_size: int = 300) -> Corpus:
    return prepare(text_data(path), TokenizerConfig(vocab_size), silent)


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8")).digest()


def joined(splits: dict[str, list[str]]) -> list[str]:
    return list(chain.from_iterable(splits.values()))


def size(texts: list[str]) -> int:
    return sum(len(text.encode("utf-8")) for text in texts)


# ---------------------------------------------------------------- splits


@given(
    lengths=st.lists(st.integers(1, 400), min_size=20, max_size=60),
    draw=st.randoms(use_true_random=False),
)
@settings(max_examples=40, deadline=None)
def test_held_out_splits_are_the_smallest_that_do(lengths: list[int], draw: object) -> None:
    """10 % of the bytes and two documents each, taken in the order of the content's sha256."""
    texts = [f"{n} " + "é" * length for n, length in enumerate(lengths)]
    ordered = sorted(texts, key=digest)
    draw.shuffle(texts)  # type: ignore[attr-defined]
    try:
        splits, notes = split_documents(texts)
    except PosxError:
        # Only where nothing was left: all but one document are not enough for two held-out splits.
        assert size(ordered[:-1]) * 10 < 2 * size(ordered) + 10 * max(map(len, map(str.encode, texts)))
        return
    assert notes == []
    assert splits["test"] + splits["validation"] + splits["train"] == ordered
    for name in ("test", "validation"):
        held = splits[name]
        assert len(held) >= 2
        assert 10 * size(held) >= size(texts)
        assert len(held) == 2 or 10 * size(held[:-1]) < size(texts), "one document less would have done"
    assert splits["train"]


def test_copies_count_once_and_are_noted() -> None:
    texts = many(30)
    splits, notes = split_documents(texts + texts[:3] + texts[:1])
    assert splits == split_documents(texts)[0]
    assert len(notes) == 1
    assert notes[0].startswith("4 ")
    assert "copies" in notes[0]


def test_twenty_documents_are_not_cut() -> None:
    texts = many(20)
    splits, notes = split_documents(texts)
    assert sorted(joined(splits)) == sorted(texts)
    assert notes == []


@pytest.mark.parametrize("count", [1, 2, 3, 7, 19])
def test_few_documents_are_cut_into_contiguous_pieces(count: int) -> None:
    """Put together again in their order, the pieces are the text; and the note says what was done."""
    texts = [" ".join(f"w{n}-{k}" for k in range(200 + 37 * n)) + " " for n in range(count)]
    splits, notes = split_documents(texts)
    pieces = joined(splits)
    assert 20 <= len(pieces) <= 20 + count
    for text in texts:
        # Every word is its own, so that a piece has one place.
        own = sorted((piece for piece in pieces if piece in text), key=text.index)
        assert "".join(own) == text
        assert all(piece[-1].isspace() for piece in own), "a cut stands behind white space"
    sizes = [size([piece]) for piece in pieces]
    assert max(sizes) < 2.5 * sum(sizes) / len(sizes)
    (note,) = notes
    for part in (f"only {count} document", f"{len(pieces)} contiguous pieces", "same documents"):
        assert part in note


def test_text_without_white_space_is_cut_too() -> None:
    """Chinese and Japanese have none."""
    text = "".join(chr(0x4E00 + (n * 7919) % 5003) for n in range(3000))  # no sign comes twice
    splits, _ = split_documents([text])
    pieces = joined(splits)
    assert "".join(sorted(pieces, key=text.index)) == text
    assert min(map(len, splits.values())) >= 2


def test_too_little_text_is_a_sentence() -> None:
    with pytest.raises(PosxError, match="nothing to train on"):
        split_documents(["word"])


# ---------------------------------------------------------------- the rules, all in memory


def plain_sha256(*parts: object) -> str:
    """Of bytes, or of JSON; each with its length before it."""
    total = b""
    for part in parts:
        content = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode()
        total += f"{len(content)}:".encode() + content
    return hashlib.sha256(total).hexdigest()


def plain_pieces(texts: list[str]) -> list[str]:
    """Cut behind white space, twenty cuts for all texts."""
    total = sum(len(text) for text in texts)
    pieces = []
    for text in texts:
        parts = (len(text) * 20 + total - 1) // total
        start = 0
        for part in range(1, parts + 1):
            end = len(text) * part // parts
            if part < parts:
                for place in range(end - 1, min(len(text), end + len(text) // (4 * parts))):
                    if re.match(r"\s", text[place]):
                        end = place + 1
                        break
            if text[start:end].strip():
                pieces.append(text[start:end])
            start = max(start, end)
    return pieces


def plain_corpus(texts: list[str], vocab_size: int) -> tuple[str, dict[str, bytes | str], dict[str, list[np.ndarray]]]:
    """The rules of version 1 in the shortest way, holding everything: key, facts, and ids by split."""
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
    """What pre-tokenisers stumble over: contractions, numbers, runs of white space, other scripts."""
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
    "one that repeats": ["the same " * 900 + speech(400, 1)],
    "one without spaces": ["".join(chr(0x4E00 + (n * 7919) % 5003) for n in range(3000))],
    "uneven": [*(speech(2, n) for n in range(40)), *(speech(150, n) for n in range(40, 44))],
}


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("small", [False, True], ids=["whole", "in parts"])
def test_a_corpus_is_byte_for_byte_that_of_the_plain_rules(
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


def test_a_large_corpus_has_its_tokenizer_from_the_first_documents(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole ones, as many as fit, in the order of their hashes; and it is noted."""
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


# ---------------------------------------------------------------- tokens


@functools.cache
def _tokenizer() -> tuple[Tokenizer, np.ndarray]:
    """One whose merges join parts of characters, or byte lengths would be easy."""
    made = train_tokenizer(["東京東京 Ärger über naïve 👍🏽👍🏽 the the then " * 9, *many(20)], 400)
    assert any(len(token) == 2 and token[0] == "æ" for token in made.get_vocab()), "東 is 0xe6 0x9d 0xb1"
    return made, token_bytes(made)


@given(st.text(max_size=80))
@settings(max_examples=150, deadline=None)
def test_any_text_survives_and_its_bytes_add_up(text: str) -> None:
    """Decoding gives the text again, and the tokens' lengths add up to its UTF-8 bytes."""
    tokenizer, lengths = _tokenizer()
    (ids,) = encode(tokenizer, [text])
    assert tokenizer.decode(ids.tolist(), skip_special_tokens=False) == text
    assert int(lengths[ids].sum()) == len(text.encode("utf-8"))


@given(st.lists(st.text(st.sampled_from("ab é1_.,'s\n\t \u00a0\x1c東"), max_size=60), max_size=4), st.integers(1, 9))
@settings(max_examples=300, deadline=None)
def test_a_document_cut_into_parts_has_the_tokens_of_the_whole(texts: list[str], part: int) -> None:
    tokenizer, _ = _tokenizer()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "PART", part)
        patch.setattr(tokens, "BATCH", 3 * part)
        found = [ids.tolist() for ids in encode(tokenizer, iter(texts))]
    assert found == [tokenizer.encode(text).ids for text in texts]


@pytest.mark.parametrize(
    "text", ["  two  spaces ", "\u00e9 and e\u0301", "\ufb01", "\x00\x7f", "\r\n\n", "<|endoftext|>", "\ufeff"]
)
def test_nothing_is_normalised(text: str) -> None:
    tokenizer, _ = _tokenizer()
    (ids,) = encode(tokenizer, [text])
    assert tokenizer.decode(ids.tolist(), skip_special_tokens=False) == text


def test_the_same_documents_give_the_same_tokenizer() -> None:
    first, second = (train_tokenizer(iter(many(20)), 350).to_str() for _ in range(2))
    assert first == second


def test_tokens_and_offsets_on_disk_are_the_documents(tmp_path: Path, cache: Path) -> None:
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


def test_a_text_too_small_for_the_vocabulary_is_noted(tmp_path: Path, cache: Path) -> None:
    corpus = build(write_jsonl(tmp_path / "a.jsonl", many(30)), vocab_size=5000)
    assert 256 < corpus.vocab_size < 5000
    assert [n for n in corpus.notes if f"only {corpus.vocab_size} tokens" in n and "vocab_size=5000" in n]


def test_the_tokenizer_sees_training_documents_alone(tmp_path: Path, cache: Path) -> None:
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
    """``old`` replaced by another text of as many bytes that falls into the same split, others as they were."""
    others = {name: set(part) - {old} for name, part in split_documents(texts)[0].items()}
    for number in range(2000):
        new = (f"{number} " + "zebra quagga " * len(old)).encode()[: len(old.encode())].decode()
        candidate = [new if text == old else text for text in texts]
        parts = {name: set(part) - {new} for name, part in split_documents(candidate)[0].items()}
        if parts == others:
            return candidate
    raise AssertionError("no such text was found")


# ---------------------------------------------------------------- the cache


def test_the_key_is_content_and_settings_and_not_the_path(tmp_path: Path, cache: Path) -> None:
    texts = many(30)
    first = build(write_jsonl(tmp_path / "a.jsonl", texts))
    (tmp_path / "elsewhere").mkdir()
    assert build(write_jsonl(tmp_path / "elsewhere" / "b.jsonl", texts)).path == first.path
    assert build(tmp_path / "a.jsonl", vocab_size=301).path != first.path
    write_jsonl(tmp_path / "a.jsonl", [*texts[:-1], texts[-1] + "."])
    changed = build(tmp_path / "a.jsonl")
    assert changed.path != first.path
    assert changed.sha256 != first.sha256
    assert len(list((cache / "corpora").iterdir())) == 3


def test_a_cached_corpus_is_opened_and_not_made_again(tmp_path: Path, cache: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", many(30))
    said: list[str] = []
    prepare(text_data(path), TokenizerConfig(300), said.append)
    before = {p: p.stat().st_mtime_ns for p in cache.rglob("*")}
    prepare(text_data(path), TokenizerConfig(300), said.append)
    assert len(said) == 1
    assert {p: p.stat().st_mtime_ns for p in cache.rglob("*")} == before


def test_configured_cache_dir_goes_before_the_environment(tmp_path: Path, cache: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", many(30))
    data = text_data(path, cache_dir=str(tmp_path / "mine"))
    assert prepare(data, TokenizerConfig(300), silent).path.parent == tmp_path / "mine" / "corpora"
    assert not cache.exists()


RACE = """
import sys, time
from pathlib import Path
from posx.config.schema import DataConfig, TokenizerConfig
from posx.data.corpus import prepare
file, folder, me, other = sys.argv[1:]
def say(line):
    # Called once it is known that the corpus is not there yet: so both processes build it.
    Path(folder, me).touch()
    until = time.monotonic() + 30
    while not Path(folder, other).exists() and time.monotonic() < until:
        time.sleep(0.001)
    print("building")
corpus = prepare(DataConfig(name="text", source="text", path=file), TokenizerConfig(300), say)
print(corpus.sha256, corpus.tokenizer_sha256, len(corpus.splits["train"].tokens))
"""


def test_two_processes_that_build_at_once_both_succeed(tmp_path: Path, cache: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", many(200))
    children = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(path), str(tmp_path), me, other],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=child_environment(),
        )
        for me, other in (("left", "right"), ("right", "left"))
    ]
    outputs = [child.communicate(timeout=60) for child in children]
    assert [child.returncode for child in children] == [0, 0], outputs
    first, second = (out.splitlines() for out, _ in outputs)
    assert first[0] == second[0] == "building"
    assert first[1] == second[1]
    (folder,) = (cache / "corpora").iterdir()
    assert not folder.name.startswith(".")
    assert open_corpus(folder).sha256 == first[1].split()[0]


# ---------------------------------------------------------------- long work, and its end before its end


def test_slow_work_says_how_far_it_is(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "SECONDS_BETWEEN_LINES", -1.0)
    said: list[str] = []
    path = write_jsonl(tmp_path / "a.jsonl", ["x" * 50_000 + f" {n}" for n in range(40)])
    prepare(text_data(path), TokenizerConfig(300), said.append)
    assert f"Reading {path}: 2 MB" in said
    assert re.fullmatch(r"Preparing the corpus .*, once.*", said[40])
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
    if stage == "write_text":  # behind a corpus that is whole
        assert open_corpus(left[0].parent).vocab_size == 300
        assert {path.parent for path in left} == {left[0].parent}
    else:
        assert left == []
    assert prepare(data, TokenizerConfig(300), silent).vocab_size == 300


CTRL_C = """
import itertools, os, signal, threading, time
from posx.data.tokenizer import train_tokenizer
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    train_tokenizer(itertools.repeat("no end of this text in sight " * 1000), 300)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_ends_the_training_of_a_tokenizer() -> None:
    """The library trains on threads of its own; the text here has no end, so that only the signal ends it."""
    done = python(CTRL_C, TOKENIZERS_PARALLELISM="true")
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


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
def test_a_full_disk_is_a_sentence(tmp_path: Path, cache: Path, room: int) -> None:
    """Full while the documents are laid down, and while their tokens are written."""
    path = write_jsonl(tmp_path / "a.jsonl", ["".join(map(chr, range(200, 400))) * 13 + str(n) for n in range(40)])
    done = python(FULL_DISK, path, room)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("2 The corpus cannot be written to "), done.stdout
    assert "POSX_CACHE" in done.stdout
    assert [p for p in cache.rglob("*") if p.name != "corpora"] == []


def test_a_file_that_changes_while_it_is_read_is_a_sentence(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", many(30))
    passes = iter([many(30), many(31)])
    monkeypatch.setattr(corpora, "documents", lambda data: iter(next(passes)))
    with pytest.raises(PosxError, match="changed while it was read"):
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

    Its words are few and long, so that it has few tokens: what takes memory is the text.
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
    """60 MB of text in all: about 30 MB more than the idle process to prepare it, 180 MB if all of it is held."""
    done = python(MEMORY, large / name, what, OMP_NUM_THREADS="1", RAYON_NUM_THREADS="2")
    assert done.returncode == 0, done.stderr
    megabytes, peak = map(float, done.stdout.splitlines()[-1].split())
    assert megabytes > 59
    assert peak < 90


# ---------------------------------------------------------------- files that were read before


@pytest.fixture
def remembered(cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every file counts as large and as written long ago; the list grows by a line whenever text is read."""
    reads: list[str] = []
    real, now = corpora.documents, time.time_ns

    def counted(data: DataConfig) -> Iterator[str]:
        reads.append(str(data.path))
        return real(data)

    monkeypatch.setattr(corpora, "documents", counted)
    monkeypatch.setattr(corpora, "LARGE_BYTES", 0)
    monkeypatch.setattr(corpora.time, "time_ns", lambda: now() + 60 * 10**9)
    return reads


def test_large_files_are_not_read_again(tmp_path: Path, remembered: list[str]) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", many(30))
    first = build(path)
    assert len(remembered) == 2, "for their key, and for their text"
    assert build(path).path == first.path
    assert len(remembered) == 2
    assert build(path, vocab_size=301).path != first.path
    assert len(remembered) == 4


def rewrite(path: Path, text: str) -> None:
    """In place, and with the times of before."""
    stat = path.stat()
    path.write_text(text, "utf-8")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


CHANGES = {
    "longer": lambda path: path.write_text(path.read_text("utf-8") + "more", "utf-8"),
    "of the same size": lambda path: path.write_text(path.read_text("utf-8").replace("cat", "dog"), "utf-8"),
    "of the same size and time": lambda path: rewrite(path, path.read_text("utf-8").replace("cat", "dog")),
    "another file of its name": lambda path: (
        path.with_suffix(".new").write_text(path.read_text("utf-8").replace("cat", "dog"), "utf-8"),
        path.with_suffix(".new").replace(path),
    ),
    "a file more": lambda path: path.with_name("z.txt").write_text("one more", "utf-8"),
    "a file less": lambda path: path.unlink(),
    "another name": lambda path: path.rename(path.with_name("zz.txt")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_is_read_again(tmp_path: Path, remembered: list[str], change: str) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for n, text in enumerate(many(30)):
        (folder / f"{n:02d}.txt").write_text(text + " cat", "utf-8")
    first = build(folder)
    assert build(folder).path == first.path
    assert len(remembered) == 2
    time.sleep(0.02)  # a tick of the file system's clock
    CHANGES[change](folder / "07.txt")
    again = build(folder)
    assert len(remembered) > 2
    assert again.path != first.path, "the order of documents counts too"
    monkey = split_documents([p.read_text("utf-8") for p in sorted(folder.glob("*.txt"))])[0]
    assert again.facts["splits"]["train"]["bytes"] == size(monkey["train"])


def test_other_settings_read_other_documents(tmp_path: Path, remembered: list[str]) -> None:
    path = tmp_path / "a.jsonl"
    texts = many(40)
    path.write_text("".join(json.dumps({"text": t, "other": t + "!"}) + "\n" for t in texts))
    bound = size(texts[:30])
    made = {
        prepare(text_data(path, **settings), TokenizerConfig(300), silent).path
        for settings in ({}, {"text_field": "other"}, {"max_bytes": bound}, {"max_bytes": bound - 1})
        for _ in range(2)
    }
    assert len(made) == 4
    assert len(remembered) == 8


@pytest.mark.parametrize("damage", ["no corpus", "no note", "half a note", "bytes"])
def test_a_note_that_leads_nowhere_is_no_harm(tmp_path: Path, cache: Path, remembered: list[str], damage: str) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", many(30))
    first = build(path)
    (note,) = (cache / "read").iterdir()
    if damage == "no corpus":
        shutil.rmtree(first.path)
    elif damage == "no note":
        note.unlink()
    else:
        note.write_bytes(note.read_bytes()[:-1] if damage == "half a note" else b"\xff")
    assert build(path).sha256 == first.sha256
    assert note.read_text() == first.path.name


def test_new_and_small_files_are_read_each_time(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second change within a tick of the file system's clock would leave size and times as they are."""
    path = write_jsonl(tmp_path / "a.jsonl", many(30))
    build(path)
    monkeypatch.setattr(corpora, "LARGE_BYTES", 0)
    os.utime(path, ns=(0, 2**62))  # the future is new as well
    build(path)
    assert not (cache / "read").exists()


# ---------------------------------------------------------------- what may be wrong with it


DAMAGE = {
    "no corpus.json": lambda f: (f / "corpus.json").unlink(),
    "half a corpus.json": lambda f: (f / "corpus.json").write_text('{"sha256": "ab'),
    "another corpus.json": lambda f: (f / "corpus.json").write_text("{}"),
    "short tokens": lambda f: (f / "test.bin").write_bytes((f / "test.bin").read_bytes()[:-2]),
    "half a token": lambda f: (f / "test.bin").write_bytes((f / "test.bin").read_bytes()[:-1]),
    "no tokens": lambda f: (f / "train.bin").write_bytes(b""),
    "no token file": lambda f: (f / "train.bin").unlink(),
    "short offsets": lambda f: (f / "test.offsets.npy").write_bytes((f / "test.offsets.npy").read_bytes()[:-3]),
    "no offsets": lambda f: (f / "test.offsets.npy").write_bytes(b""),
    "offsets are text": lambda f: (f / "test.offsets.npy").write_text("0 1 2"),
    "no token lengths": lambda f: (f / "token_bytes.npy").write_bytes(b""),
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[DataConfig, Path]:
    folder = tmp_path_factory.mktemp("built")
    data = text_data(write_jsonl(folder / "a.jsonl", many(30)), cache_dir=str(folder / "cache"))
    return data, prepare(data, TokenizerConfig(300), silent).path


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_a_sentence(tmp_path: Path, built: tuple[DataConfig, Path], damage: str) -> None:
    data, whole = built
    folder = tmp_path / "corpora" / whole.name
    shutil.copytree(whole, folder)
    DAMAGE[damage](folder)
    data = DataConfig(**{**vars(data), "cache_dir": str(tmp_path)})
    with pytest.raises(PosxError) as caught:
        prepare(data, TokenizerConfig(300), silent)
    assert str(folder) in str(caught.value)
    assert "Delete" in caught.value.hint or "folder" in caught.value.hint


def test_a_cache_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", many(30))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PosxError, match="POSX_CACHE"):
        prepare(text_data(path, cache_dir=str(tmp_path / "file")), TokenizerConfig(300), silent)


def test_a_hub_corpus_opens_from_the_cache_without_a_network(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    pq.write_table(pa.table({"text": many(30)}), folder / "train.parquet")
    data = DataConfig(name="some", source="hub", path=str(folder))
    first = prepare(data, TokenizerConfig(300), silent)
    shutil.rmtree(folder)  # now the path could only be a dataset's id
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    said: list[str] = []
    again = prepare(data, TokenizerConfig(300), said.append)
    assert said == []
    assert (again.sha256, again.path) == (first.sha256, first.path)
    assert first.sha256 == build(write_jsonl(tmp_path / "a.jsonl", many(30))).sha256, "the content is what counts"
    with pytest.raises(PosxError, match="data=sotu"):
        prepare(DataConfig(**{**vars(data), "max_bytes": 1000}), TokenizerConfig(300), silent)


def test_a_broken_tokenizer_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(PosxError) as caught:
        load_tokenizer(tmp_path / "tokenizer.json")
    assert str(tmp_path / "tokenizer.json") in str(caught.value)


def test_corpus_facts_are_plain_json(tmp_path: Path, cache: Path) -> None:
    corpus = build(write_jsonl(tmp_path / "a.jsonl", [sentence(900, 1)]))
    facts = json.loads((corpus.path / "corpus.json").read_text("utf-8"))
    assert facts == corpus.facts
    assert "same documents" in " ".join(corpus.notes)
