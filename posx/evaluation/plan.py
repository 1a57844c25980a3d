"""The plan of an evaluation of one run, after all checks that require no computation."""

from __future__ import annotations

from dataclasses import dataclass, replace

from posx.config.catalog import PACKAGED, Catalog
from posx.config.lengths import check_windows, comparable, parse_length
from posx.config.schema import TRAINED, EvalConfig, RunConfig
from posx.errors import PosxError
from posx.extensions.base import Extension
from posx.models.binding import check_fit, parse_extension, spec_name
from posx.models.build import complete, scheme_of
from posx.models.classes import known_extensions
from posx.runs.bundle_runs import check_has_weights
from posx.runs.directory import Run


@dataclass(frozen=True, eq=False)
class Cell:
    """One number to compute: extensions at a length, on top of those the run was ``trained`` with."""

    extensions: tuple[Extension, ...]
    length: int
    trained: tuple[Extension, ...] = ()

    @property
    def extension(self) -> str:
        """The extension as records name it; ``trained`` is that of the training, which records store separately."""
        if not self.trained:
            return spec_name(self.extensions)
        return "+".join([TRAINED, *([spec_name(self.extensions)] if self.extensions else [])])


@dataclass(frozen=True)
class Plan:
    """What an evaluation of one run will compute."""

    run: Run
    config: EvalConfig  # with its stride and target_context filled in
    asked: tuple[Cell, ...]
    cells: tuple[Cell, ...]  # the requested ones, and the 1x control
    catalog: Catalog = PACKAGED


def make_plan(run: Run, config: EvalConfig, catalog: Catalog = PACKAGED) -> Plan:
    """Parse lengths and extensions, and check them before any computation. Raises PosxError."""
    check_has_weights(run.path)
    if run.step == 0:
        raise PosxError(
            f"{run.path} has no checkpoint yet.",
            f"Train it: posx train --resume --name {run.name} with its original overrides.",
        )
    run = replace(run, config=complete(run.config, catalog))
    config = comparable(config, [run.config.base_context])
    asked, cells = cells_of(run.config, config, catalog)
    return Plan(run, config, asked, cells, catalog)


def cells_of(
    run_config: RunConfig, config: EvalConfig, catalog: Catalog = PACKAGED
) -> tuple[tuple[Cell, ...], tuple[Cell, ...]]:
    """The requested cells of a run, and those with the 1x control. Both configs are complete. Raises PosxError."""
    context = run_config.base_context
    lengths = list(dict.fromkeys(parse_length(text, context) for text in config.lengths))
    known = known_extensions(catalog)
    scheme = scheme_of(run_config, catalog)
    trained = tuple(parse_extension(run_config.train.extension, catalog))
    compositions: dict[str, Cell] = {}
    for text in config.extensions:
        extensions = tuple(parse_extension(text, catalog))
        check_fit(extensions, run_config.scheme["name"], scheme, known)
        cell = Cell(extensions, context, () if text.strip() == "none" else trained)
        compositions[cell.extension] = cell
    asked = tuple(replace(cell, length=length) for cell in compositions.values() for length in lengths)
    control = Cell((), context, trained)
    # A curve stands for one length; other protocols report changes from the control.
    alone = config.protocol == "curve" or any(c.extension == control.extension and c.length == context for c in asked)
    cells = asked if alone else (control, *asked)
    check_windows(config, [cell.length for cell in cells])
    return asked, cells
