"""CABLE: like ALiBi, but how far apart two tokens are is up to the tokens between them.

    logit(i, j) += −Σ_{l=j+1..i} softplus(w_h · x_l + b_h)        x the layer's input after its norm

−softplus(z) is ln σ(−z): it is the forgetting transformer's addend with the gate the other way round.

Source: Veisi et al. 2025, arXiv 2503.08067. As in the authors' code each head of each layer has its own w and b. Theirs
leaves q·k unscaled; here it is divided by √D as in every other scheme. The initial value of b is ours: −5, with which a
bias starts as small as the forgetting transformer's. Theirs is 0, an ALiBi of slope ln 2 in every head, to begin with:
``scheme.initial=0``.
Shapes: as forgetting.
Parameters and trap: as forgetting. Cost: as forgetting.
"""

from __future__ import annotations

from dataclasses import dataclass

from posx.schemes.forgetting import Forgetting, GateConfig


@dataclass
class CableConfig(GateConfig):
    """``initial`` value of b."""

    initial: float = -5.0


class Cable(Forgetting):
    """Context-aware biases."""

    Config = CableConfig
    outlook = (
        "Its paper reports lower perplexity past the training context than ALiBi, KERPLE, T5's bias and rope, with "
        "GPT-2 Medium trained at 1024 (Veisi et al. 2025)."
    )
    sign = -1.0
