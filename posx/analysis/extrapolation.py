"""`posx explain --scheme X --train-length L --length ℓ`: a model was trained with L tokens; what happens at ℓ?

What a scheme has never seen is the scheme's to say (``Scheme.facts``). Added here is what can be said of all of them:
how many keys there are, what the hooks make of the farthest of them, which extensions fit, and the commands that
measure it.
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

MOST_TOKENS = 2**17  # vectors of so many are made to be looked at
FLAT = 0.1  # nats: an addend below is left to content


@dataclass(frozen=True)
class Row:
    """A fact without an extension, and with the one that was asked for. None: not said, nothing to be said."""

    what: str
    plain: Fact | None
    extended: Fact | None = None


@dataclass(frozen=True)
class Answer:
    """All that is said of one scheme. ``refused``: why posx would not evaluate it, by whether it is extended."""

    name: str
    config: RunConfig
    scheme: Scheme
    length: int
    extension: str
    rows: list[Row]
    refused: dict[str, str]
    fitting: dict[str, list[str]]  # by the hook that they change
    cures: list[str]  # of those, what posx would evaluate where it refuses without
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
        """Whether training has seen it all."""
        return self.length <= self.context and not self.extended


# ---------------------------------------------------------------- the case


def trained_at(text: str | None, overrides: Sequence[str]) -> list[str]:
    """``--train-length`` as overrides, with batches that hold it. Raises PosxError."""
    given = {key_of(one): one.partition("=")[2] for one in overrides}
    if text is None and "train.context" not in given:
        raise PosxError("Trained with how many tokens?", "Add --train-length 2048.")
    if text is not None and not (text.strip().isascii() and text.strip().isdigit()):
        raise PosxError(f"--train-length {text} is not a number of tokens.", "Give one, such as --train-length 2048.")
    flags = [("--train-length", "train.context", None if text is None else text.strip())]
    out = as_overrides(flags, overrides)
    tokens = text if text is not None else given["train.context"]
    if tokens.strip().isdigit() and int(tokens) > TrainConfig().batch_tokens and "train.batch_tokens" not in given:
        out.append(f"train.batch_tokens={int(tokens)}")
    return out


@dataclass(frozen=True)
class Question:
    """Trained with so many tokens, given so many, with an extension: as it was typed."""

    length: str
    train_length: str | None = None
    extension: str | None = None
    overrides: Sequence[str] = ()


@torch.no_grad()
def answer(name: str, question: Question, catalog: Catalog = PACKAGED) -> Answer:
    """What happens to this scheme. Raises PosxError."""
    asked = trained_at(question.train_length, question.overrides)
    config = compose_run(as_overrides([("--scheme", "scheme", name)], asked), catalog)
    if config.train.extension != "none":
        raise PosxError(
            f"train.extension={config.train.extension} belongs to a run, and a case has none.",
            f"Ask for --extension {config.train.extension}.",
        )
    tokens = parse_length(question.length, config.base_context)
    if max(tokens, config.base_context) > MOST_TOKENS:
        raise PosxError(
            f"posx explain looks at up to {MOST_TOKENS:,} tokens, but {max(tokens, config.base_context):,} were asked.",
            "Ask for fewer: what is new is the same, only less of it.",
        )
    specs = parse_extension(question.extension or "none", catalog)
    known = known_extensions(catalog)
    scheme = scheme_of(config, catalog)
    check_fit(specs, config.scheme["name"], scheme, known)
    start(scheme, config.train.seed)

    plain, applied = NONE, bind(specs, scheme, tokens)
    refused = {"none": refusal(scheme, tokens, plain), spec_name(specs): refusal(scheme, tokens, applied)}
    refused = {key: why for key, why in refused.items() if why}
    fitting: dict[str, list[str]] = {}
    for one, cls in sorted(known.items()):
        if fits(cls, scheme):
            fitting.setdefault(cls.changes, []).append(one)
    works = [
        one for some in fitting.values() for one in some
        if not refusal(scheme, tokens, bind([known[one].of(known[one].Config(), one)], scheme, tokens))
    ]  # fmt: skip
    simple = [min((one for one in some if one in works), key=lambda one: choices(known[one]), default="")
              for some in fitting.values()]  # fmt: skip
    cures = works if "none" in refused else []
    found = Answer(
        config.scheme["name"], config, scheme, tokens, spec_name(specs),
        rows(scheme, tokens, applied if specs else None, spec_name(specs) in refused), refused, fitting, cures,
        formula=formula_of("scheme", config.scheme["name"], scheme, catalog),
    )  # fmt: skip
    return replace(found, commands=commands(found, asked, cures or [one for one in simple if one], catalog))


def choices(extension: type[Extension]) -> tuple[int, int]:
    """How much of it there is to choose: settings with a value of their own, and settings. ntk before abf."""
    values = [getattr(extension.Config(), one.name) for one in fields(extension.Config)]
    return sum(value is not None for value in values), len(values)


def refusal(scheme: Scheme, length: int, extension: Applied) -> str:
    """Why the scheme cannot take so many tokens; empty where it can."""
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


def commands(found: Answer, overrides: Sequence[str], suggested: Sequence[str], catalog: Catalog) -> list[str]:
    """What trains such a model and measures it there, where posx can."""
    flags = catalog.flags()
    train = shell(["posx", "train", "--scheme", found.name, *overrides, *flags])
    some = [found.extension] if found.extended and found.extension not in found.refused else suggested
    if "none" in found.refused and not some:
        return [train]
    longer = found.length > found.context
    tried = [one for one in ["none", *some] if one not in found.refused]
    asked = [part for one in tried for part in ("--extension", one)] if longer or found.extended else []
    # Targets with so much text before them, and not with the 8 L that an evaluation asks for by itself.
    before = f"eval.target_context={max(found.length, found.context)}"
    evaluate = ["posx", "eval", "--length", str(found.length), *asked, before, *flags]
    recommend = ["posx", "recommend", "--length", str(found.length), before, *flags]
    return [train, shell(evaluate), *([shell(recommend)] if longer else [])]


# ---------------------------------------------------------------- facts


def rows(scheme: Scheme, length: int, extension: Applied | None, refused: bool) -> list[Row]:
    """Facts of each part of the model, without the extension and with it, unless that is refused."""
    several = parts(scheme)
    told: list[list[Row]] = []
    for part in several:
        plain = facts(scheme, part.scheme, length, NONE)
        extended = facts(scheme, part.scheme, length, extension) if extension and not refused else {}
        told.append([Row(what, plain.get(what), extended.get(what)) for what in {**plain, **extended}])
    of_all = [row for row in told[-1] if all(row in own for own in told)]
    found = []
    for part, own in zip(several, told, strict=True):
        where = in_layers([layer + 1 for layer in part.layers])
        found += [replace(row, what=f"{where}: {row.what}") for row in own if row not in of_all]
    return [*found, *of_all]


def facts(whole: Scheme, scheme: Scheme, length: int, extension: Applied) -> dict[str, Fact]:
    """What ``scheme`` says, then what is measured of it, then what holds for all."""
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
    return {one.what: one for one in [*scheme.facts(case), *probed, *common(scheme, case)]}


def common(scheme: Scheme, case: Case) -> list[Fact]:
    """The number of keys, and what extensions do to logits by themselves."""
    found = [Fact("keys of the last query", f"{case.context}", f"{case.keys}", {"keys": case.keys})]
    if is_softmax(scheme):
        before, now = math.log(case.context), math.log(case.keys)
        found.append(Fact("entropy if all weigh the same", f"ln {case.context} = {digits(before)} nats",
                          f"ln {case.keys} = {digits(now)} nats", {"nats": now}))  # fmt: skip
    sharper = case.extension.temperature(torch.arange(case.length))
    if sharper is not None:
        by = float(sharper[-1])
        found.append(Fact("the last query is multiplied by", "1", digits(by), {"by": by}))
    by = case.extension.sharpness()
    if by != 1:
        found.append(Fact("logits are multiplied by", "1", digits(by), {"by": by}))
    by = case.extension.amplitude() ** 2  # of q, and of k
    if by != 1:
        found.append(Fact("products of rotated pairs are multiplied by", "1", digits(by), {"by": by}))
    return found


def is_softmax(scheme: Scheme) -> bool:
    """Whether equal logits get equal weights."""
    if scheme.capabilities.has_own_attention:
        return False
    positions = torch.arange(8)
    equal = torch.zeros(1, scheme.shape.n_heads, 1, len(positions))
    weights = scheme.weights(equal, Site(positions[-1:], positions, q_start=len(positions) - 1))
    return bool(torch.allclose(weights, torch.full_like(weights, 1 / len(positions))))


def measured(whole: Scheme, scheme: Scheme, case: Case) -> list[Fact]:
    """What the hooks make of the farthest key where content says nothing, and of position vectors that never change."""
    found = []
    trained = any(True for _ in scheme.parameters())
    before, now = (
        farthest(whole, scheme, positions, extension)
        for positions, extension in ((whole.positions(case.context), NONE), (case.positions, case.extension))
    )
    if before is None or now is None or (scheme.capabilities.needs_logits and trained):  # a network at the start
        before = now = torch.zeros(1)
    if float(torch.cat([before, now]).abs().max()) > FLAT:
        values = {"added": now.tolist()}
        found.append(Fact("added to the farthest key's logit, by head", heads(before), heads(now), values))
        found.append(Fact("its weight over the token's own, at most", power(before), power(now),
                          {"weight": math.exp(float(now.max()))}))  # fmt: skip
    if whole.capabilities.embeds and not trained and case.places <= MOST_TOKENS:
        known, vectors = (unit(position_vectors(whole, p)) for p in (torch.arange(case.places), case.positions))
        alike = min(1.0, float((known @ vectors[-1]).max()))
        found.append(Fact("cosine of the last vector and the nearest trained", "1", digits(alike), {"cosine": alike}))
    return found


def farthest(whole: Scheme, scheme: Scheme, positions: Tensor, extension: Applied) -> Tensor | None:
    """The logit of the farthest key that the last query sees, less that of the token itself, [H]; q·k = 0 for all."""
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
    """``-0.5 to -512``, from the least to the most."""
    least, most = sorted((float(values.min()), float(values.max())), key=abs)
    return digits(least) if least == most else f"{digits(least)} to {digits(most)}"


def power(values: Tensor) -> str:
    """``e^-11.7 = 8.2e-06`` of the head that keeps most."""
    most = float(values.max())
    return f"e^{digits(most)} = {digits(math.exp(most))}"
