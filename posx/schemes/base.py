"""What a scheme is: the one place through which order enters a model.

A scheme overrides one or two hooks. The model calls them all and knows none by name::

    embed(tokens, positions)      once a forward; add to or concatenate with the token vectors
    prepare(positions, extension) once a forward; what all layers share: angles, tables
    rotate(q, k, site)            per layer
    positions(n), train_positions(rows, n)  once a forward; which positions tokens stand at
    bias(site) -> f(b, h, i, j)   an addend to the attention logits, as a closure over index tensors
    rescore(logits, site)         per layer: other logits, where an addend by index does not say it
    weights(logits, site)         per layer: instead of the softmax
    values(weights, site)         per layer: a term beside the weighted values
    attend(q, k, v, site)         per layer: instead of all of it
    facts(case)                   never in a forward pass: what a length beyond training is to it

Shapes: B sequences, T tokens, H heads, D the width of a head, C the width of the model.
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
    """What a scheme may know about the model it serves; ``context`` is the training context L in tokens.

    ``places`` is how many positions there are in training, where those are more than L (0: L).
    """

    d_model: int
    n_heads: int
    head_dim: int
    n_layers: int
    context: int
    places: int = 0


@dataclass(frozen=True)
class Site:
    """Where a bias or a rotation is asked for: some queries against some keys.

    ``q_pos`` [Tq] and ``k_pos`` [Tk] are positions (float32 or int64), or [B, Tq] and [B, Tk] where each
    sequence has its own. Query ``i`` stands at key index ``q_start + i``, which is what causality goes by.
    ``shared`` is what :meth:`Scheme.prepare` returned. Only a scheme with ``bias_per_layer`` or ``needs_logits`` is
    given the number of the ``layer`` (counted among those that it serves), ``q`` and ``k`` ([B, H, T, D]), and ``x``
    [B, Tk, C], what the layer's q, k and v were made of.
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
        """Position of query i minus position of key j: 0 for the token itself, positive for the past."""
        if self.q_pos.ndim == 1:
            return self.q_pos[i] - self.k_pos[j]
        return self.q_pos[b, i] - self.k_pos[b, j]


@dataclass(frozen=True)
class Capabilities:
    """What a scheme does and listens to, stated once, when it is first asked. See :meth:`Scheme.declare`.

    ``bias`` is the kind of addend to logits: "none"; "index" (of the pair's indices and positions); "distance" (of the
    head and the distance alone, which makes evaluation faster); "layer" (of q, k, x or the layer's number too).
    """

    accepts: frozenset[str] = frozenset()  # the extension hooks that it listens to, beyond "mask"
    bias: str = "none"
    embeds: bool = False  # positions enter with the token vectors
    rotates: bool = False  # q and k are changed before their product
    rotated: int = 0  # dimensions of a head that are rotated by frequencies; 0: none
    needs_logits: bool = False  # a hook wants all logits or weights: attention makes them, in blocks
    has_values: bool = False  # there is a term beside the weighted values
    has_own_attention: bool = False  # attention is no weighting by logits
    masks: bool = True  # attention can leave out keys
    per_layer: bool = False  # a hook wants to know its layer, and what came into it
    by_position: bool = True  # False: order is known by another way, such as a sum over the keys between
    uses_positions: bool = False  # where tokens stand makes a difference, and not only which are between them
    chooses_positions: bool = False  # positions are not 0 .. n - 1, in training or in evaluation
    last_position: int | None = None  # None: positions never end

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
        """Whether the addend depends on the head and the distance alone."""
        return self.bias == "distance"


HOOKS = ("embed", "rotate", "bias", "rescore", "weights", "values", "attend", "positions", "train_positions")


