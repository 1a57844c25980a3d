"""Named random streams of torch."""

from __future__ import annotations

import torch

from posx.utils.streams import named_seed


def generator(seed: int, name: str) -> torch.Generator:
    """A random stream that depends on the seed and the name alone, not on what was drawn before."""
    return torch.Generator().manual_seed(named_seed(seed, name))
