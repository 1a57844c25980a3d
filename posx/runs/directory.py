"""Run directories: create, find, open and lock them. docs/run-directory.md describes their layout."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from posx.config.compose import checked_run_config, read_run_config, to_yaml, yaml_of
from posx.config.schema import RunConfig
from posx.errors import PosxError, unknown
from posx.runs.bundle_runs import bundled_metrics, bundled_run, bundled_runs, is_bundle
from posx.runs.identity import FREE_TO_CHANGE
from posx.utils.files import read_json, write_json, write_text


@dataclass(frozen=True)
class Run:
    """An existing run directory, or a run of a bundle."""

    path: Path
    config: RunConfig

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def label(self) -> str:
        """The table row that the run belongs to."""
        return label_of(self.config)

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def step(self) -> int:
        """Steps trained so far, according to the newest complete checkpoint."""
        return newest_checkpoint(self.checkpoints)[0]

    @property
    def finished(self) -> bool:
        return self.step >= self.config.train.steps

    @property
    def meta(self) -> dict[str, Any]:
        """meta.json: the machine, versions, corpus and lineage of the training. Raises PosxError."""
        bundled = bundled_run(self.path)
        meta = bundled["meta"] if bundled else read_json(self.path / "meta.json", "a posx run")
        if not isinstance(meta, dict) or not {"corpus_sha256", "tokenizer_sha256", "lineage"} <= meta.keys():
            raise PosxError(f"{self.path / 'meta.json'} was not written by posx.", "Check that the run is complete.")
        return meta


def newest_checkpoint(folder: Path) -> tuple[int, Path | None]:
    """Step and path of the newest complete checkpoint; (0, None) if there is none."""
    whole = [p.parent for p in folder.glob("step-*/manifest.json") if p.parent.name[5:].isdigit()]
    return max(((int(p.name[5:]), p) for p in whole), default=(0, None))


def check_name(name: str) -> None:
    """Raise PosxError if a name is more than one folder, or has characters that a shell interprets."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.+-]{0,150}", name):
        raise PosxError(
            f"'{name}' is not a valid name for a run.",
            "Choose another --name: at most 150 letters, digits, dots, dashes and underscores.",
        )


def folder_name(label: str, fallback: str) -> str:
    """A label as part of a folder name: characters that are not allowed become dashes."""
    return re.sub(r"[^A-Za-z0-9_.+-]+", "-", label).lstrip("_.+-") or fallback


def default_name(config: RunConfig) -> str:
    """The name of a run without --name."""
    scheme = config.scheme["name"]
    label = folder_name(config.label or scheme, scheme)
    return f"{label}-{config.model.name or 'model'}-{config.train.context}-seed{config.train.seed}"


def create(runs_dir: Path, name: str, config: RunConfig, resume: bool) -> Run:
    """A new run directory with its config.yaml; with ``resume``, the existing one if its config is the same."""
    check_name(name)
    path = runs_dir / name
    if (path / "config.yaml").is_file():
        if not resume:
            raise PosxError(f"The run {path} already exists.", "Continue it with --resume, or choose another --name.")
        run = open_run(path)
        changed = sorted(_differences(asdict(run.config), asdict(config)))
        if changed:
            raise PosxError(
                f"{path} was started with other settings: {'; '.join(changed[:4])}.",
                "Repeat its overrides to resume it, or choose another --name.",
            )
        return Run(path, config)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise PosxError(f"{path} exists and is not a posx run.", "Choose another --name.")
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_text(path / "config.yaml", to_yaml(config))
    except OSError as error:
        raise PosxError(f"{path} cannot be written: {error.strerror}.", "Choose another --runs-dir.") from None
    return Run(path, config)


