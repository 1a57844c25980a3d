"""Tests of the cache of ``posx.data.corpus``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fixtures.corpora import child_environment, many, silent, text_data, write_jsonl
from fixtures.texts import build, size
from posx.config.schema import DataConfig, TokenizerConfig
from posx.data import corpus as corpora
from posx.data.corpus import open_corpus, prepare
from posx.data.splitting import split_documents
from posx.errors import PosxError


def test_the_key_depends_on_content_and_settings_but_not_on_the_path(tmp_path: Path, cache: Path) -> None:
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


def test_a_cached_corpus_is_opened_without_a_rebuild(tmp_path: Path, cache: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", many(30))
    said: list[str] = []
    prepare(text_data(path), TokenizerConfig(300), said.append)
    before = {p: p.stat().st_mtime_ns for p in cache.rglob("*")}
    prepare(text_data(path), TokenizerConfig(300), said.append)
    assert len(said) == 1
    assert {p: p.stat().st_mtime_ns for p in cache.rglob("*")} == before


def test_the_configured_cache_dir_takes_precedence_over_the_environment(tmp_path: Path, cache: Path) -> None:
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
    # Called when the corpus is found to be missing, so both processes build it.
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


@pytest.fixture
def remembered(cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Treat every file as large and old. The list has one entry per time that text was read."""
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
    assert len(remembered) == 2, "once for the key, once for the text"
    assert build(path).path == first.path
    assert len(remembered) == 2
    assert build(path, vocab_size=301).path != first.path
    assert len(remembered) == 4


def rewrite(path: Path, text: str) -> None:
    """Write in place and restore the times."""
    stat = path.stat()
    path.write_text(text, "utf-8")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


CHANGES = {
    "longer": lambda path: path.write_text(path.read_text("utf-8") + "more", "utf-8"),
    "of the same size": lambda path: path.write_text(path.read_text("utf-8").replace("cat", "dog"), "utf-8"),
    "of the same size and time": lambda path: rewrite(path, path.read_text("utf-8").replace("cat", "dog")),
    "replaced by another file": lambda path: (
        path.with_suffix(".new").write_text(path.read_text("utf-8").replace("cat", "dog"), "utf-8"),
        path.with_suffix(".new").replace(path),
    ),
    "a file added": lambda path: path.with_name("z.txt").write_text("one more", "utf-8"),
    "a file removed": lambda path: path.unlink(),
    "another name": lambda path: path.rename(path.with_name("zz.txt")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_files_are_read_again(tmp_path: Path, remembered: list[str], change: str) -> None:
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
    assert again.path != first.path, "the key depends on the order of documents, too"
    expected = split_documents([p.read_text("utf-8") for p in sorted(folder.glob("*.txt"))])[0]
    assert again.facts["splits"]["train"]["bytes"] == size(expected["train"])


def test_different_settings_give_different_corpora(tmp_path: Path, remembered: list[str]) -> None:
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


@pytest.mark.parametrize("damage", ["no corpus", "no file", "half a file", "bytes"])
def test_a_damaged_or_outdated_key_file_is_ignored(
    tmp_path: Path, cache: Path, remembered: list[str], damage: str
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", many(30))
    first = build(path)
    (key_file,) = (cache / "read").iterdir()
    if damage == "no corpus":
        shutil.rmtree(first.path)
    elif damage == "no file":
        key_file.unlink()
    else:
        key_file.write_bytes(key_file.read_bytes()[:-1] if damage == "half a file" else b"\xff")
    assert build(path).sha256 == first.sha256
    assert key_file.read_text() == first.path.name


def test_new_and_small_files_are_read_each_time(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second change within a tick of the file system's clock may leave size and times unchanged."""
    path = write_jsonl(tmp_path / "a.jsonl", many(30))
    build(path)
    monkeypatch.setattr(corpora, "LARGE_BYTES", 0)
    os.utime(path, ns=(0, 2**62))  # a time in the future counts as new
    build(path)
    assert not (cache / "read").exists()


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
def test_a_damaged_cache_is_reported(tmp_path: Path, built: tuple[DataConfig, Path], damage: str) -> None:
    data, whole = built
    folder = tmp_path / "corpora" / whole.name
    shutil.copytree(whole, folder)
    DAMAGE[damage](folder)
    data = DataConfig(**{**vars(data), "cache_dir": str(tmp_path)})
    with pytest.raises(PosxError) as caught:
        prepare(data, TokenizerConfig(300), silent)
    assert str(folder) in str(caught.value)
    assert "Delete" in caught.value.hint or "folder" in caught.value.hint


def test_a_cache_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
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
    assert first.sha256 == build(write_jsonl(tmp_path / "a.jsonl", many(30))).sha256, (
        "the hash depends only on the content"
    )
    with pytest.raises(PosxError, match="data=sotu"):
        prepare(DataConfig(**{**vars(data), "max_bytes": 1000}), TokenizerConfig(300), silent)
