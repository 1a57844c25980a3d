"""Location of the cache: as configured, POSX_CACHE, or the user's cache directory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from posx.utils.files import cache_dir

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have other directories")


def test_the_setting_takes_precedence_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSX_CACHE", "/environment")
    assert cache_dir("/setting") == Path("/setting")
    assert cache_dir() == cache_dir("") == Path("/environment")
    monkeypatch.delenv("POSX_CACHE")
    assert cache_dir("/setting") == Path("/setting")


def test_a_home_directory_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("POSX_CACHE", "~/environment")
    assert cache_dir("~/setting") == tmp_path / "setting"
    assert cache_dir() == tmp_path / "environment"


@linux
@pytest.mark.parametrize("posx_cache", [None, ""])
def test_the_default_on_linux_is_the_xdg_cache_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, posx_cache: str | None
) -> None:
    monkeypatch.delenv("POSX_CACHE", raising=False)
    if posx_cache is not None:
        monkeypatch.setenv("POSX_CACHE", posx_cache)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "posx"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_dir() == tmp_path / "home" / ".cache" / "posx"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == tmp_path / "home" / ".cache" / "posx"
