"""Documents from local files, the embedded corpus and the Hub; what is bad is named with its place."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_helpers import python, text_data
from posx.config.schema import DataConfig
from posx.data.sources import documents, join_articles
from posx.errors import PosxError


def write_parquet(path: Path, **columns: list[Any]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def read(path: Path, **settings: Any) -> list[str]:
    return list(documents(text_data(path, **settings)))


def refusal(path: Path, **settings: Any) -> str:
    with pytest.raises(PosxError) as caught:
        read(path, **settings)
    assert caught.value.code == 2
    assert caught.value.hint, "a refusal says the way out"
    return str(caught.value)


# ---------------------------------------------------------------- what is read


def test_a_txt_file_is_one_document_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("one\r\n\r\ntwo 東京\u2028\n".encode())
    assert read(path) == ["one\r\n\r\ntwo 東京\u2028\n"]


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone")
    (tmp_path / "b.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "two"}\n')
    assert read(tmp_path) == ["one", "two"]


def test_jsonl_is_a_document_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one", "id": 1}\n\n{"text": "  "}\r\n{"id": 2, "text": "two\\n"}', "utf-8")
    assert read(path) == ["one", "two\n"]


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85"])
def test_jsonl_lines_end_at_line_feeds_alone(tmp_path: Path, sign: str) -> None:
    """JSON allows these inside a string; json.dumps(ensure_ascii=False) writes them as they are."""
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": f"one{sign}two"}, ensure_ascii=False) + "\n", "utf-8")
    assert read(path) == [f"one{sign}two"]


def test_parquet_is_a_document_a_row(tmp_path: Path) -> None:
    texts = [f"row {n}" for n in range(600)]
    path = write_parquet(tmp_path / "a.parquet", id=list(range(600)), text=texts)
    assert read(path) == texts


def test_another_field(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", content=["one"], text=["no"])
    (tmp_path / "b.jsonl").write_text('{"content": "two", "text": "no"}\n')
    assert read(tmp_path, text_field="content") == ["one", "two"]


def test_a_directory_is_read_in_the_order_of_its_paths(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.txt", "a/b/c.txt", "B.txt", "10.txt", "9.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "c.jsonl").write_text('{"text": "c1"}\n{"text": "c2"}\n')
    (tmp_path / "readme.md").write_text("not a corpus file")
    assert read(tmp_path) == ["10.txt", "9.txt", "B.txt", "a/b/c.txt", "a/z.txt", "b.txt", "c1", "c2"]


def test_hidden_files_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("seen")
    (tmp_path / ".b.txt").write_text("hidden")
    (tmp_path / "._a.txt").write_bytes(b"\x00\x05\x16\x07\xff")  # what macOS leaves on foreign disks
    assert read(tmp_path) == ["seen"]


def test_files_in_hidden_directories_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("seen")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / ".ipynb_checkpoints" / "a.txt").write_text("hidden")
    assert read(tmp_path) == ["seen"]


def test_a_hidden_directory_that_was_asked_for_is_read(tmp_path: Path) -> None:
    (tmp_path / ".texts").mkdir()
    (tmp_path / ".texts" / "a.txt").write_text("seen")
    assert read(tmp_path / ".texts") == ["seen"]


@pytest.mark.parametrize(
    "bound, expected",
    [
        (None, ["one", "東京", "four", "x"]),
        (14, ["one", "東京", "four", "x"]),
        (13, ["one", "東京", "four"]),
        (12, ["one", "東京"]),
        (9, ["one", "東京"]),
        (8, ["one"]),
        (3, ["one"]),
        (2, ["on"]),
    ],
)
def test_max_bytes_bounds_the_text_in_utf8(tmp_path: Path, bound: int | None, expected: list[str]) -> None:
    """Whole documents while they fit, and none after the first that does not."""
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in ("one", "東京", "four", "x")))
    assert read(path, max_bytes=bound) == expected


def test_no_more_is_read_than_is_asked_for(tmp_path: Path) -> None:
    """One document past the bound, which shows that it does not fit; what is wrong behind it does not count."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "one"}\n{"text": "two"}\n{"text": "three"}\nno JSON\n\xff')
    assert read(path, max_bytes=6) == ["one", "two"]
    (tmp_path / "b.txt").write_bytes(b"\xff")
    assert read(tmp_path, max_bytes=7) == ["one", "two"]
    texts = documents(text_data(path))
    assert [next(texts) for _ in range(3)] == ["one", "two", "three"]
    with pytest.raises(PosxError, match="line 4 is not JSON"):
        next(texts)


