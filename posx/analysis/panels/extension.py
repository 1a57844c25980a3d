"""The panels that an extension adds: wavelengths, effective distances, visible keys, factors of queries."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from posx.analysis.panels.panel import Lines, Map, Panel
from posx.analysis.probe import Part, grid, parts
from posx.analysis.properties import Subject
from posx.schemes.base import frequencies
from posx.schemes.facts import TURN, Case, turning_facts

PAIRS = 4  # whose distances are drawn
SAME = 1e-6  # ratios that differ by less count as equal


def extended(subject: Subject) -> list[Panel]:
    """One panel for each thing that the extension changes."""
    if not subject.extension:
        return []
    rotary = [part for part in parts(subject.scheme) if frequencies(part.scheme) is not None][:1]
    wavelengths: list[Panel] = [_wavelengths(subject, part) for part in rotary]
    return [*wavelengths, *_distance(subject, rotary), *_mask(subject), *_temperature(subject)]


def case_of(subject: Subject) -> Case:
    """The same inputs as a case of `posx explain`."""
    moves = "distances" in subject.scheme.capabilities.accepts
    return Case(
        subject.context, subject.length, subject.positions, subject.extension, subject.context, subject.context, moves
    )


def _wavelengths(subject: Subject, part: Part) -> Lines:
    theta = frequencies(part.scheme)
    assert theta is not None
    plain, case = case_of(subject), case_of(subject)
    plain = Case(plain.context, plain.length, torch.arange(plain.length), places=plain.places, span=plain.span)
    values, marked = {}, {}
    for label, now, used in (("none", theta, plain), (subject.short, subject.extension.spectrum(theta), case)):
        waves = (TURN / now.double()).numpy()
        values[label] = np.where(np.isinf(waves), np.nan, waves)
        facts = {fact.what: fact.values for fact in turning_facts(theta, now, used.span, used.reach)}
        incomplete = facts.get("pairs with an incomplete rotation", {})
        marked[label] = np.isin(np.arange(len(theta)), incomplete.get("further", []))
    slow = int(((theta > 0) & (theta.double() * subject.context < TURN)).sum())
    counts = [f"{int(marks.sum())} with {label}" for label, marks in marked.items()]
    caption = (
        f"{slow} of {len(theta)} pairs rotate less than once in {subject.context} tokens; beyond their trained angles: "
        f"{', '.join(counts)}"
    )
    return Lines("wavelength", "Wavelength of each pair, 2π/θ_k", caption, values, np.arange(len(theta)), marked,
                 "beyond its trained angles")  # fmt: skip


def _distance(subject: Subject, rotary: list[Part]) -> list[Panel]:
    """The effective distance of the last query's keys: from positions, and in a rotation from the pair's frequency."""
    case, n = case_of(subject), subject.length
    apart = torch.full((n,), math.nan, dtype=torch.float64)
    apart[case.seen] = case.distances
    apart = apart.flip(0)
    values = {"": apart.numpy()}
    for part in rotary:
        theta = frequencies(part.scheme)
        assert theta is not None
        ratio = (subject.extension.spectrum(theta).double() / theta.double())[theta > 0]
        groups = equal_ratios(ratio)
        if any(part.unscaled(target) for part, target in subject.extension.parts):
            # The first positions have other frequencies, so the distance follows from the angles of query and key.
            queries, keys = (subject.extension.angles(places, theta).double() for places in case.pairs)
            far = torch.full((n, len(ratio)), math.nan, dtype=torch.float64)
            far[case.seen] = (queries - keys)[:, theta > 0] / theta[theta > 0].double()
            ks = sorted({0, len(ratio) // 2, len(ratio) - 1})
            values = {pair_label([k]): far.flip(0)[:, k].numpy() for k in ks}
            continue
        drawn = sorted({round(index * (len(groups) - 1) / (PAIRS - 1)) for index in range(PAIRS)})
        if len(groups) > 1:
            values = {pair_label(groups[n]): (apart * ratio[groups[n][0]]).numpy() for n in drawn}
        elif abs(float(ratio[0]) - 1) > SAME:
            values = {"": (apart * ratio[0]).numpy()}
    distances = np.arange(n, dtype=np.float64)
    if all(np.array_equal(line[~np.isnan(line)], distances[~np.isnan(line)]) for line in values.values()):
        return []  # at most a mask, which has its own panel
    default = "every pair" if rotary else "every key"
    values = {label or f"{default}, {subject.short}": line for label, line in values.items()}
    source = "positions and, for rotations, d · θ'_k / θ_k" if rotary else "positions"
    lines = Lines("distance", f"Effective distance of keys from query {n - 1}", f"from {source}",
                  {"none": distances, **values}, np.arange(n))  # fmt: skip
    return [lines, *_pairs(subject)]


def _pairs(subject: Subject) -> list[Panel]:
    """The effective distance of all query–key pairs, if the extension changes the positions of some."""
    if not case_of(subject).moves or not subject.extension.branches():
        return []
    tokens = grid(subject.length)
    zero, i, j = torch.zeros(1, dtype=torch.long), tokens[:, None], tokens[None]
    apart = (subject.positions[i] - subject.positions[j]).double()
    for branch in subject.extension.branches():
        apart = torch.where(branch.where(zero, zero, i, j), (branch.queries(i) - branch.keys(j)).double(), apart)
    hidden = i < j
    for mask in subject.extension.masks():
        hidden = hidden | ~mask(zero, zero, i, j)
    values = apart.masked_fill(hidden, math.nan).numpy()
    caption = f"at most {np.nanmax(values):g}; trained: 0 to {subject.context - 1}"
    return [Map("apart", "Effective distance of query and key", caption, {"": values}, tokens.tolist())]


def equal_ratios(ratio: Tensor) -> list[list[int]]:
    """Groups of neighbouring pairs whose ratios [P] are equal, up to rounding."""
    groups = [[0]]
    for k in range(1, len(ratio)):
        if abs(float(ratio[k] - ratio[groups[-1][0]])) <= SAME:
            groups[-1].append(k)
        else:
            groups.append([k])
    return groups


def pair_label(ks: list[int]) -> str:
    """``pair 3``, ``pairs 5–15``."""
    return f"pair {ks[0]}" if len(ks) == 1 else f"pairs {ks[0]}–{ks[-1]}"


def _mask(subject: Subject) -> list[Panel]:
    masks = subject.extension.masks()
    if not masks:
        return []
    tokens = grid(subject.length)
    zero = torch.zeros(1, dtype=torch.long)
    i, j = tokens[:, None], tokens[None]
    visible = torch.ones(len(tokens), len(tokens), dtype=torch.bool)
    for mask in masks:
        visible = visible & mask(zero, zero, i, j)
    values = torch.where(i >= j, visible.double(), math.nan).numpy()
    caption = f"query {subject.length - 1} sees {case_of(subject).keys} of {subject.length} keys"
    return [Map("mask", "Keys visible to each query", caption, {"": values}, tokens.tolist())]


def _temperature(subject: Subject) -> list[Panel]:
    factor = subject.extension.temperature(torch.arange(subject.length))
    if factor is None:
        return []
    return [Lines("temperature", "Factor applied to each query", "", {subject.short: factor.double().numpy()},
                  np.arange(subject.length))]  # fmt: skip
