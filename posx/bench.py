"""`posx bench`: what a scheme costs, beside `nope`: time of a step, rate of an evaluation, memory of both.

A machine that others share is faster at one moment than at the next, by 15 % and more. So every scheme lives in a
process of its own, its memory and its allocator apart from the others', and waits; we go round and ask each for a short
burst of work. Figures are medians over the rounds, and a ratio is the median of the ratios within the rounds.

``python -m posx.bench NAME`` is such a process (children.py).
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from posx import machine
from posx.children import Child, Died, HighWater, Refused, serve
from posx.components import bind
from posx.compose import as_overrides, compose_eval, compose_run, key_of, options, parse_extension, resolve_scheme
from posx.config import EvalConfig, RunConfig
from posx.corpus import Corpus, prepare
from posx.errors import PosxError, unknown
from posx.evaluate import targets_of
from posx.figures import DASH, figure
from posx.model import count_parameters
from posx.pages import Page, entry
from posx.progress import Display
from posx.scoring import Scorer
from posx.session import build_model, start
from posx.train import train_step
from posx.typed import typed
from posx.windows import TargetSet, check_long_enough, check_windows, comparable, parse_length, windows_of_targets

BASELINE = "nope"
REFERENCE = ("model=small", "train.batch_tokens=4096")
LENGTHS = ("1x", "4x", "16x")
ROUNDS = 5
BURST_SECONDS = 1.0
LOOKS = 3  # at the peak of memory, which varies by some per cent from step to step
GROUP = 8  # schemes that wait at once beside the baseline: each keeps its memory
MB = 10**6
# What would make schemes differ in more than the scheme, or not be what is measured.
NOT_HERE = {
    "scheme": "Use --schemes NAME,NAME; for other settings write a config of your own, see --config-dir.",
    "eval.protocol": "The windows of fixed targets are what is timed.",
    "eval.extensions": "Schemes are measured without one.",
    "eval.threads": "Use train.threads, which holds for both.",
    "eval.device": "Use train.device, which holds for both.",
}


# ---------------------------------------------------------------- the process that works


def burst(once: Callable[[], int], seconds: float) -> dict[str, Any]:
    """Call ``once``, which returns input tokens, until ``seconds`` are over; at least one time."""
    began, tokens, runs = time.perf_counter(), 0, 0
    while True:
        tokens, runs = tokens + once(), runs + 1
        spent = time.perf_counter() - began
        if spent >= seconds:
            return {"seconds": spent, "tokens": tokens, "runs": runs}


class Worker:
    """One scheme, built, to be trained and evaluated in bursts."""

    def __init__(self, spec: dict[str, Any]):
        self.trust, config_dir = spec["trust"], Path(spec["config_dir"]) if spec["config_dir"] else None
        self.config = resolve_scheme(typed(RunConfig, spec["config"]), self.trust)
        self.eval = typed(EvalConfig, spec["eval"])
        self.trained_with = parse_extension(self.config.train.extension, config_dir, self.trust)
        self.corpus = prepare(self.config.data, self.config.tokenizer, _to_stderr)
        self.memory = HighWater(machine.pick_device(self.config.train.device))
        self.session = start(self.config, self.corpus, self.trust, config_dir)
        self.step = self.place = 0

    @cached_property
    def scorer(self) -> Scorer:
        """The same weights in blocks of their own: an evaluation is not compiled."""
        model = build_model(self.config, self.corpus.vocab_size, self.trust).to(self.session.device)
        model.load_state_dict(self.session.model.state_dict(), assign=True)
        return Scorer(model.eval(), self.corpus, self.eval, self.session.device)

    @cached_property
    def targets(self) -> TargetSet:
        return targets_of(self.corpus, self.eval, self.config.base_context)

    def about(self) -> dict[str, Any]:
        """What the figures of this process were made with."""
        return {
            "parameters": count_parameters(self.session.model)["total"],
            "vocab_size": self.corpus.vocab_size,
            "threads": torch.get_num_threads(),
            "dtype": str(self.session.dtype).removeprefix("torch."),
            "compiled": self.session.compiled,
        }

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """A burst of training, or of evaluation at ``length``; with ``memory`` also the peak meanwhile."""
        length = request.get("length")
        once = self._train if length is None else lambda: self._evaluate(length)
        machine.prepare_for(self.session.device, exact=length is not None)  # as posx train and posx eval do
        if request.get("memory"):
            once()  # what is made once, compiled code say, is no part of the peak
            self.memory.reset()
        found = burst(once, request["seconds"])
        return found | ({"peak_memory_bytes": self.memory.peak()} if request.get("memory") else {})

    def _train(self) -> int:
        float(train_step(self.session, self.step)[0])  # waits for the device
        self.step += 1
        return self.session.sequences * self.config.train.context

    def _evaluate(self, length: int) -> int:
        """One forward pass over the next few windows."""
        count = len(self.targets.ends)
        first = self.place % count
        rows = slice(first, min(count, first + max(1, self.scorer.batch_tokens // length)))
        self.place += rows.stop - rows.start
        some = replace(self.targets, ends=self.targets.ends[rows], documents=self.targets.documents[rows])
        windows = windows_of_targets(some, length)
        applied = bind((), self.scorer.model.scheme, length, self.trained_with, self.config.train.context)
        self.scorer.score(windows, applied, Display(quiet=True), "")
        return int(windows.lengths.sum())


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)


# ---------------------------------------------------------------- the process that asks


@dataclass(frozen=True)
class Plan:
    """What is measured, after every check that needs no work. Of a scheme that cannot be built: why not."""

    configs: dict[str, RunConfig | str]
    eval: EvalConfig
    lengths: tuple[int, ...]  # tokens, ascending
    config_dir: Path | None = None
    trust: bool = False

    @property
    def baseline(self) -> RunConfig:
        config = self.configs[BASELINE]
        assert isinstance(config, RunConfig)
        return config

    def spec(self, name: str) -> dict[str, Any]:
        """For :class:`Worker`. Raises Refused for a scheme that cannot be built."""
        config = self.configs[name]
        if isinstance(config, str):
            raise Refused(config)
        folder = str(self.config_dir) if self.config_dir else None
        return {"config": asdict(config), "eval": asdict(self.eval), "config_dir": folder, "trust": self.trust}


def with_defaults(defaults: Iterable[str], overrides: list[str]) -> list[str]:
    """The user's overrides, after those defaults that they leave alone."""
    given = set(map(key_of, overrides))
    return [*(d for d in defaults if key_of(d) not in given), *overrides]


