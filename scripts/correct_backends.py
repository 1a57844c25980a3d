"""Correct the attention backend in records and meta.json of posx 0.3.0 that name a different one than was used.

    .venv/bin/python scripts/correct_backends.py results [--dry-run]

Before 0.4.0, the recorded backend was a guess. It was wrong for extensions that change distances (self-extend, rerope,
leaky-rerope, dual-chunk, sinks, lm-infinite) and for schemes with their own attention (linear-rope): attention ran in
blocks, or in the scheme. Numbers do not change. Only the field ``backend`` is rewritten, with what the current dispatch
chooses for the same scheme, extension and length on the same kind of processor, which is also what 0.3.0 used. Records
of older versions are not changed, because their backends no longer exist.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from posx.config.compose import read_run_config
from posx.config.schema import RunConfig
from posx.extensions.base import Applied
from posx.models.attention.context import Call
from posx.models.binding import bind, parse_extension
from posx.models.build import build_model, complete
from posx.models.decoder import Decoder
from posx.runtime.processor import KINDS, forced

VERSION = "0.3.0"
CPU_BATCH_TOKENS = 4096  # the default batch of an evaluation


def kind_of(device: str) -> str:
    """A kind of processor for which posx chooses the same backends as for the recorded device."""
    return "Intel with AMX" if "Intel" in device else "AMD without bf16"


def of_record(model: Decoder, config: RunConfig, record: dict[str, Any]) -> str:
    """The backend of an evaluation cell."""
    trained = parse_extension(config.train.extension)
    requested = parse_extension(record["extension"])
    applied = bind(requested, model.scheme, record["length"], trained, config.train.reached)
    with torch.inference_mode():
        return names(model, max(1, CPU_BATCH_TOKENS // record["length"]), record["length"], applied)


def of_training(model: Decoder, config: RunConfig) -> str:
    """The backend of a training step with one thread, as in a sweep."""
    extension = parse_extension(config.train.extension)
    applied = bind((), model.scheme, config.train.context, extension, config.train.reached)
    sequences = config.train.batch_tokens // config.train.context // config.train.accumulation
    return names(model, sequences, config.train.context, applied)


def names(model: Decoder, batch: int, length: int, extension: Applied) -> str:
    """The backends of a forward pass over ``batch`` sequences, in the current inference mode."""
    call = Call(batch, model.config.n_heads)
    return "+".join(model.prepare(model.scheme.positions(length), extension, call).backends)


def write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--dry-run", action="store_true", help="Print the changes without writing them.")
    arguments = parser.parse_args()
    changes: Counter[tuple[str, str, str, str]] = Counter()
    for path in sorted(arguments.results.glob("**/config.yaml")):
        meta_path = path.parent / "meta.json"
        meta = json.loads(meta_path.read_text("utf-8"))
        if "GPU" in meta["device"] or "NVIDIA" in meta["device"]:
            continue
        config = complete(read_run_config(path))
        model = build_model(config, 256)
        for file in [meta_path, *sorted((path.parent / "eval").glob("*.json"))]:
            values = json.loads(file.read_text("utf-8"))
            is_meta = file == meta_path
            version = values["posx"] if is_meta else values["versions"]["posx"]
            if version != VERSION or not values["backend"]:
                continue
            with forced(KINDS[kind_of(values["device"])]):
                backend = of_training(model, config) if is_meta else of_record(model, config, values)
            if backend != values["backend"]:
                work = "training" if is_meta else values["extension"].partition("(")[0]
                changes[config.scheme["name"], work, values["backend"], backend] += 1
                if not arguments.dry_run:
                    write(file, values | {"backend": backend})
    for (scheme, work, before, after), count in sorted(changes.items()):
        print(f"{count:4d}  {scheme}, {work}: {before} → {after}")
    print(f"{sum(changes.values())} files {'would be ' if arguments.dry_run else ''}corrected.")


if __name__ == "__main__":
    main()
