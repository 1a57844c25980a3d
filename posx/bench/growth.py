"""`posx bench --scaling`: how cost grows with the context, with the width, and with the corpus.

Every point is measured in a process of its own (see children.py), so that its peak of memory is its own. A power law is
fitted over all points of a curve, cost ≈ factor · x^exponent. Cost is a sum of terms of which some grow faster than
others and some not at all, so such an exponent holds for the range that it was fitted over; the one between the last
two points is nearer to what lies beyond.

``python -m posx.bench.growth NAME`` is the process that prepares a corpus.
"""

from __future__ import annotations

import math
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from posx.bench.process import Child, Refused, serve
from posx.bench.schemes import REFERENCE, prepared, setup, with_defaults
from posx.bench.schemes_page import setup_words
from posx.bench.synthetic_text import write_corpus
from posx.config.catalog import PACKAGED, Catalog
from posx.config.schema import DataConfig, EvalConfig, RunConfig, TokenizerConfig
from posx.data.corpus import prepare
from posx.errors import PosxError
from posx.models.build import compose_run
from posx.reporting.formats.markdown import markdown
from posx.reporting.plots.base import NothingToDraw
from posx.reporting.plots.style import COLOURS, finish, save, ticks
from posx.reporting.table import Page, entry
from posx.runtime.device import pick_device
from posx.runtime.memory import HighWater
from posx.utils.console import Display
from posx.utils.files import read_json, write_json, write_text
from posx.utils.format import DASH, MB

CONTEXTS = (128, 256, 512, 1024, 2048, 4096)
WIDTHS = (64, 128, 256, 512, 1024)
CORPUS_MB = (1, 10, 100, 1000)
HEAD_DIM = 64
ROUNDS = 3
SCHEMA = 1
# Uncompiled on every machine: else the smaller of two points may be compiled, and the larger not.
FIXED = (*REFERENCE, "train.compile=off")
AXES = {"context": "context, tokens", "width": "width, d_model", "corpus": "corpus, MB of text"}
QUANTITIES = {"seconds": "time", "peak_memory_bytes": "memory"}


# ---------------------------------------------------------------- what is measured


@dataclass(frozen=True)
class Plan:
    """Every point, after all checks that need no work."""

    base: RunConfig
    training: tuple[tuple[str, int, RunConfig], ...]  # axis, its value, what is trained
    corpus_mb: tuple[int, ...]
    catalog: Catalog = PACKAGED


