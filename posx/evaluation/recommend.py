"""`posx recommend`: rank the extensions for a run and a length on the validation split."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from posx.config.catalog import PACKAGED, Catalog
from posx.config.lengths import parse_length
from posx.config.schema import TRAINED, EvalConfig
from posx.errors import PosxError
from posx.evaluation.evaluate import evaluate_all
from posx.evaluation.plan import make_plan
from posx.extensions.base import Target
from posx.models.binding import fits
from posx.models.build import scheme_of
from posx.models.classes import known_extensions
from posx.results.bootstrap import Interval, Replicates
from posx.results.records import Record, as_json, nats_of
from posx.results.sums import sums_of
from posx.runs.directory import Run
from posx.utils.console import Display
from posx.utils.shell import shell


@dataclass(frozen=True)
class Choice:
    """An extension, its record on validation, and its difference from the best in nats/token with an interval."""

    record: Record
    behind: float | None
    interval: Interval | None
    line: str

    @property
    def as_good(self) -> bool:
        """Whether it is not shown to be worse than the best."""
        return self.behind is not None and (self.interval is None or self.interval.family[0] <= 0)


def as_dict(choice: Choice) -> dict[str, Any]:
    """The fields of the record, nats_per_token, behind, interval (its two ends) and line."""
    return as_json(choice.record) | {
        "nats_per_token": choice.record.nats_per_token,
        "behind": choice.behind,
        "interval": list(choice.interval.family) if choice.interval else None,
        "line": choice.line,
    }


def candidates(run: Run, length: int, catalog: Catalog) -> list[str]:
    """The model as it was trained, then every extension that supports the scheme, with its variants."""
    scheme = scheme_of(run.config, catalog)
    target = Target(run.config.train.reached, length)
    texts = [TRAINED]
    for name, cls in sorted(known_extensions(catalog).items()):
        if fits(cls, scheme):
            texts += [str(cls.of(cls.Config(**params), name)) for params in cls.variants(target)]
    return list(dict.fromkeys(texts))


def beyond(run: Run, length: str) -> int:
    """The length in tokens. Raises PosxError if it is within the training context."""
    tokens = parse_length(length, run.config.base_context)
    if tokens <= run.config.train.reached:
        raise PosxError(
            f"{run.name} was trained at {run.config.train.reached} tokens; {tokens} tokens require no extension.",
            "Use a longer --length.",
        )
    return tokens


def recommend(
    run: Run,
    name: str,
    length: str,
    config: EvalConfig,
    display: Display,
    catalog: Catalog = PACKAGED,
) -> tuple[list[Choice], list[Record]]:
    """Choices from best to worst, those without a number last; and all records, with the 1x control.

    ``name``: the run's name in the suggested commands. Raises PosxError.
    """
    tokens = beyond(run, length)
    asked = replace(config, lengths=[str(tokens)], extensions=candidates(run, tokens, catalog))
    records = evaluate_all(make_plan(run, asked, catalog), display)
    there = [r for r in records if r.length == tokens]
    ranked = sorted((r for r in there if r.nats_per_token is not None), key=nats_of)
    if not ranked:
        raise PosxError(f"No extension gives a number at {tokens} tokens: {there[0].reason}", code=1)
    sums = sums_of(ranked)
    intervals: list[Interval | None] = [None] * len(ranked)
    if sums.has(ranked) and sums.speaks_of_others and len(ranked) > 1:
        nats = sums.of(ranked)
        found = Replicates(sums.counts, [(row - nats[0])[None] for row in nats[1:]]).intervals()
        intervals = [None, *found]
    chosen = [
        Choice(record, nats_of(record) - nats_of(ranked[0]), interval, _line(name, record))
        for record, interval in zip(ranked, intervals, strict=True)
    ]
    failed = [Choice(r, None, None, "") for r in there if r.nats_per_token is None]
    return [*chosen, *failed], records


def _line(name: str, record: Record) -> str:
    return shell(["posx", "eval", name, "--length", str(record.length), "--extension", record.extension])
