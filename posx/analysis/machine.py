"""`posx doctor`: what this machine has, and what posx will choose."""

from __future__ import annotations

import os
import shutil
from typing import Any

import torch
from rich.table import Table

from posx.data.sources.hub import hub_reachable
from posx.reporting.output import Output
from posx.runs import provenance
from posx.runtime import device as devices
from posx.runtime.threads import cores
from posx.utils.files import cache_dir


def inspect() -> dict[str, dict[str, Any]]:
    """One row per component: ``found``, what the machine has, and ``so``, what posx will do."""
    device = devices.pick_device("auto")
    cpu = torch.device("cpu")
    fast = devices.fast_bf16(device)
    compiler = devices.compiler()
    cache = cache_dir()
    room = next(p for p in (cache, *cache.parents) if p.exists())
    online = hub_reachable(2.0)
    dtype = str(devices.pick_dtype("auto", device)).removeprefix("torch.")
    gpu = torch.cuda.is_available()
    compiled = "train.compile=auto compiles long runs" if compiler else "trains uncompiled"
    if device.type == "cpu":
        compiled = "train.compile=auto trains uncompiled, which is faster on a CPU"
    return {
        "processor": {
            "found": devices.device_name(cpu),
            "so": f"one run: {torch.get_num_threads()} threads; a sweep: {cores()} jobs of one thread at a time",
        },
        "GPU": {
            "found": torch.cuda.get_device_name() if gpu else "none supported by torch",
            "so": f"train.device=auto uses {device.type}",
        },
        "fast bf16": {
            "found": "yes" if fast else "no",
            "so": f"train.dtype=auto uses {dtype}; evaluation uses float32",
        },
        "C++ compiler": {"found": compiler or "none", "so": compiled},
        "memory": {"found": _memory(), "so": "posx train --estimate shows what a run needs"},
        "cache": {
            "found": f"{cache}, {shutil.disk_usage(room).free / 1e9:.0f} GB free",
            "so": "stores tokenized corpora; set POSX_CACHE to move it",
        },
        "Hugging Face Hub": {
            "found": "reachable" if online else "not reachable",
            "so": "all corpora are available"
            if online
            else "available: data=sotu, data=text (your files) and cached corpora",
        },
        "versions": {"found": ", ".join(f"{k} {v}" for k, v in provenance.versions().items()), "so": ""},
    }


def _memory() -> str:
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return "unknown"
    return f"{pages * size / 2**30:.0f} GiB"


def describe_machine() -> Output:
    """:func:`inspect` as a table."""
    rows = inspect()
    table = Table("", "found", "posx", show_lines=False)
    for name, row in rows.items():
        table.add_row(name, row["found"], row["so"])
    return Output(rows, [table])
