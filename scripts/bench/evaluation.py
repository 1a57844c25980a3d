"""How fast is posx's evaluation, compared with the usual loop over a transformers model with the same weights?

    .venv/bin/python scripts/bench/evaluation.py > results/bench/evaluation.md

A model of the reference shape (rivals.py), trained for some steps at a context of 256, reads windows of 1,024 tokens of
the test split and is scored on the last 8 predictions of each window, the targets of `posx eval --length 4x`. There are
three models: posx's default family with rotary positions and with ALiBi, and a Llama.

* ``loop``: the transformers model with these weights (GPT-NeoX, MPT, Llama), one window at a time, in float32, with
  logits for the whole window.
* ``posx-float32``, ``posx-bfloat16``: posx's Scorer, as `posx eval` and `posx eval eval.dtype=bfloat16` call it.

Each side is a separate process that waits for requests (training.py). All read the same windows in turn, and their
results are compared.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rivals import CONTEXT, corpus, products, reference
from safetensors.torch import load_model, save_model

from posx.bench.process import serve
from posx.config.schema import EvalConfig
from posx.evaluation.protocols.base import Windows
from posx.evaluation.protocols.fixed_targets import fixed_targets, windows_of_targets
from posx.evaluation.scorer import Scorer
from posx.extensions.base import NONE
from posx.models.build import build_model
from posx.models.decoder import Decoder
from posx.runtime import device as devices
from posx.training.loop import train_step
from posx.training.state import start
from posx.utils.console import Display
from training import Answer, Side, Sides, alternating, header, spread

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

PLAIN_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
# Overrides of `posx train`, and the function in posx/verify/oracles/host_models.py with its arguments.
MODELS: dict[str, tuple[tuple[str, ...], str, tuple[Any, ...]]] = {
    "rope": (("scheme=rope",), "neox", (PLAIN_ROPE | {"partial_rotary_factor": 1.0},)),
    "alibi": (("scheme=alibi",), "mpt", (4 * CONTEXT,)),
    "rope-llama": (("scheme=rope", "model.family=llama"), "llama", (PLAIN_ROPE,)),
}
LENGTH = 4 * CONTEXT
STRIDE = CONTEXT // 32
LOOP, PRODUCTS = "loop", "products"
LIMITS = {"posx-float32": 1e-5, "posx-bfloat16": 1e-3}  # the largest allowed difference in nats/token

Score = Callable[[], np.ndarray]  # nats of each target, float32


def train_some(model: str, path: Path, steps: int) -> None:
    """Write the weights after some training: with initial weights all predictions would be the same."""
    session = start(reference(*MODELS[model][0], "train.compile=off", "optim.warmup_steps=10"), corpus())
    for step in range(steps):
        train_step(session, step)
    save_model(session.model, str(path))


def trained(model: str, path: Path) -> Decoder:
    """The model with these weights."""
    decoder = build_model(reference(*MODELS[model][0]), corpus().vocab_size).eval()
    load_model(decoder, path)
    return decoder


def windows(count: int, length: int = LENGTH) -> Windows:
    """Windows of ``length`` that end at the targets of posx's evaluation of this model."""
    targets = fixed_targets(corpus(), "test", 8 * CONTEXT, STRIDE, count * STRIDE, seed=0)
    return windows_of_targets(targets, length)


def loop(model: str, path: Path, inputs: Windows) -> Score:
    """A sliding window over a transformers model, the usual way to compute perplexity."""
    from posx.verify.oracles import host_models as hosts

    _, make, settings = MODELS[model]
    host: Any = getattr(hosts, make)(trained(model, path), *settings)
    if make != "mpt":  # which supports only its own attention
        host.set_attn_implementation("sdpa")
    tokens = corpus().splits["test"].tokens

    @torch.no_grad()
    def score() -> np.ndarray:
        nats = []
        for first, length, scored in zip(inputs.starts, inputs.lengths, inputs.scored, strict=True):
            ids = torch.from_numpy(tokens[first : first + length + 1].astype(np.int64))[None]
            logits = host(input_ids=ids[:, :-1], use_cache=False).logits
            nats.append(F.cross_entropy(logits[0, -scored:].float(), ids[0, -scored:], reduction="none"))
        return torch.cat(nats).numpy()

    return score


def ours(model: str, path: Path, inputs: Windows, dtype: str) -> Score:
    """posx with the default settings of its evaluation."""
    devices.prepare_for(torch.device("cpu"), exact=True)  # as posx eval does
    scorer = Scorer(trained(model, path), corpus(), EvalConfig(dtype=dtype), torch.device("cpu"))
    display = Display(quiet=True)
    return lambda: scorer.score(inputs, NONE, display, "")[0]


SIDES: dict[str, Callable[[str, Path, Windows], Score]] = {
    LOOP: loop,
    "posx-float32": partial(ours, dtype="float32"),
    "posx-bfloat16": partial(ours, dtype="bfloat16"),
}


