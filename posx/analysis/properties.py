"""Properties of a scheme as numbers, measured on one that has its initial values.

Nothing is looked up: norms, shifts and logits are those that the scheme's hooks make of vectors that are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from posx.analysis.probe import Layer, Part, content, matrix, parts, position_vectors, rotates, silence, start, turned
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
TAIL = 0.05  # of the weight, which may lie beyond the reach


@dataclass(frozen=True)
class Subject:
    """A scheme at its initial values, and the tokens [T] that it is looked at with."""

    name: str
    scheme: Scheme
    positions: Tensor  # [T], as the scheme chooses them in evaluation and the extension changes them
    seed: int
    asked: int  # tokens; more than T where positions end before
    extension: Applied = NONE
    label: str = "none"  # the extension's name
    formula: str = ""  # of the extensions, or of the scheme where there are none

    @property
    def length(self) -> int:
        return len(self.positions)

    @property
    def context(self) -> int:
        """L."""
        return self.scheme.shape.context

    @property
    def short(self) -> str:
        """The extension as a legend has room for it."""
        return self.label if len(self.label) <= 12 else "extended"

    @property
    def counted(self) -> bool:
        """Whether positions are 0, 1, 2 …"""
        return torch.equal(self.positions.double(), torch.arange(self.length).double())


@dataclass(frozen=True)
class Properties:
    """Of the attention of some ``layers`` (from 1); None where a property has no meaning. See :func:`measure`."""

    layers: list[int]
    kind: str  # the class
    norms: float | None
    shift: float | None
    distance_alone: float | None
    reach: tuple[int, int] | None


def subject(config: RunConfig, length: str, catalog: Catalog = PACKAGED, extension: str = "none") -> Subject:
    """The scheme of a composed config, at ``length`` (``256`` or ``4x``) with an extension. Raises PosxError."""
    if config.train.extension != "none":
        raise PosxError(
            f"train.extension={config.train.extension} is no part of a scheme, and posx show draws schemes.",
            f"Ask for --extension {config.train.extension}.",
        )
    asked = parse_length(length, config.base_context)
    if not 2 <= asked <= MOST_POSITIONS:
        raise PosxError(
            f"posx show draws 2 to {MOST_POSITIONS:,} positions, but {length} is {asked:,}.", "Try --length 4x."
        )
    specs = parse_extension(extension, catalog)
    scheme, name = scheme_of(config, catalog), config.scheme["name"]
    check_fit(specs, name, scheme, known_extensions(catalog) if specs else {})
    start(scheme, config.train.seed)
    last, applied = scheme.last_position, bind(specs, scheme, asked)
    if last is not None and float(applied.positions(torch.tensor([0, asked - 1])).max()) > last:
        applied = bind(specs, scheme, last + 1)
        positions = scheme.positions(last + 1)
    else:
        positions = scheme.positions(asked)
    if len(positions) < 2:
        raise PosxError("These positions end before a second token.", "Try a larger train.context.")
    formulas = [formula_of("extension", one.name, one, catalog) for one, _ in applied.parts] or [
        formula_of("scheme", name, scheme, catalog)
    ]
    return Subject(
        name,
        scheme,
        applied.positions(positions),
        config.train.seed,
        asked,
        applied,
        spec_name(specs),
        "; ".join(dict.fromkeys(formulas)),
    )


# ---------------------------------------------------------------- properties


@torch.no_grad()
def measure(given: Subject) -> list[Properties]:
    """The properties of each part of the model.

    ``norms``: by how much |q| or |k| changes in the rotation, over its size, at most.
    ``shift``: how far a step of n positions is from being one rotation for all of them, see :func:`shift_of_vectors`
    and :func:`shift_of_rotations`.
    ``distance_alone``: how far logits of equal tokens at equal distances lie apart, see :func:`along_diagonals`.
    ``reach``: the distance beyond which less than 5 % of the weight lies, of the nearest and the furthest head.
    """
    counted = given.extension.positions(torch.arange(given.length))
    found = []
    for part in parts(given.scheme):
        turns = rotates(part.scheme, counted)
        shifts = [shift_of_rotations(part.scheme, given.length, given.extension)] if turns else []
        if given.scheme.capabilities.embeds:
            shifts.append(shift_of_vectors(position_vectors(given.scheme, counted), steps(given.context, given.length)))
        weights = weight_by_distance(given, part)
        reaches = [] if weights is None or bool((weights < 0).any()) else [reach(head) for head in weights]
        found.append(
            Properties(
                [layer + 1 for layer in part.layers],
                type(part.scheme).__name__,
                change_of_norm(part.scheme, counted, given.extension) if turns else None,
                max(shifts, default=None),
                None if part.scheme.capabilities.has_own_attention else distance_alone(given, part),
                (min(reaches), max(reaches)) if reaches else None,
            )
        )
    return found


def steps(context: int, length: int) -> list[int]:
    """Some n to shift positions by."""
    return sorted({n for n in (1, 7, context // 2) if 0 < n < length})


def change_of_norm(scheme: Scheme, positions: Tensor, extension: Applied = NONE) -> float:
    """The largest relative change of |q| and |k|: of the unit vectors of all dimensions and of some random ones."""
    width = scheme.shape.head_dim
    vectors = torch.cat([torch.eye(width), torch.randn(8, width, generator=generator(0, "norms"))])
    most = 0.0
    for some, *both in turned(scheme, positions, vectors, extension):
        before = some.double().norm(dim=-1)[:, None, None]
        most = max(most, *(float((after.double().norm(dim=-1) / before - 1).abs().max()) for after in both))
    return most


def shift_of_vectors(table: Tensor, shifts: Sequence[int]) -> float:
    """How far PE(p + n) = M_n · PE(p) is from true: the largest residual over the RMS length of a row of [T, width].

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
    """The largest residual of R(p + n) x = R(n) R(p) x, over |x|, for q and k.

    Su et al. 2021, section 3.2.2: then R(i)ᵀ R(j) = R(j − i), and a logit depends on i − j alone.
    """
    positions = torch.arange(length)
    some = torch.randn(4, scheme.shape.head_dim, generator=generator(0, "shift"))
    size, most = some.double().norm(dim=-1)[:, None], 0.0
    [(_, *once)] = turned(scheme, positions, some, extension)
    for p in sorted({1, length // 3}):
        for side, at in enumerate(once):
            for head in range(at.shape[1]):
                [(_, *twice)] = turned(scheme, positions, at[:, head, p], extension)
                for n in steps(scheme.shape.context, length - p):
                    residual = at[:, head, p + n].double() - twice[side][:, head, n].double()
                    most = max(most, float((residual.norm(dim=-1, keepdim=True) / size).max()))
    return most


def distance_alone(given: Subject, part: Part) -> float:
    """:func:`along_diagonals` for one token at all positions."""
    everywhere = content(given.scheme, given.positions, given.seed, same=True)
    return along_diagonals(matrix(Layer(part.scheme, given.positions, everywhere, given.extension), "logits"))


def along_diagonals(logits: Tensor) -> float:
    """The largest difference of two logits at one distance, over the standard deviation of all; [H, n, n], NaN ahead.

    Where all logits are the same, to rounding, the difference itself.
    """
    exact = logits.double()
    most = 0.0
    for below in range(exact.shape[-1]):
        line = exact.diagonal(-below, -2, -1)
        line = line[:, ~line.isnan().all(0)]  # keys that a mask hides
        if line.shape[1]:
            most = max(most, float((line.amax(-1) - line.amin(-1)).max()))
    seen = exact[~exact.isnan()]
    flat = float(seen.max() - seen.min()) <= 1e-6 * float(seen.abs().max())
    return most if flat else most / float(seen.std())


# ---------------------------------------------------------------- weights


def weight_by_distance(given: Subject, part: Part) -> Tensor | None:
    """What the last query gives to distance d = 0 .. T − 1, [H, T]; None where content alone decides.

    q·k = 0 for all keys. A scheme that asks for more of what stands there is shown random queries and layer inputs, and
    the mean over several draws is taken.
    """
    scheme = part.scheme
    acts = scheme.capabilities.has_bias or scheme.capabilities.needs_logits or scheme.capabilities.has_own_attention
    if not acts and (given.scheme.capabilities.embeds or rotates(scheme, given.positions)):
        return None
    told = silence(given.scheme, given.positions)
    if scheme.capabilities.per_layer:
        drawn = content(given.scheme, given.positions, given.seed, draws=draws(given.length))
        told = replace(drawn, k=torch.zeros_like(drawn.k))
    return Layer(scheme, given.positions, told, given.extension).weights(given.length - 1).mean(0).flip(-1)


def draws(length: int) -> int:
    """Of random content: fewer at lengths where a mean over distances is smooth anyway."""
    return max(8, min(64, 65536 // length))


def reach(weights: Tensor) -> int:
    """The smallest d beyond which less than 5 % of the weights [T] lie."""
    exact = weights.double()
    beyond = exact.sum() - exact.cumsum(-1)
    return int((beyond < TAIL * exact.sum()).nonzero()[0]) if float(exact.sum()) > 0 else 0
