"""Memory: reuse between steps, and measurement of the peak."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch


def keep_memory() -> bool:
    """Make glibc reuse freed memory instead of returning it to the system. Returns whether this is supported.

    By default, large blocks are returned and requested again as zeroed pages: tens of thousands of page faults per
    step, a fifth of the time of a training step on a CPU (docs/LOG.md).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD, M_MMAP_MAX of malloc.h
    return bool(mallopt(trim_threshold, -1) and mallopt(mmap_max, 0))


def peak_memory(device: torch.device) -> int:
    """Peak memory in bytes: allocated by torch on a GPU, or used by the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident(key: str = "VmRSS") -> int | None:
    """Resident memory of this process in bytes, or its peak with ``VmHWM``; None if the system does not report it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(key + ":")), None)


class HighWater:
    """Peak memory since :meth:`reset`, in bytes above the memory in use when this object was created.

    If the system cannot reset its peak, this is the peak since the process started.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.reset()
        now = self._now()
        self.baseline = self._total_peak() if now is None else now

    def _now(self) -> int | None:
        return torch.cuda.memory_allocated(self.device) if self.device.type == "cuda" else resident()

    def _total_peak(self) -> int:
        peak = resident("VmHWM") if self.device.type != "cuda" else None
        return peak_memory(self.device) if peak is None else peak

    def reset(self) -> None:
        """Reset the peak, and return free memory to the system."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return
        with suppress(AttributeError, OSError, TypeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)  # otherwise, memory freed by earlier work would still count
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")

    def peak(self) -> int:
        """Peak since the last reset, in bytes."""
        return max(0, self._total_peak() - self.baseline)
