"""The environment of every test: caches in a temporary folder, one thread, no network."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from fixtures.processors import UNLIKE, processor_kind  # noqa: F401 - a fixture
from posx.runtime.processor import KINDS, forced

# Set before any test module is imported, because huggingface_hub reads it on import.
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="posx-tests-hf-")
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--processor", choices=sorted(KINDS), help="Select backends as on this processor.")


@pytest.fixture(scope="session", autouse=True)
def this_processor(request: pytest.FixtureRequest) -> Iterator[None]:
    kind = request.config.getoption("--processor")
    with forced(KINDS[kind]) if kind else nullcontext():
        yield


@pytest.fixture(scope="session", autouse=True)
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """POSX_CACHE for fixtures that are shared by tests."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("posx-cache")
        patch.setenv("POSX_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def exact_denormals() -> Iterator[None]:
    """Undo what prepare_for sets for the whole process."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty POSX_CACHE for this test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("POSX_CACHE", str(folder))
    return folder


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests marked ``every_processor`` run once for each different selection of the attention backend."""
    if metafunc.definition.get_closest_marker("every_processor"):
        metafunc.fixturenames.append("processor_kind")
        metafunc.parametrize("processor_kind", UNLIKE, indirect=True)
