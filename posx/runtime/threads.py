"""Threads: how many to use, and pieces of work that run at once, each on threads of its own.

The operations of a small model are too short to be shared by threads: the threads wait for each other several thousand
times a step, and if another program occupies one core, all of them wait for it. With one piece of a batch per thread,
they wait only at the end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

import torch

MOST = 4  # pieces: Python runs one thread at a time between operations

Result = TypeVar("Result")


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_threads(threads: int | None) -> int:
    """Set torch's CPU threads; None keeps its own choice. Returns the number in use."""
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def pieces(device: torch.device, most: int) -> int:
    """How many pieces to cut work of ``most`` parts into: one for each thread of a CPU, up to MOST; 1 on a GPU."""
    return max(1, min(torch.get_num_threads(), most, MOST)) if device.type == "cpu" else 1


def at_once(works: Sequence[Callable[[], Result]]) -> list[Result]:
    """Results in the order of ``works``, which share torch's threads evenly. The first error is raised at the end."""
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
    """Pools are kept, because every new thread would start an OpenMP team of its own."""
    return ThreadPoolExecutor(size, thread_name_prefix="posx")
