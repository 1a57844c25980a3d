"""Properties of a scheme as numbers, measured at its initial values.

Nothing is looked up: norms, shifts and logits are computed by applying the scheme's hooks to known vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from posx.analysis.probe import Layer, Part, content, matrix, parts, position_vectors, rotated, rotates, silence, start
from posx.config.catalog import PACKAGED, Catalog
from posx.config.lengths import parse_length
from posx.config.schema import RunConfig
from posx.errors import PosxError
from posx.extensions.base import NONE, Applied
from posx.models.binding import bind, check_fit, parse_extension, spec_name
from posx.models.build import scheme_of
from posx.models.classes import formula_of, known_extensions
from posx.runtime.generator import generator
from posx.schemes.base import Scheme

MOST_POSITIONS = 8192
TAIL = 0.05  # the share of the weight beyond the reach


@dataclass(frozen=True)
class Subject:
    """A scheme at its initial values, and the T tokens that it is examined with."""

    name: str
    scheme: Scheme
    positions: Tensor  # [T], as chosen by the scheme in evaluation and changed by the extension
    seed: int
    requested: int  # tokens; more than T if the scheme has fewer positions
    extension: Applied = NONE
    label: str = "none"  # the extension's name
    formula: str = ""  # of the extensions, or of the scheme if there are none

    @property
    def length(self) -> int:
        return len(self.positions)

    @property
    def context(self) -> int:
        """L."""
        return self.scheme.shape.context

    @property
    def short(self) -> str:
        """The name of the extension, shortened for legends."""
        return self.label if len(self.label) <= 12 else "extended"

    @property
    def consecutive(self) -> bool:
        """Whether positions are 0, 1, 2 …"""
        return torch.equal(self.positions.double(), torch.arange(self.length).double())


@dataclass(frozen=True)
class Properties:
    """Properties of the attention of ``layers`` (from 1); None if a property does not apply. See :func:`measure`."""

    layers: list[int]
    kind: str  # the name of the class
    norms: float | None
    shift: float | None
    distance_alone: float | None
    reach: tuple[int, int] | None


def make_subject(config: RunConfig, length: str, catalog: Catalog = PACKAGED, extension: str = "none") -> Subject:
    """The scheme of a composed config, at ``length`` (``256`` or ``4x``) with an extension. Raises PosxError."""
    if config.train.extension != "none":
        raise PosxError(
            f"posx show does not support train.extension={config.train.extension}.",
            f"Use --extension {config.train.extension}.",
        )
    tokens = parse_length(length, config.base_context)
    if not 2 <= tokens <= MOST_POSITIONS:
        raise PosxError(
            f"posx show draws 2 to {MOST_POSITIONS:,} positions, but {length} is {tokens:,}.", "Try --length 4x."
        )
    specs = parse_extension(extension, catalog)
    scheme, name = scheme_of(config, catalog), config.scheme["name"]
    check_fit(specs, name, scheme, known_extensions(catalog) if specs else {})
    start(scheme, config.train.seed)
    last, applied = scheme.last_position, bind(specs, scheme, tokens)
    if last is not None and float(applied.positions(torch.tensor([0, tokens - 1])).max()) > last:
        applied = bind(specs, scheme, last + 1)
        positions = scheme.positions(last + 1)
    else:
        positions = scheme.positions(tokens)
    if len(positions) < 2:
        raise PosxError("This scheme has only one position.", "Try a larger train.context.")
    formulas = [formula_of("extension", part.name, part, catalog) for part, _ in applied.parts] or [
        formula_of("scheme", name, scheme, catalog)
    ]
    return Subject(
        name,
        scheme,
        applied.positions(positions),
        config.train.seed,
        tokens,
        applied,
        spec_name(specs),
        "; ".join(dict.fromkeys(formulas)),
    )


# ---------------------------------------------------------------- properties


@torch.no_grad()
def measure(subject: Subject) -> list[Properties]:
    """The properties of each part of the model.

    ``norms``: the largest relative change of |q| or |k| in the rotation.
    ``shift``: how far a shift by n positions is from being the same rotation everywhere, see :func:`shift_of_vectors`
    and :func:`shift_of_rotations`.
    ``distance_alone``: how much logits of equal tokens differ at equal distances, see :func:`along_diagonals`.
    ``reach``: the distance beyond which there is less than 5% of the weight, smallest and largest over heads.
    """
    positions = subject.extension.positions(torch.arange(subject.length))
    properties = []
    for part in parts(subject.scheme):
        has_rotation = rotates(part.scheme, positions)
        shifts = [shift_of_rotations(part.scheme, subject.length, subject.extension)] if has_rotation else []
        if subject.scheme.capabilities.embeds:
            vectors = position_vectors(subject.scheme, positions)
            shifts.append(shift_of_vectors(vectors, steps(subject.context, subject.length)))
        weights = weight_by_distance(subject, part)
        reaches = [] if weights is None or bool((weights < 0).any()) else [reach(head) for head in weights]
        properties.append(
            Properties(
                [layer + 1 for layer in part.layers],
                type(part.scheme).__name__,
                change_of_norm(part.scheme, positions, subject.extension) if has_rotation else None,
                max(shifts, default=None),
                None if part.scheme.capabilities.has_own_attention else distance_alone(subject, part),
                (min(reaches), max(reaches)) if reaches else None,
            )
        )
    return properties


def steps(context: int, length: int) -> list[int]:
    """The shifts n to test."""
    return sorted({n for n in (1, 7, context // 2) if 0 < n < length})


def change_of_norm(scheme: Scheme, positions: Tensor, extension: Applied = NONE) -> float:
    """The largest relative change of |q| and |k|, over the unit vectors of all dimensions and some random vectors."""
    width = scheme.shape.head_dim
    vectors = torch.cat([torch.eye(width), torch.randn(8, width, generator=generator(0, "norms"))])
    largest = 0.0
    for batch, *both in rotated(scheme, positions, vectors, extension):
        before = batch.double().norm(dim=-1)[:, None, None]
        largest = max(largest, *(float((after.double().norm(dim=-1) / before - 1).abs().max()) for after in both))
    return largest


def shift_of_vectors(table: Tensor, shifts: Sequence[int]) -> float:
    """The largest residual of PE(p + n) = M_n · PE(p), relative to the RMS length of a row of ``table`` [T, width].

    M_n is the orthogonal matrix with the least sum of squares (Schönemann 1966): U Vᵀ of the singular value
    decomposition of Σ_p PE(p + n) PE(p)ᵀ. Sinusoids: Vaswani et al. 2017, section 3.5.
    """
    exact = table.double()
    size = float(exact.square().sum(-1).mean().sqrt())
    residuals = []
    for n in shifts:
        before, after = exact[:-n], exact[n:]
        u, _, v = torch.linalg.svd(before.T @ after)
        residuals.append(float((after - before @ (u @ v)).norm(dim=-1).max()))
    return max(residuals, default=0.0) / size if size else 0.0


def shift_of_rotations(scheme: Scheme, length: int, extension: Applied = NONE) -> float:
    """The largest residual of R(p + n) x = R(n) R(p) x, relative to |x|, for q and k.

    Su et al. 2021, section 3.2.2: without a residual R(i)ᵀ R(j) = R(j − i), and a logit depends only on i − j.
    """
    positions = torch.arange(length)
    vectors = torch.randn(4, scheme.shape.head_dim, generator=generator(0, "shift"))
    size, largest = vectors.double().norm(dim=-1)[:, None], 0.0
    [(_, *once)] = rotated(scheme, positions, vectors, extension)
    for p in sorted({1, length // 3}):
        for side, at in enumerate(once):
            for head in range(at.shape[1]):
                [(_, *twice)] = rotated(scheme, positions, at[:, head, p], extension)
                for n in steps(scheme.shape.context, length - p):
                    residual = at[:, head, p + n].double() - twice[side][:, head, n].double()
                    largest = max(largest, float((residual.norm(dim=-1, keepdim=True) / size).max()))
    return largest


def distance_alone(subject: Subject, part: Part) -> float:
    """:func:`along_diagonals` for the same token at all positions."""
    inputs = content(subject.scheme, subject.positions, subject.seed, same=True)
    return along_diagonals(matrix(Layer(part.scheme, subject.positions, inputs, subject.extension), "logits"))


def along_diagonals(logits: Tensor) -> float:
    """The largest difference of two logits at one distance, relative to the standard deviation of all logits.

    ``logits``: [H, n, n], NaN for hidden keys. If all logits are equal up to rounding, the difference itself.
    """
    exact = logits.double()
    largest = 0.0
    for below in range(exact.shape[-1]):
        diagonal = exact.diagonal(-below, -2, -1)
        diagonal = diagonal[:, ~diagonal.isnan().all(0)]  # without keys that a mask hides
        if diagonal.shape[1]:
            largest = max(largest, float((diagonal.amax(-1) - diagonal.amin(-1)).max()))
    visible = exact[~exact.isnan()]
    equal = float(visible.max() - visible.min()) <= 1e-6 * float(visible.abs().max())
    return largest if equal else largest / float(visible.std())


# ---------------------------------------------------------------- weights


def weight_by_distance(subject: Subject, part: Part) -> Tensor | None:
    """The weight of the last query for each distance d = 0 .. T − 1, [H, T]; None if it depends only on content.

    q·k = 0 for all keys. A scheme whose bias depends on content gets random queries and layer inputs, and the weights
    are means over several draws.
    """
    scheme = part.scheme
    acts = scheme.capabilities.has_bias or scheme.capabilities.needs_logits or scheme.capabilities.has_own_attention
    if not acts and (subject.scheme.capabilities.embeds or rotates(scheme, subject.positions)):
        return None
    inputs = silence(subject.scheme, subject.positions)
    if scheme.capabilities.per_layer:
        drawn = content(subject.scheme, subject.positions, subject.seed, draws=draws(subject.length))
        inputs = replace(drawn, k=torch.zeros_like(drawn.k))
    return Layer(scheme, subject.positions, inputs, subject.extension).weights(subject.length - 1).mean(0).flip(-1)


def draws(length: int) -> int:
    """The number of draws of random content: fewer for long inputs, whose means over distances are smoother."""
    return max(8, min(64, 65536 // length))


def reach(weights: Tensor) -> int:
    """The smallest distance d beyond which there is less than 5% of the total weight; ``weights``: [T]."""
    exact = weights.double()
    beyond = exact.sum() - exact.cumsum(-1)
    return int((beyond < TAIL * exact.sum()).nonzero()[0]) if float(exact.sum()) > 0 else 0
