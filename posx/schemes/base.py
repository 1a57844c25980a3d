"""Base class of all schemes. A scheme is the only part of a model that knows the order of tokens.

A scheme overrides one or two hooks. The model calls every hook and never refers to a scheme by name::

    positions(n), train_positions(rows, n)  once per forward pass: positions of the tokens
    embed(tokens, positions)      once per forward pass: add to the token vectors, or concatenate with them
    prepare(positions, extension) once per forward pass: what all layers share, such as angles and tables
    rotate(q, k, site)            per layer: change queries and keys before their product
    bias(site) -> f(b, h, i, j)   per layer: an addend to the attention logits, as a closure over index tensors
    rescore(logits, site)         per layer: replace the logits, if no addend by index can express the change
    weights(logits, site)         per layer: replace the softmax
    values(weights, site)         per layer: a term added to the weighted sum of the values
    attend(q, k, v, site)         per layer: replace attention as a whole
    facts(case)                   outside of forward passes: how a length beyond training differs from training

Shapes: B sequences, T tokens, H heads, D dimensions per head, C dimensions of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from posx.extensions.base import Applied
from posx.schemes.facts import Case, Fact, by_hooks

Closure = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class ModelShape:
    """Sizes of the model that a scheme is part of; ``context`` is the training context L in tokens.

    ``places`` is the number of positions that occur in training, if it exceeds L (0: L).
    """

    d_model: int
    n_heads: int
    head_dim: int
    n_layers: int
    context: int
    places: int = 0


@dataclass(frozen=True)
class Site:
    """The queries and keys that a hook is called for.

    ``q_pos`` [Tq] and ``k_pos`` [Tk] are positions (float32 or int64), or [B, Tq] and [B, Tk] if they differ between
    sequences. Query ``i`` has key index ``q_start + i``, which determines what the causal mask allows.
    ``shared`` is what :meth:`Scheme.prepare` returned. Only schemes with ``bias_per_layer`` or ``needs_logits`` receive
    the number of the ``layer`` (counted among the layers that use this scheme), ``q`` and ``k`` ([B, H, T, D]), and
    ``x`` [B, Tk, C], the input of the layer's q, k and v projections.
    """

    q_pos: Tensor
    k_pos: Tensor
    q_start: int = 0
    shared: Any = None
    layer: int = 0
    q: Tensor | None = None
    k: Tensor | None = None
    x: Tensor | None = None

    def distance(self, b: Tensor, i: Tensor, j: Tensor) -> Tensor:
        """Position of query i minus position of key j: 0 for the token itself, positive for earlier tokens."""
        if self.q_pos.ndim == 1:
            return self.q_pos[i] - self.k_pos[j]
        return self.q_pos[b, i] - self.k_pos[b, j]


@dataclass(frozen=True)
class Capabilities:
    """What a scheme does and which extensions it supports. Computed once, on first access; see :meth:`Scheme.declare`.

    ``bias`` is the kind of addend to the logits: "none"; "index" (depends on indices and positions); "distance"
    (depends only on head and distance, which makes evaluation faster); "layer" (depends also on q, k, x or the layer).
    """

    accepts: frozenset[str] = frozenset()  # extension hooks that it supports, in addition to "mask"
    bias: str = "none"
    embeds: bool = False  # positions enter through the token vectors
    rotates: bool = False  # q and k are changed before their product
    rotated: int = 0  # dimensions per head that are rotated; 0: none
    needs_logits: bool = False  # a hook requires all logits or weights; attention computes them in blocks
    has_values: bool = False  # a term is added to the weighted sum of the values
    has_own_attention: bool = False  # attention is not a weighting by logits
    masks: bool = True  # attention can mask keys
    per_layer: bool = False  # a hook requires the layer's number and input
    by_position: bool = True  # False: order enters differently, for example as a sum over the keys between
    uses_positions: bool = False  # positions matter, not only the tokens in between
    chooses_positions: bool = False  # positions are not 0 .. n - 1, in training or in evaluation
    last_position: int | None = None  # None: positions are unlimited

    @property
    def has_bias(self) -> bool:
        """Whether something is added to logits."""
        return self.bias != "none"

    @property
    def bias_per_layer(self) -> bool:
        """Whether the addend depends on q, k, x or the layer."""
        return self.bias == "layer"

    @property
    def bias_is_by_distance(self) -> bool:
        """Whether the addend depends only on head and distance."""
        return self.bias == "distance"


HOOKS = ("embed", "rotate", "bias", "rescore", "weights", "values", "attend", "positions", "train_positions")


class Scheme(nn.Module):
    """Base class; without overrides there is no positional signal.

    A class may set ``accepts``, ``masks``, ``by_position``, ``bias_per_layer`` and ``bias_by_distance``; the rest of
    its :class:`Capabilities` follows from the hooks that it overrides.
    """

    Config: ClassVar[type]
    formula: ClassVar[str] = ""  # used if the YAML has none
    outlook: ClassVar[str] = ""  # published results beyond the training context, for `posx explain`
    inner_fields: ClassVar[tuple[str, ...]] = ()  # settings that name other schemes (see wrapper.py)
    # See Capabilities.
    accepts: frozenset[str] = frozenset()
    masks: bool = True
    by_position: bool = True
    bias_per_layer: bool = False
    bias_by_distance: bool = False
    overrides: ClassVar[frozenset[str]] = frozenset()  # the hooks that it overrides

    def __init_subclass__(cls, **more: Any) -> None:
        """Record which hooks the class overrides. Nothing else inspects this."""
        super().__init_subclass__(**more)
        cls.overrides = frozenset(name for name in HOOKS if getattr(cls, name) is not getattr(Scheme, name))
        if "bias" in vars(cls):  # a new bias does not inherit bias_by_distance
            cls.bias_by_distance = vars(cls).get("bias_by_distance", False)

    def __init__(self, config: Any, shape: ModelShape):
        super().__init__()
        self.config = config
        self.shape = shape

    @classmethod
    def inner_shape(cls, config: Any, shape: ModelShape, place: int = 0) -> ModelShape:
        """The model shape for inner scheme number ``place``."""
        return shape

    @classmethod
    def check(cls, config: Any, shape: ModelShape) -> None:
        """Raise PosxError if this configuration cannot work. Called before any work is done."""

    @cached_property
    def capabilities(self) -> Capabilities:
        """What this scheme does and supports."""
        return self.declare()

    def declare(self) -> Capabilities:
        """Derive the capabilities from the class. Subclasses may override this; wrappers replace some."""
        hooks = self.overrides
        kind = "layer" if self.bias_per_layer else "index"
        if kind == "index" and self.stated("bias_is_by_distance", self.bias_by_distance):
            kind = "distance"
        has_bias = self.stated("has_bias", "bias" in hooks)
        embeds = self.stated("embeds", "embed" in hooks)
        has_values = self.stated("has_values", "values" in hooks)
        needs_logits = self.stated("needs_logits", has_values or not hooks.isdisjoint({"rescore", "weights"}))
        attends = self.stated("has_own_attention", "attend" in hooks)
        has_effect = embeds or has_bias or "rotate" in hooks or needs_logits or attends
        return Capabilities(
            accepts=self.accepts,
            bias=kind if has_bias else "none",
            embeds=embeds,
            rotates="rotate" in hooks,
            rotated=self.stated("rotated", 0),
            needs_logits=needs_logits,
            has_values=has_values,
            has_own_attention=attends,
            masks=self.masks,
            per_layer=self.stated("per_layer", self.bias_per_layer or needs_logits),
            by_position=self.by_position,
            uses_positions=self.by_position and has_effect,
            chooses_positions=self.stated("chooses_positions", chooses_positions(hooks)),
            last_position=self.last_position,
        )

    def stated(self, name: str, otherwise: Any) -> Any:
        """The attribute ``name`` if the class or instance defines it, as schemes for 0.3.0 do; else ``otherwise``."""
        return getattr(self, name) if hasattr(type(self), name) or name in vars(self) else otherwise

    def __getattr__(self, name: str) -> Any:
        """Capabilities as attributes, for schemes written for 0.3.0. To be removed in 0.5."""
        if name in OLD_NAMES:
            return getattr(self.capabilities, OLD_NAMES[name])
        return super().__getattr__(name)

    @property
    def token_width(self) -> int:
        """Width of the token table: C, or less if positions are concatenated."""
        return self.shape.d_model

    @property
    def last_position(self) -> int | None:
        """The last position, or None if positions are unlimited."""
        return None

    def initialise(self, name: str, parameter: nn.Parameter, generator: torch.Generator) -> None:
        """Draw the initial value of one of the scheme's parameters, in place."""
        nn.init.normal_(parameter, std=0.02, generator=generator)

    def at(self, layer: int) -> Scheme:
        """The scheme that layer number ``layer`` uses."""
        return self

    def positions(self, n: int, device: torch.device | None = None) -> Tensor:
        """Positions [T] of n tokens. By default 0 .. n − 1."""
        return torch.arange(n, device=device)

    def train_positions(self, rows: int, n: int, generator: torch.Generator) -> Tensor | None:
        """Positions [B, T] of a batch in training, drawn from ``generator`` on the CPU; None: as in evaluation."""
        return None

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Map token vectors [B, T, token_width] to the first layer's input [B, T, C]."""
        return tokens

    def prepare(self, positions: Tensor, extension: Applied) -> Any:
        """Compute what all layers share, given positions [T] or [B, T]. Available as ``site.shared``."""
        return None

    def rotate(self, q: Tensor, k: Tensor, site: Site) -> tuple[Tensor, Tensor]:
        """Change q [B, H, Tq, D] and k [B, H_kv, Tk, D] before their product."""
        return q, k

    def bias(self, site: Site) -> Closure:
        """A closure f(b, h, i, j) that is added to the scaled logits of query i and key j.

        It may only index and do elementwise arithmetic: the dense backend calls it with index ranges that broadcast
        (b [B,1,1,1], h [H,1,1], i [Tq,1], j [Tk]), FlexAttention with one element at a time.
        """
        raise NotImplementedError

    def rescore(self, logits: Tensor, site: Site) -> Tensor:
        """Replace logits, float32 [B, H, Tq, Tk], which include the bias and are −inf where a key is masked."""
        return logits

    def weights(self, logits: Tensor, site: Site) -> Tensor:
        """Attention weights, float32 [B, H, Tq, Tk], of logits of this shape. By default their softmax."""
        return torch.softmax(logits, dim=-1, dtype=torch.float32)

    def values(self, weights: Tensor, site: Site) -> Tensor:
        """A term [B, H, Tq, D] that is added to weights @ v. float32 weights [B, H, Tq, Tk] are 0 for masked keys."""
        raise NotImplementedError

    def attend(self, q: Tensor, k: Tensor, v: Tensor, site: Site) -> Tensor:
        """The output [B, H, Tq, D] of causal attention that is not a weighting by logits."""
        raise NotImplementedError

    def facts(self, case: Case) -> list[Fact]:
        """How a length differs from training for this scheme. `posx explain` adds facts that apply to all schemes."""
        return by_hooks(self, case)

    def report(self, tokens: Tensor) -> dict[str, float]:
        """Numbers for the run's meta.json, given the token table [V, token_width]."""
        return {}


