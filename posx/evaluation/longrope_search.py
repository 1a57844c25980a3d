"""`posx search longrope`: factors for a model and a length, selected by nats/token on validation, never on test.

The result is the best of many candidates on the search targets, so its loss there is biased. It is compared with pi,
ntk and yarn on held-out targets of the validation split, which the search does not use.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from torch import Tensor

from posx.config.catalog import PACKAGED, Catalog
from posx.config.schema import TRAINED, EvalConfig
from posx.errors import PosxError
from posx.evaluation.evaluate import load_scorer
from posx.evaluation.factor_evolution import Candidate, Scored, as_factors, evolve, space_of
from posx.evaluation.plan import make_plan
from posx.evaluation.protocols.fixed_targets import FEWEST_TARGETS, TargetSet, targets_of, windows_of_targets
from posx.evaluation.recommend import beyond
from posx.evaluation.scorer import Scorer
from posx.extensions.base import Extension, Target
from posx.extensions.by_parts import ByParts
from posx.extensions.longrope import LongRope
from posx.extensions.ntk import NTK
from posx.extensions.pi import PI
from posx.extensions.yarn import Yarn
from posx.models.binding import bind, fits
from posx.models.build import scheme_of
from posx.runs.directory import Run
from posx.runs.provenance import versions
from posx.schemes.base import frequencies
from posx.utils.console import Display
from posx.utils.files import sha256_of, write_text
from posx.utils.format import nats
from posx.utils.streams import stream

STARTS: tuple[tuple[str, type[Extension]], ...] = (("pi", PI), ("ntk", NTK), ("by-parts", ByParts), ("yarn", Yarn))
FOUND = "longrope"


@dataclass(frozen=True)
class Row:
    """A scored candidate by name: nats/token on the search targets and on the held-out targets (None: not scored)."""

    name: str
    searched: float
    held_out: float | None = None


@dataclass(frozen=True)
class Search:
    """The result of a search. ``rows``: the model without an extension, the starting points, and the best candidate."""

    run: Run
    length: int
    config: EvalConfig
    asked: int
    history: list[Scored]
    rows: list[Row]
    targets: TargetSet
    held_out: TargetSet | None
    weights: str
    stopped: int  # the signal that ended the search early, or 0

    @property
    def best(self) -> Candidate:
        """The best candidate on the search targets."""
        return _best(self.history).candidate


@dataclass
class _Judge:
    """Scores extensions of one run at one length, on top of the extension it was trained with."""

    run: Run
    scorer: Scorer
    length: int
    trained: tuple[Extension, ...]

    def nats(self, candidate: Candidate | None, targets: TargetSet) -> float:
        """Nats/token with a candidate, or without an extension (None); infinite if the loss is not finite."""
        asked = [candidate.extension()] if candidate else []
        applied = bind(asked, self.scorer.model.scheme, self.length, self.trained, self.run.config.train.reached)
        losses, _ = self.scorer.score(windows_of_targets(targets, self.length), applied, Display(quiet=True), "")
        mean = float(losses.astype(np.float64).sum()) / targets.n_targets
        return mean if math.isfinite(mean) else math.inf


def search(
    run: Run,
    length: str,
    config: EvalConfig,
    evaluations: int,
    display: Display,
    catalog: Catalog = PACKAGED,
) -> Search:
    """Search with this many candidates. A signal ends the search with the best so far. Raises PosxError."""
    tokens = beyond(run, length)
    scheme = scheme_of(run.config, catalog)
    theta = frequencies(scheme)
    if not fits(LongRope, scheme) or theta is None:
        raise PosxError(
            f"{run.config.scheme['name']} rotates no queries and keys in attention with logits: "
            "there are no frequencies to search factors for.",
            "Use a run of rope, partial-rope, p-rope or xpos.",
        )
    if run.step and not run.finished:
        raise PosxError(
            f"{run.name} is not finished: step {run.step} of {run.config.train.steps}; search after training.",
            f"Finish it first: posx train --resume --name {run.name} with its overrides.",
        )
    # Twice as many targets as requested: half of them are held out.
    drawn = replace(config, lengths=[str(tokens)], extensions=[TRAINED], max_targets=2 * config.max_targets)
    plan = make_plan(run, drawn, catalog)
    trained = plan.asked[0].trained
    context = run.config.train.reached
    target = Target(context, tokens, scheme.last_position, 2 * len(theta))
    theta = bind((), scheme, tokens, trained, context).spectrum(theta)
    starts = starts_of(theta, target)
    if evaluations < len(starts):
        raise PosxError(
            f"--evaluations {evaluations} is less than the {len(starts)} starting points of the search.",
            f"Give at least {len(starts)}; 64 is the default.",
        )
    scorer, weights = load_scorer(run, plan.config, display, catalog)
    targets, held_out = halves(targets_of(scorer.corpus, plan.config, run.config.base_context), config.max_targets)
    judge = _Judge(run, scorer, tokens, trained)

    random = stream("longrope search", config.seed)
    candidates = list(starts.values())
    history, held, stopped = list[Scored](), list[float](), 0
    display.start(f"longrope for {run.name} at {tokens}", evaluations)
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        plain = judge.nats(None, targets)
        score = partial(judge.nats, targets=targets)
        for scored in evolve(candidates, score, space_of(candidates, target), evaluations, random):
            history.append(scored)
            display.update(len(history), _note(history, len(starts)))
        if held_out:
            again = [None, *candidates, _best(history).candidate]
            display.start("the best of them, held-out targets", len(again))
            for one in again:
                held.append(judge.nats(one, held_out))
                display.update(len(held))
    except KeyboardInterrupt as stop:
        if not history:
            raise
        stopped = stop.args[0] if stop.args else signal.SIGINT
    finally:
        signal.signal(signal.SIGTERM, before)
        display.finish()
    names = [TRAINED if trained else "none", *list(starts)[: len(history)], FOUND]
    searched = [plain, *(one.nats for one in history[: len(starts)]), _best(history).nats]
    rows = [Row(*row) for row in zip_longest(names, searched, held)]
    return Search(run, tokens, config, evaluations, history, rows, targets, held_out, weights, stopped)


def starts_of(theta: Tensor, target: Target) -> dict[str, Candidate]:
    """The starting points: pi, ntk, by-parts and yarn, with the variants of posx recommend, as factors."""
    found = [cls.of(cls.Config(**params), name) for name, cls in STARTS for params in cls.variants(target)]
    return {str(one): as_factors(one, theta, target) for one in found}


def _stop(number: int, frame: object) -> None:
    """Handle SIGTERM like Ctrl-C: the search ends with the best so far."""
    raise KeyboardInterrupt(number)


def _best(history: Sequence[Scored]) -> Scored:
    return min(history, key=lambda one: one.nats)


def _note(history: list[Scored], starts: int) -> str:
    best, start = (min(one.nats for one in part) for part in (history, history[:starts]))
    return f"best {nats(best)}, best start {nats(start)}"


def halves(drawn: TargetSet, wanted: int) -> tuple[TargetSet, TargetSet | None]:
    """Search targets, and held-out targets that follow them in the text (None if there are too few)."""
    tails = max(1, wanted // drawn.stride)
    half = min(tails, len(drawn.ends) // 2)
    if half * drawn.stride < min(FEWEST_TARGETS, tails * drawn.stride):
        return _part(drawn, slice(0, tails)), None
    return _part(drawn, slice(0, half)), _part(drawn, slice(len(drawn.ends) - half, None))


def _part(drawn: TargetSet, which: slice) -> TargetSet:
    ends = drawn.ends[which]
    return replace(drawn, ends=ends, documents=drawn.documents[which], sha256=sha256_of(drawn.sha256, ends.tobytes()))


# ---------------------------------------------------------------- what is written


def as_dict(found: Search) -> dict[str, Any]:
    """The content of the YAML, and of ``--json``; infinite nats are null."""
    best = found.best

    def finite(value: float | None) -> float | None:
        return value if value is not None and math.isfinite(value) else None

    return {
        "factors": list(best.factors),
        "n": best.n,
        "attention": best.attention,
        "length": found.length,
        "train_context": found.run.config.train.context,
        "train_extension": found.run.config.train.extension,
        "run": found.run.name,
        "weights_sha256": found.weights,
        "split": found.config.split,
        "dtype": found.config.dtype,
        "seed": found.config.seed,
        "evaluations": len(found.history),
        "evaluations_asked": found.asked,
        "interrupted": bool(found.stopped),
        "targets": found.targets.n_targets,
        "targets_sha256": found.targets.sha256,
        "nats_per_token": {row.name: finite(row.searched) for row in found.rows},
        "held_out_targets": found.held_out.n_targets if found.held_out else 0,
        "held_out_nats_per_token": {row.name: finite(row.held_out) for row in found.rows},
        "posx": versions()["posx"],
    }


def write(path: Path, found: Search) -> None:
    """The YAML that ``longrope(factors=PATH)`` reads."""
    text = yaml.safe_dump(as_dict(found), sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
    write_text(path, f"# Selected on {found.config.split}: report the number of the test split.\n{text}")
