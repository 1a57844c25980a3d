"""How fast does posx evaluate, beside the usual loop over a transformers model of the same weights?

    .venv/bin/python scripts/bench/evaluation.py > results/bench/evaluation.md

A Llama with rotary positions at the reference shape (rivals.py), trained for some steps at a context of 256, reads
windows of 1,024 tokens of the test split and is scored on the last 8 predictions of each: the targets that
`posx eval --length 4x` draws.

* ``loop``: transformers' Llama with these weights, a window at a time, float32, logits for the whole window, of which
  the last count. ``loop-eager``: the same with its eager attention instead of torch's kernel.
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
from rivals import CONTEXT, corpus, reference
from safetensors.torch import load_model, save_model
from training import Answer, Side, Sides, header, in_turn, spread

from posx import machine
from posx.children import serve
from posx.config import EvalConfig
from posx.extensions.base import NONE
from posx.model import Decoder
from posx.progress import Display
from posx.scoring import Scorer
from posx.session import build_model, start
from posx.train import train_step
from posx.windows import Windows, fixed_targets, windows_of_targets

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

MODEL = ("scheme=rope", "model.family=llama")
LENGTH = 4 * CONTEXT
STRIDE = CONTEXT // 32
LOOP = "loop"
LIMITS = {"posx-float32": 1e-5, "posx-bfloat16": 1e-3}  # of the difference, in nats a token

Score = Callable[[], np.ndarray]  # nats of every target, float32


def train_some(path: Path, steps: int) -> None:
    """Write the weights after so many steps: with initial ones every prediction would be the same."""
    session = start(reference(*MODEL, "train.compile=off", "optim.warmup_steps=10"), corpus())
    for step in range(steps):
        train_step(session, step)
    save_model(session.model, str(path))


def trained(path: Path) -> Decoder:
    """The model with these weights."""
    model = build_model(reference(*MODEL), corpus().vocab_size).eval()
    load_model(model, path)
    return model


def windows(count: int, length: int = LENGTH) -> Windows:
    """Windows of ``length`` that end at the targets of posx's evaluation of this model."""
    targets = fixed_targets(corpus(), "test", 8 * CONTEXT, STRIDE, count * STRIDE, seed=0)
    return windows_of_targets(targets, length)


def loop(path: Path, chosen: Windows, attention: str = "sdpa") -> Score:
    """A sliding window over a transformers model, as perplexity is usually computed with it."""
    import hosts

    model = trained(path)
    host: Any = hosts.llama(model, {"rope_type": "default", "rope_theta": model.scheme.config.base})
    host.set_attn_implementation(attention)
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


def ours(path: Path, chosen: Windows, dtype: str) -> Score:
    """posx, with the defaults of its evaluation."""
    machine.prepare_for(torch.device("cpu"), exact=True)  # as posx eval does
    scorer = Scorer(trained(path), corpus(), EvalConfig(dtype=dtype), torch.device("cpu"))
    display = Display(quiet=True)
    return lambda: scorer.score(chosen, NONE, display, "")


SIDES: dict[str, Callable[[Path, Windows], Score]] = {
    LOOP: loop,
    "loop-eager": partial(loop, attention="eager"),
    "posx-float32": partial(ours, dtype="float32"),
    "posx-bfloat16": partial(ours, dtype="bfloat16"),
}


def answer_of(name: str, weights: str, count: int, length: int) -> Answer:
    """What a side answers, whatever is asked: the seconds of all windows, and their nats."""
    path, few = Path(weights), windows(count, length)
    SIDES[name](path, Windows(few.starts[:8], few.lengths[:8], few.scored[:8], few.documents[:8]))()  # warm
    score = SIDES[name](path, few)

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        began = time.perf_counter()
        nats = score()
        return {"seconds": time.perf_counter() - began, "nats": nats.tolist()}

    return answer


def compare(names: list[str], rounds: int, count: int, length: int, steps: int) -> bool:
    """Print rates, ratios and differences; whether the differences keep to their limits."""
    chosen = windows(count, length)
    rates: dict[str, list[float]] = {name: [] for name in names}
    found: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory(prefix="posx-bench-") as folder, Sides(__file__) as sides:
        weights = Path(folder) / "model.safetensors"
        print(f"training for {steps} steps …", file=sys.stderr, flush=True)
        train_some(weights, steps)
        for name in names:
            sides.start(name, {"name": name, "weights": str(weights), "count": count, "length": length})
        for number in range(rounds):
            for name in in_turn(names, number):
                answer = sides.ask(name)
                rates[name].append(float(chosen.lengths.sum()) / answer["seconds"])
                found[name] = np.array(answer["nats"])
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    print(
        f"Evaluation of a Llama at the reference shape after {steps} steps: {len(chosen.starts)} windows of {length:,} "
        f"tokens, the last {STRIDE} predictions of each, {rounds} rounds in turn; {found[LOOP].mean():.4f} nats a "
        f"token. {header('transformers')}\n"
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
    print(
        "\nRatios are medians of the rounds (smallest–largest). Differences are to the loop: of the mean over all "
        "targets, which is what a table shows and must be at most 1e-5 in float32 and 1e-3 in bf16; and the largest of "
        "a target."
    )
    return kept


def main() -> None:
    """Read the flags; print the table; exit code 1 where a difference is too large."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--windows", type=int, default=128, help="of a side in a round")
    parser.add_argument("--length", type=int, default=LENGTH, help="tokens of a window")
    parser.add_argument("--steps", type=int, default=100, help="of training beforehand")
    parser.add_argument("--sides", help=f"names with commas between, of {', '.join(SIDES)}")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(lambda spec: Side(answer_of(**spec)))
        return
    corpus()  # built once, before anything is timed
    names = arguments.sides.split(",") if arguments.sides else [LOOP, *LIMITS]
    unknown = [name for name in names if name not in SIDES]
    if unknown:
        parser.error(f"no side {', '.join(unknown)}; there are {', '.join(SIDES)}")
    names = list(dict.fromkeys([LOOP, *names]))
    if not compare(names, arguments.rounds, arguments.windows, arguments.length, arguments.steps):
        print("A difference is larger than it may be.", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
