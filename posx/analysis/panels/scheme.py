"""The panels of a scheme, as numbers: one heat map or line plot for each thing that the scheme does."""

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
    rotated,
    rotates,
    silence,
)
from posx.analysis.properties import Subject, draws, weight_by_distance
from posx.analysis.properties_page import in_layers
from posx.extensions.base import NONE, Applied
from posx.schemes.base import Scheme, frequencies

MOST_MAPS = 4  # side by side
MOST_LINES = 8  # in a panel
SAME = 1e-6  # heads that differ by less, relative to the largest value, share a line


@torch.no_grad()
def panels(subject: Subject) -> list[Panel]:
    """All panels: first those of the extension, then from the input of the first layer to the attention weights."""
    out = extended(subject)
    if subject.scheme.capabilities.embeds:
        out += _embedding(subject)
    model_parts = parts(subject.scheme)
    for part in model_parts:
        layers = f"{in_layers([layer + 1 for layer in part.layers]).capitalize()}. " if len(model_parts) > 1 else ""
        out += [*_rotation(subject, part, layers), *_attention(subject, part, layers)]
    return out


# ---------------------------------------------------------------- embeddings


def _embedding(subject: Subject) -> list[Panel]:
    table = position_vectors(subject.scheme, subject.positions)
    learned = any(True for _ in subject.scheme.parameters())
    concatenated = subject.scheme.token_width < subject.scheme.shape.d_model
    suffix = f", concatenated with {subject.scheme.token_width} of the token" if concatenated else ""
    vectors = Map(
        "vectors",
        "Position vectors",
        f"{table.shape[1]} dimensions{suffix}{'; initial values' if learned else ''}",
        {"": table.numpy()},
        list(range(subject.length)),
    )
    return [vectors, Lines("similarity", "Cosine of the last position vector and the one d tokens before", "", {
        "": similarity(table).numpy()}, np.arange(subject.length))]  # fmt: skip


def similarity(table: Tensor) -> Tensor:
    """Cosine of the last vector of [T, width] and the one d before it, [T]; for sinusoids 2/width · Σ_k cos(d·θ_k)."""
    exact = table.double()
    exact = exact / exact.norm(dim=-1, keepdim=True).clamp(min=1e-300)
    return (exact @ exact[-1]).flip(0)


# ---------------------------------------------------------------- rotations


def _rotation(subject: Subject, part: Part, layers: str) -> list[Panel]:
    has_rotation = rotates(part.scheme, subject.positions)
    trained = frequencies(part.scheme) if has_rotation or part.scheme.capabilities.has_own_attention else None
    theta = None if trained is None else subject.extension.spectrum(trained)
    out: list[Panel] = []
    if theta is not None and trained is not None:
        by_name = {"": theta} if torch.equal(theta, trained) else {"none": trained, subject.short: theta}
        angles = {name: subject.positions.double()[:, None] * values.double() for name, values in by_name.items()}
        width = part.scheme.shape.head_dim
        share = f": {2 * len(theta)} of {width} dimensions" if 2 * len(theta) < width else ""
        caption = f"p·θ_k modulo 2π, {len(theta)} pairs{share}"
        out.append(Map("angles", f"{layers}Rotation angles", caption,
                       {name: (values % (2 * math.pi)).numpy() for name, values in angles.items()},
                       list(range(subject.length))))  # fmt: skip
    elif has_rotation:
        [(_, q, _)] = rotated(
            part.scheme, subject.positions, torch.ones(1, part.scheme.shape.head_dim), subject.extension
        )
        out.append(Map("turned", f"{layers}A vector of ones after the rotation", "q of the first head",
                       {"": q[0, 0].numpy()}, list(range(subject.length))))  # fmt: skip
    if not has_rotation:
        return out
    by_head, sizes = decay(part.scheme, subject.positions, subject.extension)
    lines = by_heads(by_head)
    if subject.extension and len(lines) == 1:
        before, _ = decay(part.scheme, subject.positions)
        now = by_head[0].masked_fill(~case_of(subject).seen.flip(0), math.nan)
        if bool(now.isnan().any()) or float((before - by_head).abs().max()) > 1e-3:
            lines = {"none": before[0].numpy(), subject.short: now.numpy()}
    formula = decay_of(theta, part.scheme.shape.head_dim, subject.length) if theta is not None else None
    out.append(Lines(
        "decay", f"{layers}Logit of equal vectors at distance d",
        "2/D · Σ_k cos(d·θ_k)" if matches(by_head, formula) else "mean over vectors of equal length, last query",
        lines, np.arange(subject.length),
    ))  # fmt: skip
    if theta is not None and matches(by_head, formula):
        out.append(Lines(
            "bound", f"{layers}Bound of the logit (RoFormer, section 3.4.3)",
            "2/D · Σ_j |S_j|,  S_j = Σ_{k<j} e^{i·d·θ_k}",
            {"": bound(theta, part.scheme.shape.head_dim, subject.length).numpy()}, np.arange(subject.length),
        ))  # fmt: skip
    constant = (
        subject.extension and float((sizes.amax(1) - sizes.amin(1)).max()) < 1e-3
    )  # a factor, subject in the notes
    if not constant and float((sizes - 1).abs().max()) > 1e-3:
        labels = {"q": sizes[0].numpy(), "k": sizes[1].numpy()}
        out.append(Lines("scale", f"{layers}Length of q and k relative to before the rotation",
                         "first head; RMS over all dimensions", labels, np.arange(subject.length)))  # fmt: skip
    return out


