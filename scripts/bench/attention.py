"""Which attention backend evaluates fastest here, by length and batch: the ground for posx.attention's limits.

    python scripts/bench/attention.py > results/bench/attention.md

Alternates the backends within each shape and prints the median of the rates, in thousands of input tokens a second.
"""

from __future__ import annotations

import statistics
import sys
import time

import torch

from posx import machine
from posx.config import ModelConfig
from posx.model import Decoder, initialise, model_shape
from posx.schemes.alibi import Alibi, AlibiConfig
from posx.schemes.nope import Nope, NopeConfig

ROUNDS = 3


def rate(model: Decoder, batch: int, length: int, backend: str, block: int | None) -> float:
    """Input tokens a second of one forward pass that scores two tokens."""
    tokens = torch.randint(0, 2048, (batch, length))
    began = time.perf_counter()
    with torch.inference_mode():
        model(tokens, tail=2, backend=backend, block=block)
    return batch * length / (time.perf_counter() - began)


def main() -> None:
    config = ModelConfig()
    models = {}
    for name, scheme in (
        ("nope", Nope(NopeConfig(), model_shape(config, 64))),
        ("alibi", Alibi(AlibiConfig(), model_shape(config, 64))),
    ):
        models[name] = Decoder(config, scheme, 2048).eval()
        initialise(models[name], 0)
    print(f"Thousands of input tokens a second, float32, model tiny, {torch.get_num_threads()} threads, ", end="")
    print(f"{machine.device_name(torch.device('cpu'))}, torch {torch.__version__}. Made by {sys.argv[0]}.\n")
    print("| scheme | length | batch tokens | dense | fused | blocks |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, model in models.items():
        for length in (64, 128, 256, 512, 1024, 4096):
            for batch_tokens in (2048, 4096, 8192, 16384):
                batch = batch_tokens // length
                if not batch:
                    continue
                ways: dict[str, tuple[str, int | None]] = {"blocks": ("auto", 64)}
                if length <= 1024:
                    ways["dense"] = ("dense", None)
                if name == "nope":
                    ways["fused"] = ("fused", None)
                rates: dict[str, list[float]] = {way: [] for way in ways}
                for _ in range(ROUNDS):
                    for way, (backend, block) in ways.items():
                        rates[way].append(rate(model, batch, length, backend, block))
                shown = [
                    f"{statistics.median(rates[way]) / 1000:.1f}" if way in rates else "–"
                    for way in ("dense", "fused", "blocks")
                ]
                print(f"| {name} | {length} | {batch_tokens} | {' | '.join(shown)} |", flush=True)


if __name__ == "__main__":
    main()
