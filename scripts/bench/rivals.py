"""Alternatives to posx for training, with the same shape and tokens, each used in its usual way.

The shape: 4 layers, width 256, 4 heads, context 256, vocabulary 4,096, 16 sequences per step. AdamW with weight decay
on matrices, gradients clipped at 1. The name of a side includes its options: ``float32``, ``bf16`` (autocast),
``compiled`` (torch.compile of the whole model), ``fused`` (AdamW in one kernel).

* ``nanogpt``: a reimplementation of its train.py and model.py: pre-norm blocks, q, k and v in one product, torch's
  attention kernel, learned positions, a tied head, the loss over all logits, batches from a memory map.
* ``gpt2``, ``llama``: transformers' classes from a config, with random weights.
* ``x-transformers``: its Decoder with rotary positions in its wrapper for language models.
* ``posx``: the session and the step of `posx train`.

A side is a function without arguments that takes one step and returns its loss in nats/token.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posx.config.schema import RunConfig
from posx.data.corpus import Corpus, prepare
from posx.models.build import compose_run

LAYERS, WIDTH, HEADS, CONTEXT, VOCABULARY, BATCH = 4, 256, 4, 256, 4096, 16
TOKENS = BATCH * CONTEXT  # per step
POSX = ["model=small", f"train.context={CONTEXT}", f"train.batch_tokens={TOKENS}"]

Step = Callable[[], float]


def reference(*overrides: str) -> RunConfig:
    """The config of `posx train` for this shape."""
    config = compose_run([*POSX, *overrides])
    model = config.model
    shape = (model.n_layers, model.d_model, model.n_heads, config.train.context, config.tokenizer.vocab_size)
    assert shape == (LAYERS, WIDTH, HEADS, CONTEXT, VOCABULARY)
    return config


@cache
def corpus() -> Corpus:
    """The embedded corpus with a vocabulary of 4,096, from posx's cache."""
    config = reference()
    return prepare(config.data, config.tokenizer, lambda line: None)


def batches(path: Path, length: int) -> Tensor:
    """[16, length] token ids at random offsets of a file, which is mapped anew for each batch, as in nanoGPT."""
    tokens = np.memmap(path, dtype=np.uint16, mode="r")
    starts = torch.randint(len(tokens) - length, (BATCH,)).tolist()
    return torch.stack([torch.from_numpy(tokens[at : at + length].astype(np.int64)) for at in starts])


def training(model: nn.Module, loss_of: Callable[[Any, Tensor], Tensor], words: list[str]) -> Step:
    """The usual training loop. ``loss_of`` gets the model and token ids [16, 257]."""
    torch.set_float32_matmul_precision("highest")
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    free = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": free, "weight_decay": 0.0}]
    # None is torch's default, a loop over the parameters on a CPU.
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), fused=True if "fused" in words else None)
    path = corpus().path / "train.bin"
    module: Any = torch.compile(model) if "compiled" in words else model
    model.train()

    def step() -> float:
        ids = batches(path, CONTEXT + 1)
        with torch.autocast("cpu", torch.bfloat16) if "bf16" in words else nullcontext():
            loss = loss_of(module, ids)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


# ---------------------------------------------------------------- nanoGPT, reimplemented


class Block(nn.Module):
    """Pre-norm attention and feed-forward."""

    def __init__(self) -> None:
        super().__init__()
        self.before_attention, self.before_mlp = (nn.LayerNorm(WIDTH, bias=False) for _ in range(2))
        self.c_attn = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.c_proj = nn.Linear(WIDTH, WIDTH, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, T, C] to [B, T, C]."""
        size, length, _ = x.shape
        joint = self.c_attn(self.before_attention(x))
        q, k, v = (part.view(size, length, HEADS, -1).transpose(1, 2) for part in joint.split(WIDTH, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).reshape(size, length, WIDTH))
        return x + self.mlp(self.before_mlp(x))


class NanoGpt(nn.Module):
    """Token and position tables, blocks, a norm, and a head tied to the token table."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.tokens.weight
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                writes = name.endswith(("c_proj.weight", "mlp.2.weight"))
                nn.init.normal_(parameter, std=0.02 / (2 * LAYERS) ** 0.5 if writes else 0.02)

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of ids and targets [B, T]."""
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.view(-1, VOCABULARY), targets.reshape(-1), ignore_index=-1)


def nanogpt(*words: str) -> Step:
    """nanoGPT."""
    return training(NanoGpt(), lambda model, ids: model(ids[:, :-1].contiguous(), ids[:, 1:].contiguous()), [*words])


# ---------------------------------------------------------------- libraries


def _loss_of_host(model: Any, ids: Tensor) -> Tensor:
    """transformers shifts the labels itself: 255 predictions for a sequence of 256."""
    return model(input_ids=ids[:, :-1], labels=ids[:, :-1], use_cache=False).loss


def gpt2(*words: str) -> Step:
    """transformers' GPT-2, with the exact GELU and without dropout."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=CONTEXT,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        activation_function="gelu",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
    )
    return training(GPT2LMHeadModel(config), _loss_of_host, [*words])


