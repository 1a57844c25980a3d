"""Records: one evaluation cell as a JSON file, with its settings, its result, and the machine and versions.

Perplexity and bits per byte are derived from ``nats``, ``n_targets`` and ``bytes``, never stored. A cell that
could not be computed also has a record, with a ``status`` and a ``reason``. Reading records imports no torch.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from posx.config.schema import TRAINED
from posx.errors import PosxError, unknown
from posx.results.bundle_cells import bundled_cells
from posx.runs.bundle_runs import RECREATE, bundled_run, is_bundle
from posx.runs.directory import is_run, newest_checkpoint, run_folders
from posx.utils.files import read_json, write_json

SCHEMA = 2
LATER = {"train_recipe", "train_reach"}  # fields that older records lack
STATUSES = ("ok", "unsupported", "diverged", "oom", "failed")


@dataclass(frozen=True)
class Record:
    """Lengths, contexts and strides are in tokens; ``nats`` and ``bytes`` are sums over the ``n_targets`` targets."""

    run: str
    label: str
    scheme: str
    scheme_params: dict[str, Any]
    extension: str
    extension_params: dict[str, Any]
    seed: int
    base_context: int
    train_context: int
    train_extension: str
    length: int
    protocol: str
    split: str
    stride: int | None
    target_context: int | None
    n_targets: int
    n_documents: int
    targets_sha256: str
    nats: float | None
    bytes: int
    status: str
    reason: str
    parameters: int
    backend: str
    dtype: str
    device: str
    seconds: float
    tokens_per_second: float
    peak_memory_bytes: int
    model: str
    data: str
    corpus_sha256: str
    config_sha256: str  # of the run's config without the seed, so that all seeds of a row share it
    recipe_sha256: str  # also without the training context, so that controls share it
    parent_sha256: str  # of a fine-tune: config_sha256 of its first run
    train_steps: int  # of this run, without those of its first run
    train_tokens: int
    checkpoint_sha256: str
    max_targets: int | None
    target_seed: int | None
    left_out: int
    notes: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    train_recipe: str = "none"  # of a fine-tune: none | drop | pose
    train_reach: int | None = None  # pose: the longest simulated position, with windows of train_context
    schema: int = SCHEMA
    path: Path | None = field(default=None, compare=False)  # of the file; not stored in it

    @property
    def key(self) -> str:
        """The key of the cell: the stem of its file."""
        return self.path.stem if self.path else ""

    @property
    def as_trained(self) -> bool:
        """Whether no extension is applied except that of the training."""
        return self.extension == (TRAINED if self.train_extension != "none" else "none")

    @property
    def recipe(self) -> str:
        """A description of the fine-tuning recipe; empty without one."""
        return {"drop": "positions dropped", "pose": f"pose to {self.train_reach}"}.get(self.train_recipe, "")

    @property
    def nats_per_token(self) -> float | None:
        """Mean negative log-likelihood of a target, in nats."""
        return None if self.nats is None or not self.n_targets else self.nats / self.n_targets

    @property
    def multiple(self) -> float:
        """Length in units of the base context."""
        return self.length / self.base_context


def nats_of(record: Record) -> float:
    """Nats/token of a record that has a number."""
    value = record.nats_per_token
    assert value is not None
    return value


def perplexity(nats_per_token: float) -> float:
    """exp of nats/token; infinity if it overflows."""
    return math.exp(nats_per_token) if nats_per_token < 700 else math.inf


def bits_per_byte(nats: float, n_bytes: int) -> float:
    """Bits per byte of the targets."""
    return nats / math.log(2) / n_bytes


def write_record(path: Path, record: Record) -> None:
    """Write the record to ``path``, replacing the file."""
    write_json(path, as_json(record))


def as_json(record: Record) -> dict[str, Any]:
    """The fields of the file."""
    values = asdict(record)
    values.pop("path")
    return values


def read_record(path: Path) -> Record:
    """The record in a file. Raises PosxError if it is damaged or of another version."""
    return _checked(read_json(path, "a posx record"), path, "Delete it and evaluate the run again.")


def _checked(values: Any, path: Path, hint: str) -> Record:
    names = {f.name for f in fields(Record)} - {"path"}
    if not isinstance(values, dict) or values.get("schema") != SCHEMA or not names - LATER <= set(values) <= names:
        raise PosxError(f"{path} is not a record of this version of posx.", hint)
    return Record(**values, path=path)


def current_records(folder: Path) -> list[Record]:
    """The records of a run's newest weights, or of all weights if no checkpoint is stored.

    If two versions of posx computed the same cell, the newer file counts.
    """
    if bundled_run(folder):
        return [_checked(values, path, RECREATE) for path, values in bundled_cells(folder).items()]
    paths = sorted((folder / "eval").glob("*.json"), key=lambda path: path.stat().st_mtime)
    newest = {}
    for record in map(read_record, paths):
        cell = (record.checkpoint_sha256, record.extension, record.length, record.targets_sha256, record.dtype)
        newest[cell, str(record.extension_params)] = record
    records = sorted(newest.values(), key=_order_within_run)
    _, checkpoint = newest_checkpoint(folder / "checkpoints")
    if checkpoint is None:
        return records
    manifest = read_json(checkpoint / "manifest.json", "a posx checkpoint")
    return [r for r in records if r.checkpoint_sha256 == manifest["model.safetensors"]["sha256"]]


def _order_within_run(record: Record) -> tuple[bool, str, int]:
    """The sort key of a record: as trained first, then by extension and length."""
    return not record.as_trained, record.extension, record.length


def read_records(runs_dir: Path, names: list[str]) -> list[Record]:
    """The records of the named runs and bundles (names in ``runs_dir`` or paths), or of all runs there.

    ``runs_dir`` may be a bundle too.
    """
    if names:
        folders = []
        for name in names:
            candidates = runs_dir / name, Path(name)
            bundle = next((p for p in candidates if is_bundle(p)), None)
            if bundle is not None:
                folders += run_folders(bundle)
                continue
            found = next((p for p in candidates if is_run(p)), None)
            if found is None:
                if Path(name).is_dir() or (runs_dir / name).is_dir():
                    raise PosxError(
                        f"{name} is not a posx run: it has no config.yaml.", "Name a run, or leave it out for all."
                    )
                raise unknown("run", name, [p.name for p in run_folders(runs_dir)] or ["none yet"])
            folders.append(found)
    else:
        folders = run_folders(runs_dir)
    records = [record for folder in folders for record in current_records(folder)]
    if not records:
        where = ", ".join(names) if names else str(runs_dir)
        hint = "Evaluate a run: posx eval." if folders else "Start with: posx sweep quick."
        raise PosxError(f"There are no evaluations in {where}.", hint)
    return records
