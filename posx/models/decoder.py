"""The decoder: a GPT whose only access to positions is through the hooks of its scheme.

Families (``model.family``): ``gpt`` has LayerNorm without bias, GELU (erf) and a feed-forward of 4 C; ``llama``
has RMSNorm, SwiGLU, grouped-query attention and an explicit head dimension. Both are pre-norm, without linear biases.

Shapes: B sequences, T tokens, C = d_model, H heads with D dimensions, V tokens in the vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posx.config.schema import ModelConfig
from posx.extensions.base import NONE, Applied
from posx.models.attention.context import Backend, Call, Flow
from posx.models.attention.dispatch import attend, choose, plan
from posx.runtime.generator import generator
from posx.schemes.base import ModelShape, Scheme


def model_shape(config: ModelConfig, context: int) -> ModelShape:
    """The sizes that a scheme receives."""
    return ModelShape(config.d_model, config.n_heads, head_dim(config), config.n_layers, context)


def head_dim(config: ModelConfig) -> int:
    """D: as set, or C / H."""
    return config.head_dim or config.d_model // config.n_heads


class Attention(nn.Module):
    """Multi-head attention with grouped keys and values."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.n_heads, self.n_kv_heads = config.n_heads, config.n_kv_heads or config.n_heads
        self.head_dim = head_dim(config)
        self.q = nn.Linear(config.d_model, self.n_heads * self.head_dim, bias=False)
        self.k = nn.Linear(config.d_model, self.n_kv_heads * self.head_dim, bias=False)
        self.v = nn.Linear(config.d_model, self.n_kv_heads * self.head_dim, bias=False)
        self.out = nn.Linear(self.n_heads * self.head_dim, config.d_model, bias=False)

    def forward(self, x: Tensor, flow: Flow, tail: int | None) -> Tensor:
        """[B, T, C] to [B, T or tail, C]: with ``tail``, only the last queries are computed."""
        rows = x if tail is None else x[:, -tail:]
        if tail is None:  # one joint product is faster than three
            weights = [self.q.weight, self.k.weight, self.v.weight]
            joint = F.linear(x, torch.cat(weights))
            q, k, v = (self._heads(part) for part in joint.split([len(w) for w in weights], dim=-1))
        else:
            q, k, v = self._heads(self.q(rows)), self._heads(self.k(x)), self._heads(self.v(x))
        out = attend(q, k, v, flow.at(x))
        return self.out(out.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        """[B, T, H·D] to [B, H, T, D]."""
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


class FeedForward(nn.Module):
    """GELU for ``gpt``; the gated SwiGLU for ``llama``."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.gated = config.family == "llama"
        # SwiGLU has three matrices: a width of 8/3 C, rounded up to a multiple of 64, has as many parameters as 4 C.
        default = -(-8 * config.d_model // (3 * 64)) * 64 if self.gated else 4 * config.d_model
        width = config.d_ff or default
        self.up = nn.Linear(config.d_model, width, bias=False)
        if self.gated:
            self.gate = nn.Linear(config.d_model, width, bias=False)
        self.down = nn.Linear(width, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] to [B, T, C]."""
        hidden = F.silu(self.gate(x)) * self.up(x) if self.gated else F.gelu(self.up(x))
        return self.down(hidden)


def make_norm(config: ModelConfig) -> nn.Module:
    """The family's norm over C."""
    if config.family == "llama":
        return nn.RMSNorm(config.d_model, eps=config.norm_eps)
    return nn.LayerNorm(config.d_model, eps=config.norm_eps, bias=False)


class Block(nn.Module):
    """Pre-norm attention and feed-forward, each added to the residual stream."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.attention_norm, self.attention = make_norm(config), Attention(config)
        self.feed_forward_norm, self.feed_forward = make_norm(config), FeedForward(config)

    def forward(self, x: Tensor, flow: Flow, tail: int | None = None) -> Tensor:
        """[B, T, C] to [B, T or tail, C]."""
        stream = x if tail is None else x[:, -tail:]
        stream = stream + self.attention(self.attention_norm(x), flow, tail)
        return stream + self.feed_forward(self.feed_forward_norm(stream))


@dataclass(frozen=True)
class Pass:
    """A prepared forward pass: ``positions`` after the extension, a flow per layer, and the tail."""

    positions: Tensor
    flows: tuple[Flow, ...]
    tail: int | None = None

    @property
    def backends(self) -> list[str]:
        """The distinct attention backends of this pass."""
        return list(dict.fromkeys(flow.backend.name for flow in self.flows if flow.backend))


class Decoder(nn.Module):
    """Maps token ids to final hidden states; :meth:`logits` maps those to the vocabulary."""

    def __init__(self, config: ModelConfig, scheme: Scheme, vocab_size: int):
        super().__init__()
        self.config, self.vocab_size = config, vocab_size
        self.scheme = scheme
        self.tokens = nn.Embedding(vocab_size, scheme.token_width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = make_norm(config)
        if not config.tie_embeddings:
            self.head = nn.Linear(config.d_model, vocab_size, bias=False)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        extension: Applied = NONE,
        tail: int | None = None,
        block: int | None = None,
        backend: str = "auto",
    ) -> Tensor:
        """Final hidden states [B, T, C] of token ids [B, T], or [B, tail, C] of the last ``tail`` tokens.

        ``positions`` ([T] or [B, T]; default: the scheme's, 0 .. T − 1) are before the extension. ``block`` and
        ``backend`` ("auto", "dense", "fused", …) select how attention is computed; results agree to rounding.
        """
        if positions is None:
            positions = self.scheme.positions(tokens.shape[1], tokens.device)
        call = Call(len(tokens), self.config.n_heads, tail, block, backend)
        return self.run(tokens, self.prepare(positions, extension, call))

    def prepare(self, positions: Tensor, extension: Applied, call: Call) -> Pass:
        """Prepare a pass over tokens at ``positions`` ([T] or [B, T], before the extension)."""
        positions = extension.positions(positions)
        planned: dict[tuple[Scheme, str], Flow] = {}
        counts: Counter[Scheme] = Counter()
        flows = []
        for scheme, layer_call, backend in self._choices(extension, call, positions.shape[-1], positions.device):
            if (scheme, backend.name) not in planned:
                planned[scheme, backend.name] = plan(scheme, positions, extension, layer_call, backend)
            flow, number = planned[scheme, backend.name], counts[scheme]
            # Only set if the scheme requires it: the compiler compiles a separate program for each number.
            flows.append(replace(flow, layer=number) if number and scheme.capabilities.per_layer else flow)
            counts[scheme] += 1
        return Pass(positions, tuple(flows), call.queries)

    def run(self, tokens: Tensor, prepared: Pass) -> Tensor:
        """Final hidden states of token ids [B, T]; see :meth:`forward`."""
        x = self.scheme.embed(self.tokens(tokens), prepared.positions)
        for layer, flow in zip(self.blocks[:-1], prepared.flows, strict=False):
            x = layer(x, flow)
        return self.norm(self.blocks[-1](x, prepared.flows[-1], prepared.tail))

    def _choices(
        self, extension: Applied, call: Call, length: int, device: torch.device
    ) -> Iterator[tuple[Scheme, Call, Backend]]:
        """Scheme, call and backend of each layer: only the last one may have fewer queries than tokens."""
        whole, last = replace(call, queries=None), len(self.blocks) - 1
        chosen: dict[tuple[Scheme, Call], Backend] = {}
        for layer in range(len(self.blocks)):
            key = scheme, layer_call = self.scheme.at(layer), call if layer == last else whole
            if key not in chosen:
                chosen[key] = choose(scheme, extension, layer_call, length, device)
            yield scheme, layer_call, chosen[key]

    @property
    def head_weight(self) -> Tensor:
        """[V, token_width]: the token table if tied, else a separate matrix [V, C]."""
        return self.tokens.weight if self.config.tie_embeddings else self.head.weight

    def readable(self, hidden: Tensor) -> Tensor:
        """The part of the hidden states that the head reads; a tied table can be narrower than C."""
        return hidden[..., : self.head_weight.shape[1]]

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., C] to [..., V]."""
        return F.linear(self.readable(hidden), self.head_weight)


@torch.no_grad()
def initialise(model: Decoder, seed: int) -> None:
    """Draw every parameter from its own random stream, so that models with different schemes share initial weights.

    Matrices: normal, standard deviation 0.02, divided by √(2 · layers) for those that write to the residual stream, as
    in GPT-2. Norms: ones. A scheme's parameters: defined by the scheme.
    """
    residual = 0.02 / (2 * model.config.n_layers) ** 0.5
    for name, parameter in model.named_parameters():
        stream = generator(seed, name)
        if name.startswith("scheme."):
            model.scheme.initialise(name.removeprefix("scheme."), parameter, stream)
        elif parameter.ndim == 1:
            parameter.fill_(1.0)
        else:
            writes = name.endswith(("attention.out.weight", "feed_forward.down.weight"))
            nn.init.normal_(parameter, std=residual if writes else 0.02, generator=stream)


def count_parameters(model: Decoder) -> dict[str, int]:
    """Trainable parameters: in total, in the scheme, and outside the token table."""
    total = sum(p.numel() for p in model.parameters())
    scheme = sum(p.numel() for p in model.scheme.parameters())
    return {"total": total, "scheme": scheme, "non_embedding": total - model.tokens.weight.numel()}
