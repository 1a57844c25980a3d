"""Comparison of two rows: the paired difference of runs, groups of seeds, or extensions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from posx.config.lengths import parse_length
from posx.config.schema import TABLED
from posx.errors import PosxError, unknown
from posx.results.bootstrap import COVERAGE, REPLICATES, Interval, Replicates
from posx.results.cells import DELTA
from posx.results.query import find_row
from posx.results.records import Record, nats_of
from posx.results.sums import sums_of


@dataclass(frozen=True)
class Difference:
    """A − B in nats/token at one length, over the same targets. ``seeds``: the pairs of seeds."""

    length: int
    a: float
    b: float
    difference: float
    interval: Interval | None
    seeds: tuple[tuple[int, int], ...]
    n_targets: int
    n_documents: int

    @property
    def verdict(self) -> str:
        """Which of the two is better, in words."""
        if self.interval is None:
            return ""
        low, high = self.interval.family
        if high < 0:
            return "A is better"
        if low > 0:
            return "B is better"
        return "no difference" if low >= -DELTA and high <= DELTA else "undecided"


@dataclass(frozen=True)
class Compared:
    """Two rows by name, their differences by length, and a record of one of them."""

    a: str
    b: str
    pairs: list[Difference]
    record: Record


def compare_rows(runs_dir: Path, a: str, b: str, lengths: list[str], protocol: str) -> Compared:
    """The differences of two rows, named as for :func:`find_row`; default: at all common lengths. Raises PosxError."""
    if protocol not in TABLED:
        raise unknown("protocol", protocol, TABLED)
    name_a, left = find_row(runs_dir, a, protocol)
    name_b, right = find_row(runs_dir, b, protocol)
    if _files(left) & _files(right):
        raise PosxError(
            f"{name_a} would be compared with itself ({name_b}).", "Name two rows, such as rope:pi and rope:ntk."
        )
    tokens = _lengths(lengths, (name_a, left), (name_b, right))
    pairs = differences({n: left[n] for n in tokens}, {n: right[n] for n in tokens})
    if not pairs:
        raise PosxError(f"{name_a} and {name_b} have no number at a length in common.", "posx table shows the reason.")
    return Compared(name_a, name_b, pairs, next(iter(left.values()))[0])


def _files(row: dict[int, list[Record]]) -> set[str]:
    """The files of the records of a row."""
    return {str(record.path) for records in row.values() for record in records}


def _lengths(
    requested: list[str], a: tuple[str, dict[int, list[Record]]], b: tuple[str, dict[int, list[Record]]]
) -> list[int]:
    """The lengths to compare at: the requested ones, which both must have, or all in common."""
    (name_a, left), (name_b, right) = a, b
    common = sorted(left.keys() & right.keys())
    if not common:
        raise PosxError(
            f"{name_a} was evaluated at {', '.join(map(str, sorted(left)))} and {name_b} at "
            f"{', '.join(map(str, sorted(right)))}: no length in common.",
            "Evaluate both at one length: posx eval A B --length 4x.",
        )
    contexts = {records[0].base_context for side in (left, right) for records in side.values()}
    lengths = []
    for text in requested:
        if text.strip().endswith("x") and len(contexts) > 1:
            raise PosxError(f"{text} is a different length for each of the two.", "Give the length in tokens.")
        tokens = parse_length(text, min(contexts))
        if tokens not in common:
            raise PosxError(
                f"{name_a} and {name_b} were not both evaluated at {tokens} tokens.",
                f"In common: {', '.join(map(str, common))}. Or: posx eval RUN --length {tokens}.",
            )
        lengths.append(tokens)
    return sorted(set(lengths)) or common


def differences(
    a: dict[int, list[Record]], b: dict[int, list[Record]], replicates: int = REPLICATES
) -> list[Difference]:
    """Paired differences at the common lengths, with simultaneous intervals.

    The records of a length differ only in their seed. Common seeds are paired; without any, seeds are paired in order.
    Raises PosxError for different targets.
    """
    pairs: dict[int, list[tuple[Record, Record]]] = {}
    lengths = sorted(a.keys() & b.keys())
    shared = {length: _hashes(a[length]) & _hashes(b[length]) for length in lengths}
    often = Counter(digest for digests in shared.values() for digest in digests)
    for length in lengths:
        if not shared[length]:
            refuse_unlike(a[length][0], b[length][0])
        sizes = {r.targets_sha256: r.n_targets for r in a[length]}
        digest = max(sorted(shared[length]), key=lambda one: (often[one], sizes[one]))
        left, right = (
            {r.seed: r for r in side[length] if r.nats_per_token is not None and r.targets_sha256 == digest}
            for side in (a, b)
        )
        common = sorted(left.keys() & right.keys())
        if common:
            pairs[length] = [(left[seed], right[seed]) for seed in common]
        elif left and right:
            pairs[length] = list(zip(left.values(), right.values(), strict=False))
    intervals = _intervals(pairs, replicates)
    return [
        Difference(
            length,
            fmean(nats_of(one) for one, _ in two),
            fmean(nats_of(other) for _, other in two),
            fmean(nats_of(one) - nats_of(other) for one, other in two),
            intervals.get(length),
            tuple((one.seed, other.seed) for one, other in two),
            two[0][0].n_targets,
            two[0][0].n_documents,
        )
        for length, two in pairs.items()
    ]


def _hashes(records: list[Record]) -> set[str]:
    return {record.targets_sha256 for record in records}


def _intervals(pairs: dict[int, list[tuple[Record, Record]]], replicates: int) -> dict[int, Interval]:
    """Intervals simultaneous over all lengths. If their targets differ, each set of targets gets a share of the 5%."""
    by_targets: dict[str, list[int]] = {}
    for length, two in pairs.items():
        by_targets.setdefault(two[0][0].targets_sha256, []).append(length)
    found: dict[int, Interval] = {}
    for lengths in by_targets.values():
        sums = sums_of([record for length in lengths for two in pairs[length] for record in two])
        kept = [n for n in lengths if all(sums.has(list(side)) for side in zip(*pairs[n], strict=True))]
        if not kept or not sums.speaks_of_others:
            continue
        changes = []
        for length in kept:
            left, right = (list(side) for side in zip(*pairs[length], strict=True))
            changes.append(sums.of(left) - sums.of(right))
        coverage = 1 - (1 - COVERAGE) / len(by_targets)
        intervals = Replicates(sums.counts, changes, replicates).intervals(coverage)
        found |= dict(zip(kept, intervals, strict=True))
    return found


# The reasons why target sets differ, for error messages.
WHY_UNLIKE = {
    "protocol": "their protocols differ",
    "split": "their splits differ",
    "corpus_sha256": "their corpora differ",
    "target_context": "their target contexts differ (eval.target_context)",
    "stride": "their tail strides differ (eval.stride)",
    "max_targets": "their numbers of targets differ (eval.max_targets)",
    "target_seed": "the seeds of their targets differ (eval.seed)",
}


def refuse_unlike(a: Record, b: Record) -> None:
    """Raise the PosxError for different targets, with the reasons."""
    if a.targets_sha256 == b.targets_sha256:
        return
    reasons = [
        f"{why}: {getattr(a, name)} and {getattr(b, name)}" if not name.endswith("sha256") else why
        for name, why in WHY_UNLIKE.items()
        if getattr(a, name) != getattr(b, name)
    ] or ["their tokenizers differ"]
    raise PosxError(
        f"{a.run} and {b.run} were scored on different targets at {a.length} tokens: {'; '.join(reasons)}.",
        f"Evaluate both with the same settings: posx eval {a.run} {b.run} --length {a.length}.",
    )
