"""Find records by a name on the command line: ``rope``, ``rope:pi``, a run, a path, or the key of a cell."""

from __future__ import annotations

from pathlib import Path

from posx.config.schema import TRAINED
from posx.errors import PosxError, unknown
from posx.results.records import Record, read_record, read_records
from posx.runs.bundle_runs import is_bundle
from posx.runs.directory import is_run

LEAST_KEY = 4  # characters of a cell's key in messages


def find_cell(runs_dir: Path, text: str) -> Record:
    """The record with this key, a unique prefix of it, or this path. Raises PosxError."""
    if Path(text).suffix == ".json" and Path(text).is_file():
        return read_record(Path(text).resolve())
    records = read_records(runs_dir, [])
    matching = [r for r in records if r.key.startswith(text)] if len(text) >= LEAST_KEY else []
    if len(matching) == 1:
        return matching[0]
    if matching:
        names = ", ".join(f"{r.key} ({r.run}, {r.extension}, {r.length})" for r in matching[:4])
        raise PosxError(f"{len(matching)} cells begin with {text}: {names}.", "Give more of the key.")
    raise PosxError(
        f"There is no cell '{text}' in {runs_dir}.",
        "Use a key from posx table --format json (cells), or the path of a record.",
    )


def find_row(runs_dir: Path, text: str, protocol: str = "fixed-targets") -> tuple[str, dict[int, list[Record]]]:
    """Records by length of a run, or of the row (all seeds) with this label; ``:pi`` selects an extension.

    Default: the model as it was trained. Also returns the name of the row. Raises PosxError.
    """
    name, colon, extension = (text, "", "") if Path(text).exists() else text.partition(":")
    inside = is_run(runs_dir / name) or is_run(Path(name)) or is_bundle(Path(name))
    records = read_records(runs_dir, [name] if inside else [])
    if not inside:
        labels = sorted({r.label for r in records})
        records = [r for r in records if r.label == name]
        if not records:
            raise unknown("row or run", name, [*labels], f" in {runs_dir}")
    records = [r for r in records if r.protocol == protocol and r.split == "test"]
    if not records:
        raise PosxError(f"{name} has no evaluation with {protocol} on the test split.", f"Run posx eval {name} first.")
    there = sorted({r.extension for r in records})
    wanted = extension.replace(" ", "")
    chosen = [r for r in records if (wanted in _names_of(r) if colon else r.as_trained)]
    if not chosen:
        raise unknown("extension", extension or TRAINED, there, f" among the evaluations of {name}")
    least = min(r.base_context for r in chosen)
    chosen = [r for r in chosen if r.base_context == least]  # without controls that were trained at a longer context
    kinds = {(r.config_sha256, r.dtype) for r in chosen}
    trained = sorted({r.train_extension for r in chosen})
    if len(kinds) > 1 and len(trained) > 1 and not colon:
        raise PosxError(
            f"{name} matches models trained with {' and '.join(trained)}.", f"Name one: '{name}:{trained[-1]}'."
        )
    if len(kinds) > 1:
        runs = ", ".join(sorted({r.run for r in chosen})[:6])
        raise PosxError(f"{name} matches runs with different settings: {runs}.", "Name one of these runs.")
    rows: dict[int, list[Record]] = {}
    for record in chosen:
        rows.setdefault(record.length, []).append(record)
    return text, rows


def _names_of(record: Record) -> set[str]:
    """The names after a colon that select a record: its extension, or as trained also that of the training."""
    found = {record.extension} | ({record.train_extension} if record.as_trained else set())
    return {name.replace(" ", "") for name in found}