def make_plan(
    overrides: list[str],
    contexts: list[int] | None = None,
    widths: list[int] | None = None,
    corpus_mb: list[int] | None = None,
    catalog: Catalog = PACKAGED,
) -> Plan:
    """None: all that there are; an empty list leaves an axis out. Raises PosxError."""
    contexts = list(CONTEXTS) if contexts is None else contexts
    widths = list(WIDTHS) if widths is None else widths
    corpus_mb = list(CORPUS_MB) if corpus_mb is None else corpus_mb
    if not (contexts or widths or corpus_mb):
        raise PosxError("Nothing is left to measure.", "Give at least one of --contexts, --widths and --corpus-mb.")
    for width in widths:
        if width % HEAD_DIM:
            above = (width // HEAD_DIM + 1) * HEAD_DIM
            raise PosxError(
                f"--widths takes multiples of {HEAD_DIM}, the width of a head, but {width} was given.",
                f"Take {above}." if width < HEAD_DIM else f"Take {above - HEAD_DIM} or {above}.",
            )

    def composed(**changes: int) -> RunConfig:
        changed = [f"{section}.{key}={value}" for name, value in changes.items() for section, key in [name.split("__")]]
        return compose_run(with_defaults(with_defaults(FIXED, overrides), changed), catalog)

    base = composed()
    pick_device(base.train.device)
    training = []
    for context in contexts:
        tokens = max(base.train.batch_tokens, context)
        training.append(("context", context, composed(train__context=context, train__batch_tokens=tokens)))
    for width in widths:
        training.append(("width", width, composed(model__d_model=width, model__n_heads=width // HEAD_DIM)))
    return Plan(base, tuple(training), tuple(corpus_mb), catalog)


def measure(plan: Plan, rounds: int, seconds: float, display: Display, command: str) -> dict[str, Any]:
    """All measurements and what they were made with: the content of scaling.json."""
    points = [
        {"axis": axis, "x": x, "seconds": [], "peak_memory_bytes": [], "reason": ""} for axis, x, _ in plan.training
    ]
    about: dict[str, Any] = {}
    if points:
        prepared(plan.base, display)
    display.start("bench: training", rounds * len(points))
    for number in range(rounds * len(points)):  # all points, and again: one slow minute spoils no point alone
        point, (axis, x, config) = points[number % len(points)], plan.training[number % len(points)]
        if not point["reason"]:
            try:
                found, about = _train(plan, config, f"{axis}-{x}", seconds)
                _enter(point, found)
            except Refused as error:
                point["reason"] = str(error)
        display.update(number + 1, f"{axis} {x}")
    for megabytes in plan.corpus_mb:
        point = {"axis": "corpus", "x": megabytes, "seconds": [], "peak_memory_bytes": [], "reason": ""}
        points.append(point)
        try:
            _enter(point, _prepare(megabytes, plan.base.tokenizer.vocab_size, display))
        except (Refused, OSError) as error:
            point["reason"] = str(error)
    display.finish()
    if not any(point["seconds"] for point in points):
        raise PosxError(f"Nothing could be measured: {points[0]['reason']}", code=1)
    return {
        "schema": SCHEMA,
        "command": command,
        "scheme": plan.base.scheme["name"],
        "setup": setup(plan.base, "", about),
        "points": points,
    }


def _enter(point: dict[str, Any], found: dict[str, Any]) -> None:
    for quantity in QUANTITIES:
        point[quantity].append(found[quantity])


def _train(plan: Plan, config: RunConfig, name: str, seconds: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Seconds for as many tokens as a step of the base config has, and the peak; beside it what the child says."""
    spec = {"config": asdict(config), "eval": asdict(EvalConfig()), **plan.catalog.as_json()}
    child = Child(["-m", "posx.bench.worker", name], spec)
    try:
        peak = child.ask({"seconds": 0, "memory": True})["peak_memory_bytes"]
        timed = child.ask({"seconds": seconds})
    finally:
        child.end()
    train = plan.base.train
    tokens = train.batch_tokens // train.context * train.context
    return {"seconds": timed["seconds"] / timed["tokens"] * tokens, "peak_memory_bytes": peak}, child.about


def _prepare(megabytes: int, vocab_size: int, display: Display) -> dict[str, Any]:
    """Time and peak of a corpus that was never seen before; nothing of it stays."""
    with tempfile.TemporaryDirectory(prefix="posx-scaling-") as name:
        folder = Path(name)
        if shutil.disk_usage(folder).free < 4 * megabytes * MB:
            raise Refused(f"{folder.parent} has no room for {megabytes} MB of text and its tokens")
        text = folder / "text.jsonl"
        display.start(f"bench: writing {megabytes} MB of text", megabytes)
        write_corpus(text, megabytes * MB, lambda done: display.update(done // MB))
        display.finish()
        display.say(f"bench: preparing {megabytes} MB …")
        child = Child(["-m", "posx.bench.growth", f"corpus-{megabytes}"], {})
        try:
            return child.ask({"path": str(text), "cache": str(folder / "cache"), "vocab_size": vocab_size})
        finally:
            child.end()


class Preparer:
    """A process that prepares one corpus."""

    def __init__(self, spec: dict[str, Any]):
        self.memory = HighWater(torch.device("cpu"))

    def about(self) -> dict[str, Any]:
        return {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """``seconds`` and ``peak_memory_bytes`` of reading, splitting and tokenising this file."""
        data = DataConfig(name="generated", source="text", path=request["path"], cache_dir=request["cache"])
        self.memory.reset()
        began = time.perf_counter()
        prepare(data, TokenizerConfig(request["vocab_size"]), lambda text: print(text, file=sys.stderr))
        return {"seconds": time.perf_counter() - began, "peak_memory_bytes": self.memory.peak()}


# ---------------------------------------------------------------- what it says


@dataclass(frozen=True)
class Fit:
    """cost ≈ factor · x^exponent for low ≤ x ≤ high; ``local``: the exponent between the last two points."""

    exponent: float
    factor: float
    low: float
    high: float
    local: float
    local_from: float


def fit(points: list[tuple[float, float]]) -> Fit | None:
    """Least squares on the logarithms; None for fewer than two points with cost above 0."""
    usable = sorted((x, y) for x, y in points if y > 0)
    if len({x for x, _ in usable}) < 2:
        return None
    logs = [(math.log(x), math.log(y)) for x, y in usable]
    exponent, intercept = statistics.linear_regression(*zip(*logs, strict=True))
    (x1, y1), (x2, y2) = logs[-2:]
    return Fit(exponent, math.exp(intercept), usable[0][0], usable[-1][0], (y2 - y1) / (x2 - x1), usable[-2][0])


def curves(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Each axis and quantity with its medians and its fit, as `--json` prints them."""
    found = []
    for axis in AXES:
        for quantity, called in QUANTITIES.items():
            here = [p for p in data["points"] if p["axis"] == axis]
            points = [(p["x"], statistics.median(p[quantity])) for p in here if p[quantity] and not p["reason"]]
            if here:
                law = fit(points)
                one = {"name": f"{called} over {axis}", "axis": axis, "quantity": quantity, "points": points}
                found.append(one | {"fit": asdict(law) if law else None})
    return found


def pages(data: dict[str, Any]) -> list[Page]:
    """The exponents, and the measurements behind them."""
    made = data["setup"]
    head = f"{data['scheme']}, {setup_words(made)}" if made["threads"] else f"{made['device']}, torch {made['torch']}"
    exponents = []
    for curve in curves(data):
        law = curve["fit"]
        cells = [DASH] * 4
        if law:
            cells = [
                f"{law['exponent']:.2f}",
                f"{law['low']:,}–{law['high']:,}",
                f"{law['local']:.2f}",
                f"{law['local_from']:,}–{law['high']:,}",
            ]
        exponents.append([entry(text) for text in (curve["name"], *cells)])
    rows, reasons = [], []
    for point in data["points"]:
        cells = [DASH, DASH]
        if point["reason"]:
            if point["reason"] not in reasons:
                reasons.append(point["reason"])
            cells = [f"{DASH} [{reasons.index(point['reason']) + 1}]"] * 2
        elif point["seconds"]:
            cells = [
                _seconds(statistics.median(point["seconds"])),
                _bytes(statistics.median(point["peak_memory_bytes"])),
            ]
        rows.append([entry(text) for text in (AXES[point["axis"]], f"{point['x']:,}", *cells)])
    sections = frozenset(n for n in range(1, len(rows)) if data["points"][n]["axis"] != data["points"][n - 1]["axis"])
    return [
        Page(
            "How cost grows",
            head,
            ["cost", "exponent", "fitted over", "last two points", "which are"],
            exponents,
            [
                "Least squares on the logarithms, over the range named and not beyond. A sum of terms has no exponent "
                "of its own; the last two points are nearer to what lies beyond.",
                f"Made by `{data['command']}`.",
            ],
            left=1,
        ),
        Page(
            "Its measurements",
            "medians of the rounds; each corpus is prepared once",
            ["over", "", "time", "memory"],
            rows,
            [
                *(f"[{number}] {reason}" for number, reason in enumerate(reasons, start=1)),
                f"Time: of training on {made['step_tokens']:,} tokens, at every context; or of preparing the corpus. "
                "Memory: the most that the process held above what it held before.",
            ],
            left=1,
            sections=sections,
        ),
    ]


def _seconds(value: float) -> str:
    return f"{1000 * value:.3g} ms" if value < 1 else f"{value:.2f} s" if value < 10 else f"{value:,.0f} s"


def _bytes(value: float) -> str:
    return f"{value / 1000 / MB:,.2f} GB" if value >= 1000 * MB else f"{value / MB:.3g} MB"


def draw(data: dict[str, Any]) -> Figure:
    """A panel for each axis: time and memory as multiples of the smallest point's, with the fitted lines."""
    found = [curve for curve in curves(data) if curve["fit"]]
    axes = [axis for axis in AXES if any(curve["axis"] == axis for curve in found)]
    if not axes:
        raise NothingToDraw("There are not two points to draw a line through.", "Measure more of them.")
    figure = Figure(figsize=(5.2 * len(axes), 5.0), layout="constrained")
    for panel, axis in zip(figure.subplots(1, len(axes), squeeze=False)[0], axes, strict=True):
        _draw_panel(panel, axis, [curve for curve in found if curve["axis"] == axis])
    return figure


def _draw_panel(panel: Axes, axis: str, found: list[dict[str, Any]]) -> None:
    styles = {"seconds": (COLOURS[0], "o", "-", _seconds), "peak_memory_bytes": (COLOURS[1], "s", "--", _bytes)}
    panel.set_xscale("log")
    panel.set_yscale("log")
    firsts, ends = [], []
    for curve in found:
        law = curve["fit"]
        colour, marker, dash, words = styles[curve["quantity"]]
        points = [(x, y) for x, y in curve["points"] if y > 0]
        least = points[0][1]
        panel.plot([x for x, _ in points], [y / least for _, y in points], marker, color=colour, markersize=6)
        range_ = (law["low"], law["high"])
        line = [law["factor"] * x ** law["exponent"] / least for x in range_]
        label = f"{QUANTITIES[curve['quantity']]}: exponent {law['exponent']:.2f}; last two points {law['local']:.2f}"
        panel.plot(range_, line, dash, color=colour, linewidth=1.7, label=label)
        firsts.append(words(least))
        ends.append((points[-1][1] / least, points[-1][0], words(points[-1][1]), colour))
    for number, (y, x, text, colour) in enumerate(sorted(ends)):  # apart, where the points are not
        va = "center" if len(ends) == 1 else ("top", "bottom")[number]
        panel.annotate(text, (x, y), xytext=(8, 0), textcoords="offset points", va=va, fontsize=8.5, color=colour)
    ticks(panel, sorted({x for curve in found for x, _ in curve["points"]}), lambda x: f"{x:,.0f}")
    panel.tick_params(axis="x", labelsize=8.5)
    panel.margins(x=0.18, y=0.08)
    low, high = panel.get_ylim()
    panel.yaxis.set_major_locator(LogLocator(base=10, subs=(1,) if high > 100 * low else (1, 2, 5)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}x"))
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.set_xlabel(AXES[axis])
    panel.set_ylabel(f"times the first point ({', '.join(firsts)})")
    panel.set_title("preparing a corpus" if axis == "corpus" else "training", fontsize=9.5, loc="left")
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), fontsize=8.5, frameon=False, handlelength=3.2)
    finish(panel)


# ---------------------------------------------------------------- files


def read(path: Path) -> dict[str, Any]:
    """A scaling.json. Raises PosxError."""
    way_out = "Name the scaling.json in the folder that -o named, or that folder."
    path = path / "scaling.json" if path.is_dir() else path
    data = read_json(path, "measurements of posx bench --scaling", way_out)
    try:
        if data["schema"] != SCHEMA:
            raise PosxError(f"{path} has schema {data['schema']}, not {SCHEMA}.", "Measure again.")
        if not all(math.isfinite(value) for point in data["points"] for q in QUANTITIES for value in point[q]):
            raise ValueError("a cost that is no number")
        pages(data)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise PosxError(
            f"{path} holds no measurements of posx bench --scaling ({type(error).__name__}: {error}).",
            way_out,
        ) from None
    return data


def write(data: dict[str, Any], folder: Path, measured: bool) -> list[Path]:
    """scaling.md, .svg and .png, and scaling.json where the data are new. Raises PosxError."""
    written = []
    try:
        if measured:  # first: it is what cost the time
            write_json(folder / "scaling.json", data)
            written.append(folder / "scaling.json")
        write_text(folder / "scaling.md", "\n".join(map(markdown, pages(data))))
    except OSError as error:
        raise PosxError(f"{folder} cannot be written: {error.strerror or error}.", "Choose another -o.") from None
    written.append(folder / "scaling.md")
    with suppress(NothingToDraw):  # of a single point
        written += save(draw(data), folder / "scaling")
    return written


if __name__ == "__main__":
    serve(Preparer)
