"""Small texts, corpora and runs, made anew wherever they are asked for."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import posx
from posx.config.schema import DataConfig, RunConfig
from posx.data.corpus import Corpus, Split, prepare
from posx.models.build import compose_run
from posx.runs.directory import Run, create
from posx.training.loop import train
from posx.utils.console import Display

TEXT = "the cat sat on a mat while no dog ran past that old mill and every Ärger lay in 東京 by noon — yes"
WORDS = TEXT.split()
TINY = [
    "model.n_layers=2",
    "model.d_model=32",
    "model.n_heads=2",
    "tokenizer.vocab_size=300",
    "train.context=16",
    "train.batch_tokens=128",
    "train.dtype=float32",
    "train.device=cpu",
    "train.compile=off",
    "train.threads=1",
    "train.eval_tokens=256",
    "optim.lr=0.01",
]


def sentence(words: int, seed: int) -> str:
    """So many words drawn from WORDS; the seed is in the text, so that no two seeds give one document."""
    draw = random.Random(seed)
    return f"No {seed}: " + " ".join(draw.choice(WORDS) for _ in range(words))


def many(count: int = 40, shortest: int = 3, longest: int = 60) -> list[str]:
    """Documents of many lengths, some shorter than a window of 16 tokens."""
    span = longest - shortest + 1
    return [sentence(shortest + (17 * n) % span, n) for n in range(count)]


def write_jsonl(path: Path, texts: list[str]) -> Path:
    """One object a line, under the field ``text``."""
    path.write_text("".join(json.dumps({"text": t}, ensure_ascii=False) + "\n" for t in texts), "utf-8")
    return path


def text_data(path: Path, **settings: Any) -> DataConfig:
    """Local files."""
    return DataConfig(name="text", source="text", path=str(path), **settings)


def silent(text: str) -> None:
    """A ``say`` for builders."""


def by_hand(lengths: list[int], split: str = "test", **changes: Any) -> Corpus:
    """A corpus in memory whose test split has documents of these lengths; token n of the split is n."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    part = Split(np.arange(offsets[-1], dtype=np.uint32), offsets)
    one_each = np.ones(offsets[-1], np.uint16)
    made: dict[str, Any] = {"sha256": "corpus", "tokenizer_sha256": "tokenizer", **changes}
    return Corpus(Path("nowhere"), token_bytes=one_each, splits={split: part}, facts={"notes": []}, **made)


def tiny_config(corpus: Path, *overrides: str) -> RunConfig:
    """Two layers, width 32, a context of 16, on this file."""
    return compose_run(["data=text", f"data.path={corpus}", *TINY, *overrides])


def corpus_of(config: RunConfig) -> Corpus:
    """Built, or from the cache."""
    return prepare(config.data, config.tokenizer, silent)


def trained(folder: Path, name: str, config: RunConfig, resume: bool = False) -> Run:
    """A run in ``folder``, trained to its end."""
    run = create(folder, name, config, resume)
    train(run, corpus_of(config), Display(quiet=True))
    return run


def python(script: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own, with this posx and these helpers on its path."""
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env=child_environment(**environment),
        check=False,
    )


def child_environment(**more: str) -> dict[str, str]:
    """This process's environment, with its import path."""
    path = [str(Path(posx.__file__).parent.parent), str(Path(__file__).parent)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), **more}
