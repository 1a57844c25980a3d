"""How fast does posx evaluate, beside the usual loop over a transformers model of the same weights?

    .venv/bin/python scripts/bench/evaluation.py > results/bench/evaluation.md

A model at the reference shape (rivals.py), trained for some steps at a context of 256, reads windows of 1,024 tokens of
the test split and is scored on the last 8 predictions of each: the targets that `posx eval --length 4x` draws. Three
models: posx's default family with rotary positions and with ALiBi, and a Llama.

* ``loop``: transformers' model with these weights (GPT-NeoX, MPT, Llama), a window at a time, float32, logits for the
  whole window, of which the last count.
* ``posx-float32``, ``posx-bfloat16``: posx's Scorer, as `posx eval` and `posx eval eval.dtype=bfloat16` call it.

Each side is a process of its own that sleeps until it is asked (training.py); all read the same windows in turn, and
what they find is compared.
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
from training import Answer, Side, Sides, header, in_turn, spread

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

PLAIN_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
# The overrides of `posx train`, and the transformers class with such weights (posx/verify/oracles/host_models.py).
MODELS: dict[str, tuple[tuple[str, ...], str, tuple[Any, ...]]] = {
    "rope": (("scheme=rope",), "neox", (PLAIN_ROPE | {"partial_rotary_factor": 1.0},)),
    "alibi": (("scheme=alibi",), "mpt", (4 * CONTEXT,)),
    "rope-llama": (("scheme=rope", "model.family=llama"), "llama", (PLAIN_ROPE,)),
}
LENGTH = 4 * CONTEXT
STRIDE = CONTEXT // 32
LOOP, PRODUCTS = "loop", "products"
LIMITS = {"posx-float32": 1e-5, "posx-bfloat16": 1e-3}  # of the difference, in nats a token

Score = Callable[[], np.ndarray]  # nats of every target, float32


def train_some(model: str, path: Path, steps: int) -> None:
    """Write the weights after so many steps: with initial ones every prediction would be the same."""
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


def loop(model: str, path: Path, chosen: Windows) -> Score:
    """A sliding window over a transformers model, as perplexity is usually computed with it."""
    from posx.verify.oracles import host_models as hosts

    _, make, settings = MODELS[model]
    host: Any = getattr(hosts, make)(trained(model, path), *settings)
    if make != "mpt":  # which has no other attention than its own
        host.set_attn_implementation("sdpa")
    tokens = corpus().splits["test"].tokens

    @torch.no_grad()
    def score() -> np.ndarray:
        nats = []
        for first, length, scored in zip(chosen.starts, chosen.lengths, chosen.scored, strict=True):
            ids = torch.from_numpy(tokens[first : first + length + 1].astype(np.int64))[None]
            logits = host(input_ids=ids[:, :-1], use_cache=False).logits
            nats.append(F.cross_entropy(logits[0, -scored:].float(), ids[0, -scored:], reduction="none"))
        return torch.cat(nats).numpy()

    return score


def ours(model: str, path: Path, chosen: Windows, dtype: str) -> Score:
    """posx, with the defaults of its evaluation."""
    devices.prepare_for(torch.device("cpu"), exact=True)  # as posx eval does
    scorer = Scorer(trained(model, path), corpus(), EvalConfig(dtype=dtype), torch.device("cpu"))
    display = Display(quiet=True)
    return lambda: scorer.score(chosen, NONE, display, "")[0]


SIDES: dict[str, Callable[[str, Path, Windows], Score]] = {
    LOOP: loop,
    "posx-float32": partial(ours, dtype="float32"),
    "posx-bfloat16": partial(ours, dtype="bfloat16"),
}


def operations(model: Decoder, length: int, everything: bool) -> float:
    """Floating-point operations a context token in products, attention's halved for its mask.

    Without ``everything`` only those that the last predictions want: the last layer's keys and values, and no head.
    """
    matrices = [p.numel() for p in model.blocks[0].parameters() if p.ndim == 2]
    attention, last = 2 * length * model.config.d_model, 2 * model.config.d_model**2
    layers = model.config.n_layers
    if everything:
        return 2 * (layers * (sum(matrices) + attention / 2) + model.head_weight.numel())
    return 2 * ((layers - 1) * (sum(matrices) + attention / 2) + last)


def answer_of(name: str, model: str, weights: str, count: int, length: int) -> Answer:
    """What a side answers, whatever is asked: the seconds of all windows, and their nats; the machine's products."""
    if name == PRODUCTS:
        measure = products(torch.float32)
        return lambda request: measure()
    path, few = Path(weights), windows(count, length)
    SIDES[name](model, path, Windows(few.starts[:8], few.lengths[:8], few.scored[:8], few.documents[:8]))()  # warm
    score = SIDES[name](model, path, few)

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        began = time.perf_counter()
        nats = score()
        return {"seconds": time.perf_counter() - began, "nats": nats.tolist()}

    return answer