def make_plan(
    overrides: list[str],
    schemes: list[str] | None = None,
    lengths: list[str] | None = None,
    config_dir: Path | None = None,
    trust: bool = False,
) -> Plan:
    """Compose every config, and refuse what cannot be. Raises PosxError."""
    for override in overrides:
        key = key_of(override)
        hint = NOT_HERE.get(key) or (NOT_HERE["scheme"] if key.startswith("scheme.") else None)
        if hint:
            raise PosxError(f"posx bench takes no {key}.", hint)
    known = options("scheme", config_dir)
    for name in schemes or ():
        if name not in known:
            raise unknown("scheme", name, known)
    names = list(dict.fromkeys([BASELINE, *(sorted(known) if schemes is None else schemes)]))
    of_runs = with_defaults(REFERENCE, [o for o in overrides if not key_of(o).startswith("eval.")])
    # The baseline takes everything that is not a scheme's own, so that its errors are the user's.
    baseline = compose_run([*of_runs, f"scheme={BASELINE}"], config_dir, trust)
    configs: dict[str, RunConfig | str] = {BASELINE: baseline}
    for name in names[1:]:
        try:
            configs[name] = compose_run([*of_runs, f"scheme={name}"], config_dir, trust)
        except PosxError as error:
            configs[name] = str(error)
    context = baseline.base_context
    of_evals = [o for o in overrides if key_of(o).startswith("eval.")]
    of_evals = as_overrides([("--lengths", "eval.lengths", lengths)], of_evals)
    config = compose_eval(with_defaults([f"eval.lengths=[{','.join(LENGTHS)}]"], of_evals), config_dir)
    tokens = sorted({parse_length(text, context) for text in config.lengths})
    # No control at 8x is wanted here: the targets need no more context than the longest of the lengths.
    config = comparable(replace(config, target_context=config.target_context or tokens[-1]), [context])
    check_windows(config, tokens)
    return Plan(configs, replace(config, device=baseline.train.device), tuple(tokens), config_dir, trust)


def prepared(config: RunConfig, display: Display) -> Corpus:
    """The corpus, made before any child asks for it."""
    corpus = prepare(config.data, config.tokenizer, display.say)
    for note in corpus.notes:
        display.say(f"Note: {note}")
    return corpus


@dataclass
class Figures:
    """What was found about one kind of work of one scheme. ``seconds`` a token, one for each round."""

    seconds: list[float] = field(default_factory=list)
    peak_memory_bytes: int | None = None
    reason: str = ""


TRAINING = 0  # stands for training where a length in tokens is asked


