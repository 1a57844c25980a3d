"""The output of `posx explain` for one scheme: a table, notes below it, JSON."""

from __future__ import annotations

from typing import Any

from posx.analysis.extrapolation import Answer
from posx.reporting.table import Page, entry
from posx.schemes.facts import Fact

KINDS = {"spectrum": "frequencies", "mask": "visible keys"}  # descriptions of what the hooks change


def page(answer: Answer) -> Page:
    """The table of an answer: each fact in training, and at the evaluation length."""
    shape = answer.scheme.shape
    heads = ["", f"in training, up to {answer.context}", f"at {answer.length}"]
    heads += [f"with {answer.extension}"] * answer.extended
    table = []
    for row in answer.rows:
        facts = [fact for fact in (row.plain, row.extended) if fact is not None]
        cells = [facts[0].trained, row.plain.now if row.plain else "as in training"]
        if answer.extended:
            cells.append(row.extended.now if row.extended else "as in training")
        table.append([entry(row.what), *map(entry, cells)])
    model = f"{shape.n_layers} layers, {shape.n_heads} heads of {shape.head_dim}, width {shape.d_model}"
    setup = f"{answer.formula}; {model}"
    title = f"{answer.name}: trained on up to {answer.context} tokens, evaluated at {answer.length}"
    return Page(title, setup, heads, [] if answer.nothing_new else table, [], left=len(heads))


def notes(answer: Answer) -> list[str]:
    """The notes below the table: what is unsupported, what to expect, which extensions are supported."""
    lines = []
    if answer.nothing_new:
        lines.append(f"Nothing is new: training covers everything that {answer.length} tokens use.")
    for key, reason in answer.refused.items():
        lines.append(f"Unsupported{' without an extension' if key == 'none' else f' with {key}'}: {reason}")
    if answer.cures:
        lines.append(f"Extensions that make this length work: {', '.join(answer.cures)}.")
    elif "none" in answer.refused:
        lines.append("No extension makes this length work: train the model with more positions.")
    if not answer.nothing_new:
        measured = any("added" in row.plain.values for row in answer.rows if row.plain)
        if measured and any(True for _ in answer.scheme.parameters()):
            lines.append(f"Learned parameters have their initial values (seed {answer.config.train.seed}).")
        outlook = answer.scheme.outlook or "No published results are known to posx."
        suffix = " without an extension" * answer.extended
        lines.append(f"What to expect{suffix}: {outlook} Other models may differ: measure it.")
    if answer.length > answer.context:
        kinds = [f"{', '.join(names)} ({KINDS.get(kind, kind)})" for kind, names in answer.fitting.items()]
        supported = f"Supported extensions, by what they change: {'; '.join(kinds)}."
        lines.append(supported if kinds else f"No extension supports {answer.name}.")
    return lines


def as_dict(answer: Answer) -> dict[str, Any]:
    """The answer for one scheme as in --json."""

    def side(fact: Fact | None) -> dict[str, Any] | None:
        return None if fact is None else {"now": fact.now, "values": fact.values}

    return {
        "name": answer.name,
        "scheme_params": {k: v for k, v in answer.config.scheme.items() if k not in ("name", "_target_")},
        "train_length": answer.context,
        "length": answer.length,
        "extension": answer.extension,
        "facts": [
            {"what": row.what, "trained": (row.plain or row.extended or Fact("", "", "")).trained,
             "none": side(row.plain), **({"extended": side(row.extended)} if answer.extended else {})}
            for row in answer.rows
        ],
        "refused": answer.refused,
        "outlook": answer.scheme.outlook,
        "extensions": answer.fitting,
        "cures": answer.cures,
        "commands": answer.commands,
    }  # fmt: skip
