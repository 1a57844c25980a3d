"""Which tokens a model reads: random slices to train on, windows of a protocol to be scored on.

A window feeds ``length`` input tokens at positions 0 .. length − 1 and so reads one token more. Its last
``scored`` predictions count. Windows of a document never cross its boundary.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

import numpy as np

from posx.config.schema import IGNORED, EvalConfig
from posx.data.corpus import Corpus, Split
from posx.errors import PosxError
from posx.utils.files import sha256_of

FEWEST_TARGETS = 64  # fewer say nothing
MOST_TOKENS = 10**9  # of one window


# ---------------------------------------------------------------- training


class Slices:
    """Random windows of ``context`` tokens, each inside one document; every start is equally likely.

    A document that is shorter than a window is taken whole and the rest is masked; documents are never joined.
    """

    def __init__(self, split: Split, context: int):
        self.split, self.context = split, context
        usable = split.lengths >= 2
        self.first = split.offsets[:-1][usable]
        self.end = split.offsets[1:][usable]
        starts = np.maximum(1, self.end - self.first - context)
        self.cumulative = np.cumsum(starts)

    def batch(self, seed: int, step: int, size: int, first: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets, int64 [size, context], of one step: a pure function of its arguments.

        Targets past a document's end are IGNORED; the inputs there are 0. With ``first`` [size], only so many tokens
        of each window follow each other, and the others begin further on in its document, anywhere.
        """
        random = np.random.Generator(np.random.Philox(key=np.array([seed, step], dtype=np.uint64)))
        drawn = random.integers(self.cumulative[-1], size=size)
        document = np.searchsorted(self.cumulative, drawn, side="right")
        before = np.where(document > 0, self.cumulative[document - 1], 0)
        start = self.first[document] + drawn - before
        place = np.arange(self.context + 1)
        index = start[:, None] + place
        if first is not None:
            left = np.maximum(0, self.end[document] - 1 - index[:, -1])
            index += random.integers(left + 1)[:, None] * (place >= first[:, None])
        inside = index < self.end[document][:, None]
        ids = np.where(inside, self.split.tokens[np.where(inside, index, 0)].astype(np.int64), 0)
        return ids[:, :-1], np.where(inside[:, 1:], ids[:, 1:], IGNORED)


def check_long_enough(corpus: Corpus, context: int) -> None:
    """Refuse a context that no training document fills."""
    longest = int(corpus.splits["train"].lengths.max())
    if longest < context + 1:
        raise PosxError(
            f"train.context={context} reads windows of {context + 1} tokens, but the longest training document has "
            f"{longest}.",
            f"Set train.context to at most {longest - 1}, or give longer documents."
            if longest > 2
            else "Give more text.",
        )


# ---------------------------------------------------------------- lengths


def parse_length(text: str, context: int) -> int:
    """``3000`` or ``1.5x`` (a multiple of the base context, at least 1, that gives whole tokens) in tokens."""
    match = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)x", text.strip())
    if match is None:
        raise PosxError(
            f"'{text}' is not a length.",
            "Give tokens, such as 3000, or a multiple of the training context, such as 2x.",
        )
    if match.group(1):
        tokens = int(match.group(1))
        if tokens < 1:
            raise PosxError("A length of 0 tokens reads nothing.", "Give at least 1.")
        return _sane(text, tokens)
    multiple = float(match.group(2))
    if multiple < 1:
        raise PosxError(
            f"A multiple is at least 1, but {text} was given.",
            f"For a shorter context give tokens: {multiple * context:g}.",
        )
    exact = min(multiple * context, 10.0 * MOST_TOKENS)
    if abs(exact - round(exact)) > 1e-9:
        raise PosxError(
            f"{text} of a context of {context} is {exact:g}, not a whole number of tokens.",
            f"Give tokens: {math.floor(exact)} or {math.ceil(exact)}.",
        )
    return _sane(text, round(exact))


def _sane(text: str, tokens: int) -> int:
    if tokens > MOST_TOKENS:
        raise PosxError(f"A length of {text} is longer than any document.", f"Give at most {MOST_TOKENS} tokens.")
    return tokens


