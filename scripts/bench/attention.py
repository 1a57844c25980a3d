"""How fast is each attention backend (posx/models/attention) on this CPU, and does posx choose the fastest?

    .venv/bin/python scripts/bench/attention.py > results/bench/attention.md

Measures one layer with the heads of model=small, for nope and for alibi's bias, on half a batch of 4,096 tokens, the
share of each of two threads, but at least one sequence. Training is forward and backward in the dtype of training on
this machine, evaluation is forward in float32. Work done once for all layers of a forward pass, for example a bias over
all pairs, is divided by the number of layers.

For each shape the backends alternate for a few seconds, at least three rounds; results are medians.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch

from posx.extensions.base import NONE
from posx.models.attention.context import Call
from posx.models.attention.dispatch import attend_rotated, choose, plan
from posx.models.build import compose_run
from posx.models.decoder import model_shape
from posx.runtime import device as devices
from posx.schemes.alibi import Alibi, AlibiConfig
from posx.schemes.base import ModelShape, Scheme
from posx.schemes.nope import Nope, NopeConfig
from posx.utils.format import DASH, figure
from training import alternating, header

LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096)
BACKENDS = ("tiles", "fused", "dense", "blocks")
WITH_GRADIENTS = ("tiles", "dense", "blocks")  # torch's kernel has no gradient for a bias
TOKENS = 2048
SECONDS = 3.0  # per shape
FEWEST, MOST = 3, 50  # rounds
CPU = torch.device("cpu")


def layer(
    scheme: Scheme, shape: ModelShape, length: int, batch: int, dtype: torch.dtype, training: bool
) -> Callable[[str], float]:
    """A function that takes the name of a backend and returns the run time of a layer in seconds."""
    # The memory layout of the model's joint projection of q, k and v.
    joint = torch.randn(batch, length, 3, shape.n_heads, shape.head_dim, dtype=dtype)
    q, k, v = (part.transpose(1, 2).requires_grad_(training) for part in joint.unbind(2))
    gradient = torch.randn(batch, length, shape.n_heads, shape.head_dim, dtype=dtype).transpose(1, 2)
    positions = torch.arange(length)

    def seconds(backend: str) -> float:
        with torch.inference_mode(not training):
            began = time.perf_counter()
            flow = plan(scheme, positions, NONE, Call(batch, shape.n_heads, backend=backend))
            planned = time.perf_counter()
            out = attend_rotated(q, k, v, flow)
            if training:
                torch.autograd.grad(out, (q, k, v), gradient)
            return (planned - began) / shape.n_layers + time.perf_counter() - planned

    return seconds


def medians(seconds: Callable[[str], float], backends: tuple[str, ...], most: float) -> dict[str, float]:
    """The median time of each backend, after a warm-up round."""
    taken: dict[str, list[float]] = {backend: [] for backend in backends}
    for backend in backends:
        seconds(backend)
    began = time.perf_counter()
    for number in range(MOST):
        if number >= FEWEST and time.perf_counter() - began > most:
            break
        for backend in alternating(backends, number):
            taken[backend].append(seconds(backend))
    return {backend: median(times) for backend, times in taken.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", default=",".join(map(str, LENGTHS)), help="comma-separated, in tokens")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="per shape")
    arguments = parser.parse_args()
    config = compose_run(["model=small"])
    shape = model_shape(config.model, config.train.context)
    schemes = {"nope": Nope(NopeConfig(), shape), "alibi": Alibi(AlibiConfig(), shape)}
    types = {"training": devices.pick_dtype(config.train.dtype, CPU), "evaluation": torch.float32}
    torch.set_num_threads(1)  # like each of the threads that share a batch
    devices.prepare_for(CPU, exact=True)
    print(
        f"Attention of a layer in ms: {shape.n_heads} heads of {shape.head_dim}, {TOKENS:,} tokens or one sequence; "
        f"training is forward and backward in {str(types['training']).removeprefix('torch.')}, evaluation forward in "
        f"float32. Work done once for all {shape.n_layers} layers is divided by their number. Medians of at least "
        f"{FEWEST} alternating rounds. {header()}\n"
    )
    print(f"| work | scheme | length | sequences | {' | '.join(BACKENDS)} | posx chooses |")
    print(f"| --- | --- | ---: | ---: | {' | '.join(['---:'] * len(BACKENDS))} | --- |")
    for work, dtype in types.items():
        for name, scheme in schemes.items():
            for length in map(int, arguments.lengths.split(",")):
                training, batch = work == "training", max(1, TOKENS // length)
                seconds = layer(scheme, shape, length, batch, dtype, training)
                backends = WITH_GRADIENTS if training and scheme.has_bias else BACKENDS
                times = medians(seconds, backends, arguments.seconds)
                with torch.inference_mode(not training):
                    chosen = choose(scheme, NONE, Call(batch, shape.n_heads), length, CPU).name
                cells = [figure(1000 * times[backend], 3) if backend in times else DASH for backend in BACKENDS]
                print(f"| {work} | {name} | {length} | {batch} | {' | '.join(cells)} | {chosen} |", flush=True)


if __name__ == "__main__":
    main()
