"""Jobs of a sweep that a bundle holds: they are neither trained nor evaluated again.

A bundle holds records and no weights. So a job is taken from a bundle only if the bundle has every requested evaluation
and no other job has to start from its weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posx.config.catalog import Catalog
from posx.errors import PosxError
from posx.evaluation.evaluate import identities
from posx.results.records import Record, current_records
from posx.runs.bundle_runs import bundled_runs, is_bundle
from posx.runs.identity import cell_key
from posx.sweeps.engines.base import Bundled
from posx.sweeps.plan import JobPlan, Sweep

MOST_REASONS = 4  # messages about single jobs; more are summarized


@dataclass
class Selection:
    """The jobs that are taken from bundles, by name; and why others have to run although a bundle has them."""

    jobs: dict[str, Bundled] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def without(self, needed: Mapping[str, str]) -> Selection:
        """Without the runs in ``needed``, from whose weights the named job starts."""
        reasons = {
            name: f"{name} is in {self.jobs[name].where}, but {start} starts from its weights, which a bundle does "
            "not hold: it is trained again."
            for name, start in needed.items()
            if name in self.jobs
        }
        jobs = {name: job for name, job in self.jobs.items() if name not in reasons}
        return Selection(jobs, self.reasons | reasons)

    def sentences(self, done: Collection[str]) -> list[str]:
        """What a user should know. ``done`` are jobs that need no bundle."""
        bundles = Counter(job.where for name, job in self.jobs.items() if name not in done)
        lines = [f"Finished jobs in {where}: {count}." for where, count in bundles.items()]
        reasons = [reason for name, reason in self.reasons.items() if name not in done]
        lines += reasons[:MOST_REASONS]
        if len(reasons) > MOST_REASONS:
            lines.append(f"{len(reasons) - MOST_REASONS} other jobs in bundles are also trained again.")
        return lines


def check_bundles(bundles: Sequence[Path]) -> None:
    """Raise PosxError if one is missing or not a bundle, or its list of runs is damaged."""
    for bundle in bundles:
        if not bundle.exists():
            raise PosxError(f"There is no bundle {bundle}.", "Write one: posx bundle SWEEP.yaml -o results/NAME.")
        if not is_bundle(bundle):
            raise PosxError(
                f"{bundle} is not a bundle: it has no runs.jsonl.", "Write one: posx bundle SWEEP.yaml -o results/NAME."
            )
        bundled_runs(bundle)


def select(sweep: Sweep, bundles: Sequence[Path], say: Callable[[str], None]) -> Selection:
    """The jobs that bundles hold with every requested evaluation. Raises PosxError."""
    check_bundles(bundles)
    selection = Selection()
    for plan in sweep.jobs:
        holding = [bundle for bundle in bundles if plan.name in bundled_runs(bundle)]
        if not holding:
            continue
        records, reason = _records(plan, holding, sweep.catalog, say)
        if records:
            selection.jobs[plan.name] = Bundled(_bundles_of(records), records)
        else:
            selection.reasons[plan.name] = f"{reason} A bundle holds no weights, so it is trained again."
    return selection


def _records(
    plan: JobPlan, bundles: Sequence[Path], catalog: Catalog, say: Callable[[str], None]
) -> tuple[list[Record], str]:
    """The records of all requested evaluations, or none and a sentence that says what is missing."""
    name, where = plan.name, ", ".join(map(str, bundles))
    finished = [bundle for bundle in bundles if bundled_runs(bundle)[name]["meta"].get("finished")]
    if not finished:
        return [], f"{name} is unfinished in {where}."
    stored: dict[str, Record] = {}
    for bundle in finished:
        stored = {record.key: record for record in current_records(bundle / name)} | stored  # the first bundle counts
    requested = [cell for config in plan.evals for cell in identities(plan.config, config, say, catalog)]
    missing = requested
    for weights in dict.fromkeys(record.checkpoint_sha256 for record in stored.values()):
        keys = [cell_key(weights, cell) for cell in requested]
        if all(key in stored for key in keys):
            return [record for key, record in stored.items() if key in keys], ""
        lacking = [cell for cell, key in zip(requested, keys, strict=True) if key not in stored]
        missing = min(missing, lacking, key=len)
    if all(_is_of_another_version(cell, list(stored.values())) for cell in missing):
        return [], f"{name} in {where} was evaluated by a version of posx that computes other numbers."
    return [], (
        f"{name} in {where} lacks {len(missing)} of {len(requested)} requested evaluations, "
        f"such as {missing[0][0]} at {missing[0][2]} tokens."
    )


def _bundles_of(records: Sequence[Record]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(record.path.parents[2] for record in records if record.path is not None))


def _is_of_another_version(cell: list[Any], stored: Sequence[Record]) -> bool:
    """Whether a record answers the same question; its key then differs by the version of the numbers alone."""
    return any(cell == [r.extension, r.extension_params, r.length, r.targets_sha256, r.dtype] for r in stored)
