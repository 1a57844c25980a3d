"""The panels of a scheme, as numbers: a heat map or lines each, only where the scheme does such a thing."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from posx.analysis.panels.extension import case_of, extended
from posx.analysis.panels.panel import Lines, Map, Panel
from posx.analysis.probe import (
    Content,
    Layer,
    Part,
    content,
    grid,
    matrix,
    parts,
    position_vectors,
    rotates,
    silence,
    turned,
)
from posx.analysis.properties import Subject, draws, weight_by_distance
from posx.analysis.properties_page import in_layers
from posx.extensions.base import NONE, Applied
from posx.schemes.base import Scheme, frequencies

MOST_MAPS = 4  # side by side
MOST_LINES = 8  # of a panel
SAME = 1e-6  # heads that differ by less, over the largest value, are one line


@torch.no_grad()
def panels(given: Subject) -> list[Panel]:
    """All that there is to draw: what an extension does, then from the first layer's input to the weights."""
    found = extended(given)
    if given.scheme.capabilities.embeds:
        found += _embedding(given)
    several = parts(given.scheme)
    for part in several:
        where = f"{in_layers([layer + 1 for layer in part.layers]).capitalize()}. " if len(several) > 1 else ""
        found += [*_rotation(given, part, where), *_attention(given, part, where)]
    return found


# ---------------------------------------------------------------- embeddings


def _embedding(given: Subject) -> list[Panel]:
    table = position_vectors(given.scheme, given.positions)
    learned = any(True for _ in given.scheme.parameters())
    beside = given.scheme.token_width < given.scheme.shape.d_model
    how = f", beside {given.scheme.token_width} of the token" if beside else ""
    vectors = Map(
        "vectors",
        "The vector of each position",
        f"{table.shape[1]} dimensions{how}{'; initial values' if learned else ''}",
        {"": table.numpy()},
        list(range(given.length)),
    )
    return [vectors, Lines("similarity", "Cosine of the last token's vector and that d tokens before", "", {
        "": similarity(table).numpy()}, np.arange(given.length))]  # fmt: skip


def similarity(table: Tensor) -> Tensor:
    """Cosine of the last vector of [T, width] and the one d before it, [T]; of sinusoids 2/width · Σ_k cos(d·θ_k)."""
    exact = table.double()
    exact = exact / exact.norm(dim=-1, keepdim=True).clamp(min=1e-300)
    return (exact @ exact[-1]).flip(0)


# ---------------------------------------------------------------- rotations


def _rotation(given: Subject, part: Part, where: str) -> list[Panel]:
    turns = rotates(part.scheme, given.positions)
    trained = frequencies(part.scheme) if turns or part.scheme.capabilities.has_own_attention else None
    theta = None if trained is None else given.extension.spectrum(trained)
    found: list[Panel] = []
    if theta is not None and trained is not None:
        by_name = {"": theta} if torch.equal(theta, trained) else {"none": trained, given.short: theta}
        angles = {name: given.positions.double()[:, None] * one.double() for name, one in by_name.items()}
        width = part.scheme.shape.head_dim
        some = f": {2 * len(theta)} of {width} dimensions" if 2 * len(theta) < width else ""
        caption = f"p·θ_k modulo 2π, {len(theta)} pairs{some}"
        found.append(Map("angles", f"{where}Rotation angles", caption,
                         {name: (one % (2 * math.pi)).numpy() for name, one in angles.items()},
                         list(range(given.length))))  # fmt: skip
    elif turns:
        [(_, q, _)] = turned(part.scheme, given.positions, torch.ones(1, part.scheme.shape.head_dim), given.extension)
        found.append(Map("turned", f"{where}What the rotation makes of a vector of ones", "q of the first head",
                         {"": q[0, 0].numpy()}, list(range(given.length))))  # fmt: skip
    if not turns:
        return found
    by_head, sizes = decay(part.scheme, given.positions, given.extension)
    lines = by_heads(by_head)
    if given.extension and len(lines) == 1:
        before, _ = decay(part.scheme, given.positions)
        now = by_head[0].masked_fill(~case_of(given).seen.flip(0), math.nan)
        if bool(now.isnan().any()) or float((before - by_head).abs().max()) > 1e-3:
            lines = {"none": before[0].numpy(), given.short: now.numpy()}
    formula = decay_of(theta, part.scheme.shape.head_dim, given.length) if theta is not None else None
    found.append(Lines(
        "decay", f"{where}Logit of equal vectors at distance d",
        "2/D · Σ_k cos(d·θ_k)" if matches(by_head, formula) else "mean over vectors of one length, last query",
        lines, np.arange(given.length),
    ))  # fmt: skip
    if theta is not None and matches(by_head, formula):
        found.append(Lines(
            "bound", f"{where}Its bound (RoFormer, section 3.4.3)",
            "2/D · Σ_j |S_j|,  S_j = Σ_{k<j} e^{i·d·θ_k}",
            {"": bound(theta, part.scheme.shape.head_dim, given.length).numpy()}, np.arange(given.length),
        ))  # fmt: skip
    steady = given.extension and float((sizes.amax(1) - sizes.amin(1)).max()) < 1e-3  # a factor, said in words
    if not steady and float((sizes - 1).abs().max()) > 1e-3:
        labels = {"q": sizes[0].numpy(), "k": sizes[1].numpy()}
        found.append(Lines("scale", f"{where}Length of q and k, over that before",
                           "first head; RMS over all dimensions", labels, np.arange(given.length)))  # fmt: skip
    return found