class Scheme(nn.Module):
    """Base class; without overrides it is no positional signal at all.

    A class may state ``accepts``, ``masks``, ``by_position``, ``bias_per_layer`` and ``bias_by_distance``; the rest of
    its :class:`Capabilities` follows from the hooks that it overrides.
    """

    Config: ClassVar[type]
    formula: ClassVar[str] = ""  # of a scheme whose YAML states none
    outlook: ClassVar[str] = ""  # what was published of it past the training context, for `posx explain`
    inner_fields: ClassVar[tuple[str, ...]] = ()  # settings that name further schemes (see wrapper.py)
    # What a class states, see Capabilities.
    accepts: frozenset[str] = frozenset()
    masks: bool = True
    by_position: bool = True
    bias_per_layer: bool = False
    bias_by_distance: bool = False
    overrides: ClassVar[frozenset[str]] = frozenset()  # the hooks that it overrides

    def __init_subclass__(cls, **more: Any) -> None:
        """The one place that looks at which hooks a class overrides."""
        super().__init_subclass__(**more)
        cls.overrides = frozenset(name for name in HOOKS if getattr(cls, name) is not getattr(Scheme, name))
        if "bias" in vars(cls):  # it says by itself whether its own bias goes by the distance
            cls.bias_by_distance = vars(cls).get("bias_by_distance", False)

    def __init__(self, config: Any, shape: ModelShape):
        super().__init__()
        self.config = config
        self.shape = shape

    @classmethod
    def inner_shape(cls, config: Any, shape: ModelShape, place: int = 0) -> ModelShape:
        """The model as the scheme at this place in ``inner_fields`` shall see it."""
        return shape

    @classmethod
    def check(cls, config: Any, shape: ModelShape) -> None:
        """Raise PosxError where this configuration cannot work. Called before any work is done."""

    @cached_property
    def capabilities(self) -> Capabilities:
        """What this scheme does and listens to."""
        return self.declare()

    def declare(self) -> Capabilities:
        """The capabilities of this scheme: from its class, unless it knows better. A wrapper replaces some."""
        hooks = self.overrides
        kind = "layer" if self.bias_per_layer else "index"
        if kind == "index" and self.stated("bias_is_by_distance", self.bias_by_distance):
            kind = "distance"
        has_bias = self.stated("has_bias", "bias" in hooks)
        embeds = self.stated("embeds", "embed" in hooks)
        has_values = self.stated("has_values", "values" in hooks)
        needs_logits = self.stated("needs_logits", has_values or not hooks.isdisjoint({"rescore", "weights"}))
        attends = self.stated("has_own_attention", "attend" in hooks)
        acts = embeds or has_bias or "rotate" in hooks or needs_logits or attends
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
            uses_positions=self.by_position and acts,
            chooses_positions=self.stated("chooses_positions", chooses_positions(hooks)),
            last_position=self.last_position,
        )

    def stated(self, name: str, otherwise: Any) -> Any:
        """What the class or the object states under ``name``, as schemes of 0.3.0 could; else ``otherwise``."""
        return getattr(self, name) if hasattr(type(self), name) or name in vars(self) else otherwise

    def __getattr__(self, name: str) -> Any:
        """Names by which schemes written for 0.3.0 ask another one what it does: until 0.5."""
        if name in BEFORE:
            return getattr(self.capabilities, BEFORE[name])
        return super().__getattr__(name)

    @property
    def token_width(self) -> int:
        """Width of the token table: C, or less where positions are concatenated."""
        return self.shape.d_model

    @property
    def last_position(self) -> int | None:
        """The last position that exists, or None where positions never end."""
        return None

    def initialise(self, name: str, parameter: nn.Parameter, generator: torch.Generator) -> None:
        """Draw the first value of an own parameter, in place."""
        nn.init.normal_(parameter, std=0.02, generator=generator)

    def at(self, layer: int) -> Scheme:
        """The scheme of a layer's attention."""
        return self

    def positions(self, n: int, device: torch.device | None = None) -> Tensor:
        """Positions [T] of n tokens, where nobody says otherwise: 0 .. n − 1."""
        return torch.arange(n, device=device)

    def train_positions(self, rows: int, n: int, generator: torch.Generator) -> Tensor | None:
        """Positions [B, T] of a batch in training, drawn from ``generator`` on the CPU; None: as in evaluation."""
        return None

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Token vectors [B, T, token_width] to the first layer's input [B, T, C]."""
        return tokens

    def prepare(self, positions: Tensor, extension: Applied) -> Any:
        """What all layers share at these positions ([T] or [B, T])."""
        return None

    def rotate(self, q: Tensor, k: Tensor, site: Site) -> tuple[Tensor, Tensor]:
        """Change q [B, H, Tq, D] and k [B, H_kv, Tk, D] before their product."""
        return q, k

    def bias(self, site: Site) -> Closure:
        """A closure f(b, h, i, j) that is added to the scaled logits of query i and key j.

        It must only index and do elementwise arithmetic: the dense backend calls it with whole index ranges that
        broadcast (b [B,1,1,1], h [H,1,1], i [Tq,1], j [Tk]), FlexAttention with one element at a time.
        """
        raise NotImplementedError

    def rescore(self, logits: Tensor, site: Site) -> Tensor:
        """Other logits, float32 [B, H, Tq, Tk]; with the bias in them, and −inf where a key is not seen."""
        return logits

    def weights(self, logits: Tensor, site: Site) -> Tensor:
        """Attention weights, float32 [B, H, Tq, Tk], of such logits: the softmax, unless a scheme knows another way."""
        return torch.softmax(logits, dim=-1, dtype=torch.float32)

    def values(self, weights: Tensor, site: Site) -> Tensor:
        """What is added to weights @ v, [B, H, Tq, D], of weights float32 [B, H, Tq, Tk]: 0 for what is not seen."""
        raise NotImplementedError

    def attend(self, q: Tensor, k: Tensor, v: Tensor, site: Site) -> Tensor:
        """The output of attention [B, H, Tq, D], causal, where it is no weighting by logits."""
        raise NotImplementedError

    def facts(self, case: Case) -> list[Fact]:
        """What training has seen beside what there is now; what holds for all schemes, `posx explain` adds."""
        return by_hooks(self, case)

    def report(self, tokens: Tensor) -> dict[str, float]:
        """Figures about the scheme beside a token table [V, token_width], for the run's meta.json."""
        return {}