@dataclass
class Found:
    """What was found about one scheme; ``reason``: why nothing was."""

    work: dict[int, Figures]
    about: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


def measure(plan: Plan, rounds: int, seconds: float, display: Display, command: str) -> list[dict[str, Any]]:
    """A row for each scheme, as `--json` prints them. Raises PosxError where the machine or the corpus cannot serve."""
    machine.pick_device(plan.baseline.train.device)
    corpus = prepared(plan.baseline, display)
    check_long_enough(corpus, plan.baseline.train.context)
    targets_of(corpus, plan.eval, plan.baseline.base_context)
    others = [name for name in plan.configs if name != BASELINE]
    rows: dict[str, dict[str, Any]] = {}
    for first in range(0, max(1, len(others)), GROUP):
        group = [BASELINE, *others[first : first + GROUP]]
        found = _measure_group(plan, group, rounds, seconds, display)
        rows = {name: _row(plan, name, found, command) for name in group} | rows  # the baseline's of the first group
    if all(cell["reason"] for row in rows.values() for cell in (row["train"], *row["eval"])):
        raise PosxError(f"Nothing could be measured: {rows[BASELINE]['train']['reason']}", code=1)
    return [rows[name] for name in plan.configs]


def _measure_group(plan: Plan, names: list[str], rounds: int, seconds: float, display: Display) -> dict[str, Found]:
    """The baseline and some others, in processes that all live until the last of them is measured."""
    work = (TRAINING, *plan.lengths)
    found = {name: Found({kind: Figures() for kind in work}) for name in names}
    children: dict[str, Child] = {}
    with ExitStack() as stack:
        display.start("bench: building", len(names))
        for number, name in enumerate(names, start=1):
            try:
                children[name] = child = Child("posx.bench", name, plan.spec(name))
                stack.callback(child.end)
                found[name].about = child.about
                _first_look(child, found[name].work, plan.lengths)
            except Refused as error:
                found[name].reason = str(error)
            display.update(number, name)
        done = 0
        display.start("bench: measuring", rounds * len(work) * len(children))
        for turn in range(rounds):
            # There and back again: a machine that slows down steadily favours nobody.
            order = list(children)[:: -1 if turn % 2 else 1]
            for kind in work:
                for name in order:
                    one = found[name].work[kind]
                    if not one.reason and not found[name].reason:
                        try:
                            answer = children[name].ask(_request(kind, seconds))
                            one.seconds.append(answer["seconds"] / answer["tokens"])
                        except Died as error:
                            found[name].reason = str(error)
                        except Refused as error:
                            one.reason = str(error)
                    done += 1
                    display.update(done, f"round {turn + 1}, {name}")
        display.finish()
    return found


def _request(kind: int, seconds: float, memory: bool = False) -> dict[str, Any]:
    return {"seconds": seconds, "length": kind or None, "memory": memory}


def _first_look(child: Child, figures: dict[int, Figures], lengths: tuple[int, ...]) -> None:
    """Peaks of memory, and all that happens but once. Evaluation first, while no optimizer holds any."""
    for kind in (*reversed(lengths), TRAINING):
        try:
            peaks = [child.ask(_request(kind, 0, memory=True))["peak_memory_bytes"] for _ in range(LOOKS)]
            figures[kind].peak_memory_bytes = statistics.median(peaks)
        except Died:
            raise
        except Refused as error:
            figures[kind].reason = str(error)


def ratios(seconds: list[float], base: list[float]) -> list[float]:
    """The ratio within each round that both have."""
    return [a / b for a, b in zip(seconds, base, strict=False)]


def _row(plan: Plan, name: str, found: dict[str, Found], command: str) -> dict[str, Any]:
    """A scheme's figures, and all that a reader must know to compare them."""
    here, beside = found[name], found[BASELINE]

    def cell(kind: int) -> dict[str, Any]:
        one, base = here.work[kind], beside.work[kind]
        reason = here.reason or one.reason
        seconds = [] if reason else one.seconds
        compared = [] if beside.reason or base.reason else ratios(seconds, base.seconds)
        return {
            "tokens_per_second": 1 / statistics.median(seconds) if seconds else None,
            "ratio": statistics.median(compared) if compared else None,
            "peak_memory_bytes": None if reason else one.peak_memory_bytes,
            "seconds_a_token": seconds,
            "ratios": compared,
            "reason": reason,
        }

    context = plan.baseline.base_context
    train = cell(TRAINING)
    made = setup(plan.baseline, plan.eval.dtype, here.about or beside.about)
    rate = train["tokens_per_second"]
    return {
        "name": name,
        "parameters": here.about.get("parameters"),
        "train": {"step_ms": None if rate is None else 1000 * made["step_tokens"] / rate, **train},
        "eval": [{"length": length, "multiple": length / context, **cell(length)} for length in plan.lengths],
        "setup": made,
        "command": command,
    }


