"""The Python API, which the command line calls too. Nothing here prints.

    config = posx.compose({"train.steps": 100}, scheme="rope")
    run = posx.train(config)
    records = posx.evaluate(run, ["1x", "2x"], ["none", "pi"])

Lengths and contexts are tokens, losses are nats, and a multiple such as ``"2x"`` refers to the base context. Every
invalid argument raises :class:`PosxError`, whose text says what is wrong and how to fix it. ``progress`` is called with
:class:`Progress` events. ``catalog`` adds a folder of configs, and trusts classes from outside posx; a class that is
passed as an object is trusted in this process. Heavy packages are imported by the functions that need them.

The commands print what these functions return. ``posx`` exports the functions that scripts use most; the others are
available as ``posx.api.NAME``.
"""

from posx.api.arguments import OnProgress, Overrides
from posx.api.benchmarks import bench_growth, bench_schemes, check_writable, redraw_growth, write_pages
from posx.api.bundles import Bundled, bundle
from posx.api.evaluation import (
    compose_evaluations,
    compute,
    evaluate,
    plan_evaluations,
    plan_newest,
    recommend,
    reproduce,
    reproduction_commands,
    save_search,
    search_longrope,
)
from posx.api.inspection import (
    config_text,
    explain,
    explain_permutation,
    extensions,
    machine,
    schemes,
    show,
    verify,
)
from posx.api.results import (
    Table,
    compare,
    find_format,
    find_record,
    find_run,
    load_records,
    load_run,
    newest_run,
    plot,
    read_table,
    record_rows,
    report,
)
from posx.api.sweeps import check_bundles, list_jobs, plan_sweep, sweep, trained_runs, write_results
from posx.api.training import compose, compose_finetune, default_path, estimate, finetune, run_path, train
from posx.config.catalog import Catalog
from posx.config.schema import RunConfig
from posx.errors import PosxError
from posx.reporting.output import Output
from posx.results.records import Record
from posx.runs.directory import Run
from posx.utils.progress import Progress

__all__ = [
    "Bundled",
    "Catalog",
    "OnProgress",
    "Output",
    "Overrides",
    "PosxError",
    "Progress",
    "Record",
    "Run",
    "RunConfig",
    "Table",
    "bench_growth",
    "bench_schemes",
    "bundle",
    "check_bundles",
    "check_writable",
    "compare",
    "compose",
    "compose_evaluations",
    "compose_finetune",
    "compute",
    "config_text",
    "default_path",
    "estimate",
    "evaluate",
    "explain",
    "explain_permutation",
    "extensions",
    "find_format",
    "find_record",
    "find_run",
    "finetune",
    "list_jobs",
    "load_records",
    "load_run",
    "machine",
    "newest_run",
    "plan_evaluations",
    "plan_newest",
    "plan_sweep",
    "plot",
    "read_table",
    "recommend",
    "record_rows",
    "redraw_growth",
    "report",
    "reproduce",
    "reproduction_commands",
    "run_path",
    "save_search",
    "schemes",
    "search_longrope",
    "show",
    "sweep",
    "train",
    "trained_runs",
    "verify",
    "write_pages",
    "write_results",
]
