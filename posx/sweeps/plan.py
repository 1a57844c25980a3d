"""The jobs of a sweep file. Each is named by what it computes, so that a second sweep runs only what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from posx.config.catalog import Catalog
from posx.config.compose import compose_eval, compose_settings, key_of
from posx.config.lengths import check_windows, comparable, parse_length
from posx.config.schema import TRAINED, EvalConfig, RunConfig
from posx.config.validate import check_eval, check_train, typed
from posx.data.corpus import prepare
from posx.data.sampling import check_long_enough
from posx.errors import PosxError
from posx.evaluation.protocols.fixed_targets import targets_of
from posx.extensions.base import Extension
from posx.models.binding import check_fit, parse_extension
from posx.models.build import complete, compose_run, freeze_extension, scheme_of
from posx.models.classes import known_extensions
from posx.runs.directory import folder_name
from posx.runs.identity import job_hash
from posx.sweeps.file import SchemeEntry, SweepConfig, read_sweep_file
from posx.training.finetune import changes, default_name, finetune
from posx.training.recipes import find_recipe


@dataclass(frozen=True)
class JobPlan:
    """A job before it starts. ``after``: the name of the job whose weights it starts from."""

    name: str
    config: RunConfig
    evals: list[EvalConfig]  # one for each protocol
    after: str | None = None


@dataclass(frozen=True)
class Sweep:
    """A sweep, read and checked."""

    name: str
    jobs: list[JobPlan]
    catalog: Catalog


def read_sweep(
    path: Path,
    overrides: list[str],
    say: Callable[[str], None],
    catalog: Catalog,
    finetune: bool = True,
) -> Sweep:
    """Compose and check every job. The corpora are prepared, since the names of jobs depend on them. Raises PosxError.

    Without ``finetune``, fine-tuned runs are left out, and the extensions that only they are evaluated with.
    """
    file, entries = read_sweep_file(path, overrides)
    planned: list[_Planned] = []
    evaluation = cache(lambda some: compose_eval(list(some), catalog))  # most rows share a corpus
    rows = [_Row(entry, file, overrides, catalog, evaluation) for entry in entries]
    for row in rows:
        planned += row.planned(path, finetune)
    known = known_extensions(catalog)
    for row in rows:  # refuse impossible combinations before hours of training
        row.check_extensions(known)
    contexts = [plan.config.base_context for plan in planned if plan.first is None]
    jobs: list[JobPlan] = []
    for plan in planned:
        jobs.append(_job_plan(plan, contexts, say))
        plan.name = jobs[-1].name
    _check_unlike(jobs, path)
    return Sweep(path.stem, jobs, catalog)


@dataclass
class _Planned:
    """A run and its evaluation, before it has a name. ``first``: the run that a control or fine-tune belongs to."""

    config: RunConfig
    asked: EvalConfig
    protocols: list[str]
    first: _Planned | None = None
    starts_from_first: bool = False
    name: str = ""


class _Row:
    """A row of the file, composed once. Each of its jobs is that config with some fields changed.

    The row overrides the file, and ``overrides`` override both.
    """

    def __init__(
        self,
        entry: SchemeEntry,
        file: SweepConfig,
        overrides: list[str],
        catalog: Catalog,
        evaluation: Callable[[tuple[str, ...]], EvalConfig],
    ):
        self.entry, self.file, self.catalog = entry, file, catalog
        overrides = [*file.overrides, *entry.overrides, *overrides]
        to_eval = [o for o in overrides if key_of(o).startswith("eval.")]
        to_run = [o for o in overrides if not key_of(o).startswith("eval.")]
        asked = replace(evaluation(tuple(to_eval)), extensions=_for_row(file.extensions, entry, [TRAINED]))
        if not any(key_of(o) == "eval.lengths" for o in to_eval):
            asked = replace(asked, lengths=list(file.lengths))
        check_eval(asked)
        self.asked = asked
        chosen = any(key_of(o) == "eval.protocol" for o in to_eval)
        self.protocols = [asked.protocol] if chosen else file.protocols
        self.overrides = [f"scheme={entry.scheme}", *to_run, f"label={entry.label}"]
        self.settings = compose_settings(self.overrides, catalog)
        self.parsed: dict[str, list[Extension]] = {}
        self.firsts: list[_Planned] = []

    def parse(self, text: str) -> list[Extension]:
        """The parsed extension; each text is parsed once."""
        if text not in self.parsed:
            self.parsed[text] = parse_extension(text, self.catalog)
        return self.parsed[text]

    def config(self, **train: Any) -> RunConfig:
        """The complete config with these training settings. Raises PosxError."""
        # Interpolated values may depend on the changed fields.
        if self.catalog.interpolates or any("${" in override for override in self.overrides):
            changed = [f"train.{key}={value}" for key, value in train.items()]
            return compose_run([*self.overrides, *changed], self.catalog)
        config = replace(self.settings, train=replace(self.settings.train, **train))
        config = typed(RunConfig, asdict(config))  # ranges
        check_train(config)
        return freeze_extension(complete(config, self.catalog), self.catalog, self.parse)

    def planned(self, path: Path, finetunes: bool) -> Iterator[_Planned]:
        """The jobs of all seeds: the first run, its controls and its fine-tunes."""
        file, asked = self.file, self.asked
        for seed in file.seeds:
            config = self.config(seed=seed)
            tunes = list(self.finetunes(config)) if finetunes and file.finetune.steps else []
            # The extension without fine-tuning is the first point of its curve.
            also = [tuned.train.extension for tuned in tunes]
            first_asked = replace(asked, extensions=list(dict.fromkeys([*asked.extensions, *also])))
            first = _Planned(config, first_asked, self.protocols)
            self.firsts.append(first)
            yield first
            for control in file.controls if seed in (file.control_seeds or file.seeds) else []:
                context = _control_context(control, asked, config.base_context, path)
                lengths = [str(config.base_context), str(context)]
                long_asked = replace(asked, extensions=["none"], lengths=lengths)
                yield _Planned(self.config(seed=seed, context=context), long_asked, ["fixed-targets"], first)
            for tuned in tunes:
                tuned_asked = replace(asked, extensions=[TRAINED])
                yield _Planned(tuned, tuned_asked, ["fixed-targets"], first, starts_from_first=True)

    def finetunes(self, first: RunConfig) -> Iterator[RunConfig]:
        """The fine-tunes of a first run: each recipe, extension and number of steps; the control at the old context."""
        tune = self.file.finetune
        context = changes(first, [f"train.context={tune.context}"])["train.context"]
        shared = changes(first, tune.overrides)
        kinds: list[dict[str, Any]] = []
        for name in _for_row(tune.recipes, self.entry, ["none"]):
            recipe = find_recipe(name)
            settings = {"train.recipe": name, **recipe.settings(first.base_context, context)}
            extensions = recipe.usable(_for_row(tune.extensions, self.entry, ["none"]), self.parse)
            kinds += [{**settings, "train.extension": extension} for extension in extensions]
        if tune.control:
            kinds.append({"train.context": first.base_context, "train.extension": "none"})
        for steps in filter(None, tune.steps):  # 0 steps: the first run itself
            for kind in kinds:
                yield finetune(first, "first", {**shared, **kind, "train.steps": steps}, self.catalog, self.parse)

    def check_extensions(self, known: dict[str, type[Extension]]) -> None:
        """Raise PosxError for extensions that the scheme, which is the same for all seeds, does not support."""
        config = self.firsts[0].config
        scheme = scheme_of(config, self.catalog)
        for text in self.firsts[0].asked.extensions:
            check_fit(self.parse(text), config.scheme["name"], scheme, known)


def _job_plan(plan: _Planned, contexts: list[int], say: Callable[[str], None]) -> JobPlan:
    """The job with its name, after the checks that require its corpus. Raises PosxError."""
    # Controls and fine-tunes are scored on the targets of their first run.
    fixed = comparable((plan.first or plan).asked, contexts)
    asked = replace(plan.asked, stride=fixed.stride, target_context=fixed.target_context)
    evals = [replace(asked, protocol=protocol) for protocol in plan.protocols]
    config, context = plan.config, plan.config.base_context
    for one in evals:
        check_eval(one)
        check_windows(one, [context, *(parse_length(text, context) for text in one.lengths)])
    corpus = prepare(config.data, config.tokenizer, say)
    check_long_enough(corpus, config.train.context)
    if any(one.protocol in ("fixed-targets", "curve") for one in evals):
        targets_of(corpus, asked, context)
    after = plan.first.name if plan.first and plan.starts_from_first else None
    config.start.run = after or ""
    digest = job_hash(config, corpus.sha256, corpus.tokenizer_sha256)
    shown = folder_name((plan.first or plan).config.label, config.scheme["name"])
    if after:
        shown = default_name(replace(config, start=replace(config.start, run=shown)))
    return JobPlan(f"{shown}-seed{config.train.seed}-{digest}", config, evals, after)


def _control_context(text: str, asked: EvalConfig, base_context: int, path: Path) -> int:
    """The training context of a control, which must be one of the evaluation lengths. Raises PosxError."""
    context = parse_length(text, base_context)
    if context == base_context or context not in [parse_length(length, base_context) for length in asked.lengths]:
        raise PosxError(
            f"{path}: the control {text} is not an evaluation length beyond 1x ({', '.join(asked.lengths)}).",
            f"Add {text} to lengths, or remove it from controls.",
        )
    return context


def _for_row(by_row: dict[str, list[str]], entry: SchemeEntry, otherwise: list[str]) -> list[str]:
    """The entry of a row, by its label, or else by its scheme."""
    return by_row.get(entry.label, by_row.get(entry.scheme, otherwise))


def _check_unlike(jobs: list[JobPlan], path: Path) -> None:
    """Raise PosxError if two jobs have the same name: they would be one run."""
    names = [job.name for job in jobs]
    for name in names:
        if names.count(name) > 1:
            raise PosxError(f"{path} names the same run twice: {name}.", "Remove one of the two.")