def chooses_positions(hooks: frozenset[str]) -> bool:
    """Whether a class with these hooks chooses the positions of tokens."""
    return not hooks.isdisjoint({"positions", "train_positions"})


OLD_NAMES = {field.name: field.name for field in fields(Capabilities)} | {
    "has_bias": "has_bias",
    "bias_is_by_distance": "bias_is_by_distance",
    "hears_positions": "uses_positions",
}


def frequencies(scheme: Scheme) -> Tensor | None:
    """θ_k in radians per position, float32 [pairs], of a scheme or the first inner scheme that has any; else None."""
    for module in scheme.modules():
        method: Any = getattr(module, "frequencies", None)
        try:
            theta = method()
        except TypeError:  # missing, or a user's method that requires arguments
            continue
        if isinstance(theta, Tensor) and theta.ndim == 1:
            return theta
    return None


def entries(rows: Tensor, b: Tensor, h: Tensor, i: Tensor, n: Tensor) -> Tensor:
    """rows[b, h, i, n] for use in a closure: entry n, which depends on the key, of each query's row [B, H, Tq, N].

    For whole ranges this is one gather; with its gradient it is 2 to 3 times as fast as indexing by four.
    """
    if torch.broadcast_shapes(b.shape, h.shape, i.shape)[:-1] != rows.shape[:-1]:
        return rows[b, h, i, n]
    return rows.gather(-1, n.expand(*rows.shape[:-1], -1))


def rms(x: Tensor) -> float:
    """Root mean square over all elements."""
    return float(x.detach().double().square().mean().sqrt())


def names(parts: Iterable[str]) -> str:
    """Join words for a sentence: ``a, b and c``."""
    parts = list(parts)
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
