"""One HTML page for everything: no network, and no script needed to read it."""

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

# The plots in their order: kind, view, and what they show in words.
PLOTS = (
    ("length", None, "Perplexity over the evaluation context. Bars: 95 % intervals of the change from 1x."),
    (
        "position",
        "context",
        "Nats a token over the available context in whole windows, with 95 % intervals of each point.",
    ),
    ("position", "place", "Change against 1x over the position in the document, with 95 % intervals of each point."),
    ("position", "document", "Change against 1x of each document; the band is the range over seeds."),
    ("gain", None, "Share of what a training at that length gains, with 95 % intervals."),
    ("finetune", None, "Change against the first model at 1x over the steps of fine-tuning, with 95 % intervals."),
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
    """The page of these records as ``path``. Raises PosxError."""
    everything = test_split(aggregate(records))
    cells = choose(everything, None)
    side_by_side = choose(everything, ALL)
    found = [without_controls(sheet) for sheet in sheets(cells)]
    several = len({cell.comparison.protocol for cell in side_by_side}) > 1
    tables = [*pages(cells), *(pages(side_by_side, side_by_side=True) if several else []), *_seed_pages(found)]
    say("Drawing the plots …")
    plots = _plots(everything, cells)
    folders = {r.run: r.path.parent.parent for r in records if r.path is not None}
    contexts = sorted({context for sheet in found for context in sheet.contexts})
    values = {
        "title": title or "How far does each positional scheme carry the model?",
        "version": __version__,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "question": (
            f"A model was trained with at most {_names(contexts, 'or')} positions. What happens when it is given more "
            "tokens: does it use the longer context, survive it, or break?"
        ),
        "contents": [
            ("answer", "In short"), ("setup", "Set-up"), ("tables", "Tables"), ("plots", "Plots"), ("costs", "Costs"),
            ("reproduce", "Reproduce"), ("versions", "Versions"),
        ],
        "answers": [line for sheet in found for line in _answers(sheet)],
        "setup": _setup(records, found),
        "delta": f"{DELTA:g}",
        "tables": tables,
        "plots": plots,
        "costs": [_training_costs(folders), _evaluation_costs(found)],
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
    shown = [f"{value}" for value in values]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} {last} {shown[-1]}"


def _answers(sheet: Sheet) -> list[str]:
    """Up to where each row holds, and where it first does not; rows with the same answer together."""
    told: dict[str, list[str]] = {}
    for group, row in sheet.rows:
        extension = extension_name(group)
        name = row_name(sheet, group) + ("" if extension == "none" else f" with {extension}")
        beyond = [cell for length, cell in sorted(row.items()) if length > group.base_context]
        if beyond:
            told.setdefault(_answer(beyond), []).append(name)
    return [f"{_names(names)}: {answer}" for answer, names in told.items()]


def _answer(beyond: list[Cell]) -> str:
    """What happens at these lengths past 1x."""
    parts, verbs = [], {"uses": "uses the longer context at", "survives": "survives", "breaks": "breaks at"}
    for verdict, verb in verbs.items():
        lengths = [cell.length for cell in beyond if cell.verdict == verdict]
        if lengths:
            parts.append(f"{verb} {_names(lengths)}")
    unknown = [cell.length for cell in beyond if cell.verdict in ("", "undecided") and cell.ok]
    if unknown:
        parts.append(f"undecided at {_names(unknown)}")
    refused = [cell for cell in beyond if not cell.ok]
    if refused:
        reason = refused[0].first.reason.rstrip(".")
        parts.append(f"no number at {_names([c.length for c in refused])} ({reason})")
    text = "; ".join(parts) + "."
    worst = max((c for c in beyond if c.interval is not None), key=lambda c: c.delta or 0.0, default=None)
    if worst is not None and worst.interval is not None and any(c.verdict == "breaks" for c in beyond):
        text += f" Worst: {signed(worst.delta or 0.0)} nats/token {bounds(worst.interval.family)} at {worst.length}."
    if beyond[0].usable is not None:
        text += f" Usable context: {usable(beyond[0]).text} tokens."
    return text


def _setup(records: list[Record], found: list[Sheet]) -> list[tuple[str, str]]:
    def all_of(name: str, form: str = "") -> str:
        return _names([f"{value:{form}}" for value in sorted({getattr(record, name) for record in records})])

    models = {r.model: sorted({x.parameters for x in records if x.model == r.model}) for r in records}
    sizes = "; ".join(f"{name}: {_names([f'{n:,}' for n in counts])} parameters" for name, counts in models.items())
    documents = sorted({sheet.any.first.n_documents for sheet in found})
    return [
        ("Text", all_of("data")),
        ("Model", sizes),
        ("Training contexts", f"{all_of('train_context')} tokens"),
        ("Tokens of a training", all_of("train_tokens", ",")),
        ("Seeds", all_of("seed")),
        *((f"Protocol {sheet.comparison.protocol}", setup(sheet)) for sheet in found),
        ("Documents behind a number", _names(documents) if documents else DASH),
        ("Evaluated on", all_of("device")),
        ("Precision of evaluation", all_of("dtype")),
    ]


def _seed_pages(found: list[Sheet]) -> list[Page]:
    """The change of each seed: what the spread is made of."""
    out = []
    for sheet in found:
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
        heads = ["scheme", "extension", "context", *(f"seed {seed}" for seed in seeds)]
        out.append(Page("Change against 1x of each seed, nats/token", setup(sheet), heads, rows, []))
    return out


def _plots(everything: list[Cell], cells: list[Cell]) -> list[_Plot]:
    """Every plot that these cells have something for."""
    plots = []
    for kind, by, alt in PLOTS:
        shown = everything if by == "context" else cells  # the context is known under the curve protocol alone
        try:
            drawing = svg(kind, shown, by)
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
    notes = ["Times are of the machine and its load at that moment: compare them only within one quiet run."]
    return Page("Training", f"{len(rows)} runs", heads, rows, notes, 4)


def _evaluation_costs(found: list[Sheet]) -> Page:
    rows = []
    for sheet in found:
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
    heads = ["scheme", "extension", "context", "attention", "seconds", "tokens/s", "peak memory"]
    return Page("Evaluation", "means over seeds; tokens are those read", heads, rows, [])


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
    heads = ["cell", "run", "extension", "protocol, split", "context", "nats/token", "targets"]
    return Page("All cells", f"{len(rows)} records", heads, rows, [], 4, sections)


def _commands_and_config(folder: Path, records: list[Record], runs_dir: Path) -> tuple[str, str]:
    config = stored_config(folder)
    own = [r for r in records if r.path is not None and r.path.parent.parent == folder]
    try:
        made = commands(own[0], runs_dir)
    except PosxError as error:
        return str(error), config
    return "\n".join([*made.train, *dict.fromkeys(evaluate_command(record, runs_dir) for record in own)]), config


def _versions(records: list[Record]) -> list[tuple[str, str]]:
    found: dict[str, set[str]] = {}
    for record in records:
        for name, version in record.versions.items():
            found.setdefault(name, set()).add(version)
    return [(name, ", ".join(sorted(versions))) for name, versions in found.items()]
