"""`posx explain --scheme X --train-length L --length ℓ`: a model was trained with L tokens; what happens at ℓ?

``Scheme.facts`` lists what is new to a particular scheme. This module adds the facts that apply to every scheme: the
number of keys, the bias of the farthest key, the supported extensions, and the commands that measure the effect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from posx.analysis.probe import Layer, parts, position_vectors, silence, start
from posx.analysis.properties_page import in_layers
from posx.config.catalog import PACKAGED, Catalog
from posx.config.compose import as_overrides, key_of
from posx.config.lengths import parse_length
from posx.config.schema import RunConfig, TrainConfig
from posx.errors import PosxError, Unsupported
from posx.extensions.base import NONE, Applied, Extension
from posx.models.binding import bind, check_fit, fits, parse_extension, spec_name
from posx.models.build import compose_run, scheme_of
from posx.models.classes import formula_of, known_extensions
from posx.schemes.base import Scheme, Site
from posx.schemes.facts import Case, Fact, digits
from posx.utils.shell import shell

MOST_TOKENS = 2**17  # position vectors are computed for up to this many tokens
FLAT = 0.1  # nats; smaller biases are negligible next to content


@dataclass(frozen=True)
class Row:
    """A fact without an extension and with the requested one; None if the fact does not apply."""

    what: str
    plain: Fact | None
    extended: Fact | None = None


@dataclass(frozen=True)
class Answer:
    """The answer for one scheme. ``refused``: why posx cannot evaluate it, by extension ("none", or as requested)."""

    name: str
    config: RunConfig
    scheme: Scheme
    length: int
    extension: str
    rows: list[Row]
    refused: dict[str, str]
    fitting: dict[str, list[str]]  # supported extensions, by the hook that they change
    cures: list[str]  # the extensions that make an unsupported length work
    formula: str = ""  # of the scheme
    commands: list[str] = field(default_factory=list)

    @property
    def context(self) -> int:
        """L."""
        return self.scheme.shape.context

    @property
    def extended(self) -> bool:
        return self.extension != "none"

    @property
    def nothing_new(self) -> bool:
        """Whether training covered everything that this length uses."""
        return self.length <= self.context and not self.extended


# ---------------------------------------------------------------- the case


def training_overrides(train_length: str | None, overrides: Sequence[str]) -> list[str]:
    """The overrides with ``--train-length``, and with batches of at least this length. Raises PosxError."""
    values = {key_of(override): override.partition("=")[2] for override in overrides}
    if train_length is None and "train.context" not in values:
        raise PosxError("Missing --train-length.", "Add one, for example --train-length 2048.")
    if train_length is not None and not (train_length.strip().isascii() and train_length.strip().isdigit()):
        raise PosxError(
            f"--train-length {train_length} is not a number of tokens.",
            "Use a number, for example --train-length 2048.",
        )
    flags = [("--train-length", "train.context", None if train_length is None else train_length.strip())]
    out = as_overrides(flags, overrides)
    tokens = train_length if train_length is not None else values["train.context"]
    if tokens.strip().isdigit() and int(tokens) > TrainConfig().batch_tokens and "train.batch_tokens" not in values:
        out.append(f"train.batch_tokens={int(tokens)}")
    return out


@dataclass(frozen=True)
class Question:
    """The arguments of ``posx explain`` as typed: evaluation length, training length, extension, overrides."""

    length: str
    train_length: str | None = None
    extension: str | None = None
    overrides: Sequence[str] = ()


@torch.no_grad()
def answer(name: str, question: Question, catalog: Catalog = PACKAGED) -> Answer:
    """What happens to this scheme at ``question.length``. Raises PosxError."""
    overrides = training_overrides(question.train_length, question.overrides)
    config = compose_run(as_overrides([("--scheme", "scheme", name)], overrides), catalog)
    if config.train.extension != "none":
        raise PosxError(
            f"posx explain does not support train.extension={config.train.extension}.",
            f"Use --extension {config.train.extension}.",
        )
    tokens = parse_length(question.length, config.base_context)
    if max(tokens, config.base_context) > MOST_TOKENS:
        raise PosxError(
            f"posx explain supports up to {MOST_TOKENS:,} tokens, not {max(tokens, config.base_context):,}.",
            "Use a shorter length: what is new is the same in kind.",
        )
    specs = parse_extension(question.extension or "none", catalog)
    known = known_extensions(catalog)
    scheme = scheme_of(config, catalog)
    check_fit(specs, config.scheme["name"], scheme, known)
    start(scheme, config.train.seed)

    plain, applied = NONE, bind(specs, scheme, tokens)
    refused = {"none": refusal(scheme, tokens, plain), spec_name(specs): refusal(scheme, tokens, applied)}
    refused = {key: reason for key, reason in refused.items() if reason}
    fitting: dict[str, list[str]] = {}
    for key, cls in sorted(known.items()):
        if fits(cls, scheme):
            fitting.setdefault(cls.changes, []).append(key)
    works = [
        key for keys in fitting.values() for key in keys
        if not refusal(scheme, tokens, bind([known[key].of(known[key].Config(), key)], scheme, tokens))
    ]  # fmt: skip
    simplest = [min((key for key in keys if key in works), key=lambda key: n_settings(known[key]), default="")
                for keys in fitting.values()]  # fmt: skip
    cures = works if "none" in refused else []
    result = Answer(
        config.scheme["name"], config, scheme, tokens, spec_name(specs),
        rows(scheme, tokens, applied if specs else None, spec_name(specs) in refused), refused, fitting, cures,
        formula=formula_of("scheme", config.scheme["name"], scheme, catalog),
    )  # fmt: skip
    return replace(result, commands=commands(result, overrides, cures or [key for key in simplest if key], catalog))


def n_settings(extension: type[Extension]) -> tuple[int, int]:
    """The number of settings with a default value, and of all settings: sorts ntk before abf."""
    values = [getattr(extension.Config(), field.name) for field in fields(extension.Config)]
    return sum(value is not None for value in values), len(values)


def refusal(scheme: Scheme, length: int, extension: Applied) -> str:
    """Why the scheme does not support this length; empty if it does."""
    try:
        positions = extension.positions(scheme.positions(length))
        extension.masks()
        extension.branches()
        if scheme.capabilities.embeds:
            scheme.embed(torch.zeros(1, 1, scheme.token_width), positions.max()[None])
        ends = positions[[0, -1]] if length > 1 else positions
        for part in parts(scheme):
            part.scheme.prepare(ends, extension)
    except PosxError as error:
        return error.message
    return ""


def commands(result: Answer, overrides: Sequence[str], suggested: Sequence[str], catalog: Catalog) -> list[str]:
    """The commands that train this model and, if posx can, evaluate it at the length."""
    flags = catalog.flags()
    train = shell(["posx", "train", "--scheme", result.name, *overrides, *flags])
    extensions = [result.extension] if result.extended and result.extension not in result.refused else suggested
    if "none" in result.refused and not extensions:
        return [train]
    longer = result.length > result.context
    supported = [key for key in ["none", *extensions] if key not in result.refused]
    extension_flags = [part for key in supported for part in ("--extension", key)] if longer or result.extended else []
    # Targets that have this much context, instead of the default of 8 L.
    target_context = f"eval.target_context={max(result.length, result.context)}"
    evaluate = ["posx", "eval", "--length", str(result.length), *extension_flags, target_context, *flags]
    recommend = ["posx", "recommend", "--length", str(result.length), target_context, *flags]
    return [train, shell(evaluate), *([shell(recommend)] if longer else [])]


# ---------------------------------------------------------------- facts


def rows(scheme: Scheme, length: int, extension: Applied | None, refused: bool) -> list[Row]:
    """The facts of each part of the model without the extension and, unless it is unsupported, with it."""
    model_parts = parts(scheme)
    rows_by_part: list[list[Row]] = []
    for part in model_parts:
        plain = facts(scheme, part.scheme, length, NONE)
        extended = facts(scheme, part.scheme, length, extension) if extension and not refused else {}
        rows_by_part.append([Row(what, plain.get(what), extended.get(what)) for what in {**plain, **extended}])
    common_rows = [row for row in rows_by_part[-1] if all(row in part_rows for part_rows in rows_by_part)]
    own_rows = []
    for part, part_rows in zip(model_parts, rows_by_part, strict=True):
        layers = in_layers([layer + 1 for layer in part.layers])
        own_rows += [replace(row, what=f"{layers}: {row.what}") for row in part_rows if row not in common_rows]
    return [*own_rows, *common_rows]


def facts(whole: Scheme, scheme: Scheme, length: int, extension: Applied) -> dict[str, Fact]:
    """The facts that ``scheme`` lists, then those measured through its hooks, then those of every scheme, by name."""
    try:
        positions = whole.positions(length)
    except Unsupported:
        positions = torch.arange(length)
    context = scheme.shape.context
    moves = "distances" in scheme.capabilities.accepts
    case = Case(context, length, extension.positions(positions), extension, context, context, moves)
    try:
        probed = measured(whole, scheme, case)
    except Unsupported:
        probed = []
    return {fact.what: fact for fact in [*scheme.facts(case), *probed, *common(scheme, case)]}


def common(scheme: Scheme, case: Case) -> list[Fact]:
    """The number of keys, and the factors by which the extension multiplies logits."""
    out = [Fact("keys of the last query", f"{case.context}", f"{case.keys}", {"keys": case.keys})]
    if is_softmax(scheme):
        before, now = math.log(case.context), math.log(case.keys)
        out.append(Fact("entropy of uniform attention", f"ln {case.context} = {digits(before)} nats",
                        f"ln {case.keys} = {digits(now)} nats", {"nats": now}))  # fmt: skip
    temperature = case.extension.temperature(torch.arange(case.length))
    if temperature is not None:
        factor = float(temperature[-1])
        out.append(Fact("the last query is multiplied by", "1", digits(factor), {"by": factor}))
    factor = case.extension.sharpness()
    if factor != 1:
        out.append(Fact("logits are multiplied by", "1", digits(factor), {"by": factor}))
    factor = case.extension.amplitude() ** 2  # once for q, once for k
    if factor != 1:
        out.append(Fact("products of rotated pairs are multiplied by", "1", digits(factor), {"by": factor}))
    return out


def is_softmax(scheme: Scheme) -> bool:
    """Whether equal logits give equal weights."""
    if scheme.capabilities.has_own_attention:
        return False
    positions = torch.arange(8)
    equal = torch.zeros(1, scheme.shape.n_heads, 1, len(positions))
    weights = scheme.weights(equal, Site(positions[-1:], positions, q_start=len(positions) - 1))
    return bool(torch.allclose(weights, torch.full_like(weights, 1 / len(positions))))


def measured(whole: Scheme, scheme: Scheme, case: Case) -> list[Fact]:
    """The bias of the farthest key, and how far fixed position vectors are from those in training."""
    out = []
    trained = any(True for _ in scheme.parameters())
    before, now = (
        farthest(whole, scheme, positions, extension)
        for positions, extension in ((whole.positions(case.context), NONE), (case.positions, case.extension))
    )
    if before is None or now is None or (scheme.capabilities.needs_logits and trained):  # an untrained network
        before = now = torch.zeros(1)
    if float(torch.cat([before, now]).abs().max()) > FLAT:
        values = {"added": now.tolist()}
        out.append(Fact("added to the farthest key's logit, by head", heads(before), heads(now), values))
        out.append(Fact("its weight relative to the query's own token, at most", power(before), power(now),
                        {"weight": math.exp(float(now.max()))}))  # fmt: skip
    if whole.capabilities.embeds and not trained and case.places <= MOST_TOKENS:
        known, vectors = (unit(position_vectors(whole, p)) for p in (torch.arange(case.places), case.positions))
        cosine = min(1.0, float((known @ vectors[-1]).max()))
        out.append(Fact("cosine of the last vector to the nearest trained one", "1", digits(cosine),
                        {"cosine": cosine}))  # fmt: skip
    return out


def farthest(whole: Scheme, scheme: Scheme, positions: Tensor, extension: Applied) -> Tensor | None:
    """The logit of the farthest visible key of the last query minus that of the query's own token, [H], for q·k = 0."""
    if not is_softmax(scheme):
        return None
    layer = Layer(scheme, positions, silence(whole, positions), extension)
    logits = layer.logits(len(positions) - 1)[0]
    first = int(logits.isfinite().any(0).int().argmax())
    return logits[:, first] - logits[:, -1]


def unit(vectors: Tensor) -> Tensor:
    exact = vectors.double()
    return exact / exact.norm(dim=-1, keepdim=True).clamp(min=1e-300)


def heads(values: Tensor) -> str:
    """``-0.5 to -512``: the values with the smallest and the largest size."""
    smallest, largest = sorted((float(values.min()), float(values.max())), key=abs)
    return digits(smallest) if smallest == largest else f"{digits(smallest)} to {digits(largest)}"


def power(values: Tensor) -> str:
    """``e^-11.7 = 8.2e-06`` for the head with the largest value."""
    largest = float(values.max())
    return f"e^{digits(largest)} = {digits(math.exp(largest))}"
