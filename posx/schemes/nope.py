"""NoPE: no positional signal.

The model can learn order only from the causal mask: the first token attends to one key, the second to two, and so on.

Source: Haviv et al. 2022, arXiv 2203.16634; Kazemnejad et al. 2023, arXiv 2305.19466.
Shapes: none.
Parameters: none. Cost: none.
Pitfall: another positional signal that was left on. Without the mask, the model is permutation-equivariant, which a
test checks.
"""

from __future__ import annotations

from dataclasses import dataclass

from posx.schemes.base import Scheme


@dataclass
class NopeConfig:
    """No settings."""


class Nope(Scheme):
    """No positions: every query sees an unordered set of past tokens."""

    Config = NopeConfig
    outlook = (
        "It survives slightly longer than rope, then breaks: perplexity 2.46 at 512, 2.12 at 1400 and 536 at 2560 "
        "tokens for a code model with 1.3B parameters trained at 1024, compared with 2.40, 252 and 760 for rope "
        "(Kazemnejad et al. 2023; different documents at each length). It fails because attention spreads over more "
        "keys (Wang et al. 2024, arXiv 2404.12224)."
    )
