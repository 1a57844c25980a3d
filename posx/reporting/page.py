"""The HTML report: one self-contained page that can be read offline and without JavaScript."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from posx import __version__
from posx.errors import PosxError
from posx.reporting.grouping import (
    ALL,
    Sheet,
    choose,
    extension_name,
    row_name,
    setup,
    sheets,
    test_split,
    without_controls,
)
from posx.reporting.plots import svg
from posx.reporting.plots.base import NothingToDraw
from posx.reporting.reproduce import commands, evaluate_command
from posx.reporting.table import Entry, Page, entry
from posx.reporting.views import pages, usable
from posx.results.aggregate import aggregate
from posx.results.cells import DELTA, Cell
from posx.results.records import Record
from posx.runs.directory import stored_config, stored_meta
from posx.utils.files import write_text
from posx.utils.format import DASH, bounds, clock, figure, nats, signed

# The plots in their order: kind, view and caption.
PLOTS = (
    ("length", None, "Perplexity by evaluation length. Bars: 95% intervals of the change from 1x."),
    (
        "position",
        "context",
        "Nats/token by available context in whole windows, with a 95% interval for each point.",
    ),
    ("position", "place", "Change from 1x by position in the document, with a 95% interval for each point."),
    ("position", "document", "Change from 1x for each document; the band is the range over seeds."),
    ("gain", None, "Share of the gain from training at that length, with 95% intervals."),
    ("finetune", None, "Change from the base model at 1x by fine-tuning steps, with 95% intervals."),
)


@dataclass(frozen=True)
class _Plot:
    alt: str
    data: str  # SVG in base64


@dataclass(frozen=True)
class _Run:
    name: str
    commands: str
    config: str


def write_report(
    records: list[Record], runs_dir: Path, path: Path, title: str = "", say: Callable[[str], None] = lambda text: None
) -> None:
    """Write the report of these records to ``path``. Raises PosxError."""
    all_cells = test_split(aggregate(records))
    cells = choose(all_cells, None)
    side_by_side = choose(all_cells, ALL)
    compared = [without_controls(sheet) for sheet in sheets(cells)]
    several = len({cell.comparison.protocol for cell in side_by_side}) > 1
    tables = [*pages(cells), *(pages(side_by_side, side_by_side=True) if several else []), *_seed_pages(compared)]
    say("Drawing the plots …")
    plots = _plots(all_cells, cells)
    folders = {r.run: r.path.parent.parent for r in records if r.path is not None}
    contexts = sorted({context for sheet in compared for context in sheet.contexts})
    values = {
        "title": title or "How far does each positional scheme extrapolate?",
        "version": __version__,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "question": (
            f"The models were trained on at most {_names(contexts, 'or')} tokens at a time. What happens when they "
            "read more: do they use the longer context, survive it, or break?"
        ),
        "contents": [
            ("answer", "Summary"), ("setup", "Setup"), ("tables", "Tables"), ("plots", "Plots"), ("costs", "Costs"),
            ("reproduce", "Reproduce"), ("versions", "Versions"),
        ],
        "answers": [line for sheet in compared for line in _answers(sheet)],
        "setup": _setup(records, compared),
        "delta": f"{DELTA:g}",
        "tables": tables,
        "plots": plots,
        "costs": [_training_costs(folders), _evaluation_costs(compared)],
        "cells": _cells_page(records),
        "runs": [
            _Run(name, *_commands_and_config(folder, records, runs_dir)) for name, folder in sorted(folders.items())
        ],
        "versions": _versions(records),
    }  # fmt: skip
    environment = Environment(
        loader=PackageLoader("posx.reporting"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    try:
        write_text(path, environment.get_template("report.html").render(**values))
    except OSError as error:
        raise PosxError(f"{path} cannot be written: {error.strerror}.", "Choose another -o.") from None


def _names(values: list[Any], last: str = "and") -> str:
    words = [f"{value}" for value in values]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


def _answers(sheet: Sheet) -> list[str]:
    """One line for each result: the rows with this result, and what happens to them past 1x."""
    rows_by_answer: dict[str, list[str]] = {}
    for group, row in sheet.rows:
        extension = extension_name(group)
        name = row_name(sheet, group) + ("" if extension == "none" else f" with {extension}")
        beyond = [cell for length, cell in sorted(row.items()) if length > group.base_context]
        if beyond:
            rows_by_answer.setdefault(_answer(beyond), []).append(name)
    return [f"{_names(names)}: {answer}" for answer, names in rows_by_answer.items()]


def _answer(beyond: list[Cell]) -> str:
    """The verdicts of these cells past 1x as a sentence."""
    parts, verbs = [], {"uses": "uses the longer context at", "survives": "survives", "breaks": "breaks at"}
    for verdict, verb in verbs.items():
        lengths = [cell.length for cell in beyond if cell.verdict == verdict]
        if lengths:
            parts.append(f"{verb} {_names(lengths)}")
    undecided = [cell.length for cell in beyond if cell.verdict in ("", "undecided") and cell.ok]
    if undecided:
        parts.append(f"undecided at {_names(undecided)}")
    missing = [cell for cell in beyond if not cell.ok]
    if missing:
        reason = missing[0].first.reason.rstrip(".")
        parts.append(f"no number at {_names([c.length for c in missing])} ({reason})")
    text = "; ".join(parts) + "."
    worst = max((c for c in beyond if c.interval is not None), key=lambda c: c.delta or 0.0, default=None)
    if worst is not None and worst.interval is not None and any(c.verdict == "breaks" for c in beyond):
        text += f" Worst: {signed(worst.delta or 0.0)} nats/token {bounds(worst.interval.family)} at {worst.length}."
    if beyond[0].usable is not None:
        text += f" Usable context: {usable(beyond[0]).text} tokens."
    return text


def _setup(records: list[Record], compared: list[Sheet]) -> list[tuple[str, str]]:
    def values_of(name: str, form: str = "") -> str:
        return _names([f"{value:{form}}" for value in sorted({getattr(record, name) for record in records})])

    models = {r.model: sorted({x.parameters for x in records if x.model == r.model}) for r in records}
    sizes = "; ".join(f"{name}: {_names([f'{n:,}' for n in counts])} parameters" for name, counts in models.items())
    documents = sorted({sheet.any.first.n_documents for sheet in compared})
    return [
        ("Data", values_of("data")),
        ("Model", sizes),
        ("Training contexts", f"{values_of('train_context')} tokens"),
        ("Training tokens", values_of("train_tokens", ",")),
        ("Seeds", values_of("seed")),
        *((f"Protocol {sheet.comparison.protocol}", setup(sheet)) for sheet in compared),
        ("Documents scored", _names(documents) if documents else DASH),
        ("Evaluation device", values_of("device")),
        ("Evaluation precision", values_of("dtype")),
    ]


def _seed_pages(compared: list[Sheet]) -> list[Page]:
    """The change from 1x of each seed."""
    out = []
    for sheet in compared:
        seeds = sorted({seed for cell in sheet.cells for seed in cell.seeds})
        if len(seeds) < 2:
            continue
        rows = []
        for group, row in sheet.rows:
            for length, cell in sorted(row.items()):
                if cell.is_control or not cell.deltas:
                    continue
                by_seed = dict(zip((r.seed for r in cell.computed), cell.deltas, strict=True))
                rows.append(
                    [
                        entry(row_name(sheet, group)),
                        entry(extension_name(group)),
                        entry(str(length), length),
                        *(entry(signed(by_seed[s]) if s in by_seed else DASH, by_seed.get(s)) for s in seeds),
                    ]
                )
        heads = ["scheme", "extension", "length", *(f"seed {seed}" for seed in seeds)]
        out.append(Page("Change from 1x by seed, nats/token", setup(sheet), heads, rows, []))
    return out


def _plots(all_cells: list[Cell], cells: list[Cell]) -> list[_Plot]:
    """Every kind of plot that these cells allow."""
    plots = []
    for kind, by, alt in PLOTS:
        try:
            # Only the curve protocol, which tables leave out, gives the context.
            drawing = svg(kind, all_cells if by == "context" else cells, by)
        except NothingToDraw:
            continue
        plots.append(_Plot(alt, base64.b64encode(drawing).decode()))
    return plots


def _training_costs(folders: dict[str, Path]) -> Page:
    rows = []
    for name, folder in sorted(folders.items()):
        meta = stored_meta(folder)
        seconds, peak = meta.get("seconds"), meta.get("peak_memory_bytes")
        rows.append(
            [
                entry(name),
                entry(str(meta.get("device_name", meta.get("device", DASH)))),
                entry(str(meta.get("dtype", DASH))),
                entry(str(meta.get("backend", DASH))),
                entry(str(meta.get("threads", DASH)), meta.get("threads")),
                entry(DASH if seconds is None else clock(seconds), seconds),
                entry(DASH if peak is None else f"{peak / 2**20:,.0f} MiB", peak),
                entry(nats(meta.get("validation_nats_per_token")), meta.get("validation_nats_per_token")),
            ]
        )
    heads = ["run", "device", "precision", "attention", "threads", "time", "peak memory", "validation nats/token"]
    notes = ["Times depend on the machine and its load: compare them only if nothing else was running."]
    return Page("Training", f"{len(rows)} runs", heads, rows, notes, 4)


def _evaluation_costs(compared: list[Sheet]) -> Page:
    rows = []
    for sheet in compared:
        for group, row in sheet.rows:
            for length, cell in sorted(row.items()):
                if not cell.ok:
                    continue
                rate = fmean(r.tokens_per_second for r in cell.computed)
                peak = max(r.peak_memory_bytes for r in cell.computed)
                seconds = fmean(r.seconds for r in cell.computed)
                rows.append(
                    [
                        entry(row_name(sheet, group)),
                        entry(extension_name(group)),
                        entry(str(length), length),
                        entry(cell.first.backend),
                        entry(f"{figure(seconds, 2)} s", seconds),
                        entry(f"{rate:,.0f}", rate),
                        entry(f"{peak / 2**20:,.0f} MiB", peak),
                    ]
                )
    heads = ["scheme", "extension", "length", "attention", "seconds", "tokens/s", "peak memory"]
    return Page("Evaluation", "means over seeds; rates count input tokens", heads, rows, [])


def _cells_page(records: list[Record]) -> Page:
    ordered = sorted(records, key=lambda r: (r.protocol, r.label, r.extension, r.length, r.seed))
    rows = [
        [
            Entry((r.key,)),
            entry(r.run),
            entry(r.extension),
            entry(f"{r.protocol}, {r.split}"),
            entry(str(r.length), r.length),
            entry(nats(r.nats_per_token) if r.status == "ok" else r.status, r.nats_per_token),
            entry(r.targets_sha256[:8]),
        ]
        for r in ordered
    ]
    sections = frozenset(n for n, (a, b) in enumerate(pairwise(ordered), 1) if a.label != b.label)
    heads = ["cell", "run", "extension", "protocol, split", "length", "nats/token", "targets"]
    return Page("All cells", f"{len(rows)} records", heads, rows, [], 4, sections)


def _commands_and_config(folder: Path, records: list[Record], runs_dir: Path) -> tuple[str, str]:
    config = stored_config(folder)
    own = [r for r in records if r.path is not None and r.path.parent.parent == folder]
    try:
        train = commands(own[0], runs_dir).train
    except PosxError as error:
        return str(error), config
    return "\n".join([*train, *dict.fromkeys(evaluate_command(record, runs_dir) for record in own)]), config


def _versions(records: list[Record]) -> list[tuple[str, str]]:
    versions: dict[str, set[str]] = {}
    for record in records:
        for name, version in record.versions.items():
            versions.setdefault(name, set()).add(version)
    return [(name, ", ".join(sorted(values))) for name, values in versions.items()]