def compare(model: str, names: list[str], rounds: int, count: int, length: int, steps: int) -> bool:
    """Print rates, ratios and differences; whether the differences keep to their limits."""
    chosen = windows(count, length)
    rates: dict[str, list[float]] = {name: [] for name in names}
    found: dict[str, np.ndarray] = {}
    best: list[float] = []
    with tempfile.TemporaryDirectory(prefix="posx-bench-") as folder, Sides(__file__) as sides:
        weights = Path(folder) / "model.safetensors"
        print(f"{model}: training for {steps} steps …", file=sys.stderr, flush=True)
        train_some(model, weights, steps)
        for name in (*names, PRODUCTS):
            spec = {"name": name, "model": model, "weights": str(weights), "count": count, "length": length}
            sides.start(name, spec)
        for number in range(rounds):
            for name in in_turn([*names, PRODUCTS], number):
                answer = sides.ask(name)
                if name == PRODUCTS:
                    best.append(answer["best"])
                else:
                    rates[name].append(float(chosen.lengths.sum()) / answer["seconds"])
                    found[name] = np.array(answer["nats"])
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        decoder = trained(model, weights)
    print(
        f"\n**{model}** ({' '.join(MODELS[model][0])}) after {steps} steps: {len(chosen.starts)} windows of {length:,} "
        f"tokens, the last {STRIDE} predictions of each, {rounds} rounds in turn; {found[LOOP].mean():.4f} nats a "
        "token.\n"
    )
    print("| side | context tokens/s | … times as fast as the loop | difference in nats/token | at one target |")
    print("| --- | ---: | ---: | ---: | ---: |")
    kept = True
    for name in names:
        ratio, mean, worst = "", "", ""
        if name != LOOP:
            ratio = spread([a / b for a, b in zip(rates[name], rates[LOOP], strict=True)])
            gaps = found[name] - found[LOOP]
            kept = kept and abs(gaps.mean()) <= LIMITS.get(name, 1e-5)
            mean, worst = f"{abs(gaps.mean()):.1e}", f"{np.abs(gaps).max():.1e}"
        print(f"| {name} | {median(rates[name]):,.0f} | {ratio} | {mean} | {worst} |")
    whole, needed = (operations(decoder, length, everything) for everything in (True, False))
    share = median(rate * whole / most for rate, most in zip(rates[LOOP], best, strict=True))
    print(
        f"\nThe machine's own float32 products: {median(best) / 1e9:.0f} · 10⁹ operations a second. At that rate the "
        f"loop's products ({whole / 1e6:.1f} · 10⁶ operations a token) take {share:.0%} of its time. The predictions "
        f"want {needed / whole:.0%} of them: no float32 evaluation could be more than "
        f"{whole / needed / share:.2f} times as fast here."
    )
    return kept


def main() -> None:
    """Read the flags; print the tables; exit code 1 where a difference is too large."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--windows", type=int, default=128, help="of a side in a round")
    parser.add_argument("--length", type=int, default=LENGTH, help="tokens of a window")
    parser.add_argument("--steps", type=int, default=100, help="of training beforehand")
    parser.add_argument("--models", help=f"names with commas between, of {', '.join(MODELS)}; all, if left out")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(lambda spec: Side(answer_of(**spec)))
        return
    corpus()  # built once, before anything is timed
    models = arguments.models.split(",") if arguments.models else list(MODELS)
    unknown = [name for name in models if name not in MODELS]
    if unknown:
        parser.error(f"no model {', '.join(unknown)}; there are {', '.join(MODELS)}")
    print(f"Evaluation at the reference shape. {header('transformers')}")
    # All of them, also after one that differs too much.
    kept = [
        compare(name, list(SIDES), arguments.rounds, arguments.windows, arguments.length, arguments.steps)
        for name in models
    ]
    print(
        "\nRatios are medians of the rounds (smallest–largest). Differences are to the loop: of the mean over all "
        "targets, which is what a table shows and must be at most 1e-5 in float32 and 1e-3 in bf16; and the largest of "
        "a target."
    )
    if not all(kept):
        print("A difference is larger than it may be.", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
