"""NoPE: no positional signal at all.

Order is learned from the causal mask alone: the first token sees one key, the second two, and so on.

Source: Haviv et al. 2022, arXiv 2203.16634; Kazemnejad et al. 2023, arXiv 2305.19466.
Shapes: nothing is made.
Parameters: none. Cost: none.
Trap: any other positional signal left on. Without the mask the model is permutation-equivariant; a test
holds it to that.
"""

from __future__ import annotations

from dataclasses import dataclass

from posx.schemes.base import Scheme


@dataclass
class NopeConfig:
    """Nothing to set."""


class Nope(Scheme):
    """No positions; a bag of past tokens for every query."""

    Config = NopeConfig
    outlook = (
        "It survives slightly longer than rope, then breaks: perplexity 2.46 at 512, 2.12 at 1400 and 536 at 2560 "
        "tokens for a code model with 1.3B parameters trained at 1024, compared with 2.40, 252 and 760 for rope "
        "(Kazemnejad et al. 2023; different documents at each length). It fails because attention spreads over more "
        "keys (Wang et al. 2024, arXiv 2404.12224)."
    )
