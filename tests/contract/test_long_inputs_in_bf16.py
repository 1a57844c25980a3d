"""Long inputs in bf16 stay finite and close to float32."""

from __future__ import annotations

import pytest
import torch

from fixtures.models import gap, make_model, random_tokens
from fixtures.scheme_formulas import set_values
from posx.models.decoder import count_parameters

pytestmark = pytest.mark.every_processor

NEW = ("fire", "kerple-log", "kerple-power", "p-rope", "sandwich", "xpos")


@torch.no_grad()
@pytest.mark.parametrize("name", NEW)
def test_the_last_queries_of_a_long_input_in_bf16(name: str) -> None:
    """Finite at 16,384 keys, with few parameters: two per head, or a network with 4 hidden units, c and T."""
    model = make_model(name, n_layers=1, d_model=16, n_heads=2)
    if name.startswith("kerple"):
        set_values(model.scheme.r2, [5.0, 1.0])  # the squared distance reaches 2.7e8
    tokens = random_tokens(16384, batch=1)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(tokens, tail=64)
    assert bool(out.isfinite().all())
    # Compared with float32: values are around 1, and every product rounds a few times to bf16 (2^-9 each).
    assert gap(out, model(tokens, tail=64)) < 0.1
    parameters = {"fire": 2 * 4 + 4 * 2 + 2, "kerple-log": 4, "kerple-power": 4}
    assert count_parameters(model)["scheme"] == parameters.get(name, 0)
