"""What `posx explain` prints of an answer: a table, sentences below it, JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from posx.analysis.extrapolation import Answer
from posx.reporting.table import Page, entry
from posx.schemes.facts import Fact

KINDS = {"spectrum": "frequencies", "mask": "which keys are seen"}  # what the hooks change, in words


def page(found: Answer) -> Page:
    """What is new, as a table."""
    shape = found.scheme.shape
    heads = ["", f"in training, up to {found.context}", f"at {found.length}"]
    heads += [f"with {found.extension}"] * found.extended
    table = []
    for row in found.rows:
        told = [one for one in (row.plain, row.extended) if one is not None]
        cells = [told[0].trained, row.plain.now if row.plain else "as in training"]
        if found.extended:
            cells.append(row.extended.now if row.extended else "as in training")
        table.append([entry(row.what), *map(entry, cells)])
    model = f"{shape.n_layers} layers, {shape.n_heads} heads of {shape.head_dim}, width {shape.d_model}"
    setup = f"{found.formula}; {model}"
    title = f"{found.name}: trained with at most {found.context} tokens, given {found.length}"
    return Page(title, setup, heads, [] if found.nothing_new else table, [], left=len(heads))


def notes(found: Answer) -> list[str]:
    """Sentences below it: what is refused, what usually follows, what fits."""
    said = []
    if found.nothing_new:
        said.append(f"Nothing is new: training has seen all that {found.length} tokens need.")
    for key, why in found.refused.items():
        said.append(f"posx refuses to evaluate it{' without an extension' if key == 'none' else f' with {key}'}: {why}")
    if found.cures:
        said.append(f"What leads back: --extension {' or '.join(found.cures)}.")
    elif "none" in found.refused:
        said.append("No extension leads back: train it with more positions.")
    if not found.nothing_new:
        probed = any("added" in row.plain.values for row in found.rows if row.plain)
        if probed and any(True for _ in found.scheme.parameters()):
            said.append(f"Learned values are those that training begins with (seed {found.config.train.seed}).")
        usual = found.scheme.outlook or "Nothing was published that posx knows of."
        where = " without an extension" * found.extended
        said.append(f"What usually follows{where}: {usual} Elsewhere it may differ: measure it.")
    if found.length > found.context:
        kinds = [f"{', '.join(some)} ({KINDS.get(kind, kind)})" for kind, some in found.fitting.items()]
        said.append(f"Extensions that fit: {'; '.join(kinds)}." if kinds else f"No extension fits {found.name}.")
    return said


def as_dict(found: Answer) -> dict[str, Any]:
    """For --json: one scheme's answer."""

    def side(fact: Fact | None) -> dict[str, Any] | None:
        return None if fact is None else {"now": fact.now, "values": fact.values}

    return {
        "name": found.name,
        "scheme_params": {k: v for k, v in found.config.scheme.items() if k not in ("name", "_target_")},
        "train_length": found.context,
        "length": found.length,
        "extension": found.extension,
        "facts": [
            {"what": row.what, "trained": (row.plain or row.extended or Fact("", "", "")).trained,
             "none": side(row.plain), **({"extended": side(row.extended)} if found.extended else {})}
            for row in found.rows
        ],
        "refused": found.refused,
        "outlook": found.scheme.outlook,
        "extensions": found.fitting,
        "cures": found.cures,
        "commands": found.commands,
    }  # fmt: skip


def as_json(found: Sequence[Answer]) -> str:
    """An array of objects with name, train_length, length, extension, facts, refused, outlook, extensions, commands."""
    return json.dumps([as_dict(one) for one in found], indent=1, ensure_ascii=False, allow_nan=False)
