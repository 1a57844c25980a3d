"""Files and folders are written completely or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from posx.errors import PosxError
from posx.utils.files import read_json, sha256_of, whole_file, whole_folder, write_json


class Stop(BaseException):
    """Not an Exception, like what a signal raises."""


def half_a_file(path: Path, error: type[BaseException]) -> None:
    with whole_file(path) as temporary:
        temporary.write_text("half")
        assert temporary.parent == path.parent, "a rename is atomic only inside one file system"
        raise error


def half_a_folder(path: Path, error: type[BaseException]) -> None:
    with whole_folder(path) as temporary:
        (temporary / "deep").mkdir()
        (temporary / "deep" / "a.txt").write_text("half")
        raise error


@pytest.mark.parametrize("error", [ValueError, Stop])
def test_an_error_inside_whole_file_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        half_a_file(tmp_path / "new" / "a.txt", error)
    assert list((tmp_path / "new").iterdir()) == []


def test_an_error_inside_whole_file_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(Stop):
        half_a_file(path, Stop)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_whole_file_creates_the_file_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with whole_file(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]
    assert path.stat().st_mode & 0o777 == 0o644, "mkstemp's 0600 would hide results from others"


@pytest.mark.parametrize("error", [ValueError, Stop])
def test_an_error_inside_whole_folder_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        half_a_folder(tmp_path / "made", error)
    assert list(tmp_path.iterdir()) == []


def test_whole_folder_does_not_replace_an_existing_folder(tmp_path: Path) -> None:
    path = tmp_path / "made"
    with whole_folder(path) as temporary:
        (temporary / "a.txt").write_text("second")
        path.mkdir()
        (path / "a.txt").write_text("first")
    assert (path / "a.txt").read_text() == "first"
    assert os.listdir(tmp_path) == ["made"]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_write_json_refuses_nan_and_infinity(tmp_path: Path, number: float) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"nats": 1.5})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"nats": [0.0, number]})
    assert json.loads(path.read_text()) == {"nats": 1.5}
    assert os.listdir(tmp_path) == ["a.json"]


def test_json_preserves_text_and_order(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"z": "東京", "a": [1, None, True]})
    assert "東京" in path.read_text("utf-8")
    assert list(read_json(path, "a test").items()) == [("z", "東京"), ("a", [1, None, True])]


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff\xfe{}"])
def test_the_message_for_damaged_json_names_the_path(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(PosxError) as caught:
        read_json(path, "a test")
    assert str(path) in str(caught.value)
    assert "damaged" in str(caught.value)


def test_the_message_for_missing_json_describes_the_file(tmp_path: Path) -> None:
    with pytest.raises(PosxError, match="not a posx record"):
        read_json(tmp_path / "a.json", "a posx record")


def test_hashes_distinguish_how_values_are_split() -> None:
    alike = [(b"ab", b"c"), (b"a", b"bc"), (b"abc",), (b"abc", b""), ("abc",), (["a", "bc"],)]
    assert len({sha256_of(*parts) for parts in alike}) == len(alike)
    assert sha256_of({"a": 1, "b": 2}) == sha256_of({"b": 2, "a": 1})
