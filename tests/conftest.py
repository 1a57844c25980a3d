"""What every test runs under: caches in a temporary folder, one thread, no network."""

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

# Read when huggingface_hub is imported, which a test module may do at its head: so it is set before any is.
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="posx-tests-hf-")
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--processor", choices=sorted(KINDS), help="Choose as on such a processor, in this process.")


@pytest.fixture(scope="session", autouse=True)
def this_processor(request: pytest.FixtureRequest) -> Iterator[None]:
    kind = request.config.getoption("--processor")
    with forced(KINDS[kind]) if kind else nullcontext():
        yield


@pytest.fixture(scope="session", autouse=True)
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """POSX_CACHE for fixtures that outlive a test."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("posx-cache")
        patch.setenv("POSX_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def exact_denormals() -> Iterator[None]:
    """What prepare_for sets for the work of a process is not for the tests after it."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A POSX_CACHE of this test's own, empty."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("POSX_CACHE", str(folder))
    return folder


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests marked ``every_processor`` run once for each unlike choice of the attention backend."""
    if metafunc.definition.get_closest_marker("every_processor"):
        metafunc.fixturenames.append("processor_kind")
        metafunc.parametrize("processor_kind", UNLIKE, indirect=True)
