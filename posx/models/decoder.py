"""The decoder: a GPT that knows nothing of positions but the hooks of its scheme.

Families (``model.family``): ``gpt`` has LayerNorm without bias, GELU (erf) and a feed-forward of 4 C; ``llama``
has RMSNorm, SwiGLU, grouped keys and values and an explicit head width. Both are pre-norm without linear biases.

Shapes: B sequences, T tokens, C = d_model, H heads of D dimensions, V entries of the vocabulary.
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
    """The model as a scheme sees it."""
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
        if tail is None:  # one product with all three is faster than three
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
        # SwiGLU has three matrices: 8/3 C keeps the parameters of 4 C, rounded up to a multiple of 64.
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
    """Pre-norm attention and feed-forward, each added to the stream."""

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
    """A forward pass before it meets tokens: ``positions`` after the extension, what each layer is handed, the tail."""

    positions: Tensor
    flows: tuple[Flow, ...]
    tail: int | None = None

    @property
    def backends(self) -> list[str]:
        """The attention backends that it runs, each once."""
        return list(dict.fromkeys(flow.backend.name for flow in self.flows if flow.backend))


class Decoder(nn.Module):
    """Token ids in, final hidden states out; :meth:`logits` maps those to the vocabulary."""

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

        ``positions`` ([T] or [B, T]; by default the scheme's, 0 .. T − 1) are what the extension acts on. ``block`` and
        ``backend`` ("auto", "dense", "fused", …) choose how attention is computed, never what.
        """
        if positions is None:
            positions = self.scheme.positions(tokens.shape[1], tokens.device)
        call = Call(len(tokens), self.config.n_heads, tail, block, backend)
        return self.run(tokens, self.prepare(positions, extension, call))

    def prepare(self, positions: Tensor, extension: Applied, call: Call) -> Pass:
        """What a pass over tokens at these ``positions`` ([T] or [B, T], before the extension) needs beside them."""
        positions = extension.positions(positions)
        planned: dict[tuple[Scheme, str], Flow] = {}
        served: Counter[Scheme] = Counter()
        flows = []
        for scheme, own, backend in self._choices(extension, call, positions.shape[-1], positions.device):
            if (scheme, backend.name) not in planned:
                planned[scheme, backend.name] = plan(scheme, positions, extension, own, backend)
            flow, number = planned[scheme, backend.name], served[scheme]
            # The number is for those who ask for it: to the compiler every other number is another program.
            flows.append(replace(flow, layer=number) if number and scheme.capabilities.per_layer else flow)
            served[scheme] += 1
        return Pass(positions, tuple(flows), call.queries)

    def run(self, tokens: Tensor, prepared: Pass) -> Tensor:
        """Final hidden states of token ids [B, T], see :meth:`forward`."""
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
            key = scheme, own = self.scheme.at(layer), call if layer == last else whole
            if key not in chosen:
                chosen[key] = choose(scheme, extension, own, length, device)
            yield scheme, own, chosen[key]

    @property
    def head_weight(self) -> Tensor:
        """[V, token_width]: the token table where it is tied, else the head's own matrix [V, C]."""
        return self.tokens.weight if self.config.tie_embeddings else self.head.weight

    def readable(self, hidden: Tensor) -> Tensor:
        """The part of the hidden states that the head reads: a tied, narrower table sees only its own width."""
        return hidden[..., : self.head_weight.shape[1]]

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., C] to [..., V]."""
        return F.linear(self.readable(hidden), self.head_weight)


@torch.no_grad()
def initialise(model: Decoder, seed: int) -> None:
    """Draw every parameter from its own stream, so that two schemes start from the same shared weights.

    Matrices: normal, standard deviation 0.02; those that write to the stream are divided by √(2 · layers), as in
    GPT-2. Norms: ones. A scheme's parameters: as the scheme says.
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
    """Trainable parameters: all, the scheme's own, and those outside the token table."""
    total = sum(p.numel() for p in model.parameters())
    scheme = sum(p.numel() for p in model.scheme.parameters())
    return {"total": total, "scheme": scheme, "non_embedding": total - model.tokens.weight.numel()}
