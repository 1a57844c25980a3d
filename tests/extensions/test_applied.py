"""Tests of ``posx.extensions.base.Applied``: which of several extensions acts first."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from posx.extensions.base import Applied, Branch, Extension, Target

SHORT, LONG = Target(context=4, length=8), Target(context=4, length=16)


@dataclass
class NoSettings:
    pass


class Shift(Extension):
    Config = NoSettings
    changes = ("positions",)

    def positions(self, positions: Tensor, target: Target) -> Tensor:
        return positions + target.length

    def branches(self, target: Target) -> tuple[Branch, ...]:
        return (Branch(queries=lambda i: i, keys=lambda j: j, where=lambda b, h, i, j: j < target.length),)


class Halve(Shift):
    def positions(self, positions: Tensor, target: Target) -> Tensor:
        return positions / 2


def test_the_requested_extension_acts_first_and_the_trained_one_on_its_positions() -> None:
    """The model maps its own positions last: those that it is given are the ones it was trained to map."""
    positions = torch.tensor([0.0, 6.0])
    trained, requested = Shift(NoSettings()), Halve(NoSettings())
    applied = Applied((requested,), LONG, (trained,), SHORT)
    assert applied.positions(positions).tolist() == [8.0, 11.0]  # p / 2 + 8, not (p + 8) / 2
    other = Applied((trained,), LONG, (requested,), SHORT)
    assert other.positions(positions).tolist() == [8.0, 11.0]  # (p + 16) / 2


def test_distances_that_are_requested_replace_those_of_training() -> None:
    applied = Applied((Shift(NoSettings()),), LONG, (Halve(NoSettings()),), SHORT)
    (branch,) = applied.branches()
    ten = torch.tensor(10)
    assert bool(branch.where(ten, ten, ten, ten))  # the length of the evaluation, 16, and not of the training, 8