def operations(model: Decoder, length: int, everything: bool) -> float:
    """Floating-point operations of matrix products per context token, halved for attention because of its mask.

    Without ``everything``, only those needed for the last predictions: of the last layer only keys and values, no head.
    """
    matrices = [p.numel() for p in model.blocks[0].parameters() if p.ndim == 2]
    attention, last = 2 * length * model.config.d_model, 2 * model.config.d_model**2
    layers = model.config.n_layers
    if everything:
        return 2 * (layers * (sum(matrices) + attention / 2) + model.head_weight.numel())
    return 2 * ((layers - 1) * (sum(matrices) + attention / 2) + last)


def answer_of(name: str, model: str, weights: str, count: int, length: int) -> Answer:
    """The answer of a side to every request: seconds for all windows, and their nats; or the speed of products."""
    if name == PRODUCTS:
        measure = products(torch.float32)
        return lambda request: measure()
    path, inputs = Path(weights), windows(count, length)
    warm_up = Windows(inputs.starts[:8], inputs.lengths[:8], inputs.scored[:8], inputs.documents[:8])
    SIDES[name](model, path, warm_up)()
    score = SIDES[name](model, path, inputs)

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        began = time.perf_counter()
        nats = score()
        return {"seconds": time.perf_counter() - began, "nats": nats.tolist()}

    return answer


def compare(model: str, names: list[str], rounds: int, count: int, length: int, steps: int) -> bool:
    """Print rates, ratios and differences. Returns whether all differences are within their limits."""
    inputs = windows(count, length)
    rates: dict[str, list[float]] = {name: [] for name in names}
    losses: dict[str, np.ndarray] = {}
    best: list[float] = []
    with tempfile.TemporaryDirectory(prefix="posx-bench-") as folder, Sides(__file__) as sides:
        weights = Path(folder) / "model.safetensors"
        print(f"{model}: training for {steps} steps …", file=sys.stderr, flush=True)
        train_some(model, weights, steps)
        for name in (*names, PRODUCTS):
            spec = {"name": name, "model": model, "weights": str(weights), "count": count, "length": length}
            sides.start(name, spec)
        for number in range(rounds):
            for name in alternating([*names, PRODUCTS], number):
                answer = sides.ask(name)
                if name == PRODUCTS:
                    best.append(answer["best"])
                else:
                    rates[name].append(float(inputs.lengths.sum()) / answer["seconds"])
                    losses[name] = np.array(answer["nats"])
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        decoder = trained(model, weights)
    print(
        f"\n**{model}** ({' '.join(MODELS[model][0])}) after {steps} steps: {len(inputs.starts)} windows of {length:,} "
        f"tokens, the last {STRIDE} predictions of each, {rounds} alternating rounds; {losses[LOOP].mean():.4f} "
        "nats/token.\n"
    )
    print("| side | context tokens/s | speed relative to the loop | difference in nats/token | largest of a target |")
    print("| --- | ---: | ---: | ---: | ---: |")
    passed = True
    for name in names:
        ratio, mean, worst = "", "", ""
        if name != LOOP:
            ratio = spread([a / b for a, b in zip(rates[name], rates[LOOP], strict=True)])
            gaps = losses[name] - losses[LOOP]
            passed = passed and abs(gaps.mean()) <= LIMITS.get(name, 1e-5)
            mean, worst = f"{abs(gaps.mean()):.1e}", f"{np.abs(gaps).max():.1e}"
        print(f"| {name} | {median(rates[name]):,.0f} | {ratio} | {mean} | {worst} |")
    whole, needed = (operations(decoder, length, everything) for everything in (True, False))
    share = median(rate * whole / most for rate, most in zip(rates[LOOP], best, strict=True))
    print(
        f"\nFloat32 matrix products on this machine: {median(best) / 1e9:.0f} · 10⁹ operations/s. At this rate, the "
        f"loop's products ({whole / 1e6:.1f} · 10⁶ operations/token) take {share:.0%} of its time. The predictions "
        f"require {needed / whole:.0%} of them, so no float32 evaluation can be more than "
        f"{whole / needed / share:.2f} times as fast here."
    )
    return passed


def main() -> None:
    """Print the tables; exit code 1 if a difference is too large."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--windows", type=int, default=128, help="windows per side and round")
    parser.add_argument("--length", type=int, default=LENGTH, help="tokens per window")
    parser.add_argument("--steps", type=int, default=100, help="training steps before the evaluation")
    parser.add_argument("--models", help=f"comma-separated names of {', '.join(MODELS)}; default: all")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(lambda spec: Side(answer_of(**spec)))
        return
    corpus()  # built once, before anything is timed
    models = arguments.models.split(",") if arguments.models else list(MODELS)
    unknown = [name for name in models if name not in MODELS]
    if unknown:
        parser.error(f"unknown model {', '.join(unknown)}; known: {', '.join(MODELS)}")
    print(f"Evaluation at the reference shape. {header('transformers')}")
    passed = [
        compare(name, list(SIDES), arguments.rounds, arguments.windows, arguments.length, arguments.steps)
        for name in models
    ]
    print(
        "\nRatios are medians over the rounds (smallest–largest). Differences from the loop: of the mean over all "
        "targets, the number in a table, which must be at most 1e-5 in float32 and 1e-3 in bf16; and the largest "
        "of a single target."
    )
    if not all(passed):
        print("A difference exceeds its limit.", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
