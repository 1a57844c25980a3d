"""The tables, plot and files of posx bench --scaling."""

from __future__ import annotations

import math
import statistics
from contextlib import suppress
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from posx.bench.growth import QUANTITIES, SCHEMA, curves
from posx.bench.schemes_page import setup_words
from posx.errors import PosxError
from posx.reporting.formats.markdown import markdown
from posx.reporting.plots.base import NothingToDraw
from posx.reporting.plots.style import COLOURS, finish, save, ticks
from posx.reporting.table import Page, entry
from posx.utils.files import read_json, write_json, write_text
from posx.utils.format import DASH, MB

AXES = {"context": "context (tokens)", "width": "width (d_model)", "corpus": "corpus (MB of text)"}  # labels


def pages(data: dict[str, Any]) -> list[Page]:
    """The fitted exponents, and the measurements."""
    setup = data["setup"]
    head = (
        f"{data['scheme']}, {setup_words(setup)}" if setup["threads"] else f"{setup['device']}, torch {setup['torch']}"
    )
    return [_exponents(data, head), _measurements(data)]


def _exponents(data: dict[str, Any], head: str) -> Page:
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
    return Page(
        "How cost grows",
        head,
        ["cost", "exponent", "fitted range", "last two points", "their range"],
        exponents,
        [
            "Exponents are least-squares fits to the logarithms. They hold only within the fitted range, because cost "
            "is a sum of terms with different exponents; for larger sizes, use the exponent of the last two points.",
            f"Command: `{data['command']}`.",
        ],
        left=1,
    )


def _measurements(data: dict[str, Any]) -> Page:
    rows, reasons = [], list[str]()
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
    return Page(
        "Measurements",
        "medians over rounds; each corpus is prepared once",
        ["axis", "value", "time", "memory"],
        rows,
        [
            *(f"[{number}] {reason}" for number, reason in enumerate(reasons, start=1)),
            f"Time: training on {data['setup']['step_tokens']:,} tokens, at every context; or preparing the corpus. "
            "Memory: peak of the process, minus its memory before the work.",
        ],
        left=1,
        sections=sections,
    )


def _seconds(value: float) -> str:
    return f"{1000 * value:.3g} ms" if value < 1 else f"{value:.2f} s" if value < 10 else f"{value:,.0f} s"


def _bytes(value: float) -> str:
    return f"{value / 1000 / MB:,.2f} GB" if value >= 1000 * MB else f"{value / MB:.3g} MB"


def draw(data: dict[str, Any]) -> Figure:
    """A panel for each axis: time and memory as multiples of the smallest point, with the fitted lines."""
    fitted = [curve for curve in curves(data) if curve["fit"]]
    axes = [axis for axis in AXES if any(curve["axis"] == axis for curve in fitted)]
    if not axes:
        raise NothingToDraw("A plot requires at least two points on an axis.", "Measure more points.")
    figure = Figure(figsize=(5.2 * len(axes), 5.0), layout="constrained")
    for panel, axis in zip(figure.subplots(1, len(axes), squeeze=False)[0], axes, strict=True):
        _draw_panel(panel, axis, [curve for curve in fitted if curve["axis"] == axis])
    return figure


def _draw_panel(panel: Axes, axis: str, fitted: list[dict[str, Any]]) -> None:
    styles = {"seconds": (COLOURS[0], "o", "-", _seconds), "peak_memory_bytes": (COLOURS[1], "s", "--", _bytes)}
    panel.set_xscale("log")
    panel.set_yscale("log")
    firsts, ends = [], []
    for curve in fitted:
        law = curve["fit"]
        colour, marker, dash, format_value = styles[curve["quantity"]]
        points = [(x, y) for x, y in curve["points"] if y > 0]
        least = points[0][1]
        panel.plot([x for x, _ in points], [y / least for _, y in points], marker, color=colour, markersize=6)
        range_ = (law["low"], law["high"])
        line = [law["factor"] * x ** law["exponent"] / least for x in range_]
        label = f"{QUANTITIES[curve['quantity']]}: exponent {law['exponent']:.2f}; last two points {law['local']:.2f}"
        panel.plot(range_, line, dash, color=colour, linewidth=1.7, label=label)
        firsts.append(format_value(least))
        ends.append((points[-1][1] / least, points[-1][0], format_value(points[-1][1]), colour))
    for number, (y, x, text, colour) in enumerate(sorted(ends)):  # below and above, so that labels do not overlap
        va = "center" if len(ends) == 1 else ("top", "bottom")[number]
        panel.annotate(text, (x, y), xytext=(8, 0), textcoords="offset points", va=va, fontsize=8.5, color=colour)
    ticks(panel, sorted({x for curve in fitted for x, _ in curve["points"]}), lambda x: f"{x:,.0f}")
    panel.tick_params(axis="x", labelsize=8.5)
    panel.margins(x=0.18, y=0.08)
    low, high = panel.get_ylim()
    panel.yaxis.set_major_locator(LogLocator(base=10, subs=(1,) if high > 100 * low else (1, 2, 5)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}x"))
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.set_xlabel(AXES[axis])
    panel.set_ylabel(f"multiple of the first point ({', '.join(firsts)})")
    panel.set_title("preparing a corpus" if axis == "corpus" else "training", fontsize=9.5, loc="left")
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), fontsize=8.5, frameon=False, handlelength=3.2)
    finish(panel)


def read(path: Path) -> dict[str, Any]:
    """The data of a scaling.json. Raises PosxError."""
    hint = "Name the output directory of posx bench --scaling, or the scaling.json in it."
    path = path / "scaling.json" if path.is_dir() else path
    data = read_json(path, "measurements of posx bench --scaling", hint)
    try:
        if data["schema"] != SCHEMA:
            raise PosxError(f"{path} has schema {data['schema']}, not {SCHEMA}.", "Measure again.")
        if not all(math.isfinite(value) for point in data["points"] for q in QUANTITIES for value in point[q]):
            raise ValueError("a cost is not a number")
        pages(data)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise PosxError(
            f"{path} does not contain measurements of posx bench --scaling ({type(error).__name__}: {error}).",
            hint,
        ) from None
    return data


def write(data: dict[str, Any], folder: Path, measured: bool) -> list[Path]:
    """Write scaling.md, .svg and .png, and scaling.json if the data are new. Raises PosxError."""
    written = []
    try:
        if measured:  # first, because it took the time
            write_json(folder / "scaling.json", data)
            written.append(folder / "scaling.json")
        write_text(folder / "scaling.md", "\n".join(map(markdown, pages(data))))
    except OSError as error:
        raise PosxError(f"{folder} cannot be written: {error.strerror or error}.", "Choose another -o.") from None
    written.append(folder / "scaling.md")
    with suppress(NothingToDraw):  # if there is only one point
        written += save(draw(data), folder / "scaling")
    return written
