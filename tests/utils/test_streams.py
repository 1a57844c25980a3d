"""Each random stream begins with the same numbers as in all earlier releases."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from posx.runtime.generator import generator
from posx.utils.streams import KEYS, batch_stream, named_seed, stream

FIRST = {
    ("targets", 0): [1910155903, 2030065449, 1403402499],
    ("targets", 1): [1609910829, 1480400433, 1301840469],
    ("targets", 2**63 - 1): [472391200, 1314286522, 1339907945],
    ("bootstrap", 0): [2204249220, 2083551122, 4070172580],
    ("bootstrap", 1): [3455586708, 1866303207, 639606774],
    ("bootstrap", 2**63 - 1): [2118121686, 3860173427, 2411639352],
    ("longrope search", 0): [3757941927, 640022915, 3683930859],
    ("longrope search", 1): [727839681, 1148222946, 4037779436],
    ("longrope search", 2**63 - 1): [1684930224, 3138720167, 3495436560],
}
BATCHES = {
    (0, 0): [149215387, 49592932, 2628306354],
    (0, 7): [3485681230, 2510392042, 189796037],
    (1, 0): [1969390303, 1303814779, 3133017647],
    (2**63 - 1, 7): [1635839434, 4075861373, 2425930984],
}


def first(random: np.random.Generator) -> list[int]:
    return random.integers(2**32, size=3).tolist()


@pytest.mark.parametrize(("name", "seed"), FIRST)
def test_a_stream_begins_with_known_numbers(name: str, seed: int) -> None:
    assert first(stream(name, seed)) == FIRST[name, seed]
    assert first(stream(name, seed)) == FIRST[name, seed]  # each call restarts the stream


@pytest.mark.parametrize(("seed", "step"), BATCHES)
def test_a_batch_is_a_function_of_seed_and_step(seed: int, step: int) -> None:
    assert first(batch_stream(seed, step)) == BATCHES[seed, step]


def test_each_stream_has_known_numbers_and_a_unique_key() -> None:
    assert {name for name, _ in FIRST} == set(KEYS)
    assert len(set(KEYS.values())) == len(KEYS)


def test_generators_of_torch_are_seeded_by_name() -> None:
    assert named_seed(0, "words") == generator(0, "words").initial_seed() == 2014282393890527602
    assert named_seed(7, "positions of step 3") == 1661211992582199615


def test_streams_import_no_torch() -> None:
    program = "import sys, posx.utils.streams; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