def test_a_first_document_past_max_bytes_is_cut_between_characters(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("東京東京", "utf-8")
    assert read(tmp_path, max_bytes=8) == ["東京"]


# ---------------------------------------------------------------- what is refused, and where it is


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    assert str(tmp_path / "no.txt") in refusal(tmp_path / "no.txt")


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.parquet"])
def test_an_empty_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    sentence = refusal(tmp_path)
    assert str(tmp_path / name) in sentence
    assert "empty" in sentence


def test_white_space_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(" \n\t")
    assert "holds no text" in refusal(tmp_path / "a.txt")


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_the_first_byte_that_is_not_utf8_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes("é, dann ".encode() + "Ärger".encode("latin1"))
    sentence = refusal(tmp_path)
    assert str(tmp_path / name) in sentence
    assert "byte 9 is 0xc4" in sentence


def test_a_byte_is_counted_from_the_beginning_of_the_file(tmp_path: Path) -> None:
    """Behind a byte-order mark and other lines; and half a character at the end of a line or of the file."""
    path = tmp_path / "a.jsonl"
    for bad in (b'{"text": "\xc4rger"}\n', '{"text": "東'.encode()[:-1] + b"\n", '{"text": "東'.encode()[:-1]):
        content = '\ufeff{"text": "東京"}\n\n'.encode() + bad
        path.write_bytes(content)
        with pytest.raises(UnicodeDecodeError) as caught:
            content.decode()
        start = caught.value.start
        assert f"byte {start} is 0x{content[start]:02x}" in refusal(path)


def test_a_file_that_is_gone_when_its_turn_comes_is_named(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name)
    texts = documents(text_data(tmp_path))
    assert next(texts) == "a.txt"
    (tmp_path / "b.txt").unlink()
    with pytest.raises(PosxError, match=r"b\.txt cannot be read: No such file"):
        next(texts)


@pytest.mark.parametrize("line", ['{"text": "three"', "three", "{'text': 'three'}", '{"text": "a\tb"}'])
def test_the_broken_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "one"}}\n\n{line}\n{{"text": "four"}}\n')
    sentence = refusal(path)
    assert f"{path}, line 3 " in sentence
    assert "JSON" in sentence


@pytest.mark.parametrize("line", ["[1]", '"three"', "3", '{"text": null}', '{"text": 3}', "{}"])
def test_a_line_without_a_text_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "one"}}\n{line}\n')
    assert f"{path}, line 2 " in refusal(path)


def test_half_a_surrogate_pair_is_no_text(tmp_path: Path) -> None:
    """JSON can spell it, UTF-8 cannot hold it."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n{"text": "two \\ud800"}\n')
    assert f"{path}, line 2 " in refusal(path)


def test_a_missing_field_names_the_fields_that_hold_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"content": "one", "title": "t", "year": 1990}\n')
    sentence = refusal(path)
    assert "'text'" in sentence
    assert "content, title" in sentence
    assert "year" not in sentence


def test_a_missing_column_names_the_columns(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", content=["one"], title=["t"])
    sentence = refusal(path)
    assert str(path) in sentence
    assert "'text'" in sentence
    assert "content, title" in sentence


def test_a_row_without_a_text_is_named(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", text=[f"row {n}" for n in range(300)] + [None, "last"])
    sentence = refusal(path)
    assert str(path) in sentence
    assert "row 301" in sentence


def test_a_column_of_numbers_is_no_text(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", text=[1, 2])
    assert str(path) in refusal(path)


def test_bytes_that_are_not_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"certainly not a table" * 10)
    sentence = refusal(path)
    assert str(path) in sentence
    assert "Parquet" in sentence


def test_parquet_with_damaged_pages(tmp_path: Path) -> None:
    """The footer is whole, so that the file opens; reading a row fails."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"row {n} " * 9 for n in range(50)]}), path, compression="snappy")
    content = bytearray(path.read_bytes())
    content[4:60] = b"\xff" * 56
    path.write_bytes(content)
    assert str(path) in refusal(path)


