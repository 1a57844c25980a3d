"""Tests of ``posx.runtime.threads``."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import torch

from posx.runtime.threads import MOST, at_once, pieces

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def threads_restored() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_results_are_in_order_and_threads_are_shared() -> None:
    torch.set_num_threads(4)
    gate = threading.Barrier(2)  # passed only if both run at the same time

    def work(number: int) -> tuple[int, int]:
        gate.wait(20)
        return number, torch.get_num_threads()

    assert at_once([lambda: work(0), lambda: work(1)]) == [(0, 2), (1, 2)]
    assert torch.get_num_threads() == 4
    torch.set_num_threads(3)
    assert at_once([torch.get_num_threads]) == [3]
    assert [at_once([torch.get_num_threads] * n) for n in (2, 3)] == [[1, 1], [1, 1, 1]]


def test_an_error_is_raised_after_all_have_ended() -> None:
    torch.set_num_threads(2)
    ended = threading.Event()

    def fails() -> None:
        raise ValueError("of a piece")

    def goes_on() -> None:
        ended.wait(0.2)
        ended.set()

    with pytest.raises(ValueError, match="of a piece"):
        at_once([fails, goes_on])
    assert ended.is_set()
    assert torch.get_num_threads() == 2


def test_number_of_pieces() -> None:
    torch.set_num_threads(2)
    assert [pieces(CPU, most) for most in (0, 1, 2, 9)] == [1, 1, 2, 2]
    torch.set_num_threads(MOST + 3)
    assert pieces(CPU, 100) == MOST
    assert pieces(torch.device("cuda"), 100) == 1


def test_denormal_numbers_are_flushed_to_zero_on_all_threads() -> None:
    """1e-39 is a denormal float32. Runs in a separate process; all threads share the last product."""
    code = (
        "import torch\n"
        "from posx.runtime import device as devices\n"
        "from posx.runtime.threads import at_once\n"
        "torch.set_num_threads(2)\n"
        "tiny = torch.tensor([1e-39])\n"
        "assert float(tiny * 1.0) > 0\n"
        "devices.prepare_for(torch.device('cpu'), exact=True)\n"
        "print([bool((tiny * 1.0 > 0).any())]\n"
        "      + at_once([lambda: bool((tiny * 1.0 > 0).any())] * 2)\n"
        "      + [bool((tiny.expand(10**6) * 1.0 > 0).any())])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([False] * 4)