def chooses_positions(hooks: frozenset[str]) -> bool:
    """Whether a class with these hooks says where tokens stand."""
    return not hooks.isdisjoint({"positions", "train_positions"})


BEFORE = {one.name: one.name for one in fields(Capabilities)} | {
    "has_bias": "has_bias",
    "bias_is_by_distance": "bias_is_by_distance",
    "hears_positions": "uses_positions",
}


def frequencies(scheme: Scheme) -> Tensor | None:
    """θ_k in radians a position, float32 [pairs], of the scheme or of one inside; None where none knows any."""
    for one in scheme.modules():
        own: Any = getattr(one, "frequencies", None)
        try:
            found = own()
        except TypeError:  # there is none, or somebody's own that wants to be told more
            continue
        if isinstance(found, Tensor) and found.ndim == 1:
            return found
    return None


def entries(rows: Tensor, b: Tensor, h: Tensor, i: Tensor, n: Tensor) -> Tensor:
    """rows[b, h, i, n] for a closure: of each query's row [B, H, Tq, N] the entry n, which differs by key.

    For whole ranges it is one gather, with its gradient 2 to 3 times as fast as indexing by four.
    """
    if torch.broadcast_shapes(b.shape, h.shape, i.shape)[:-1] != rows.shape[:-1]:
        return rows[b, h, i, n]
    return rows.gather(-1, n.expand(*rows.shape[:-1], -1))


def rms(x: Tensor) -> float:
    """Root mean square over all elements."""
    return float(x.detach().double().square().mean().sqrt())


def names(parts: Iterable[str]) -> str:
    """A list for a sentence: ``a, b and c``."""
    parts = list(parts)
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
