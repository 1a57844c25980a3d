"""Synthetic text: corpora of any size for posx bench --scaling, the same on every machine."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path


def documents(seed: int = 0) -> Iterator[str]:
    """An endless stream of documents of pseudo-words, 2 to 40 kB each.

    Word frequencies follow the Zipf–Mandelbrot law: a share of (1 + r / 50)^−0.8 of all words has a rank above r. As in
    real text, new words keep appearing; their number grows about as the 0.55th power of the length.
    """
    draw = random.Random(seed)
    while True:
        lines = []
        for _ in range(draw.randrange(25, 500)):
            words = [word(int(50 * ((1 - draw.random()) ** -1.25 - 1))) for _ in range(draw.randrange(6, 20))]
            lines.append(" ".join(words).capitalize() + ".")
        yield "\n".join(lines)


@cache
def word(rank: int) -> str:
    """The word of this rank; its syllables are the digits of the rank in base 80, so that rare words are longer."""
    rest, digit = divmod(rank, 80)
    syllable = "bcdfghklmnprstvz"[digit // 5] + "aeiou"[digit % 5]
    return syllable + (word(rest) if rest else "")


def write_corpus(path: Path, size: int, written: Callable[[int], None]) -> None:
    """Write at least ``size`` bytes of text as JSON lines. A larger corpus starts with the text of a smaller one."""
    done = 0
    with path.open("w", encoding="utf-8") as file:
        for text in documents():
            file.write(json.dumps({"text": text}) + "\n")
            done += len(text)
            written(min(done, size))
            if done >= size:
                return
