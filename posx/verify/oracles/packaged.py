"""Implementations in transformers and x-transformers, run on the same inputs as posx. Imported only when used.

Whole models get posx's weights (``host_models.py``) and read the same tokens; logits reach 10.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from posx.verify.oracles.layer import LAYER, LENGTHS, Layer, Pairs
from posx.verify.oracles.small_models import make_model, random_tokens

ROPE = {"rope_type": "default", "rope_theta": 10000.0}


# ---------------------------------------------------------------- whole models of transformers


def whole(
    name: str,
    host: Callable[[Any], Any],
    shapes: Sequence[dict[str, Any]],
    family: str = "gpt",
    settings: Sequence[dict[str, Any]] = ({},),
    addend: Callable[[Any, int], Tensor] | None = None,
) -> Callable[[], Pairs]:
    """posx's weights loaded into a ``transformers`` model: final hidden states and logits for the same tokens."""

    def pairs() -> Pairs:
        from posx.verify.oracles import host_models as hosts

        for shape in shapes:
            for own in settings:
                model = make_model(name, family=family, **shape, **own)
                theirs = host(model)
                for length in LENGTHS[1:]:
                    if model.scheme.last_position is not None and length > model.scheme.last_position + 1:
                        continue
                    tokens = random_tokens(length)
                    bias = {} if addend is None else {"addend": addend(model, length)}
                    logits, last = hosts.run(theirs, tokens=tokens, **bias)
                    hidden = model(tokens)
                    yield hidden, last
                    yield model.logits(hidden), logits

    return pairs


def host(kind: str, *settings: Any) -> Callable[[Any], Any]:
    def make(model: Any) -> Any:
        from posx.verify.oracles import host_models as hosts

        return getattr(hosts, kind)(model, *settings)

    return make


def gpt2_table(model: Any) -> Any:
    return host("gpt2", model.scheme.table)(model)


def neox(model: Any) -> Any:
    config = model.scheme.config
    return host("neox", {**ROPE, "rope_theta": config.base, "partial_rotary_factor": config.fraction})(model)


def llama(model: Any) -> Any:
    return host("llama", {**ROPE, "rope_theta": model.scheme.config.base})(model)


def glm(model: Any) -> Any:
    return host("glm", {**ROPE, "partial_rotary_factor": model.scheme.config.fraction})(model)


def proportional(model: Any) -> Any:
    config = model.scheme.config
    rope = {"rope_type": "proportional", "rope_theta": config.base, "partial_rotary_factor": config.kept}
    return host("llama", rope)(model)


def smollm3(model: Any) -> Any:
    return host("smollm3", [1, 1, 1, 0, 1])(model)


def bloom(model: Any, length: int) -> Tensor:
    """BLOOM's bias +m·j, which gives the same result only after the softmax."""
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    heads = model.config.n_heads
    return build_alibi_tensor(torch.ones(1, length), heads, torch.float32).expand(-1, length, -1)


def t5_bias(model: Any, length: int) -> Tensor:
    """The bias [1, H, T, T] of T5's decoder with posx's table."""
    from transformers import T5Config
    from transformers.models.t5.modeling_t5 import T5Attention

    scheme = model.scheme
    config = T5Config(
        num_heads=scheme.shape.n_heads,
        is_decoder=True,
        relative_attention_num_buckets=scheme.config.buckets,
        relative_attention_max_distance=scheme.reach(scheme.config, scheme.shape),
    )
    theirs = T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    theirs.relative_attention_bias.weight.data = scheme.table.detach().T
    return theirs.compute_bias(length, length).detach()


# ---------------------------------------------------------------- single layers


def softmaxed(a: Layer, addend: Tensor) -> Tensor:
    """Causal attention [B, H, T, D] with this addend [.., T, T], in plain torch."""
    future = torch.ones(a.length, a.length, dtype=torch.bool).triu(1)
    logits = a.q @ a.k.mT / math.sqrt(a.width) + addend
    return torch.softmax(logits.masked_fill(future, -math.inf), -1) @ a.v


