"""`posx bench --scaling`: how cost grows with the context, with the width, and with the corpus.

Each point is measured in a separate process (see process.py), so that its peak memory includes nothing else. A power
law, cost ≈ factor · x^exponent, is fitted to all points of a curve. Cost is a sum of terms that grow at different
rates, so the exponent is valid only within the fitted range; the exponent between the last two points is a better
guide to larger sizes.

``python -m posx.bench.growth NAME`` is the process that prepares a corpus.
"""

from __future__ import annotations

import math
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from posx.bench.process import Child, Refused, serve
from posx.bench.schemes import REFERENCE, prepared, setup, with_defaults
from posx.bench.synthetic_text import write_corpus
from posx.config.catalog import PACKAGED, Catalog
from posx.config.schema import DataConfig, EvalConfig, RunConfig, TokenizerConfig
from posx.data.corpus import prepare
from posx.errors import PosxError
from posx.models.build import compose_run
from posx.runtime.device import pick_device
from posx.runtime.memory import HighWater
from posx.utils.console import Display
from posx.utils.format import MB

CONTEXTS = (128, 256, 512, 1024, 2048, 4096)
WIDTHS = (64, 128, 256, 512, 1024)
CORPUS_MB = (1, 10, 100, 1000)
HEAD_DIM = 64
ROUNDS = 3
SCHEMA = 1
# Uncompiled on every machine: otherwise the smaller of two points might be compiled and the larger not.
FIXED = (*REFERENCE, "train.compile=off")
AXES = ("context", "width", "corpus")
QUANTITIES = {"seconds": "time", "peak_memory_bytes": "memory"}


@dataclass(frozen=True)
class Plan:
    """The points to measure, after all checks that can be made in advance."""

    base: RunConfig
    training: tuple[tuple[str, int, RunConfig], ...]  # axis, value on the axis, config to train
    corpus_mb: tuple[int, ...]
    catalog: Catalog = PACKAGED


def make_plan(
    overrides: list[str],
    contexts: list[int] | None = None,
    widths: list[int] | None = None,
    corpus_mb: list[int] | None = None,
    catalog: Catalog = PACKAGED,
) -> Plan:
    """None: the default values of an axis; an empty list skips the axis. Raises PosxError."""
    contexts = list(CONTEXTS) if contexts is None else contexts
    widths = list(WIDTHS) if widths is None else widths
    corpus_mb = list(CORPUS_MB) if corpus_mb is None else corpus_mb
    if not (contexts or widths or corpus_mb):
        raise PosxError("There is nothing to measure.", "Give at least one of --contexts, --widths and --corpus-mb.")
    for width in widths:
        if width % HEAD_DIM:
            above = (width // HEAD_DIM + 1) * HEAD_DIM
            raise PosxError(
                f"--widths takes multiples of {HEAD_DIM}, the head dimension, not {width}.",
                f"Use {above}." if width < HEAD_DIM else f"Use {above - HEAD_DIM} or {above}.",
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
    """All measurements and their setup, as stored in scaling.json."""
    points = [
        {"axis": axis, "x": x, "seconds": [], "peak_memory_bytes": [], "reason": ""} for axis, x, _ in plan.training
    ]
    about: dict[str, Any] = {}
    if points:
        prepared(plan.base, display)
    display.start("bench: training", rounds * len(points))
    for number in range(rounds * len(points)):  # round by round, so that a slow minute affects all points alike
        point, (axis, x, config) = points[number % len(points)], plan.training[number % len(points)]
        if not point["reason"]:
            try:
                measured, about = _train(plan, config, f"{axis}-{x}", seconds)
                _enter(point, measured)
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


def _enter(point: dict[str, Any], measured: dict[str, Any]) -> None:
    for quantity in QUANTITIES:
        point[quantity].append(measured[quantity])


def _train(plan: Plan, config: RunConfig, name: str, seconds: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """The seconds per step of the base config (in tokens) and the peak memory; and the result of ``about()``."""
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
    """Time and peak memory of preparing a new corpus; deletes all its files."""
    with tempfile.TemporaryDirectory(prefix="posx-scaling-") as name:
        folder = Path(name)
        if shutil.disk_usage(folder).free < 4 * megabytes * MB:
            raise Refused(f"{folder.parent} has too little space for {megabytes} MB of text and its tokens")
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
    """The worker that prepares one corpus."""

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
    """The medians and the fit for each axis and quantity, as `--json` prints them."""
    out = []
    for axis in AXES:
        for quantity, name in QUANTITIES.items():
            on_axis = [p for p in data["points"] if p["axis"] == axis]
            points = [(p["x"], statistics.median(p[quantity])) for p in on_axis if p[quantity] and not p["reason"]]
            if on_axis:
                law = fit(points)
                curve = {"name": f"{name} over {axis}", "axis": axis, "quantity": quantity, "points": points}
                out.append(curve | {"fit": asdict(law) if law else None})
    return out


if __name__ == "__main__":
    serve(Preparer)