def test_a_wrong_suffix_names_the_right_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text\none\n")
    sentence = refusal(path)
    for part in (str(path), ".txt", ".jsonl", ".parquet"):
        assert part in sentence


def test_a_directory_without_a_corpus_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "readme.md").write_text("text")
    sentence = refusal(tmp_path)
    for part in (str(tmp_path), ".txt", ".jsonl", ".parquet"):
        assert part in sentence


# ---------------------------------------------------------------- WikiText


def test_a_heading_of_the_first_level_begins_a_document() -> None:
    lines = [
        "",
        " = Valkyria = \n",
        "",
        " Text = with = signs .\n",
        " = = Gameplay = = \n",
        " More .\n",
        " = = = Deep = = = \n",
        " = Tower Building = \n",
        " = \n",
        "= Not indented =\n",
        " Last .\n",
    ]
    assert list(join_articles(iter(lines))) == ["".join(lines[:1]), "".join(lines[1:7]), "".join(lines[7:])]


def test_no_heading_is_one_document() -> None:
    assert list(join_articles(iter(["a\n", " = = Sub = = \n", "b\n"]))) == ["a\n = = Sub = = \nb\n"]
    assert list(join_articles(iter([]))) == []


# ---------------------------------------------------------------- the embedded corpus

SOTU = """
import sys
from posx.config.schema import DataConfig
from posx.data.sources import documents
texts = list(documents(DataConfig(name="sotu", source="sotu")))
assert "sotu" not in sys.modules, "its import reads a table with pandas"
assert "pandas" not in sys.modules
print(len(texts), min(map(len, texts)), "Fellow-Citizens of the Senate" in texts[0], len(set(texts)))
"""


def test_sotu_is_read_without_being_imported() -> None:
    done = python(SOTU)
    assert done.returncode == 0, done.stderr
    count, shortest, begins, distinct = done.stdout.split()
    assert (count, begins) == ("249", "True")
    assert int(shortest) > 1000
    assert int(distinct) > 240


# ---------------------------------------------------------------- the Hub


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_the_hub_source_reads_a_local_directory(tmp_path: Path, kind: str) -> None:
    lines = [" = One = \n", " a b\n", " = = Sub = = \n", "", " = Two = \n", " c\n"]
    folder = tmp_path / "set"
    folder.mkdir()
    if kind == "parquet":
        write_parquet(folder / "train.parquet", text=lines)
    else:
        (folder / "train.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in lines))
    data = DataConfig(name="local", source="hub", path=str(folder), join_articles=True)
    assert list(documents(data)) == [" = One = \n a b\n = = Sub = = \n", " = Two = \n c\n"]


def test_a_hub_row_without_the_field_names_the_fields(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", content=["a"], title=["t"])
    with pytest.raises(PosxError, match="content, title"):
        list(documents(DataConfig(name="local", source="hub", path=str(tmp_path))))


@pytest.mark.parametrize("variable, value", [("HF_HUB_OFFLINE", "1"), ("HF_ENDPOINT", "http://127.0.0.1:9")])
def test_the_hub_out_of_reach_fails_at_once(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    began = time.monotonic()
    with pytest.raises(PosxError) as caught:
        list(documents(DataConfig(name="wikitext103", source="hub", path="Salesforce/wikitext", subset="a")))
    assert time.monotonic() - began < 5
    for part in ("data=wikitext103", "data=sotu", "data=text"):
        assert part in str(caught.value)
