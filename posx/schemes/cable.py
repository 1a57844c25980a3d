"""CABLE: like ALiBi, but each token contributes its own amount to the distance.

    logit(i, j) += −Σ_{l=j+1..i} softplus(w_h · x_l + b_h)        x the layer's input after its norm

−softplus(z) is ln σ(−z): the addend of the forgetting transformer with the sign of the gate's input flipped.

Source: Veisi et al. 2025, arXiv 2503.08067. As in the authors' code, each head of each layer has its own w and b. That
code does not scale q·k; here it is divided by √D as in every other scheme. The initial value of b differs: −5, so that
the bias starts as small as the forgetting transformer's. The authors start at 0, which is ALiBi with slope ln 2 in
every head: ``scheme.initial=0``.
Shapes: as forgetting.
Parameters and pitfall: as forgetting. Cost: as forgetting.
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
        "The paper reports lower perplexity beyond the training context than ALiBi, KERPLE, T5's bias and rope, with "
        "GPT-2 Medium trained at 1024 (Veisi et al. 2025)."
    )
    sign = -1.0
