"""Facts about a scheme in one case: a model trained with L tokens is evaluated at ℓ. `posx explain` prints them.

A :class:`Fact` compares training with the evaluation length. A scheme computes its facts from a :class:`Case`, that
is from positions, distances and frequencies after the extensions, so that the same code works with any extension.
Nothing here refers to a scheme by name.
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
    """A quantity (``what``) in training and at the evaluation length (``now``), in words; ``values`` as numbers."""

    what: str
    trained: str
    now: str
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """A scheme that was trained with L = ``context`` tokens, evaluated at ℓ = ``length``.

    ``positions`` [ℓ] are the tokens' positions after the extension. Training covers positions 0 .. ``places`` − 1
    and distances 0 .. ``span`` − 1; both are L unless the scheme chooses positions.
    """

    context: int
    length: int
    positions: Tensor
    extension: Applied = NONE
    places: int = 0
    span: int = 0
    moves: bool = False  # whether branches of the extension apply to the scheme

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
        """Positions of the last query and of each key that it sees, float64; branches may change both per key."""
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
        """Number of keys that the last query sees."""
        return int(self.seen.sum())

    @property
    def farthest(self) -> int:
        """Distance in tokens from the first visible key to the last query."""
        return self.length - 1 - int(self.seen.int().argmax())

    @property
    def reach(self) -> float:
        """The longest distance, in positions."""
        return float(self.distances.max())


# ---------------------------------------------------------------- facts that several schemes share


def by_hooks(scheme: Any, case: Case) -> list[Fact]:
    """Default facts: positions if the scheme embeds them, distances if it uses positions in another way."""
    capabilities = scheme.capabilities
    if not capabilities.by_position:
        between = max(0, case.farthest - 1)
        return [Fact("tokens between query and farthest key", f"up to {case.context - 2}", f"{between}",
                     {"between": between})]  # fmt: skip
    if not capabilities.uses_positions:
        return []
    return [positions_fact(case)] if capabilities.embeds else [distances_fact(case)]


def positions_fact(case: Case) -> Fact:
    """The number of positions that did not occur in training."""
    new = int((case.positions >= case.places).sum())
    return Fact("positions", upto(case.places - 1), f"{upto(float(case.positions.max()))}{steps(case)}: {are_new(new)}",
                {"new": new, "last": float(case.positions.max())})  # fmt: skip


def distances_fact(case: Case) -> Fact:
    """The number of distances from the last query that did not occur in training."""
    new = int((case.distances >= case.span).sum())
    return Fact("distances to keys", upto(case.span - 1), f"{upto(case.reach)}: {are_new(new)}",
                {"new": new, "farthest": case.reach})  # fmt: skip


def shared_fact(what: str, first: int, case: Case) -> Fact:
    """The number of keys that share a value because their distance from the last query is at least ``first``."""
    before, now = max(0, case.span - first), int((case.distances >= first).sum())
    return Fact(what, f"{before} of {case.span} keys (distance {first} and up)",
                f"{now} of {case.keys} keys ({now / case.keys:.0%})", {"first": first, "keys": now})  # fmt: skip


def steps(case: Case) -> str:
    """`` in steps of 0.683``; empty if steps between positions are 1 or uneven."""
    between = case.positions.double().diff()
    even = len(between) and float(between.max() - between.min()) < 1e-3
    return f" in steps of {digits(float(between[0]))}" if even and abs(float(between[0]) - 1) > 1e-6 else ""


def turning_facts(theta: Tensor, now: Tensor, seen: int, reach: float) -> list[Fact]:
    """Which pairs reach new angles: frequencies θ [P] at 0 .. ``seen`` − 1 in training, ``now`` up to ``reach`` now.

    A pair whose wavelength 2π/θ is at most ``seen`` has covered all angles in training. Any other pair reaches new
    angles if it gets to θ · seen, the first angle that did not occur in training.
    """
    theta, now = theta.double(), now.double()
    turns = theta > 0
    whole = turns & (theta * seen >= TURN)
    part = turns & ~whole
    further = part & (now * reach >= theta * seen * (1 - 1e-7))  # frequencies of extensions are float32
    still = f"; {int((~turns).sum())} never rotate" if not bool(turns.all()) else ""
    facts = [
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
        facts.append(Fact("pairs with an incomplete rotation", trained, reached, values))
    k = int(turns.nonzero().max())
    wave, once, angle = TURN / float(theta[k]), float(before[k]), float(after[k])
    trained = f"{digits(once)} rad; one rotation takes {digits(wave)} tokens"
    facts.append(Fact(f"slowest pair, k = {k}", trained, f"{digits(angle)} rad",
                      {"k": k, "wavelength": wave, "trained": once, "angle": angle}))  # fmt: skip
    first, second = float(theta[0]), float(now[0])
    if abs(second / first - 1) > 1e-6:
        facts.append(Fact("angle between adjacent tokens, k = 0", f"{digits(first)} rad", f"{digits(second)} rad",
                          {"angle": second}))  # fmt: skip
    return facts


# ---------------------------------------------------------------- formatting


def upto(last: float) -> str:
    """``0–2999``, ``0–2047.3``."""
    return f"0–{last:.1f}".removesuffix(".0")


def are_new(count: int) -> str:
    """``952 are new``."""
    return "none are new" if not count else f"{count} {'is' if count == 1 else 'are'} new"


def numbered(which: Tensor) -> str:
    """`` (k = 23–31)`` for a consecutive range in bool [P]; empty for none or gaps."""
    ks = which.nonzero().flatten().tolist()
    if not ks or ks != list(range(ks[0], ks[-1] + 1)):
        return ""
    return f" (k = {ks[0]}–{ks[-1]})" if len(ks) > 1 else f" (k = {ks[0]})"


def in_turns(angles: Tensor, which: Tensor) -> str:
    """``0.94 … 0.07 rotations``: the first and the last of these pairs."""
    turns = (angles[which] / TURN).tolist()
    return f"{digits(turns[0])}{f' … {digits(turns[-1])}' if len(turns) > 1 else ''} rotations"


def digits(value: float) -> str:
    """Three significant digits, without an exponent from 0.001 to 10,000,000."""
    if value == 0 or not math.isfinite(value):
        return f"{value + 0:g}"  # never -0
    size = math.floor(math.log10(abs(float(f"{value:.3g}"))))
    if not -3 <= size < 7:
        return f"{value:.2g}"
    return f"{value:.{max(0, 2 - size)}f}"