@torch.no_grad()
def decay(scheme: Scheme, positions: Tensor, extension: Applied = NONE) -> tuple[Tensor, Tensor]:
    """Logits of equal vectors for the last query, [H, T] by distance in tokens, and lengths of q and k, [2, T].

    The mean over all x of one length of (R_i x)·(R_j x) is the trace of R_iᵀ R_j over D: a sum over unit vectors.
    """
    width, n = scheme.shape.head_dim, len(positions)
    total, sizes = torch.zeros(scheme.shape.n_heads, n).double(), torch.zeros(2, n).double()
    for some in torch.eye(width).split(8):
        everywhere = some[:, None, None].expand(-1, scheme.shape.n_heads, n, -1)
        nothing = torch.zeros(1, 1, scheme.shape.d_model).expand(len(some), n, -1)
        layer = Layer(scheme, positions, Content(everywhere, everywhere, nothing), extension)
        total += layer.products(n - 1).double().sum(0)
    for _, q, k in turned(scheme, positions, torch.eye(width), extension):
        sizes += torch.stack([x[:, 0].double().square().sum((0, -1)) / width for x in (q, k)])
    by_distance = total.flip(-1)
    return by_distance / by_distance[:, :1], sizes.sqrt()


def decay_of(theta: Tensor, head_dim: int, length: int) -> Tensor:
    """2/D · Σ_k cos(d·θ_k), float64 [T]; pairs that are not rotated have θ = 0. Su et al. 2021, section 3.4.3."""
    return _turns(theta, head_dim, length).sum(-1).real * 2 / head_dim


def bound(theta: Tensor, head_dim: int, length: int) -> Tensor:
    """2/D · Σ_j |S_j| with S_j = Σ_{k<j} e^{i·d·θ_k}, j = 1 .. D/2, float64 [T].

    Su et al. 2021, section 3.4.3, by Abel's summation: with h_k the product of the pairs k of q and k, and h_{D/2} = 0,
    Σ_k h_k e^{i·d·θ_k} = −Σ_k S_{k+1} (h_{k+1} − h_k), so that its size is at most max_k |h_{k+1} − h_k| · Σ_j |S_j|.
    Equal vectors have h_k = 1, say: the largest step is the last, of 1, and the logit at d = 0 is D/2.
    """
    return _turns(theta, head_dim, length).cumsum(-1).abs().sum(-1) * 2 / head_dim


def _turns(theta: Tensor, head_dim: int, length: int) -> Tensor:
    """e^{i·d·θ_k}, complex128 [T, D/2]."""
    still = theta.new_zeros(max(0, head_dim // 2 - len(theta)))
    angles = torch.arange(length).double()[:, None] * torch.cat([theta, still]).double()
    return torch.polar(torch.ones_like(angles), angles)


def matches(by_head: Tensor, formula: Tensor | None) -> bool:
    """Whether what the hooks did is what the formula says: not where they scale, too, or skip positions."""
    return formula is not None and float((by_head - formula).abs().max()) < 1e-3


# ---------------------------------------------------------------- attention


def _attention(given: Subject, part: Part, where: str) -> list[Panel]:
    scheme, found = part.scheme, list[Panel]()
    asks = scheme.capabilities.per_layer
    told = content(given.scheme, given.positions, given.seed) if asks else silence(given.scheme, given.positions)
    first = f"the first of {in_layers([layer + 1 for layer in part.layers])}; " if len(part.layers) > 1 else ""
    of_what = f"{first}one draw of random content" if asks else ""
    if not scheme.capabilities.has_own_attention and (scheme.capabilities.has_bias or scheme.capabilities.needs_logits):
        layer = Layer(scheme, given.positions, told, given.extension)
        added = matrix(layer, "added")
        if bool((added.nan_to_num() != 0).any()):
            found.append(Map("added", f"{where}What is added to the logit of query and key", of_what,
                             heads_of(added), grid(given.length).tolist()))  # fmt: skip
    weights = weight_by_distance(given, part)
    if weights is not None:
        caption = "q·k is the same for all keys"
        caption += f"; queries and layer inputs are random, mean of {draws(given.length)} draws" * asks
        found.append(Lines("weight", f"{where}The weight that query {given.length - 1} gives to distance d", caption,
                           by_heads(weights), np.arange(given.length)))  # fmt: skip
    return found


def chosen(n_heads: int, most: int) -> list[int]:
    """At most so many of the heads, the first and the last among them."""
    few = min(n_heads, most)
    return sorted({round(place * (n_heads - 1) / max(1, few - 1)) for place in range(few)})


def heads_of(values: Tensor) -> dict[str, np.ndarray]:
    """[H, n, n] as maps of a few heads, or one where all are alike."""
    if alike(values):
        return {"every head": values[0].numpy()}
    return {f"head {head + 1}": values[head].numpy() for head in chosen(len(values), MOST_MAPS)}


def by_heads(values: Tensor) -> dict[str, np.ndarray]:
    """[H, T] as lines of some heads, or one where all are alike."""
    if alike(values):
        return {"every head": values[0].numpy()}
    return {f"head {head + 1}": values[head].numpy() for head in chosen(len(values), MOST_LINES)}


def alike(values: Tensor) -> bool:
    """Whether all heads have the same values, to rounding."""
    exact = values.double().nan_to_num()
    return float((exact - exact[:1]).abs().max()) <= SAME * float(exact.abs().max())
