"""Tests of ``posx.models.attention.dispatch``: the choice of a backend, and that records name the backend that ran."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from fixtures.corpora import by_hand
from fixtures.models import CONTEXT, SCHEMES, extend, extensions, make_model, named, needed
from posx.config.schema import EvalConfig
from posx.data.corpus import Split
from posx.evaluation.protocols.base import Windows
from posx.evaluation.scorer import Scorer
from posx.extensions.base import NONE, Applied
from posx.models.attention import blockwise, dense, dispatch, flex, sdpa, tiled
from posx.models.attention.context import Call
from posx.models.attention.dispatch import BACKENDS, choose, forced
from posx.models.binding import bind, fits
from posx.models.decoder import Decoder
from posx.runtime import processor
from posx.runtime.processor import KINDS
from posx.utils.console import Display

CPU = torch.device("cpu")
WIDTH = 61  # of the vocabulary


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    with processor.forced(KINDS[request.param]):
        yield request.param


def chosen(model: Decoder, extension: Applied = NONE, **call: Any) -> str:
    scheme = model.scheme.at(0)
    return choose(scheme, extension, Call(2, 3, **call), CONTEXT, CPU).name


# ---------------------------------------------------------------- choice of a backend


@pytest.mark.parametrize("name", ["nope", "rope", "alibi", "t5", "kerple-log", "fire"])
def test_evaluation_takes_the_kernel_on_intel_and_tiles_elsewhere(name: str, kind: str) -> None:
    with torch.no_grad():
        assert chosen(make_model(name)) == ("fused" if kind.startswith("Intel") else "tiles")


@pytest.mark.parametrize("name", SCHEMES)
def test_training_takes_the_same_on_every_processor(name: str, kind: str) -> None:
    alone = {"linear-rope": "scheme", "cope": "blocks", "dape": "blocks", "stick-breaking": "blocks"}
    of_content = dict.fromkeys(("shaw", "transformer-xl", "forgetting", "cable"), "blocks")
    assert chosen(make_model(name)) == {**alone, **of_content}.get(name, "tiles")


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "asked", "backend"),
    [
        ("rope", {"self-extend": {"w": 4, "G": 4}}, "blocks"),
        ("rope", {"rerope": {}}, "blocks"),
        ("alibi", {"dual-chunk": {}}, "blocks"),
        ("alibi", {"sinks": {}}, "blocks"),
        ("nope", {"sinks": {}}, None),  # no distances: only a mask
        ("rope", {"yarn": {}}, None),
        ("nope", {"temperature": {"factor": 2.0}}, None),  # the queries carry it
        ("alibi", {"temperature": {"factor": 2.0}}, "blocks"),  # the bias is multiplied too
        ("linear-rope", {"pi": {}}, "scheme"),
    ],
)  # fmt: skip
def test_an_extension_that_moves_pairs_runs_in_blocks(
    name: str, asked: dict[str, Any], backend: str | None, kind: str
) -> None:
    model = make_model(name)
    applied = bind([named(one, **params) for one, params in asked.items()], model.scheme, 4 * CONTEXT)
    expected = backend or ("fused" if kind.startswith("Intel") else "tiles")
    assert choose(model.scheme, applied, Call(2, 3), 4 * CONTEXT, CPU).name == expected


def test_unsupported_cases_use_another_backend() -> None:
    plain, bias, content = make_model("nope"), make_model("alibi"), make_model("shaw")
    assert chosen(plain, backend="fused") == "fused"
    assert chosen(bias, backend="fused") == "dense"  # its addend would not get a gradient
    assert chosen(content, backend="fused") == "blocks"
    assert chosen(content, backend="tiles") == "blocks"
    assert chosen(plain, backend="fused", queries=3) == "blocks"
    assert chosen(plain, block=4, backend="fused") == "blocks"
    with torch.no_grad():
        assert chosen(bias, backend="fused") == "fused"
        assert chosen(bias, backend="tiles", queries=3) == "tiles"
        assert chosen(bias, backend="flex", queries=3) == "blocks"


def test_long_training_does_not_use_tiles() -> None:
    """Their stored weights grow with the square of the length."""
    for name, backend in (("nope", "fused"), ("alibi", "blocks")):
        scheme = make_model(name).scheme
        assert choose(scheme, NONE, Call(1, 4), 4096, CPU).name == "tiles"
        assert choose(scheme, NONE, Call(8, 4), 4096, CPU).name == backend


def test_gpu_does_not_use_cpu_backends() -> None:
    gpu = torch.device("cuda", 0)
    scheme = make_model("nope").scheme
    assert choose(scheme, NONE, Call(2, 4), 4096, gpu).name == "fused"
    assert choose(scheme, NONE, Call(2, 4, queries=3), 4096, gpu).name == "blocks"


def test_a_choice_can_be_forced() -> None:
    model = make_model("alibi")
    with forced("blocks"):
        assert chosen(model) == "blocks"
        assert chosen(model, backend="dense") == "dense"  # an explicit backend takes precedence
    assert chosen(model) == "tiles"


# ---------------------------------------------------------------- recorded backend

RUNS: dict[str, tuple[Any, str]] = {  # the function behind each name
    "dense": (dense, "products"),
    "fused": (sdpa.F, "scaled_dot_product_attention"),
    "tiles": (tiled, "tiled_attention"),
    "blocks": (blockwise, "in_blocks"),
    "flex": (flex, "flex"),
}


@contextmanager
def counted(model: Decoder) -> Iterator[Counter[str]]:
    """How often the function behind each backend was called."""
    calls: Counter[str] = Counter()

    def counting(name: str, function: Any) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            calls[name] += 1
            return function(*arguments, **more)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name, (module, function) in RUNS.items():
            patch.setattr(module, function, counting(name, getattr(module, function)))
        patch.setattr(dispatch, "in_blocks", blockwise.in_blocks)
        schemes = [model.scheme.at(layer) for layer in range(len(model.blocks))]
        for scheme in {type(one) for one in schemes if one.capabilities.has_own_attention}:
            patch.setattr(scheme, "attend", counting("scheme", scheme.attend))
        yield calls


def asked_of(name: str) -> list[str]:
    scheme = make_model(name).scheme
    return ["none", *sorted(one for one, cls in extensions().items() if fits(cls, scheme))]


@pytest.mark.parametrize("kind", ["Intel with AMX", "AMD without bf16"], indirect=True)
@pytest.mark.parametrize("name", SCHEMES)
def test_the_recorded_backend_is_the_one_that_ran(name: str, kind: str) -> None:
    """Under every extension, at the training context and beyond."""
    model = make_model(name, vocab=WIDTH)
    corpus = by_hand([200])
    tokens = np.random.default_rng(0).integers(WIDTH, size=200).astype(np.uint16)
    corpus.splits["test"] = Split(tokens, np.array([0, len(tokens)]))
    scorer = Scorer(model, corpus, EvalConfig(), CPU)
    for one in asked_of(name):
        for length in (CONTEXT, 3 * CONTEXT):
            if model.scheme.last_position is not None and length > model.scheme.last_position + 1:
                continue
            own = {} if one == "none" else {one: needed(one, model.scheme)}
            window = Windows(*np.array([[0], [length], [2], [0]]))
            with counted(model) as calls:
                _, recorded = scorer.score(window, extend(model, length, **own), Display(quiet=True), "")
            assert set(recorded.split("+")) == set(calls), (one, length)
            assert sum(calls.values()) >= len(model.blocks)


def test_every_backend_has_a_function_to_count() -> None:
    assert {*RUNS, "scheme"} == set(BACKENDS)
