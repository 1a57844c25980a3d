"""What a long evaluation costs in memory, in processes of its own; and that it gives numbers.

At 64x dense attention would hold 4.3 GB of logits for a layer, and once more for every copy of them.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from fixtures.corpora import child_environment
from fixtures.memory import REFERENCE, STRIDE, nats, scorer
from fixtures.models import SCHEMES, make_model
from posx.bench.process import Child
from posx.errors import Unsupported

MULTIPLE = 64
LENGTHS = (4096, 8192, MULTIPLE * REFERENCE["context"])
MOST = 1_500_000_000  # bytes; 0.3 to 0.6 · 10⁹ are usual
# Twice the length, at most twice the memory and this constant: the C library leaves holes between blocks of many sizes,
# of which it gives none back (keep_memory), up to 0.2 · 10⁹ bytes more in one run than in the next.
CONSTANT = 256_000_000  # bytes
SHORT = 32  # the context of the models that are only looked at, not measured
ENDING = ("learned", "learned-concat")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("scheme", ["rope", "alibi", "t5", "kerple-log", "stick-breaking"])
def test_memory_of_an_evaluation_grows_with_the_length_and_not_with_its_square(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each length is judged before the next is asked for: what grows with the square would fill the machine."""
    monkeypatch.setenv("PYTHONPATH", child_environment()["PYTHONPATH"])
    child = Child(["-m", "fixtures.memory", scheme], {"scheme": scheme})
    try:
        assert child.about == REFERENCE
        allowed = MOST
        for length in LENGTHS:
            found = child.ask({"length": length})
            assert math.isfinite(found["nats"])
            assert found["peak"] < allowed, f"{found['peak'] / 1e6:.0f} MB at {length}, {allowed / 1e6:.0f} allowed"
            allowed = min(MOST, 2 * found["peak"] + CONSTANT)
    finally:
        child.end()


# Not randomized: its positions depend on the number of tokens, also those of the first.
@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name not in (*ENDING, "randomized")])
def test_every_scheme_without_an_end_gives_numbers_at_64x(scheme: str) -> None:
    """Of every target; and those of the first 32 are what they are without the tokens after them."""
    model = scorer(make_model(scheme, context=SHORT, vocab=61), 61)
    long = nats(model, MULTIPLE * SHORT, MULTIPLE * SHORT)
    assert len(long) == 2048
    assert np.isfinite(long).all()
    np.testing.assert_allclose(long[:SHORT], nats(model, SHORT, SHORT), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scheme", ENDING)
def test_positions_that_end_are_refused_at_64x_with_a_sentence(scheme: str) -> None:
    model = scorer(make_model(scheme, context=SHORT, vocab=61), 61)
    assert np.isfinite(nats(model, SHORT, SHORT)).all()
    with pytest.raises(Unsupported) as refused:
        nats(model, MULTIPLE * SHORT, STRIDE)
    assert str(refused.value) == "learned positions end at 32. Try --extension interpolate, or a length up to 32."
