"""`posx doctor` and `posx train --estimate`: what this machine has, and what posx makes of it."""

from __future__ import annotations

import json
import os
import shutil
from typing import Any

import torch
from rich.table import Table

from posx.data.sources.hub import hub_reachable
from posx.runs import provenance
from posx.runtime import device as devices
from posx.runtime.threads import cores
from posx.utils.console import to_stdout
from posx.utils.files import cache_dir
from posx.utils.format import clock


def inspect() -> dict[str, dict[str, Any]]:
    """What there is, and what follows; each row has ``found`` and ``so``."""
    device = devices.pick_device("auto")
    cpu = torch.device("cpu")
    fast = devices.fast_bf16(device)
    compiler = devices.compiler()
    cache = cache_dir()
    room = next(p for p in (cache, *cache.parents) if p.exists())
    online = hub_reachable(2.0)
    dtype = str(devices.pick_dtype("auto", device)).removeprefix("torch.")
    gpu = torch.cuda.is_available()
    compiled = "compiles runs that are long enough for it to pay" if compiler else "trains uncompiled"
    if device.type == "cpu":
        compiled = "train.compile=auto trains uncompiled, which is faster on a CPU"
    return {
        "processor": {
            "found": devices.device_name(cpu),
            "so": f"{torch.get_num_threads()} threads for one run; a sweep runs {cores()} jobs of one thread",
        },
        "GPU": {
            "found": torch.cuda.get_device_name() if gpu else "none that torch can use",
            "so": f"train.device=auto takes {device.type}",
        },
        "fast bf16": {
            "found": "yes" if fast else "no",
            "so": f"train.dtype=auto takes {dtype}; evaluation is float32",
        },
        "C++ compiler": {"found": compiler or "none", "so": compiled},
        "memory": {"found": _memory(), "so": "posx train --estimate says what a run needs"},
        "cache": {
            "found": f"{cache}, {shutil.disk_usage(room).free / 1e9:.0f} GB free",
            "so": "corpora are tokenised once and kept there; set POSX_CACHE to move it",
        },
        "Hugging Face Hub": {
            "found": "reachable" if online else "not reachable",
            "so": "all corpora" if online else "data=sotu (embedded) and data=text (your own files); cached ones too",
        },
        "versions": {"found": ", ".join(f"{k} {v}" for k, v in provenance.versions().items()), "so": ""},
    }


def _memory() -> str:
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return "unknown"
    return f"{pages * size / 2**30:.0f} GiB"


def show_machine(as_json: bool) -> None:
    """Print what :func:`inspect` found."""
    rows = inspect()
    if as_json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    table = Table("", "found", "so posx", show_lines=False)
    for name, row in rows.items():
        table.add_row(name, row["found"], row["so"])
    to_stdout().print(table, markup=False)


def show_estimate(values: dict[str, Any]) -> None:
    """Print what :func:`posx.training.estimate.estimate` found."""
    table = Table(show_header=False, title="Estimate, from three steps of the real model", title_justify="left")
    table.add_row("time", f"{clock(values['seconds'])} at {values['tokens_per_second']:,.0f} tokens/s")
    table.add_row("memory", f"{values['peak_memory_bytes'] / 2**30:.2f} GiB")
    table.add_row("disk", f"{values['checkpoint_bytes'] / 2**20:,.0f} MiB a checkpoint")
    table.add_row("tokens", f"{values['tokens']:,}, {values['epochs']:.2f} epochs of the training split")
    table.add_row(
        "parameters",
        f"{values['parameters']['total']:,}, of which {values['parameters']['scheme']:,} the scheme's",
    )
    compiled = "; compiled, which the estimate leaves out" if values["would_compile"] else ""
    table.add_row("on", f"{values['device']}, {values['dtype']}{compiled}")
    to_stdout().print(table, markup=False)
