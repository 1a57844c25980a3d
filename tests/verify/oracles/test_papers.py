"""Tests of ``posx.verify.oracles.papers``."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fixtures.corpora import child_environment
from posx.verify.oracles import papers as written


def test_the_formulas_share_no_code_with_posx() -> None:
    """Importing them does not import posx."""
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
    code = f"import sys; sys.path.insert(0, {str(path.parent)!r}); import papers; assert 'posx' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", code], env=child_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@torch.no_grad()
@pytest.mark.parametrize("heads", [1, 2, 3, 4, 5, 6, 7, 8, 12, 16])
def test_alibi_slopes_equal_those_of_the_paper(heads: int) -> None:
    """Known values: 1/2 … 1/256 for eight heads; for twelve, also every second slope of sixteen."""
    slopes = written.alibi_slopes(heads)
    assert len(slopes) == heads
    known = {
        8: [2.0**-h for h in range(1, 9)],
        12: [*(2.0**-h for h in range(1, 9)), 2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5],
    }
    if heads in known:
        assert slopes == pytest.approx(known[heads])
