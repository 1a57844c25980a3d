"""Models of transformers with posx's weights, so that both can be run on the same tokens.

Every parameter of a host model is either one of posx's or a bias set to zero; :func:`load` refuses any other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    GlmConfig,
    GlmForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MptConfig,
    MptForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

from posx.models.decoder import Decoder

FAR = 4096  # more positions than any test uses


def load(host: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    """Load the weights into the host; parameters without a counterpart must be biases, and are set to zero."""
    own = host.state_dict()
    for name, tensor in own.items():
        if name not in weights:
            assert name.endswith("bias"), f"posx has no weights for {name}"
            weights[name] = torch.zeros_like(tensor)
    host.load_state_dict({k: v.detach().clone() for k, v in weights.items()}, strict=True)
    return host.eval()


def padded(model: Decoder, table: Tensor) -> Tensor:
    """A token table [V, narrower] as [V, C], with zeros for the dimensions of concatenated positions."""
    return F.pad(table, (0, model.config.d_model - table.shape[1]))


def _ends(model: Decoder, tokens: str, norm: str, head: str = "lm_head.weight") -> dict[str, Tensor]:
    return {
        tokens: padded(model, model.tokens.weight),
        norm: model.norm.weight,
        head: padded(model, model.head_weight),
    }


def _sizes(model: Decoder) -> dict[str, Any]:
    """Sizes under the names that most hosts use. End-of-text ids are unset, being outside small vocabularies."""
    first = model.blocks[0]
    return {
        "vocab_size": model.vocab_size,
        "hidden_size": model.config.d_model,
        "num_hidden_layers": model.config.n_layers,
        "num_attention_heads": model.config.n_heads,
        "intermediate_size": first.feed_forward.up.weight.shape[0],
        "max_position_embeddings": FAR,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        "attn_implementation": "eager",
    }


def gpt2(model: Decoder, table: Tensor | None = None) -> nn.Module:
    """GPT-2; its position table [L, C] is ``table``, or zeros."""
    table = torch.zeros(FAR, model.config.d_model) if table is None else table
    config = GPT2Config(
        vocab_size=model.vocab_size,
        n_positions=len(table),
        n_embd=model.config.d_model,
        n_layer=model.config.n_layers,
        n_head=model.config.n_heads,
        n_inner=model.blocks[0].feed_forward.up.weight.shape[0],
        activation_function="gelu",
        layer_norm_epsilon=model.config.norm_eps,
        attn_implementation="eager",
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    weights = {
        **_ends(model, "transformer.wte.weight", "transformer.ln_f.weight"),
        "transformer.wpe.weight": table,
    }
    for n, block in enumerate(model.blocks):
        at, a, f = f"transformer.h.{n}.", block.attention, block.feed_forward
        weights |= {
            at + "ln_1.weight": block.attention_norm.weight,
            at + "ln_2.weight": block.feed_forward_norm.weight,
            # Conv1D stores [in, out].
            at + "attn.c_attn.weight": torch.cat([a.q.weight, a.k.weight, a.v.weight]).T,
            at + "attn.c_proj.weight": a.out.weight.T,
            at + "mlp.c_fc.weight": f.up.weight.T,
            at + "mlp.c_proj.weight": f.down.weight.T,
        }
    return load(GPT2LMHeadModel(config), weights)


def neox(model: Decoder, rope: dict[str, Any]) -> nn.Module:
    """GPT-NeoX with ``rope`` as its rope_parameters."""
    sizes = {**_sizes(model), "layer_norm_eps": model.config.norm_eps}
    config = GPTNeoXConfig(
        **sizes,
        use_parallel_residual=False,
        attention_bias=False,
        hidden_act="gelu",
        rope_parameters=dict(rope),
    )
    weights = _ends(model, "gpt_neox.embed_in.weight", "gpt_neox.final_layer_norm.weight")
    for n, block in enumerate(model.blocks):
        at, a, f = f"gpt_neox.layers.{n}.", block.attention, block.feed_forward
        by_head = [w.weight.unflatten(0, (a.n_heads, a.head_dim)) for w in (a.q, a.k, a.v)]
        weights |= {
            at + "input_layernorm.weight": block.attention_norm.weight,
            at + "post_attention_layernorm.weight": block.feed_forward_norm.weight,
            at + "attention.query_key_value.weight": torch.cat(by_head, dim=1).flatten(0, 1),
            at + "attention.dense.weight": a.out.weight,
            at + "mlp.dense_h_to_4h.weight": f.up.weight,
            at + "mlp.dense_4h_to_h.weight": f.down.weight,
        }
    return load(GPTNeoXForCausalLM(config), weights)


def mpt(model: Decoder, longest: int = 512) -> nn.Module:
    """MPT, whose positions are ALiBi."""
    config = MptConfig(
        vocab_size=model.vocab_size,
        d_model=model.config.d_model,
        n_heads=model.config.n_heads,
        n_layers=model.config.n_layers,
        max_seq_len=longest,
        layer_norm_epsilon=model.config.norm_eps,
        attn_implementation="eager",
        tie_word_embeddings=False,
    )
    weights = _ends(model, "transformer.wte.weight", "transformer.norm_f.weight")
    for n, block in enumerate(model.blocks):
        at, a, f = f"transformer.blocks.{n}.", block.attention, block.feed_forward
        weights |= {
            at + "norm_1.weight": block.attention_norm.weight,
            at + "norm_2.weight": block.feed_forward_norm.weight,
            at + "attn.Wqkv.weight": torch.cat([a.q.weight, a.k.weight, a.v.weight]),
            at + "attn.out_proj.weight": a.out.weight,
            at + "ffn.up_proj.weight": f.up.weight,
            at + "ffn.down_proj.weight": f.down.weight,
        }
    return load(MptForCausalLM(config), weights)


def _like_llama(
    model: Decoder,
    cls: Any,
    config: Any,
    rotary: Callable[[Tensor], Tensor] = lambda w: w,
    fused: bool = False,
) -> nn.Module:
    """Llama-like models; ``rotary`` reorders the rows of each head of q and k, ``fused``: [gate; up] in one matrix."""
    weights = _ends(model, "model.embed_tokens.weight", "model.norm.weight")
    for n, block in enumerate(model.blocks):
        at, a, f = f"model.layers.{n}.", block.attention, block.feed_forward
        weights |= {
            at + "input_layernorm.weight": block.attention_norm.weight,
            at + "post_attention_layernorm.weight": block.feed_forward_norm.weight,
            at + "self_attn.q_proj.weight": rotary(a.q.weight),
            at + "self_attn.k_proj.weight": rotary(a.k.weight),
            at + "self_attn.v_proj.weight": a.v.weight,
            at + "self_attn.o_proj.weight": a.out.weight,
            at + "mlp.down_proj.weight": f.down.weight,
        }
        if fused:
            weights[at + "mlp.gate_up_proj.weight"] = torch.cat([f.gate.weight, f.up.weight])
        else:
            weights |= {at + "mlp.gate_proj.weight": f.gate.weight, at + "mlp.up_proj.weight": f.up.weight}
    return load(cls(config), weights)


def _llama_sizes(model: Decoder) -> dict[str, Any]:
    a = model.blocks[0].attention
    return {
        **_sizes(model),
        "num_key_value_heads": a.n_kv_heads,
        "head_dim": a.head_dim,
        "rms_norm_eps": model.config.norm_eps,
    }


def llama(model: Decoder, rope: dict[str, Any], longest: int = FAR) -> nn.Module:
    """Llama with ``rope`` as its rope_parameters; some kinds of rope scale beyond ``longest`` positions."""
    sizes = {**_llama_sizes(model), "max_position_embeddings": longest}
    return _like_llama(model, LlamaForCausalLM, LlamaConfig(**sizes, rope_parameters=dict(rope)))


def mistral(model: Decoder, rope: dict[str, Any], window: int) -> nn.Module:
    """Mistral: Llama with a sliding window."""
    config = MistralConfig(**_llama_sizes(model), rope_parameters=dict(rope), sliding_window=window)
    return _like_llama(model, MistralForCausalLM, config)


def smollm3(model: Decoder, no_rope_layers: list[int] | None = None) -> nn.Module:
    """SmolLM3 with rotations in the layers where ``no_rope_layers`` is 1; by default in none."""
    layers = no_rope_layers or [0] * model.config.n_layers
    rope = {"rope_type": "default", "rope_theta": 10000.0}
    config = SmolLM3Config(**_llama_sizes(model), no_rope_layers=layers, rope_parameters=rope)
    return _like_llama(model, SmolLM3ForCausalLM, config)


def glm(model: Decoder, rope: dict[str, Any]) -> nn.Module:
    """GLM: Llama with a partial rotation of each head, in the interleaved layout of the RoPE paper."""
    head, part = model.blocks[0].attention.head_dim, rope["partial_rotary_factor"]
    config = GlmConfig(**_llama_sizes(model), rope_parameters=dict(rope), attention_bias=False)
    order = interleaved(head, int(head * part))

    def rotary(weight: Tensor) -> Tensor:
        return weight.unflatten(0, (-1, head))[:, order].flatten(0, 1)

    return _like_llama(model, GlmForCausalLM, config, rotary, fused=True)


def interleaved(head_dim: int, rotated: int) -> list[int]:
    """The half-split dimension for each interleaved one; dimensions that are not rotated stay."""
    half = rotated // 2
    pairs = [d for k in range(half) for d in (k, k + half)]
    return pairs + list(range(rotated, head_dim))


@torch.no_grad()
def run(
    host: nn.Module, tokens: Tensor | None = None, embeds: Tensor | None = None, addend: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(logits, final hidden states). ``addend`` [.., T, T] is added to attention's logits, with a causal mask."""
    mask = None
    if addend is not None:
        length = addend.shape[-1]
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        mask = addend.masked_fill(future, float("-inf"))
        mask = mask.reshape((1,) * (4 - mask.ndim) + mask.shape)
    out = host(
        input_ids=tokens,
        inputs_embeds=embeds,
        attention_mask=mask,
        use_cache=False,
        output_hidden_states=True,
    )
    return out.logits, out.hidden_states[-1]
