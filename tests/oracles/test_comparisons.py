"""Every scheme beside every oracle, and what every scheme keeps to: what `posx verify` runs, one by one."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from data_helpers import child_environment
from helpers import SCHEMES, extensions
from posx.verify.oracles import written
from posx.verify.oracles.comparisons import COMPARISONS
from posx.verify.oracles.contract import PROPERTIES, Property
from posx.verify.oracles.extended import EXTENDED
from posx.verify.oracles.layer import TOLERANCE, Comparison, Layer, by_layer

NOBODY: Any = (None, False)
# Of whom properties say nothing: no closure for FlexAttention to call, no far keys where a table ends.
WITHOUT = {
    "kernel": {"cope", "dape", "linear-rope", "stick-breaking"},
    "far": {"learned", "learned-concat"},
}


@pytest.mark.parametrize("one", [*COMPARISONS, *EXTENDED], ids=lambda one: f"{one.name}: {one.oracle}")
def test_schemes_and_extensions_are_their_oracles(one: Comparison) -> None:
    assert one.difference() <= one.tolerance


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("one", PROPERTIES, ids=lambda one: one.difference.__name__)
def test_what_every_scheme_keeps_to(one: Property, name: str) -> None:
    found = one.difference(name, NOBODY)
    assert (found is None) == (name in WITHOUT.get(one.difference.__name__, ()))
    assert found is None or found <= one.tolerance


def test_every_scheme_and_extension_has_an_oracle() -> None:
    assert {one.name for one in COMPARISONS} == set(SCHEMES)
    assert {one.name for one in EXTENDED} == set(extensions())


def test_the_formulas_share_no_code_with_posx() -> None:
    """Nor does importing them bring it in."""
    path = Path(written.__file__)
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        for name in (
            [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported == {"__future__", "math", "collections", "torch"}
    code = f"import sys; sys.path.insert(0, {str(path.parent)!r}); import written; assert 'posx' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", code], env=child_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@torch.no_grad()
@pytest.mark.parametrize("heads", [1, 2, 3, 4, 5, 6, 7, 8, 12, 16])
def test_the_formulas_know_the_slopes_of_the_paper(heads: int) -> None:
    """Known values: 1/2 … 1/256 for eight heads; twelve take every second slope of sixteen besides."""
    found = written.alibi_slopes(heads)
    assert len(found) == heads
    known = {
        8: [2.0**-h for h in range(1, 9)],
        12: [*(2.0**-h for h in range(1, 9)), 2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5],
    }
    if heads in known:
        assert found == pytest.approx(known[heads])


def test_a_comparison_sees_a_wrong_slope() -> None:
    """One head's slope off by a hundredth; one distance too many; a key too few."""

    def off(change: Any) -> float:
        def expected(a: Layer) -> torch.Tensor:
            slopes = written.alibi_slopes(a.heads)
            return written.attention(a.q, a.k, a.v, lambda b, h, i, j: change(slopes, h, i - j))

        return Comparison("alibi", "a broken one", by_layer("alibi", expected)).difference()

    assert off(lambda slopes, h, d: -slopes[h] * d) <= TOLERANCE
    assert off(lambda slopes, h, d: -slopes[h] * d * (1.01 if h == 0 else 1)) > 10 * TOLERANCE
    assert off(lambda slopes, h, d: -slopes[h] * (d + (d == 3))) > 10 * TOLERANCE
