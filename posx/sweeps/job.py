"""One job of a sweep as a process, ``python -m posx.sweeps.job SPEC``: train if necessary, then evaluate.

SPEC is a JSON file with ``name``, ``runs_dir``, ``config`` (resolved), ``evals``, ``after`` (the run whose weights it
starts from), ``config_dir`` and ``trust``. At the end, ``SPEC.done`` lists the records, so that the same job is not run
again. Any engine that can start processes can run it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from posx.config.catalog import Catalog
from posx.config.schema import EvalConfig, RunConfig
from posx.config.validate import typed
from posx.data.corpus import prepare
from posx.errors import PosxError
from posx.evaluation.evaluate import evaluate_all
from posx.evaluation.plan import make_plan
from posx.models.build import complete
from posx.results.records import as_json
from posx.runs.directory import create, find_run
from posx.training.finetune import with_weights
from posx.training.loop import train
from posx.utils.console import Display
from posx.utils.files import read_json, write_json


def main(spec_path: Path) -> int:
    """Exit code 0, 1 or 2, or 128 + the signal."""
    try:
        spec = read_json(spec_path, "a posx job")
        catalog = Catalog.from_json(spec)
        config = complete(typed(RunConfig, spec["config"]), catalog)
        runs_dir = Path(spec["runs_dir"])
        if spec["after"]:
            config = with_weights(config, find_run(runs_dir, spec["after"]))
        run = create(runs_dir, spec["name"], config, resume=True)
        with Display() as display:
            if not run.finished:
                train(run, prepare(config.data, config.tokenizer, display.say), display, catalog)
            records = []
            for asked in spec["evals"]:
                plan = make_plan(run, typed(EvalConfig, asked), catalog)
                records += evaluate_all(plan, display)  # an unsupported cell is a dash, not a failed job
        write_json(spec_path.with_suffix(".done"), {"spec": spec, "records": [as_json(r) for r in records]})
    except PosxError as error:
        print(error, file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
