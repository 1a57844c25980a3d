"""The panels that an extension adds: wavelengths, distances, which keys are seen, how sharp queries are."""

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

PAIRS = 4  # of which distances are drawn
SAME = 1e-6  # ratios that differ by less are one


def extended(given: Subject) -> list[Panel]:
    """The panels that an extension adds; each only where it does such a thing."""
    if not given.extension:
        return []
    several = parts(given.scheme)
    turning = [part for part in several if frequencies(part.scheme) is not None]
    found: list[Panel] = [_wavelengths(given, part) for part in turning[:1]]
    return [*found, *_distance(given, turning[:1]), *_mask(given), *_temperature(given)]


def case_of(given: Subject) -> Case:
    """The same as a case of `posx explain`."""
    moves = "distances" in given.scheme.capabilities.accepts
    return Case(given.context, given.length, given.positions, given.extension, given.context, given.context, moves)


def _wavelengths(given: Subject, part: Part) -> Lines:
    theta = frequencies(part.scheme)
    assert theta is not None
    plain, case = case_of(given), case_of(given)
    plain = Case(plain.context, plain.length, torch.arange(plain.length), places=plain.places, span=plain.span)
    values, marked = {}, {}
    for label, now, one in (("none", theta, plain), (given.short, given.extension.spectrum(theta), case)):
        waves = (TURN / now.double()).numpy()
        values[label] = np.where(np.isinf(waves), np.nan, waves)
        told = {fact.what: fact.values for fact in turning_facts(theta, now, one.span, one.reach)}
        marked[label] = np.isin(np.arange(len(theta)), told.get("pairs that had not", {}).get("further", []))
    slow = int(((theta > 0) & (theta.double() * given.context < TURN)).sum())
    some = [f"{int(marks.sum())} with {label}" for label, marks in marked.items()]
    caption = (
        f"{slow} of {len(theta)} pairs turn less than once in {given.context} tokens; past their trained angles: "
        f"{', '.join(some)}"
    )
    return Lines("wavelength", "Wavelength of each pair, 2π/θ_k", caption, values, np.arange(len(theta)), marked,
                 "past its trained angles")  # fmt: skip


def _distance(given: Subject, turning: list[Part]) -> list[Panel]:
    """How far the keys of the last query seem to be: by positions, and in a rotation by the pair's frequency."""
    case, n = case_of(given), given.length
    apart = torch.full((n,), math.nan, dtype=torch.float64)
    apart[case.seen] = case.distances
    apart = apart.flip(0)
    values = {"": apart.numpy()}
    for part in turning:
        theta = frequencies(part.scheme)
        assert theta is not None
        ratio = (given.extension.spectrum(theta).double() / theta.double())[theta > 0]
        groups = alike(ratio)
        if any(one.unscaled(target) for one, target in given.extension.parts):
            # The first positions turn otherwise: what counts is how far query and key have turned.
            queries, keys = (given.extension.angles(places, theta).double() for places in case.pairs)
            far = torch.full((n, len(ratio)), math.nan, dtype=torch.float64)
            far[case.seen] = (queries - keys)[:, theta > 0] / theta[theta > 0].double()
            ks = sorted({0, len(ratio) // 2, len(ratio) - 1})
            values = {named([k]): far.flip(0)[:, k].numpy() for k in ks}
            continue
        some = sorted({round(place * (len(groups) - 1) / (PAIRS - 1)) for place in range(PAIRS)})
        if len(groups) > 1:
            values = {named(groups[n]): (apart * ratio[groups[n][0]]).numpy() for n in some}
        elif abs(float(ratio[0]) - 1) > SAME:
            values = {"": (apart * ratio[0]).numpy()}
    distances = np.arange(n, dtype=np.float64)
    if all(np.array_equal(line[~np.isnan(line)], distances[~np.isnan(line)]) for line in values.values()):
        return []  # nothing but, perhaps, a mask, which has its own picture
    one = "every pair" if turning else "every key"
    values = {label or f"{one}, {given.short}": line for label, line in values.items()}
    what = "positions and, in a rotation, d · θ'_k / θ_k" if turning else "positions"
    lines = Lines("distance", f"How far a key seems to be from query {n - 1}", f"by {what}",
                  {"none": distances, **values}, np.arange(n))  # fmt: skip
    return [lines, *_pairs(given)]


def _pairs(given: Subject) -> list[Panel]:
    """The distance of all pairs, where some stand elsewhere than their tokens."""
    if not case_of(given).moves or not given.extension.branches():
        return []
    places = grid(given.length)
    zero, i, j = torch.zeros(1, dtype=torch.long), places[:, None], places[None]
    apart = (given.positions[i] - given.positions[j]).double()
    for branch in given.extension.branches():
        apart = torch.where(branch.where(zero, zero, i, j), (branch.queries(i) - branch.keys(j)).double(), apart)
    hidden = i < j
    for mask in given.extension.masks():
        hidden = hidden | ~mask(zero, zero, i, j)
    values = apart.masked_fill(hidden, math.nan).numpy()
    caption = f"{np.nanmax(values):g} at most; trained: 0 to {given.context - 1}"
    return [Map("apart", "How far query and key seem to be from each other", caption, {"": values}, places.tolist())]


def alike(ratio: Tensor) -> list[list[int]]:
    """Neighbouring pairs whose ratios [P] are the same, to rounding."""
    groups = [[0]]
    for k in range(1, len(ratio)):
        if abs(float(ratio[k] - ratio[groups[-1][0]])) <= SAME:
            groups[-1].append(k)
        else:
            groups.append([k])
    return groups


def named(ks: list[int]) -> str:
    """``pair 3``, ``pairs 5–15``."""
    return f"pair {ks[0]}" if len(ks) == 1 else f"pairs {ks[0]}–{ks[-1]}"


def _mask(given: Subject) -> list[Panel]:
    masks = given.extension.masks()
    if not masks:
        return []
    places = grid(given.length)
    zero = torch.zeros(1, dtype=torch.long)
    i, j = places[:, None], places[None]
    seen = torch.ones(len(places), len(places), dtype=torch.bool)
    for mask in masks:
        seen = seen & mask(zero, zero, i, j)
    values = torch.where(i >= j, seen.double(), math.nan).numpy()
    last = case_of(given).keys
    return [Map("mask", "Which keys each query sees", f"query {given.length - 1} sees {last} of {given.length}",
                {"": values}, places.tolist())]  # fmt: skip


def _temperature(given: Subject) -> list[Panel]:
    factor = given.extension.temperature(torch.arange(given.length))
    if factor is None:
        return []
    return [Lines("temperature", "What each query is multiplied by", "", {given.short: factor.double().numpy()},
                  np.arange(given.length))]  # fmt: skip
