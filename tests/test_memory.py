"""What a long evaluation costs in memory, in processes of its own; and that it gives numbers.

At 64x dense attention would hold 4.3 GB of logits for a layer, and once more for every copy of them.

Also ``python -m test_memory NAME``, which is such a process (posx/bench/process.py).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_helpers import by_hand, child_environment
from helpers import SCHEMES, make_model
from posx.bench.process import Child, serve
from posx.config.schema import EvalConfig
from posx.data.corpus import Split
from posx.errors import Unsupported
from posx.evaluation.protocols.base import Windows
from posx.evaluation.scorer import Scorer
from posx.extensions.base import NONE
from posx.models.build import build_model, compose_run
from posx.models.decoder import Decoder, initialise
from posx.runtime import device as devices
from posx.runtime.memory import HighWater
from posx.utils.console import Display

CPU = torch.device("cpu")
MULTIPLE = 64
REFERENCE = {"n_layers": 4, "d_model": 256, "n_heads": 4, "context": 256, "vocab_size": 4096}
LENGTHS = (4096, 8192, MULTIPLE * REFERENCE["context"])
STRIDE = REFERENCE["context"] // 32  # what posx eval scores of a window, unless it is told otherwise
MOST = 1_500_000_000  # bytes; 0.3 to 0.6 · 10⁹ are usual
# Twice the length, at most twice the memory and this constant: the C library leaves holes between blocks of many sizes,
# of which it gives none back (keep_memory), up to 0.2 · 10⁹ bytes more in one run than in the next.
CONSTANT = 256_000_000  # bytes
SHORT = 32  # the context of the models that are only looked at, not measured
ENDING = ("learned", "learned-concat")


def scorer(model: Decoder, vocab_size: int) -> Scorer:
    """The model on a document of 20,000 random tokens, with the settings of `posx eval`."""
    corpus = by_hand([20_000])
    tokens = np.random.default_rng(0).integers(vocab_size, size=20_000).astype(np.uint32)
    corpus.splits["test"] = Split(tokens, np.array([0, len(tokens)]))
    return Scorer(model.eval(), corpus, EvalConfig(), CPU)


def nats(scorer: Scorer, length: int, scored: int) -> np.ndarray:
    """Of the last ``scored`` targets of a window that begins where the document does."""
    window = Windows(*np.array([[0], [length], [scored], [0]]))
    return scorer.score(window, NONE, Display(quiet=True), "")


class Evaluation:
    """What the process does: build the model of the reference shape, evaluate it at a length when it is asked."""

    def __init__(self, spec: dict[str, Any]):
        torch.set_num_threads(1)
        devices.prepare_for(CPU, exact=True)  # as posx eval does
        self.config = compose_run(["model=small", f"scheme={spec['scheme']}"])
        self.memory = HighWater(CPU)  # everything is imported, nothing is built
        model = build_model(self.config, self.config.tokenizer.vocab_size)
        initialise(model, 0)
        self.scorer = scorer(model, self.config.tokenizer.vocab_size)

    def about(self) -> dict[str, Any]:
        """The shape, in the words of REFERENCE."""
        model = self.config.model
        return {
            "n_layers": model.n_layers,
            "d_model": model.d_model,
            "n_heads": model.n_heads,
            "context": self.config.train.context,
            "vocab_size": self.config.tokenizer.vocab_size,
        }

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The mean of the nats at a length, and the most memory on the way to them, in bytes above the idle process."""
        self.memory.reset()
        found = nats(self.scorer, request["length"], STRIDE)
        return {"nats": float(found.mean()), "peak": self.memory.peak()}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("scheme", ["rope", "alibi", "t5", "kerple-log", "stick-breaking"])
def test_memory_of_an_evaluation_grows_with_the_length_and_not_with_its_square(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each length is judged before the next is asked for: what grows with the square would fill the machine."""
    monkeypatch.setenv("PYTHONPATH", child_environment()["PYTHONPATH"])
    child = Child(["-m", "test_memory", scheme], {"scheme": scheme})
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


if __name__ == "__main__":
    serve(Evaluation)
