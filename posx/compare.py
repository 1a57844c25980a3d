"""Two rows against each other: the paired difference of runs, of groups of seeds, or of extensions."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from posx.bootstrap import REPLICATES, Interval, Replicates
from posx.errors import PosxError
from posx.losses import matrix
from posx.records import Record, nats_of
from posx.statistics import DELTA


@dataclass(frozen=True)
class Difference:
    """A − B in nats a token at one length, over the same targets; ``seeds`` as they were paired."""

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
        return f"no difference beyond {DELTA:g}" if low >= -DELTA and high <= DELTA else "undecided"


def differences(
    a: dict[int, list[Record]], b: dict[int, list[Record]], replicates: int = REPLICATES
) -> list[Difference]:
    """Paired differences at the lengths of both, simultaneous over them.

    Records of a length differ in their seed alone. Seeds that both have are paired; where they share none, in their
    order. Raises PosxError for unlike targets.
    """
    pairs: dict[int, list[tuple[Record, Record]]] = {}
    for length in sorted(a.keys() & b.keys()):
        left, right = ({r.seed: r for r in side if r.nats_per_token is not None} for side in (a[length], b[length]))
        common = sorted(left.keys() & right.keys())
        if common:
            pairs[length] = [(left[seed], right[seed]) for seed in common]
        elif left and right:
            pairs[length] = list(zip(left.values(), right.values(), strict=False))
        for one, other in pairs.get(length, []):
            refuse_unlike(one, other)
    found = {length: matrix([r for pair in two for r in pair]) for length, two in pairs.items()}
    kept = [length for length, both in found.items() if both is not None and len(both[0]) > 1]
    intervals: dict[int, Interval] = {}
    if kept:
        both = [found[length] for length in kept]
        counts = both[0][0]  # type: ignore[index]
        sums = [nats[0::2] - nats[1::2] for _, nats in both]  # type: ignore[misc]
        intervals = dict(zip(kept, Replicates(counts, sums, replicates).intervals(), strict=True))
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


# What makes two target sets unlike, in the words of a user.
WHY_UNLIKE = {
    "protocol": "their protocols differ",
    "split": "they were scored on other splits",
    "corpus_sha256": "their texts differ",
    "target_context": "their targets have other contexts before them (eval.target_context)",
    "stride": "their tail strides differ (eval.stride)",
    "max_targets": "other numbers of targets were drawn (eval.max_targets)",
    "target_seed": "their targets were drawn with other seeds (eval.seed)",
}


def refuse_unlike(a: Record, b: Record) -> None:
    """Only the same targets can be compared."""
    if a.targets_sha256 == b.targets_sha256:
        return
    reasons = [
        f"{why}: {getattr(a, name)} and {getattr(b, name)}" if not name.endswith("sha256") else why
        for name, why in WHY_UNLIKE.items()
        if getattr(a, name) != getattr(b, name)
    ] or ["their tokenizers differ"]
    raise PosxError(
        f"{a.run} and {b.run} were scored on unlike targets at {a.length} tokens: {'; '.join(reasons)}.",
        f"Evaluate both with the same settings: posx eval {a.run} {b.run} --length {a.length}.",
    )
