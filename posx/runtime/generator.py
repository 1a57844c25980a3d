"""Named random generators for torch."""

from __future__ import annotations

import torch

from posx.utils.streams import named_seed


def generator(seed: int, name: str) -> torch.Generator:
    """A random generator that depends only on the seed and the name, not on earlier draws."""
    return torch.Generator().manual_seed(named_seed(seed, name))
