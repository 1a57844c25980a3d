"""Splits, tokens, the cache."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import subprocess
import sys
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from data_helpers import child_environment, many, sentence, silent, text_data, write_jsonl
from posx.config import DataConfig, TokenizerConfig
from posx.corpus import Corpus, open_corpus, prepare, split_documents
from posx.errors import PosxError
from posx.tokenizer import encode, load_tokenizer, token_bytes, train_tokenizer

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
from posx.config import DataConfig, TokenizerConfig
from posx.corpus import prepare
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