def llama(*words: str) -> Step:
    """transformers' Llama with a tied head; its feed-forward of 704 has as many parameters as a GPT's of 1,024."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=704,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    return training(LlamaForCausalLM(config), _loss_of_host, [*words])


def x_transformers(*words: str) -> Step:
    """x-transformers with rotary positions only and torch's attention kernel."""
    from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper

    model = TransformerWrapper(
        num_tokens=VOCABULARY,
        max_seq_len=CONTEXT,
        use_abs_pos_emb=False,
        tie_embedding=True,
        attn_layers=Decoder(dim=WIDTH, depth=LAYERS, heads=HEADS, rotary_pos_emb=True, attn_flash=True),
    )
    # It uses the last of 256 inputs only as a target: 255 predictions, as in transformers.
    return training(AutoregressiveWrapper(model), lambda wrapped, ids: wrapped(ids[:, :-1]), [*words])


def posx(scheme: str, *words: str) -> Step:
    """The training step of `posx train --scheme SCHEME`; ``words`` are overrides."""
    from posx.training.loop import train_step
    from posx.training.state import start

    session = start(reference(f"scheme={scheme}", *words), corpus())
    done = 0

    def step() -> float:
        nonlocal done
        loss, _ = train_step(session, done)
        done += 1
        return float(loss)

    return step


PLAIN = ("train.dtype=float32", "train.compile=off")
USUAL = (("float32",), ("bf16",), ("bf16", "compiled"))
SIDES: dict[str, Callable[[], Step]] = {}


def _enter(name: str, side: Callable[..., Step], *words: str) -> None:
    SIDES[name] = lambda: side(*words)


for _scheme in ("learned", "rope", "alibi"):
    _enter(f"posx-{_scheme}", posx, _scheme)
_enter("posx-learned-float32", posx, "learned", *PLAIN)
for _words in (*USUAL, ("bf16", "compiled", "fused")):
    _enter("-".join(("nanogpt", *_words)), nanogpt, *_words)
for _name, _side in (("gpt2", gpt2), ("llama", llama), ("x-transformers", x_transformers)):
    for _words in USUAL:
        _enter("-".join((_name, *_words)), _side, *_words)


def operations_per_token() -> int:
    """Floating-point operations of forward and backward: six per weight, and the products of attention.

    Attention counts all pairs, not halved for the mask. Each block has 12 C² weights, the head V · C.
    """
    weights = LAYERS * 12 * WIDTH**2 + VOCABULARY * WIDTH
    return 6 * weights + 12 * LAYERS * CONTEXT * WIDTH


def products(dtype: torch.dtype = torch.bfloat16) -> Callable[[], dict[str, Any]]:
    """The speed of matrix products on this machine: operations/s for two shapes, medians of ten."""
    import time
    from statistics import median

    shapes = [(2048, 2048, 2048), (TOKENS, WIDTH, 4 * WIDTH)]
    pairs = [(torch.randn(n, k).to(dtype), torch.randn(k, m).to(dtype)) for n, k, m in shapes]

    def measure() -> dict[str, Any]:
        rates = []
        for (n, k, m), (a, b) in zip(shapes, pairs, strict=True):
            taken = []
            for _ in range(11):
                began = time.perf_counter()
                torch.mm(a, b)
                taken.append(time.perf_counter() - began)
            rates.append(2 * n * k * m / median(taken[1:]))
        return {"rates": rates, "best": max(rates)}

    return measure