def comparable(config: EvalConfig, contexts: list[int]) -> EvalConfig:
    """``stride`` and ``target_context`` filled in, once for all models with these base contexts L.

    Set for each model alone, models of unlike L would be scored on unlike targets. S follows the smallest L, the
    context of the targets is the longest of 8x and the lengths asked (docs/protocol.md).
    """
    lengths = [parse_length(text, context) for context in contexts for text in config.lengths]
    return replace(
        config,
        stride=config.stride or max(1, min(contexts) // 32),
        target_context=config.target_context or max(*lengths, *(8 * context for context in contexts)),
    )


def check_windows(config: EvalConfig, lengths: list[int]) -> None:
    """Refuse a stride or a context of targets that these lengths cannot have."""
    if config.protocol not in ("fixed-targets", "curve"):
        return
    stride, target_context = config.stride or 1, config.target_context or max(lengths)
    if stride > min(lengths):
        raise PosxError(
            f"eval.stride={stride} scores more tokens than a window of {min(lengths)} holds.",
            "Give a stride no longer than the shortest length.",
        )
    if config.max_targets < stride:
        raise PosxError(
            f"eval.max_targets={config.max_targets} is less than one window scores (eval.stride={stride}).",
            f"Give eval.max_targets of at least {stride}.",
        )
    if target_context < max(lengths):
        raise PosxError(
            f"eval.target_context={target_context} is shorter than a length of {max(lengths)}: "
            "windows would cross the beginning of documents.",
            "Leave eval.target_context out, or make it at least as long.",
        )


# ---------------------------------------------------------------- evaluation


@dataclass(frozen=True)
class TargetSet:
    """Which tokens are scored under fixed-targets: tails of ``stride`` targets inside single documents.

    ``ends`` int64 [n] are indices into the split's tokens of the last target of each tail, ascending;
    ``documents`` int64 [n] the document of each. ``left_out`` counts targets in ragged rests at documents' ends.
    """

    ends: np.ndarray
    documents: np.ndarray
    stride: int
    target_context: int
    available: int
    left_out: int
    sha256: str

    @property
    def n_targets(self) -> int:
        """Tokens that are scored."""
        return len(self.ends) * self.stride


def fixed_targets(
    corpus: Corpus,
    split: str,
    target_context: int,
    stride: int,
    max_targets: int,
    seed: int,
    control: int = 1,
) -> TargetSet:
    """Choose the targets; a function of its arguments alone. Raises PosxError where there are too few.

    Every target has at least ``target_context`` tokens of its document before it. If there are more than
    ``max_targets``, whole tails are drawn, seeded, spread evenly over the documents. ``control`` is the length of the
    1x control, below which no advice would help.
    """
    part = corpus.splits[split]
    tails = np.maximum(0, (part.lengths - target_context) // stride)
    if int(tails.sum()) * stride < FEWEST_TARGETS:
        raise PosxError(*_too_short(part, split, target_context, stride, control))
    left_out = int(np.maximum(0, part.lengths - target_context).sum() - tails.sum() * stride)
    random = np.random.Generator(np.random.Philox(key=np.array([seed, 0x705], dtype=np.uint64)))
    quota = _even_shares(tails, max(1, max_targets // stride), random)
    ends, documents = [], []
    for document in np.flatnonzero(quota):
        chosen = np.sort(random.choice(tails[document], size=quota[document], replace=False))
        ends.append(part.offsets[document] + target_context + (chosen + 1) * stride - 1)
        documents.append(np.full(len(chosen), document, dtype=np.int64))
    all_ends = np.concatenate(ends)
    digest = sha256_of(
        corpus.sha256,
        corpus.tokenizer_sha256,
        split,
        target_context,
        stride,
        max_targets,
        seed,
        all_ends.tobytes(),
    )
    return TargetSet(
        all_ends,
        np.concatenate(documents),
        stride,
        target_context,
        int(tails.sum()) * stride,
        left_out,
        digest,
    )


def _even_shares(available: np.ndarray, wanted: int, random: np.random.Generator) -> np.ndarray:
    """How many each document gives, so that none gives more than its share: the level that fills ``wanted``."""
    if int(available.sum()) <= wanted:
        return available
    low, high = 0, int(available.max())
    while low < high:  # the highest level at which no more than wanted are taken
        level = (low + high + 1) // 2
        low, high = (level, high) if int(np.minimum(available, level).sum()) <= wanted else (low, level - 1)
    shares = np.minimum(available, low)
    more = np.flatnonzero(available > low)
    shares[random.choice(more, size=wanted - int(shares.sum()), replace=False)] += 1
    return shares


def _too_short(part: Split, split: str, target_context: int, stride: int, control: int) -> tuple[str, str]:
    """The sentence for a split that holds too few targets, with the longest context it does hold."""
    low, high = 0, target_context
    while low < high - 1:
        middle = (low + high) // 2
        enough = int(np.maximum(0, (part.lengths - middle) // stride).sum()) * stride >= FEWEST_TARGETS
        low, high = (middle, high) if enough else (low, middle)
    message = (
        f"The {split} split has fewer than {FEWEST_TARGETS} targets with {target_context} tokens of their document "
        f"before them; its longest document has {int(part.lengths.max())} tokens."
    )
    if low < control:
        return message, f"Not even the 1x control of {control} tokens fits. Give longer documents, or more of them."
    return (
        message,
        f"It holds targets for a context of up to {low}: use lengths up to {low} and eval.target_context={low}.",
    )


@dataclass(frozen=True)
class Windows:
    """What is read and scored in one evaluation cell, in the order of the text.

    ``starts`` int64 [n]: index of the first input token; ``lengths`` int64 [n]: input tokens; ``scored`` int64
    [n]: how many of the last predictions count; ``documents`` int64 [n] (of the first scored target).
    """

    starts: np.ndarray
    lengths: np.ndarray
    scored: np.ndarray
    documents: np.ndarray


def windows_of_targets(targets: TargetSet, length: int) -> Windows:
    """The same targets seen through windows of ``length``: the end stays, the start moves."""
    count = len(targets.ends)
    return Windows(
        targets.ends - length,
        np.full(count, length, dtype=np.int64),
        np.full(count, targets.stride, dtype=np.int64),
        targets.documents,
    )


def non_overlapping(split: Split, length: int) -> Windows:
    """Each document cut into windows of ``length``; every token but a document's first is scored."""
    parts = [_cut(int(a), int(b), length) for a, b in zip(split.offsets[:-1], split.offsets[1:], strict=True)]
    starts, lengths = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    documents = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
    return Windows(starts, lengths, lengths, documents)


def stream(split: Split, length: int) -> Windows:
    """All documents as one stream, cut into windows of ``length``; every token but the first is scored."""
    starts, lengths = _cut(0, int(split.offsets[-1]), length)
    documents = np.searchsorted(split.offsets, starts + 1, side="right") - 1
    return Windows(starts, lengths, lengths, documents)


def _cut(first: int, end: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Starts and lengths of windows over tokens [first, end): the last one may be shorter."""
    starts = np.arange(first, end - 1, length, dtype=np.int64)
    return starts, np.minimum(length, end - 1 - starts)
