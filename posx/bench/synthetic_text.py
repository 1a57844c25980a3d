"""Text without end that is like text: corpora of any size for posx bench --scaling, the same on every machine."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path


def documents(seed: int = 0) -> Iterator[str]:
    """Documents of pseudo-words without end, 2 to 40 kB each.

    Ranks of words follow Zipf and Mandelbrot: a share of (1 + r / 50)^−0.8 lies beyond rank r, so that new words keep
    coming as they do in real text, about as the 0.55th power of its length.
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
    """A word of its own for each rank, the longer the rarer: syllables are its digits to the base of 80."""
    rest, digit = divmod(rank, 80)
    syllable = "bcdfghklmnprstvz"[digit // 5] + "aeiou"[digit % 5]
    return syllable + (word(rest) if rest else "")


def write_corpus(path: Path, size: int, written: Callable[[int], None]) -> None:
    """At least ``size`` bytes of text as JSON lines; a larger corpus begins with the smaller one."""
    done = 0
    with path.open("w", encoding="utf-8") as file:
        for text in documents():
            file.write(json.dumps({"text": text}) + "\n")
            done += len(text)
            written(min(done, size))
            if done >= size:
                return
