"""`posx bench`: the cost of schemes relative to `nope`: time of a step, rate of an evaluation, memory of both.

The speed of a shared machine varies by 15% and more from one moment to the next. So every scheme runs in a separate
process, with its own memory and allocator, and in each round every process does a short burst of work (worker.py).
Results are medians over the rounds, and ratios are medians of the ratios within a round.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from posx import __version__
from posx.bench.process import Child, Died, Refused
from posx.config.catalog import PACKAGED, Catalog
from posx.config.compose import as_overrides, compose_eval, key_of
from posx.config.lengths import check_windows, comparable, parse_length
from posx.config.schema import EvalConfig, RunConfig
from posx.data.corpus import Corpus, prepare
from posx.data.sampling import check_long_enough
from posx.errors import PosxError, unknown
from posx.evaluation.protocols.fixed_targets import targets_of
from posx.models.build import compose_run
from posx.runs import provenance
from posx.runtime import device as devices
from posx.utils.console import Display

BASELINE = "nope"
REFERENCE = ("model=small", "train.batch_tokens=4096")
LENGTHS = ("1x", "4x", "16x")
ROUNDS = 5
BURST_SECONDS = 1.0
LOOKS = 3  # measurements of peak memory, which varies by a few percent between steps
GROUP = 8  # schemes whose processes exist at the same time, in addition to the baseline
# Overrides that would make more than the scheme differ, or that do not apply to what is measured.
NOT_HERE = {
    "scheme": "Use --schemes NAME,NAME; for other settings, write a custom config, see --config-dir.",
    "eval.protocol": "Windows of fixed targets are measured.",
    "eval.extensions": "Schemes are measured without extensions.",
    "eval.threads": "Use train.threads, which applies to both.",
    "eval.device": "Use train.device, which applies to both.",
}


@dataclass(frozen=True)
class Plan:
    """What to measure, after all checks that can be made in advance. ``configs``: a reason for an invalid scheme."""

    configs: dict[str, RunConfig | str]
    eval: EvalConfig
    lengths: tuple[int, ...]  # tokens, ascending
    catalog: Catalog = PACKAGED

    @property
    def baseline(self) -> RunConfig:
        config = self.configs[BASELINE]
        assert isinstance(config, RunConfig)
        return config

    def spec(self, name: str) -> dict[str, Any]:
        """The spec for worker.py. Raises Refused for a scheme that cannot be built."""
        config = self.configs[name]
        if isinstance(config, str):
            raise Refused(config)
        return {"config": asdict(config), "eval": asdict(self.eval), **self.catalog.as_json()}


def with_defaults(defaults: Iterable[str], overrides: list[str]) -> list[str]:
    """The defaults that the overrides do not set, followed by the overrides."""
    keys = set(map(key_of, overrides))
    return [*(d for d in defaults if key_of(d) not in keys), *overrides]


def make_plan(
    overrides: list[str],
    schemes: list[str] | None = None,
    lengths: list[str] | None = None,
    catalog: Catalog = PACKAGED,
) -> Plan:
    """Compose and check every config. Raises PosxError."""
    for override in overrides:
        key = key_of(override)
        hint = NOT_HERE.get(key) or (NOT_HERE["scheme"] if key.startswith("scheme.") else None)
        if hint:
            raise PosxError(f"posx bench does not support {key}.", hint)
    known = catalog.options("scheme")
    for name in schemes or ():
        if name not in known:
            raise unknown("scheme", name, known)
    names = list(dict.fromkeys([BASELINE, *(sorted(known) if schemes is None else schemes)]))
    of_runs = with_defaults(REFERENCE, [o for o in overrides if not key_of(o).startswith("eval.")])
    # The baseline gets all overrides except scheme settings, so an error here is a user error.
    baseline = compose_run([*of_runs, f"scheme={BASELINE}"], catalog)
    configs: dict[str, RunConfig | str] = {BASELINE: baseline}
    for name in names[1:]:
        try:
            configs[name] = compose_run([*of_runs, f"scheme={name}"], catalog)
        except PosxError as error:
            configs[name] = str(error)
    context = baseline.base_context
    of_evals = [o for o in overrides if key_of(o).startswith("eval.")]
    of_evals = as_overrides([("--lengths", "eval.lengths", lengths)], of_evals)
    config = compose_eval(with_defaults([f"eval.lengths=[{','.join(LENGTHS)}]"], of_evals), catalog)
    tokens = sorted({parse_length(text, context) for text in config.lengths})
    # Targets need only as much context as the longest length, not the usual 8x.
    config = comparable(replace(config, target_context=config.target_context or tokens[-1]), [context])
    check_windows(config, tokens)
    return Plan(configs, replace(config, device=baseline.train.device), tuple(tokens), catalog)


def prepared(config: RunConfig, display: Display) -> Corpus:
    """The corpus, prepared before any child process needs it."""
    corpus = prepare(config.data, config.tokenizer, display.say)
    for note in corpus.notes:
        display.say(f"Note: {note}")
    return corpus


@dataclass
class Figures:
    """The measurements of one kind of work of one scheme. ``seconds`` per token, one for each round."""

    seconds: list[float] = field(default_factory=list)
    peak_memory_bytes: int | None = None
    reason: str = ""


TRAINING = 0  # means training where otherwise an evaluation length is given


@dataclass
class Measured:
    """The measurements of one scheme; ``reason``: why there are none."""

    work: dict[int, Figures]
    about: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


def measure(plan: Plan, rounds: int, seconds: float, display: Display, command: str) -> list[dict[str, Any]]:
    """A row for each scheme, as `--json` prints them. Raises PosxError if the machine or the corpus is unsuitable."""
    devices.pick_device(plan.baseline.train.device)
    corpus = prepared(plan.baseline, display)
    check_long_enough(corpus, plan.baseline.train.context)
    targets_of(corpus, plan.eval, plan.baseline.base_context)
    others = [name for name in plan.configs if name != BASELINE]
    rows: dict[str, dict[str, Any]] = {}
    for first in range(0, max(1, len(others)), GROUP):
        group = [BASELINE, *others[first : first + GROUP]]
        measured = _measure_group(plan, group, rounds, seconds, display)
        rows = {name: _row(plan, name, measured, command) for name in group} | rows  # keeps the first baseline row
    if all(cell["reason"] for row in rows.values() for cell in (row["train"], *row["eval"])):
        raise PosxError(f"Nothing could be measured: {rows[BASELINE]['train']['reason']}", code=1)
    return [rows[name] for name in plan.configs]


def _measure_group(plan: Plan, names: list[str], rounds: int, seconds: float, display: Display) -> dict[str, Measured]:
    """Measure the baseline and some other schemes, in processes that all exist until the last round is over."""
    work = (TRAINING, *plan.lengths)
    measured = {name: Measured({kind: Figures() for kind in work}) for name in names}
    children: dict[str, Child] = {}
    with ExitStack() as stack:
        display.start("bench: building", len(names))
        for number, name in enumerate(names, start=1):
            try:
                children[name] = child = Child(["-m", "posx.bench.worker", name], plan.spec(name))
                stack.callback(child.end)
                measured[name].about = child.about
                _measure_memory(child, measured[name].work, plan.lengths)
            except Refused as error:
                measured[name].reason = str(error)
            display.update(number, name)
        done = 0
        display.start("bench: measuring", rounds * len(work) * len(children))
        for number in range(rounds):
            # Every other round runs backwards: a machine that slows down steadily favours no scheme.
            order = list(children)[:: -1 if number % 2 else 1]
            for kind in work:
                for name in order:
                    figures = measured[name].work[kind]
                    if not figures.reason and not measured[name].reason:
                        try:
                            answer = children[name].ask(_request(kind, seconds))
                            figures.seconds.append(answer["seconds"] / answer["tokens"])
                        except Died as error:
                            measured[name].reason = str(error)
                        except Refused as error:
                            figures.reason = str(error)
                    done += 1
                    display.update(done, f"round {number + 1}, {name}")
        display.finish()
    return measured


def _request(kind: int, seconds: float, memory: bool = False) -> dict[str, Any]:
    return {"seconds": seconds, "length": kind or None, "memory": memory}


def _measure_memory(child: Child, figures: dict[int, Figures], lengths: tuple[int, ...]) -> None:
    """Measure peak memory, which also warms up. Evaluation first, before the optimizer allocates its state."""
    for kind in (*reversed(lengths), TRAINING):
        try:
            peaks = [child.ask(_request(kind, 0, memory=True))["peak_memory_bytes"] for _ in range(LOOKS)]
            figures[kind].peak_memory_bytes = statistics.median(peaks)
        except Died:
            raise
        except Refused as error:
            figures[kind].reason = str(error)


def ratios(seconds: list[float], base: list[float]) -> list[float]:
    """The ratio within each round, for the rounds that both have."""
    return [a / b for a, b in zip(seconds, base, strict=False)]


def _row(plan: Plan, name: str, measured: dict[str, Measured], command: str) -> dict[str, Any]:
    """The measurements of a scheme, with their setup."""
    scheme, baseline = measured[name], measured[BASELINE]

    def cell(kind: int) -> dict[str, Any]:
        own, base = scheme.work[kind], baseline.work[kind]
        reason = scheme.reason or own.reason
        seconds = [] if reason else own.seconds
        compared = [] if baseline.reason or base.reason else ratios(seconds, base.seconds)
        return {
            "tokens_per_second": 1 / statistics.median(seconds) if seconds else None,
            "ratio": statistics.median(compared) if compared else None,
            "peak_memory_bytes": None if reason else own.peak_memory_bytes,
            "seconds_a_token": seconds,
            "ratios": compared,
            "reason": reason,
        }

    context = plan.baseline.base_context
    train = cell(TRAINING)
    settings = setup(plan.baseline, plan.eval.dtype, scheme.about or baseline.about)
    rate = train["tokens_per_second"]
    return {
        "name": name,
        "parameters": scheme.about.get("parameters"),
        "train": {"step_ms": None if rate is None else 1000 * settings["step_tokens"] / rate, **train},
        "eval": [{"length": length, "multiple": length / context, **cell(length)} for length in plan.lengths],
        "setup": settings,
        "command": command,
    }


def setup(config: RunConfig, eval_dtype: str, about: dict[str, Any]) -> dict[str, Any]:
    """The machine and the shape of the model."""
    model, train = config.model, config.train
    return {
        "device": devices.device_name(devices.pick_device(train.device)),
        "posx": " ".join(filter(None, (__version__, (provenance.commit() or "")[:10]))),
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
