"""Tests of ``posx.schemes.stick_breaking``."""

from __future__ import annotations

import torch

from fixtures.logit_schemes import ours, scheme_of
from fixtures.models import gap


def test_first_token_attends_to_nothing_and_sharp_rows_sum_to_one() -> None:
    scheme = scheme_of("stick-breaking", 1, 4)
    big = torch.full((1, 1, 3, 4), 20.0)
    out = ours(scheme, big, big, torch.arange(3.0)[:, None].expand(1, 1, 3, 4))
    assert torch.equal(out[0, 0, 0], torch.zeros(4))
    assert (
        gap(out[0, 0, :, 0], torch.tensor([0.0, 0.0, 1.0])) < 1e-6
    )  # the nearest key gets all the weight, never i itself