def setup(config: RunConfig, eval_dtype: str, about: dict[str, Any]) -> dict[str, Any]:
    """Machine and shape: what the figures hold for."""
    model, train = config.model, config.train
    return {
        "device": machine.device_name(machine.pick_device(train.device)),
        "torch": str(torch.__version__),
        "threads": about.get("threads"),
        "dtype": about.get("dtype"),
        "compiled": about.get("compiled"),
        "eval_dtype": eval_dtype,
        "n_layers": model.n_layers,
        "d_model": model.d_model,
        "n_heads": model.n_heads,
        "context": train.context,
        "vocab_size": about.get("vocab_size"),
        "step_tokens": train.batch_tokens // train.context * train.context,
        "data": config.data.name,
    }


# ---------------------------------------------------------------- the table


def setup_words(made: dict[str, Any]) -> str:
    """For a table's head."""
    evaluation = f"; evaluation in {made['eval_dtype']}" if made["eval_dtype"] else ""
    return (
        f"{made['device']}, torch {made['torch']}, {made['threads']} thread{'s' * (made['threads'] != 1)}; "
        f"{made['n_layers']} layers, width {made['d_model']}, {made['n_heads']} heads, context {made['context']}, "
        f"vocabulary {made['vocab_size']}, data {made['data']}; training in {made['dtype']}, "
        f"{'compiled' if made['compiled'] else 'uncompiled'}, {made['step_tokens']} tokens a step{evaluation}"
    )


def page(rows: list[dict[str, Any]]) -> Page:
    """The table of :func:`measure`'s rows."""
    reasons: list[str] = []

    def dash(reason: str) -> str:
        if reason and reason not in reasons:
            reasons.append(reason)
        return f"{DASH} [{reasons.index(reason) + 1}]" if reason else DASH

    def rate(cell: dict[str, Any], key: str = "tokens_per_second", beside: bool = True) -> str:
        if cell[key] is None:
            return dash(cell["reason"])
        number = figure(cell[key], 3) if key == "step_ms" else f"{cell[key]:,.0f}"
        times = DASH if cell["ratio"] is None else f"×{cell['ratio']:.2f}"
        return f"{number} {times}" if beside else number

    def memory(cell: dict[str, Any]) -> str:
        peak = cell["peak_memory_bytes"]
        return dash(cell["reason"]) if peak is None else f"{peak / MB:,.0f}"

    lines = []
    for row in rows:
        train, evals = row["train"], row["eval"]
        rates = [rate(train, "step_ms"), rate(train, beside=False), *map(rate, evals)]
        lines.append([row["name"], *rates, memory(train), memory(evals[-1])])
    first = next((row for row in rows if row["setup"]["threads"]), rows[0])
    cells = [cell for row in rows for cell in (row["train"], *row["eval"])]
    lengths = [f"{cell['length']} ({cell['multiple']:.3g}x), tokens/s" for cell in rows[0]["eval"]]
    rounds = max(len(cell["seconds_a_token"]) for cell in cells)
    notes = [
        *(f"[{number}] {reason}" for number, reason in enumerate(reasons, start=1)),
        f"×: time beside {BASELINE}'s, the median over {rounds} rounds of the ratio within the round{_spread(cells)}. "
        "Rates count input tokens. MB: the most that the process held above what it held before the model was built, "
        "in training and in evaluation at the longest length.",
        f"Made by `{rows[0]['command']}`.",
    ]
    heads = [
        "scheme",
        "step, ms",
        "training, tokens/s",
        *lengths,
        "training, MB",
        f"at {rows[0]['eval'][-1]['length']}, MB",
    ]
    return Page(
        "What the schemes cost",
        setup_words(first["setup"]),
        heads,
        [[entry(text) for text in line] for line in lines],
        notes,
        left=1,
    )


def _spread(cells: list[dict[str, Any]]) -> str:
    """How much the rounds disagree: what a small difference is worth."""
    ranges = [(max(r) - min(r)) / cell["ratio"] for cell in cells if len(r := cell["ratios"]) > 1 and set(r) != {1.0}]
    return f" (from the least to the greatest {statistics.median(ranges):.0%}, in the median cell)" if ranges else ""


if __name__ == "__main__":
    serve(Worker)
