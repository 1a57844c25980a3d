"""Named random streams: draws depend only on the stream and the seed, not on earlier draws from other streams.

numpy's streams are Philox generators with the key (seed, second word). :data:`KEYS` lists the second words. For
training batches, the second word is the step, so that a batch is a function of seed and step (the batch of step 0x705
shares its key with the targets). A different key would change published numbers, so these must not change.
"""

from __future__ import annotations

import hashlib

import numpy as np

KEYS = {
    "targets": 0x705,  # which targets are scored
    "bootstrap": 0xB007,  # replicates of documents and seeds
    "longrope search": 0x10E6,  # children of the evolution
}


def stream(name: str, seed: int) -> np.random.Generator:
    """The stream with this name in :data:`KEYS`, from its beginning; ``seed``: 0 to 2^63 - 1."""
    return _philox(seed, KEYS[name])


def batch_stream(seed: int, step: int) -> np.random.Generator:
    """The stream of the training batch of one step."""
    return _philox(seed, step)


def _philox(seed: int, word: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([seed, word], dtype=np.uint64)))


def named_seed(seed: int, name: str) -> int:
    """A 63-bit seed for another generator: a function of a seed and a name, such as a parameter's."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