def _differences(old: Any, new: Any, key: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for part in sorted(old.keys() | new.keys()):
            if part not in old and not new[part]:
                continue  # a setting that was added later, at its default
            yield from _differences(old.get(part), new.get(part), f"{key}.{part}" if key else part)
    elif old != new and key not in FREE_TO_CHANGE:
        yield f"{key} was {old}, now {new}"


def label_of(config: RunConfig) -> str:
    """The table row of the runs of this config."""
    return config.label or config.scheme["name"]


def free_name(runs_dir: Path, name: str) -> str:
    """``name``, or ``name-2`` and so on if it is taken."""
    number, candidate = 1, name
    while (runs_dir / candidate).exists():
        number += 1
        candidate = f"{name}-{number}"
    return candidate


def open_run(path: Path) -> Run:
    """Open a run by its directory, or by its address in a bundle. Raises PosxError."""
    bundled = bundled_run(path)
    if bundled:
        return Run(path, checked_run_config(bundled["config"], f" in {path.parent}"))
    if not path.is_dir():
        raise PosxError(f"No run found at {path}.", "posx table lists all runs.")
    if not (path / "config.yaml").is_file():
        raise PosxError(f"{path} is not a posx run: it has no config.yaml.", "Runs are in the folder of --runs-dir.")
    return Run(path, read_run_config(path / "config.yaml"))


def stored_config(path: Path) -> str:
    """The text of a run's config.yaml; empty if there is none."""
    bundled = bundled_run(path)
    if bundled:
        return yaml_of(bundled["config"])
    return (path / "config.yaml").read_text("utf-8") if (path / "config.yaml").is_file() else ""


def stored_meta(path: Path) -> dict[str, Any]:
    """A run's meta.json, unchecked; empty if there is none."""
    bundled = bundled_run(path)
    if bundled:
        return bundled["meta"]
    return read_json(path / "meta.json", "a posx run") if (path / "meta.json").is_file() else {}


def find_run(runs_dir: Path, text: str) -> Run:
    """A run by its name in ``runs_dir``, or by its path."""
    for path in (runs_dir / text, Path(text)):
        if path.is_dir() or bundled_run(path):
            return open_run(path)
    raise unknown("run", text, [p.name for p in run_folders(runs_dir)] or ["none yet"], f" in {runs_dir}")


def run_folders(runs_dir: Path) -> list[Path]:
    """All run directories, or all runs of a bundle, by name."""
    if is_bundle(runs_dir):
        return sorted(runs_dir / name for name in bundled_runs(runs_dir))
    return sorted(p.parent for p in runs_dir.glob("*/config.yaml"))


def is_run(path: Path) -> bool:
    """Whether there is a run at this path: its directory, or its address in a bundle."""
    return (path / "config.yaml").is_file() or bundled_run(path) is not None


def finished_runs(runs_dir: Path) -> list[Run]:
    """The finished runs, the one with the newest checkpoint first. Raises PosxError if there is none."""
    runs = [open_run(path) for path in run_folders(runs_dir)]
    finished = [run for run in runs if run.finished]
    if not finished:
        state = f"{len(runs)} unfinished in {runs_dir}" if runs else f"no run in {runs_dir}"
        raise PosxError(f"There is no finished run: {state}.", "Start one: posx train --scheme rope.")

    def age(run: Run) -> float:
        return -max(p.stat().st_mtime for p in run.checkpoints.glob("step-*/manifest.json"))

    return sorted(finished, key=age)


def newest_finished(runs_dir: Path) -> Run:
    """The finished run with the newest checkpoint. Raises PosxError."""
    return finished_runs(runs_dir)[0]


@contextmanager
def locked(run: Run) -> Iterator[None]:
    """Lock a run for writing. Raises PosxError at once if another process has locked it.

    The operating system releases the lock when the process ends. The file ``.lock`` remains and has no meaning.
    """
    from filelock import FileLock, Timeout  # imported late, so that listing runs is fast

    lock = FileLock(run.path / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise PosxError(
            f"Another process is working on {run.path}.", "Wait for it, or choose another --name."
        ) from None
    except OSError as error:
        raise PosxError(
            f"{run.path} cannot be locked: {error.strerror or error}.", "Choose another --runs-dir."
        ) from None
    try:
        yield
    finally:
        lock.release()


def write_meta(run: Run, meta: dict[str, Any]) -> None:
    """Replace meta.json."""
    write_json(run.path / "meta.json", meta)


def metrics(run: Run) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl, without an incomplete last line."""
    if bundled_run(run.path):
        return bundled_metrics(run.path)
    path = run.path / "metrics.jsonl"
    rows = []
    for line in path.read_text("utf-8").splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
