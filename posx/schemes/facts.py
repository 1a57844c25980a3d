"""What a scheme says of one case: a model trained with L tokens is given ℓ. `posx explain --scheme` prints it.

A :class:`Fact` sets what training has seen beside what there is now. A scheme computes its facts from the
:class:`Case`, that is from positions, distances and frequencies as they are after the extensions, so that the same
lines hold without an extension and with each. Nothing here knows a scheme by name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from posx.extensions.base import NONE, Applied

TURN = 2 * math.pi


@dataclass(frozen=True)
class Fact:
    """``what``, as training has seen it and as it is ``now``, in a few words; ``values`` are the numbers in them."""

    what: str
    trained: str
    now: str
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """ℓ = ``length`` tokens for a scheme that was trained with L = ``context``.

    ``positions`` [ℓ] are where the tokens stand, after the extension. Training has seen positions 0 .. ``places`` − 1
    and distances 0 .. ``span`` − 1; both are L, unless a scheme chooses positions by itself.
    """

    context: int
    length: int
    positions: Tensor
    extension: Applied = NONE
    places: int = 0
    span: int = 0
    moves: bool = False  # whether the scheme knows distances, so that pairs may stand elsewhere

    @cached_property
    def seen(self) -> Tensor:
        """Whether the last query sees each key, bool [ℓ]."""
        seen = torch.ones(self.length, dtype=torch.bool)
        for mask in self.extension.masks():
            seen &= mask(*self._last).expand(self.length)
        return seen

    @cached_property
    def _last(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """b, h, i, j of the last query and all keys."""
        zero = torch.zeros(1, dtype=torch.long)
        return zero, zero, zero + self.length - 1, torch.arange(self.length)

    @cached_property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """Where the last query stands for each key that it sees, and that key; float64."""
        keys = self.positions.double()
        queries = keys[-1].expand(self.length)
        for branch in self.extension.branches() if self.moves else ():
            index = torch.arange(self.length)
            where = branch.where(*self._last).expand(self.length)
            queries = torch.where(where, branch.queries(index)[-1].double(), queries)
            keys = torch.where(where, branch.keys(index).double(), keys)
        return queries[self.seen], keys[self.seen]

    @cached_property
    def distances(self) -> Tensor:
        """From the last query to each key that it sees, in positions, float64."""
        queries, keys = self.pairs
        return queries - keys

    @property
    def keys(self) -> int:
        """How many keys the last query sees."""
        return int(self.seen.sum())

    @property
    def farthest(self) -> int:
        """How many tokens the first of them is before the last query."""
        return self.length - 1 - int(self.seen.int().argmax())

    @property
    def reach(self) -> float:
        """The longest of the distances."""
        return float(self.distances.max())


# ---------------------------------------------------------------- what several schemes say


def by_hooks(scheme: Any, case: Case) -> list[Fact]:
    """Of a scheme that says nothing itself: positions where it embeds them, distances where it uses them at all."""
    does = scheme.capabilities
    if not does.by_position:
        between = max(0, case.farthest - 1)
        return [Fact("tokens between query and farthest key", f"up to {case.context - 2}", f"{between}",
                     {"between": between})]  # fmt: skip
    if not does.uses_positions:
        return []
    return [positions_fact(case)] if does.embeds else [distances_fact(case)]


def positions_fact(case: Case) -> Fact:
    """Which positions are new: those from ``places`` on."""
    new = int((case.positions >= case.places).sum())
    return Fact("positions", upto(case.places - 1), f"{upto(float(case.positions.max()))}{steps(case)}: {are_new(new)}",
                {"new": new, "last": float(case.positions.max())})  # fmt: skip


def distances_fact(case: Case) -> Fact:
    """Which distances of the last query are new: those from ``span`` on."""
    new = int((case.distances >= case.span).sum())
    return Fact("distances to keys", upto(case.span - 1), f"{upto(case.reach)}: {are_new(new)}",
                {"new": new, "farthest": case.reach})  # fmt: skip


def shared_fact(what: str, first: int, case: Case) -> Fact:
    """How many keys of the last query share what begins at distance ``first``."""
    before, now = max(0, case.span - first), int((case.distances >= first).sum())
    return Fact(what, f"{before} of {case.span} keys, from distance {first} on",
                f"{now} of {case.keys} keys ({now / case.keys:.0%})", {"first": first, "keys": now})  # fmt: skip


def steps(case: Case) -> str:
    """`` in steps of 0.683``; empty where tokens stand one position apart, or unevenly."""
    between = case.positions.double().diff()
    even = len(between) and float(between.max() - between.min()) < 1e-3
    return f" in steps of {digits(float(between[0]))}" if even and abs(float(between[0]) - 1) > 1e-6 else ""


def turning_facts(theta: Tensor, now: Tensor, seen: int, reach: float) -> list[Fact]:
    """Pairs of frequencies θ [P], trained at 0 .. ``seen`` − 1, that now have frequencies ``now`` and reach ``reach``.

    A pair whose wavelength 2π/θ is at most ``seen`` has been at all angles. Any other has not, and goes further where
    it comes to θ · seen, the first angle that training has not reached.
    """
    theta, now = theta.double(), now.double()
    turns = theta > 0
    whole = turns & (theta * seen >= TURN)
    part = turns & ~whole
    further = part & (now * reach >= theta * seen * (1 - 1e-7))  # frequencies of extensions are float32
    still = f"; {int((~turns).sum())} never rotate" if not bool(turns.all()) else ""
    found = [
        Fact("pairs with a full rotation", f"{int(whole.sum())} of {len(theta)}{numbered(whole)}{still}",
             "no new angles", {"whole": int(whole.sum()), "pairs": len(theta)})
    ]  # fmt: skip
    before, after = theta * (seen - 1), now * reach
    if bool(part.any()):
        many, ks = int(further.sum()), part.nonzero().flatten().tolist()
        which = "none rotates" if not many else "all rotate"
        if many and many < len(ks):
            which = f"{many}{numbered(further)} {'rotates' if many == 1 else 'rotate'}"
        elif many == 1:
            which = "it rotates"
        values = {
            "which": ks,
            "further": further.nonzero().flatten().tolist(),
            "trained": before[part].tolist(),
            "angles": after[part].tolist(),
        }
        trained = f"{len(ks)}{numbered(part)}: up to {in_turns(before, part)}"
        reached = f"{which} further: up to {in_turns(after, further if many else part)}"
        found.append(Fact("pairs with an incomplete rotation", trained, reached, values))
    k = int(turns.nonzero().max())
    wave, once, angle = TURN / float(theta[k]), float(before[k]), float(after[k])
    trained = f"{digits(once)} rad; one rotation takes {digits(wave)} tokens"
    found.append(Fact(f"slowest pair, k = {k}", trained, f"{digits(angle)} rad",
                      {"k": k, "wavelength": wave, "trained": once, "angle": angle}))  # fmt: skip
    first, second = float(theta[0]), float(now[0])
    if abs(second / first - 1) > 1e-6:
        found.append(Fact("angle between neighbours, k = 0", f"{digits(first)} rad", f"{digits(second)} rad",
                          {"angle": second}))  # fmt: skip
    return found


# ---------------------------------------------------------------- words


def upto(last: float) -> str:
    """``0–2999``, ``0–2047.3``."""
    return f"0–{last:.1f}".removesuffix(".0")


def are_new(count: int) -> str:
    """``952 are new``."""
    return "none is new" if not count else f"{count} {'is' if count == 1 else 'are'} new"


def numbered(which: Tensor) -> str:
    """`` (k = 23–31)`` of bool [P], where they follow each other; empty where there are none."""
    ks = which.nonzero().flatten().tolist()
    if not ks or ks != list(range(ks[0], ks[-1] + 1)):
        return ""
    return f" (k = {ks[0]}–{ks[-1]})" if len(ks) > 1 else f" (k = {ks[0]})"


def in_turns(angles: Tensor, which: Tensor) -> str:
    """``0.94 … 0.07 rotations``: the first and the last of these pairs."""
    turns = (angles[which] / TURN).tolist()
    return f"{digits(turns[0])}{f' … {digits(turns[-1])}' if len(turns) > 1 else ''} rotations"


def digits(value: float) -> str:
    """Three significant digits; no exponent from a thousandth to ten million."""
    if value == 0 or not math.isfinite(value):
        return f"{value + 0:g}"  # nothing is 0, never -0
    size = math.floor(math.log10(abs(float(f"{value:.3g}"))))
    if not -3 <= size < 7:
        return f"{value:.2g}"
    return f"{value:.{max(0, 2 - size)}f}"
