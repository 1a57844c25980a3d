"""The table of `posx show SCHEME`: the scheme, the model it is examined in, and its properties as numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from posx.analysis.properties import TAIL, Properties, Subject
from posx.reporting.table import Entry, Page, entry
from posx.utils.format import DASH

ROUNDING = 1e-4  # of float32 at a few thousand positions; a property holds if its error is smaller


def page(subject: Subject, properties: Sequence[Properties]) -> Page:
    """The table of `posx show`."""

    def holds(value: float | None) -> Entry:
        return entry(DASH if value is None else f"{'yes' if value < ROUNDING else 'no'}, {value:.2g}")

    def distance(part: Properties) -> Entry:
        if part.reach is None:
            return entry(DASH)
        low, high = part.reach
        return entry(f"{low}" if low == high else f"{low}–{high} by head")

    last, parameters = subject.scheme.last_position, sum(p.numel() for p in subject.scheme.parameters())
    last_query = f"query {subject.length - 1}"
    table = [
        ("preserves norms of q and k", "largest relative change of |q| or |k| in the rotation", holds, "norms"),
        ("a shift is a rotation", "largest residual of PE(p+n) = M PE(p), or R(p+n) = R(n) R(p)", holds, "shift"),
        ("logits depend only on distance", "largest difference at equal distance, in standard deviations", holds,
         "distance_alone"),
    ]  # fmt: skip
    rows = [
        [entry(name), entry(measure), *(show(getattr(part, key)) for part in properties)]
        for name, measure, show, key in table
    ]
    for name, measure, values in (
        ("reach in tokens", f"{last_query} gives less than {TAIL:.0%} of its weight beyond", map(distance, properties)),
        ("last position", "", [entry("none" if last is None else f"{last}")] * len(properties)),
        ("parameters", "of the scheme, in all layers", [entry(f"{parameters:,}")] * len(properties)),
    ):
        rows.append([entry(name), entry(measure), *values])
    notes = [
        f"Measured at {subject.length} positions. Shift: M is the best orthogonal matrix for all p. Logits: the same "
        "token at every position. Reach: q·k is the same for all keys.",
        f"{DASH}: does not apply.",
        *remarks(subject),
    ]
    heads = ["property", "what is measured"]
    heads += [f"{part.kind}, {in_layers(part.layers)}" if len(properties) > 1 else "result" for part in properties]
    return Page(titled(subject), described(subject), heads, rows, notes, left=2)


def titled(subject: Subject) -> str:
    """The scheme, its extension, and the formula."""
    if subject.label == "none":
        return f"{subject.name}: {subject.formula}"
    return f"{subject.name} with {subject.label}: {subject.formula}"


def described(subject: Subject) -> str:
    """The shape of the model in one line."""
    shape = subject.scheme.shape
    return (
        f"L = {shape.context}, drawn up to {subject.length}; {shape.n_layers} layers, {shape.n_heads} heads of "
        f"{shape.head_dim}, width {shape.d_model}"
    )


def in_layers(layers: Sequence[int]) -> str:
    """``layer 4``, ``layers 1–3`` or ``layers 1, 3``."""
    if len(layers) == 1:
        return f"layer {layers[0]}"
    consecutive = list(layers) == list(range(layers[0], layers[-1] + 1))
    return f"layers {layers[0]}–{layers[-1]}" if consecutive else f"layers {', '.join(map(str, layers))}"


def remarks(subject: Subject) -> list[str]:
    """Notes on the positions, factors and initial values."""
    lines = []
    if subject.length < subject.requested:
        lines.append(f"The scheme has only {subject.length} positions; {subject.requested} were requested.")
    if not subject.consecutive:
        low, high = (f"{float(subject.positions[end]):.1f}".removesuffix(".0") for end in (0, -1))
        source = "the scheme" if subject.scheme.capabilities.chooses_positions else subject.label
        lines.append(f"The {subject.length} tokens have positions from {low} to {high}, chosen by {source}.")
    factor = subject.extension.amplitude() ** 2
    if factor != 1:
        lines.append(f"Products of rotated pairs are multiplied by {factor:.4g} ({factor**0.5:.4g} each for q and k).")
    for name, factor in (("Logits", subject.extension.sharpness()), ("Slopes", subject.extension.slopes())):
        if factor != 1:
            lines.append(f"{name} are multiplied by {factor:.4g}.")
    if any(True for _ in subject.scheme.parameters()):
        lines.append(f"Learned parameters have their initial values (seed {subject.seed}).")
    return lines


def as_dict(subject: Subject, properties: Sequence[Properties], files: Sequence[Path]) -> dict[str, Any]:
    """The scheme, its extension, context, length, parameters, parts (the properties) and files."""
    return {
        "scheme": subject.name,
        "extension": subject.label,
        "extension_params": subject.extension.resolved(),
        "context": subject.context,
        "length": subject.length,
        "last_position": subject.scheme.last_position,
        "parameters": sum(p.numel() for p in subject.scheme.parameters()),
        "parts": [{key: _finite(value) for key, value in asdict(part).items()} for part in properties],
        "files": [str(path) for path in files],
    }


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
