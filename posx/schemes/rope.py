"""RoPE: queries and keys are rotated by an angle proportional to their position.

    (q_a, q_b) → (q_a cos(pθ_k) − q_b sin(pθ_k),  q_a sin(pθ_k) + q_b cos(pθ_k))      θ_k = base^(−2k / R)

for the pairs k = 0 .. R/2 − 1 of the first R = ``fraction`` · D dimensions of a head. Pair k consists of the
dimensions (k, k + R/2), the "half-split" layout of Llama and GPT-NeoX. Values are not rotated. The logit of a
query and a key depends only on their distance.

Source: Su et al. 2021, arXiv 2104.09864, section 3.2.2; partial rotation: GPT-NeoX-20B, arXiv 2204.06745.
Shapes: θ [R/2], angles [T, R/2], float32; q [B, H, T, D], k [B, H_kv, T, D] in the model's precision.
Parameters: none. Cost: one multiply-add per element of q and k.
Pitfall: the paper's layout is interleaved, (2k, 2k + 1), so weights transfer only after a permutation. In a partial
rotation, the exponent divides by R, not D. Angles stay in float32: bf16 has only 8 bits for a position.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from posx.errors import PosxError
from posx.extensions.base import Applied
from posx.schemes.base import ModelShape, Scheme, Site
from posx.schemes.facts import Case, Fact, distances_fact, turning_facts


@dataclass
class RopeConfig:
    """``fraction``: part of each head that is rotated; ``base``: determines the longest wavelength."""

    base: float = 10000.0
    fraction: float = 1.0


class Rope(Scheme):
    """Rotary position embedding."""

    Config = RopeConfig
    outlook = (
        "It breaks: perplexity 20.07 at 512, 21.37 at 1012 and 31.58 at 2512 tokens, trained at 512 (Press et al. "
        "2021, arXiv 2108.12409, table 2). LLaMA-7B, trained at 2048, goes from 7.20 to over 1000 beyond that; with "
        "pi it is 16.10 at 8192 (Chen et al. 2023, arXiv 2306.15595)."
    )
    accepts = frozenset({"spectrum", "distances"})

    @classmethod
    def check(cls, config: Any, shape: ModelShape) -> None:
        if not 1 < config.base < math.inf:
            raise PosxError(f"scheme.base={config.base} must be above 1.", "The paper uses scheme.base=10000.")
        if not 0 < config.fraction <= 1:
            raise PosxError(
                f"scheme.fraction={config.fraction} must be above 0 and at most 1.",
                "scheme.fraction=1 rotates the whole head.",
            )
        rotated = config.fraction * shape.head_dim
        if abs(rotated - round(rotated)) > 1e-6 or round(rotated) % 2 or rotated < 2:
            raise PosxError(
                f"rope rotates pairs, but scheme.fraction={config.fraction:g} of a head of {shape.head_dim} "
                f"dimensions is {rotated:g}, not an even number.",
                "Change model.n_heads, model.d_model or model.head_dim so that it is even, or change scheme.fraction.",
            )

    @property
    def rotated(self) -> int:
        """R, the number of rotated dimensions per head."""
        return round(self.config.fraction * self.shape.head_dim)

    def frequencies(self, device: torch.device | None = None) -> Tensor:
        """θ_k in radians per position, float32 [R/2], highest first."""
        even = torch.arange(0, self.rotated, 2, device=device, dtype=torch.float32)
        return self.config.base ** (-even / self.rotated)

    def prepare(self, positions: Tensor, extension: Applied) -> tuple[Tensor, ...]:
        angles = extension.angles(positions, self.frequencies(positions.device))  # [T, R/2] or [B, T, R/2]
        if angles.ndim == 3:
            angles = angles[:, None]
        amplitude = extension.amplitude()
        return (angles.cos(), angles.sin()) if amplitude == 1 else (angles.cos() * amplitude, angles.sin() * amplitude)

    def rotate(self, q: Tensor, k: Tensor, site: Site) -> tuple[Tensor, Tensor]:
        (cos_q, sin_q), (cos, sin) = of_queries_and_keys(site.shared, q, k)
        return rotate_pairs(q, cos_q, sin_q), rotate_pairs(k, cos, sin)

    def facts(self, case: Case) -> list[Fact]:
        theta = self.frequencies()
        return [distances_fact(case),
                *turning_facts(theta, case.extension.spectrum(theta), case.span, case.reach)]  # fmt: skip


def of_queries_and_keys(
    shared: tuple[Tensor, ...], q: Tensor, k: Tensor
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Angles of the queries, which come last, and of the keys, which come first.

    They usually belong to the same tokens. Exceptions are a last layer that has only the tail's queries, and branches
    of an extension, for which ``shared`` was prepared for the keys' positions followed by the queries' positions.
    """
    return tuple(x[..., -q.shape[2] :, :] for x in shared), tuple(x[..., : k.shape[2], :] for x in shared)


def rotate_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [B, H, T, D] rotated in float32 by angles [T, R/2] or [B, 1, T, R/2]; dimensions from R on pass through."""
    return _rotate(x, cos, sin) if cos.requires_grad else _Rotation.apply(x, cos, sin)


turned = rotate_pairs  # its name in 0.3.0


class _Rotation(torch.autograd.Function):
    """Rotation by constant angles. Its gradient is the inverse rotation; autograd would store every step instead."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotate(x, cos, sin)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _rotate(gradients[0], cos, -sin), None, None


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = cos.shape[-1]
    exact = x[..., : 2 * half].to(torch.float32, memory_format=torch.contiguous_format)
    a, b = exact[..., :half], exact[..., half:]
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    out[..., :half] = (a * cos).addcmul_(b, sin, value=-1)
    out[..., half : 2 * half] = (b * cos).addcmul_(a, sin)
    out[..., 2 * half :] = x[..., 2 * half :]
    return out
