"""The memory of long evaluations, measured in separate processes; and their numbers are finite.

At 64x, dense attention would store 4.3 GB of logits per layer, and as much for every copy of them.
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
# Twice the length may take twice the memory plus this constant: the C library does not return fragmented memory
# (keep_memory), which varies by up to 0.2 · 10⁹ bytes between runs.
CONSTANT = 256_000_000  # bytes
SHORT = 32  # the context of models whose memory is not measured
LIMITED = ("learned", "learned-concat")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("scheme", ["rope", "alibi", "t5", "kerple-log", "stick-breaking"])
def test_memory_of_an_evaluation_grows_linearly(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each length is checked before the next one starts: quadratic growth would exhaust the machine."""
    monkeypatch.setenv("PYTHONPATH", child_environment()["PYTHONPATH"])
    child = Child(["-m", "fixtures.memory", scheme], {"scheme": scheme})
    try:
        assert child.about == REFERENCE
        allowed = MOST
        for length in LENGTHS:
            result = child.ask({"length": length})
            assert math.isfinite(result["nats"])
            assert result["peak"] < allowed, f"{result['peak'] / 1e6:.0f} MB at {length}, {allowed / 1e6:.0f} allowed"
            allowed = min(MOST, 2 * result["peak"] + CONSTANT)
    finally:
        child.end()


# Without randomized, whose positions depend on the number of tokens, including those of the first ones.
@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name not in (*LIMITED, "randomized")])
def test_every_scheme_without_a_limit_gives_numbers_at_64x(scheme: str) -> None:
    """For every target; the first 32 equal those of the first 32 tokens alone."""
    model = scorer(make_model(scheme, context=SHORT, vocab=61), 61)
    long = nats(model, MULTIPLE * SHORT, MULTIPLE * SHORT)
    assert len(long) == 2048
    assert np.isfinite(long).all()
    np.testing.assert_allclose(long[:SHORT], nats(model, SHORT, SHORT), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scheme", LIMITED)
def test_limited_positions_are_an_error_at_64x(scheme: str) -> None:
    model = scorer(make_model(scheme, context=SHORT, vocab=61), 61)
    assert np.isfinite(nats(model, SHORT, SHORT)).all()
    with pytest.raises(Unsupported) as error:
        nats(model, MULTIPLE * SHORT, STRIDE)
    assert str(error.value) == "learned positions end at 32. Try --extension interpolate, or a length up to 32."
