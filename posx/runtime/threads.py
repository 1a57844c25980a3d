"""CPU threads: how many to use, and how to run tasks in parallel.

The operations of a small model are too short to be split across threads: threads wait for each other several thousand
times per step, and if another program occupies one core, all of them wait for it. With one piece of a batch per thread,
they wait only at the end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

import torch

MOST = 4  # pieces; more would not help, since Python runs one thread at a time between operations

Result = TypeVar("Result")


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_threads(threads: int | None) -> int:
    """Set the number of torch's CPU threads; None leaves torch's default. Returns the number in use."""
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def pieces(device: torch.device, most: int) -> int:
    """Number of pieces to cut work into, up to ``most`` and MOST: one per CPU thread; 1 on a GPU."""
    return max(1, min(torch.get_num_threads(), most, MOST)) if device.type == "cpu" else 1


def at_once(works: Sequence[Callable[[], Result]]) -> list[Result]:
    """Run ``works`` in parallel, with equal shares of torch's threads. Returns their results in order.

    If any of them fail, the first error is raised after all have ended.
    """
    if len(works) == 1:
        return [works[0]()]
    threads = torch.get_num_threads()

    def run(work: Callable[[], Result]) -> Result:
        torch.set_num_threads(max(1, threads // len(works)))
        return work()

    futures = [_pool(len(works)).submit(run, work) for work in works]
    try:
        wait(futures)
        return [future.result() for future in futures]
    finally:
        torch.set_num_threads(threads)


@cache
def _pool(size: int) -> ThreadPoolExecutor:
    """Pools are reused, because every new thread would start its own OpenMP team."""
    return ThreadPoolExecutor(size, thread_name_prefix="posx")
