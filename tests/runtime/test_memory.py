"""Tests of ``posx.runtime.memory``."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc has these settings")
def test_freed_memory_is_reused() -> None:
    """Blocks of 64 MB are freed and allocated again. From the system, each has new pages, which cause page faults."""
    code = (
        "import resource, sys, torch\n"
        "from posx.runtime.memory import keep_memory\n"
        "reused = sys.argv[1] == 'reuse' and keep_memory()\n"
        "for _ in range(40): torch.empty(16 * 2**20).fill_(1.0)\n"
        "print(reused, resource.getrusage(resource.RUSAGE_SELF).ru_minflt)\n"
    )

    def run(mode: str) -> list[str]:
        return subprocess.run(
            [sys.executable, "-c", code, mode], capture_output=True, text=True, check=True
        ).stdout.split()

    reused, faults = run("reuse")
    assert reused == "True"
    assert int(faults) < 0.5 * int(run("default")[1])