@torch.no_grad()
def decay(scheme: Scheme, positions: Tensor, extension: Applied = NONE) -> tuple[Tensor, Tensor]:
    """Logits of equal vectors for the last query, [H, T] by distance in tokens, and lengths of q and k, [2, T].

    The mean of (R_i x)·(R_j x) over all x of the same length is the trace of R_iᵀ R_j divided by D, computed here as a
    sum over unit vectors.
    """
    width, n = scheme.shape.head_dim, len(positions)
    total, sizes = torch.zeros(scheme.shape.n_heads, n).double(), torch.zeros(2, n).double()
    for batch in torch.eye(width).split(8):
        everywhere = batch[:, None, None].expand(-1, scheme.shape.n_heads, n, -1)
        zeros = torch.zeros(1, 1, scheme.shape.d_model).expand(len(batch), n, -1)
        layer = Layer(scheme, positions, Content(everywhere, everywhere, zeros), extension)
        total += layer.products(n - 1).double().sum(0)
    for _, q, k in rotated(scheme, positions, torch.eye(width), extension):
        sizes += torch.stack([x[:, 0].double().square().sum((0, -1)) / width for x in (q, k)])
    by_distance = total.flip(-1)
    return by_distance / by_distance[:, :1], sizes.sqrt()


def decay_of(theta: Tensor, head_dim: int, length: int) -> Tensor:
    """2/D · Σ_k cos(d·θ_k), float64 [T]; pairs that are not rotated have θ = 0. Su et al. 2021, section 3.4.3."""
    return _turns(theta, head_dim, length).sum(-1).real * 2 / head_dim


def bound(theta: Tensor, head_dim: int, length: int) -> Tensor:
    """2/D · Σ_j |S_j| with S_j = Σ_{k<j} e^{i·d·θ_k}, j = 1 .. D/2, float64 [T].

    Su et al. 2021, section 3.4.3, by summation by parts: with h_k the product of the pairs k of q and k, and h_{D/2} =
    0, Σ_k h_k e^{i·d·θ_k} = −Σ_k S_{k+1} (h_{k+1} − h_k), whose size is at most max_k |h_{k+1} − h_k| · Σ_j |S_j|.
    For equal vectors with h_k = 1, the largest step is the last one, of size 1, and the logit at d = 0 is D/2.
    """
    return _turns(theta, head_dim, length).cumsum(-1).abs().sum(-1) * 2 / head_dim


def _turns(theta: Tensor, head_dim: int, length: int) -> Tensor:
    """e^{i·d·θ_k}, complex128 [T, D/2]."""
    unrotated = theta.new_zeros(max(0, head_dim // 2 - len(theta)))
    angles = torch.arange(length).double()[:, None] * torch.cat([theta, unrotated]).double()
    return torch.polar(torch.ones_like(angles), angles)


def matches(by_head: Tensor, formula: Tensor | None) -> bool:
    """Whether the hooks' result equals the formula. It does not if they also scale, or skip positions."""
    return formula is not None and float((by_head - formula).abs().max()) < 1e-3


# ---------------------------------------------------------------- attention


def _attention(subject: Subject, part: Part, layers: str) -> list[Panel]:
    scheme, out = part.scheme, list[Panel]()
    uses_content = scheme.capabilities.per_layer
    inputs = (content(subject.scheme, subject.positions, subject.seed) if uses_content
              else silence(subject.scheme, subject.positions))  # fmt: skip
    first = f"first of {in_layers([layer + 1 for layer in part.layers])}; " if len(part.layers) > 1 else ""
    source = f"{first}one draw of random content" if uses_content else ""
    if not scheme.capabilities.has_own_attention and (scheme.capabilities.has_bias or scheme.capabilities.needs_logits):
        layer = Layer(scheme, subject.positions, inputs, subject.extension)
        added = matrix(layer, "added")
        if bool((added.nan_to_num() != 0).any()):
            out.append(Map("added", f"{layers}Bias added to each logit", source,
                           heads_of(added), grid(subject.length).tolist()))  # fmt: skip
    weights = weight_by_distance(subject, part)
    if weights is not None:
        caption = "q·k is the same for all keys"
        caption += f"; queries and layer inputs are random, mean of {draws(subject.length)} draws" * uses_content
        out.append(Lines("weight", f"{layers}Attention weight of query {subject.length - 1} by distance d", caption,
                         by_heads(weights), np.arange(subject.length)))  # fmt: skip
    return out


def some_heads(n_heads: int, most: int) -> list[int]:
    """At most ``most`` heads, evenly spaced, including the first and the last."""
    number = min(n_heads, most)
    return sorted({round(index * (n_heads - 1) / max(1, number - 1)) for index in range(number)})


def heads_of(values: Tensor) -> dict[str, np.ndarray]:
    """[H, n, n] as maps of a few heads, or a single map if all heads are equal."""
    if all_equal(values):
        return {"every head": values[0].numpy()}
    return {f"head {head + 1}": values[head].numpy() for head in some_heads(len(values), MOST_MAPS)}


def by_heads(values: Tensor) -> dict[str, np.ndarray]:
    """[H, T] as lines of a few heads, or a single line if all heads are equal."""
    if all_equal(values):
        return {"every head": values[0].numpy()}
    return {f"head {head + 1}": values[head].numpy() for head in some_heads(len(values), MOST_LINES)}


def all_equal(values: Tensor) -> bool:
    """Whether all heads have the same values, up to rounding."""
    exact = values.double().nan_to_num()
    return float((exact - exact[:1]).abs().max()) <= SAME * float(exact.abs().max())
