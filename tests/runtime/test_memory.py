"""Tests of ``posx.runtime.memory``."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc keeps and gives back memory like this")
def test_kept_memory_is_not_asked_for_again() -> None:
    """Blocks of 64 MB, given back and asked for again: from the system, each is a new set of empty pages."""
    code = (
        "import resource, sys, torch\n"
        "from posx.runtime.memory import keep_memory\n"
        "kept = sys.argv[1] == 'keep' and keep_memory()\n"
        "for _ in range(40): torch.empty(16 * 2**20).fill_(1.0)\n"
        "print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt)\n"
    )

    def run(how: str) -> list[str]:
        return subprocess.run(
            [sys.executable, "-c", code, how], capture_output=True, text=True, check=True
        ).stdout.split()

    kept, faults = run("keep")
    assert kept == "True"
    assert int(faults) < 0.5 * int(run("default")[1])