def wav2vec2_bert(a: Layer) -> Tensor:
    """Its rows go from the furthest key on the left, over distance 0, to keys on the right, which are masked here."""
    from transformers.models.wav2vec2_bert.modeling_wav2vec2_bert import _apply_relative_key_position_encoding

    rows = a.own("table")[LAYER]
    table = nn.Embedding(len(rows) + 1, a.width)
    table.weight.data.copy_(torch.cat([rows.flip(0), torch.zeros(1, a.width)]))
    host = SimpleNamespace(
        left_max_position_embeddings=len(rows) - 1,
        right_max_position_embeddings=1,
        distance_embedding=table,
        scaling=a.width**-0.5,
    )
    return softmaxed(a, _apply_relative_key_position_encoding(host, a.q, a.k)[1])


def xlnet(a: Layer) -> Tensor:
    from transformers.models.xlnet.configuration_xlnet import XLNetConfig
    from transformers.models.xlnet.modeling_xlnet import XLNetModel, XLNetRelativeAttention

    channels, length = a.heads * a.width, a.length
    config = XLNetConfig(d_model=channels, n_head=a.heads, d_inner=8, n_layer=1, vocab_size=8, dropout=0.0)
    layer = XLNetRelativeAttention(config).eval()
    layer.r_w_bias.data.copy_(a.own("u"))
    layer.r_r_bias.data.copy_(a.own("v"))
    # From the furthest key to distance 0 and one more, as its shift requires.
    distances, even = torch.arange(length, -length, -1.0), torch.arange(0, channels, 2.0)
    r = XLNetModel.positional_embedding(distances, 10000 ** -(even / channels))[:, 0]
    keys = (r @ a.own("w")[LAYER].T).view(2 * length, 1, a.heads, a.width).expand(-1, 2, -1, -1)
    future = torch.ones(length, length).triu_(1)[:, :, None, None].expand(-1, -1, 2, a.heads)
    out = layer.rel_attn_core(*(x.permute(2, 0, 1, 3) for x in (a.q, a.k, a.v)), keys, attn_mask=future)
    return out.permute(1, 2, 0, 3)


def forget_gates(a: Layer) -> Tensor:
    from x_transformers.x_transformers import DataDependentAlibi

    theirs = DataDependentAlibi(a.heads * a.width, a.heads)
    linear = theirs.to_forget_gates[0]
    linear.weight.data.copy_(a.own("weight")[LAYER])
    linear.bias.data.copy_(a.own("offset")[LAYER])
    return softmaxed(a, theirs(a.x))


def x_cope(a: Layer) -> Tensor:
    """Its module gets scaled and masked logits, as in posx."""
    from x_transformers.x_transformers import CoPE

    table = a.own("table")[LAYER]
    theirs = CoPE(a.width, a.heads, len(table))
    theirs.pos_emb.data.copy_(table)
    future = torch.ones(a.length, a.length).triu_(1).bool()
    logits = (a.q @ a.k.mT / math.sqrt(a.width)).masked_fill(future, -torch.finfo(torch.float32).max)
    return softmaxed(a, theirs(a.q, logits))


def x_rotary(a: Layer) -> Tensor:
    """x-transformers interleaves the dimensions of a pair."""
    from x_transformers.x_transformers import RotaryEmbedding, apply_rotary_pos_emb

    order = [d for pair in range(a.width // 2) for d in (pair, pair + a.width // 2)]
    angles, _ = RotaryEmbedding(a.width).forward_from_seq_len(a.length)
    turned_a = replace_qk(a, *(apply_rotary_pos_emb(x[..., order], angles) for x in (a.q, a.k)))
    return softmaxed(turned_a, torch.zeros(()))


def replace_qk(a: Layer, q: Tensor, k: Tensor) -> Any:
    """The same layer with other queries and keys."""
    return SimpleNamespace(q=q, k=k, v=a.v, length=a.length, width=a.width)
