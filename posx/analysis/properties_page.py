"""What `posx show SCHEME` says: the scheme, the model that it is looked at in, its properties as numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from posx.analysis.properties import TAIL, Properties, Subject
from posx.reporting.table import Entry, Page, entry
from posx.utils.format import DASH

ROUNDING = 1e-4  # of float32, some thousand positions from the first: below, a property holds


def page(given: Subject, found: Sequence[Properties]) -> Page:
    """What `posx show` prints."""

    def holds(value: float | None) -> Entry:
        return entry(DASH if value is None else f"{'yes' if value < ROUNDING else 'no'}, {value:.2g}")

    def distance(one: Properties) -> Entry:
        if one.reach is None:
            return entry(DASH)
        low, high = one.reach
        return entry(f"{low}" if low == high else f"{low}–{high} by head")

    last, parameters = given.scheme.last_position, sum(p.numel() for p in given.scheme.parameters())
    last_query = f"query {given.length - 1}"
    table = [
        ("norms of q and k kept", "largest change of |q| or |k| in the rotation, over its size", holds, "norms"),
        ("a shift is a rotation", "largest residual of PE(p+n) = M PE(p), or R(p+n) = R(n) R(p)", holds, "shift"),
        ("logits by distance alone", "largest difference at one distance, over their spread", holds, "distance_alone"),
    ]
    rows = [[entry(name), entry(how), *(say(getattr(one, key)) for one in found)] for name, how, say, key in table]
    for name, how, values in (
        ("reach in tokens", f"less than {TAIL:.0%} of what {last_query} gives lies beyond", map(distance, found)),
        ("last position", "", [entry("none" if last is None else f"{last}")] * len(found)),
        ("parameters", "of the scheme, in all layers", [entry(f"{parameters:,}")] * len(found)),
    ):
        rows.append([entry(name), entry(how), *values])
    notes = [
        f"Measured at {given.length} positions; M is the best orthogonal matrix for all p. Reach: q·k is the same for "
        "all keys. Logits: the same token stands everywhere.",
        f"{DASH}: has no meaning here.",
        *remarks(given),
    ]
    heads = ["property", "what is measured"]
    heads += [f"{one.kind}, {in_layers(one.layers)}" if len(found) > 1 else "measured" for one in found]
    return Page(titled(given), described(given), heads, rows, notes, left=2)


def titled(given: Subject) -> str:
    """What is looked at."""
    if given.label == "none":
        return f"{given.name}: {given.formula}"
    return f"{given.name} with {given.label}: {given.formula}"


def described(given: Subject) -> str:
    """The model, in a line."""
    shape = given.scheme.shape
    return (
        f"L = {shape.context}, drawn to {given.length}; {shape.n_layers} layers, {shape.n_heads} heads of "
        f"{shape.head_dim}, width {shape.d_model}"
    )


def in_layers(layers: Sequence[int]) -> str:
    """``layer 4``, ``layers 1–3`` or ``layers 1, 3``."""
    if len(layers) == 1:
        return f"layer {layers[0]}"
    together = list(layers) == list(range(layers[0], layers[-1] + 1))
    return f"layers {layers[0]}–{layers[-1]}" if together else f"layers {', '.join(map(str, layers))}"


def remarks(given: Subject) -> list[str]:
    """What must be known of these positions and values."""
    found = []
    if given.length < given.asked:
        found.append(f"Positions end at {given.length}, before the {given.asked} that were asked for.")
    if not given.counted:
        low, high = (f"{float(given.positions[end]):.1f}".removesuffix(".0") for end in (0, -1))
        who = "the scheme" if given.scheme.capabilities.chooses_positions else given.label
        found.append(f"The {given.length} tokens stand at positions that {who} chooses, from {low} to {high}.")
    by = given.extension.amplitude() ** 2
    if by != 1:
        found.append(f"Products of rotated pairs are multiplied by {by:.4g}: by {by**0.5:.4g} in q and in k.")
    for what, by in (("Logits", given.extension.sharpness()), ("Slopes", given.extension.slopes())):
        if by != 1:
            found.append(f"{what} are multiplied by {by:.4g}.")
    if any(True for _ in given.scheme.parameters()):
        found.append(f"Learned values are those that training begins with (seed {given.seed}).")
    return found


def as_json(given: Subject, found: Sequence[Properties], files: Sequence[Path]) -> str:
    """An object with the scheme, its extension, context, length, parameters, parts (the properties) and files."""
    told = {
        "scheme": given.name,
        "extension": given.label,
        "extension_params": given.extension.resolved(),
        "context": given.context,
        "length": given.length,
        "last_position": given.scheme.last_position,
        "parameters": sum(p.numel() for p in given.scheme.parameters()),
        "parts": [{key: _finite(value) for key, value in asdict(one).items()} for one in found],
        "files": [str(path) for path in files],
    }
    return json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False)


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
