"""Tests of ``posx.data.sources.files``."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fixtures.corpora import text_data
from fixtures.source_files import read, refusal, write_parquet
from posx.data.sources import documents
from posx.errors import PosxError


def test_a_txt_file_is_one_document_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("one\r\n\r\ntwo 東京\u2028\n".encode())
    assert read(path) == ["one\r\n\r\ntwo 東京\u2028\n"]


def test_a_byte_order_mark_is_not_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone")
    (tmp_path / "b.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "two"}\n')
    assert read(tmp_path) == ["one", "two"]


def test_jsonl_has_one_document_per_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one", "id": 1}\n\n{"text": "  "}\r\n{"id": 2, "text": "two\\n"}', "utf-8")
    assert read(path) == ["one", "two\n"]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_jsonl_lines_end_only_at_line_feeds(tmp_path: Path, separator: str) -> None:
    """JSON allows these inside a string; json.dumps(ensure_ascii=False) writes them unescaped."""
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": f"one{separator}two"}, ensure_ascii=False) + "\n", "utf-8")
    assert read(path) == [f"one{separator}two"]


def test_parquet_has_one_document_per_row(tmp_path: Path) -> None:
    texts = [f"row {n}" for n in range(600)]
    path = write_parquet(tmp_path / "a.parquet", id=list(range(600)), text=texts)
    assert read(path) == texts


def test_text_field_selects_the_field(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", content=["one"], text=["no"])
    (tmp_path / "b.jsonl").write_text('{"content": "two", "text": "no"}\n')
    assert read(tmp_path, text_field="content") == ["one", "two"]


def test_files_of_a_directory_are_sorted_by_path(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.txt", "a/b/c.txt", "B.txt", "10.txt", "9.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "c.jsonl").write_text('{"text": "c1"}\n{"text": "c2"}\n')
    (tmp_path / "readme.md").write_text("not a corpus file")
    assert read(tmp_path) == ["10.txt", "9.txt", "B.txt", "a/b/c.txt", "a/z.txt", "b.txt", "c1", "c2"]


def test_hidden_files_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("seen")
    (tmp_path / ".b.txt").write_text("hidden")
    (tmp_path / "._a.txt").write_bytes(b"\x00\x05\x16\x07\xff")  # macOS creates such files on other file systems
    assert read(tmp_path) == ["seen"]


def test_files_in_hidden_directories_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("seen")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / ".ipynb_checkpoints" / "a.txt").write_text("hidden")
    assert read(tmp_path) == ["seen"]


def test_a_hidden_directory_is_read_if_requested(tmp_path: Path) -> None:
    (tmp_path / ".texts").mkdir()
    (tmp_path / ".texts" / "a.txt").write_text("seen")
    assert read(tmp_path / ".texts") == ["seen"]


def test_the_message_names_a_missing_path(tmp_path: Path) -> None:
    assert str(tmp_path / "no.txt") in refusal(tmp_path / "no.txt")


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.parquet"])
def test_the_message_names_an_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    sentence = refusal(tmp_path)
    assert str(tmp_path / name) in sentence
    assert "empty" in sentence


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_the_message_names_the_first_byte_that_is_not_utf8(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes("é, dann ".encode() + "Ärger".encode("latin1"))
    sentence = refusal(tmp_path)
    assert str(tmp_path / name) in sentence
    assert "byte 9 is 0xc4" in sentence


def test_bytes_are_counted_from_the_beginning_of_the_file(tmp_path: Path) -> None:
    """After a byte-order mark and other lines, and in an incomplete character at the end of a line or file."""
    path = tmp_path / "a.jsonl"
    for bad in (b'{"text": "\xc4rger"}\n', '{"text": "東'.encode()[:-1] + b"\n", '{"text": "東'.encode()[:-1]):
        content = '\ufeff{"text": "東京"}\n\n'.encode() + bad
        path.write_bytes(content)
        with pytest.raises(UnicodeDecodeError) as caught:
            content.decode()
        start = caught.value.start
        assert f"byte {start} is 0x{content[start]:02x}" in refusal(path)


def test_the_message_names_a_file_that_was_deleted_before_it_was_read(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name)
    texts = documents(text_data(tmp_path))
    assert next(texts) == "a.txt"
    (tmp_path / "b.txt").unlink()
    with pytest.raises(PosxError, match=r"b\.txt cannot be read: No such file"):
        next(texts)


@pytest.mark.parametrize("line", ['{"text": "three"', "three", "{'text': 'three'}", '{"text": "a\tb"}'])
def test_the_message_names_a_line_that_is_not_json(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "one"}}\n\n{line}\n{{"text": "four"}}\n')
    sentence = refusal(path)
    assert f"{path}, line 3 " in sentence
    assert "JSON" in sentence


@pytest.mark.parametrize("line", ["[1]", '"three"', "3", '{"text": null}', '{"text": 3}', "{}"])
def test_the_message_names_a_line_without_text(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "one"}}\n{line}\n')
    assert f"{path}, line 2 " in refusal(path)


def test_half_a_surrogate_pair_is_refused(tmp_path: Path) -> None:
    """JSON can represent it, UTF-8 cannot."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n{"text": "two \\ud800"}\n')
    assert f"{path}, line 2 " in refusal(path)


def test_the_message_for_a_missing_field_lists_fields_with_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"content": "one", "title": "t", "year": 1990}\n')
    sentence = refusal(path)
    assert "'text'" in sentence
    assert "content, title" in sentence
    assert "year" not in sentence


def test_the_message_for_a_missing_column_lists_the_columns(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", content=["one"], title=["t"])
    sentence = refusal(path)
    assert str(path) in sentence
    assert "'text'" in sentence
    assert "content, title" in sentence


def test_the_message_names_a_row_without_text(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", text=[f"row {n}" for n in range(300)] + [None, "last"])
    sentence = refusal(path)
    assert str(path) in sentence
    assert "row 301" in sentence


def test_a_column_of_numbers_is_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", text=[1, 2])
    assert str(path) in refusal(path)


def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"certainly not a table" * 10)
    sentence = refusal(path)
    assert str(path) in sentence
    assert "Parquet" in sentence


def test_parquet_with_damaged_pages_is_refused(tmp_path: Path) -> None:
    """The footer is intact, so that the file can be opened, but reading a row fails."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"row {n} " * 9 for n in range(50)]}), path, compression="snappy")
    content = bytearray(path.read_bytes())
    content[4:60] = b"\xff" * 56
    path.write_bytes(content)
    assert str(path) in refusal(path)


def test_the_message_for_a_wrong_suffix_lists_the_valid_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text\none\n")
    sentence = refusal(path)
    for part in (str(path), ".txt", ".jsonl", ".parquet"):
        assert part in sentence


def test_a_directory_without_text_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "readme.md").write_text("text")
    sentence = refusal(tmp_path)
    for part in (str(tmp_path), ".txt", ".jsonl", ".parquet"):
        assert part in sentence
