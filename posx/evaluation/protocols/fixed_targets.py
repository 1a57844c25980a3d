"""fixed-targets: the same targets at every length, with the text right before them as context (docs/protocol.md)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posx.config.schema import EvalConfig
from posx.data.corpus import Corpus, Split
from posx.errors import PosxError
from posx.evaluation.protocols.base import Protocol, Windows
from posx.utils.files import sha256_of
from posx.utils.streams import stream

FEWEST_TARGETS = 64  # with fewer, a result means nothing


@dataclass(frozen=True)
class TargetSet:
    """The tokens that fixed-targets scores: tails of ``stride`` targets within single documents.

    ``ends`` int64 [n] are indices into the split's tokens of the last target of each tail, ascending;
    ``documents`` int64 [n] are their documents. ``left_out``: the number of targets in incomplete tails.
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
        """The number of scored tokens."""
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
    """Select the targets, a function of the arguments alone. Raises PosxError if there are too few.

    Every target has at least ``target_context`` tokens of its document before it. If there are more than
    ``max_targets``, whole tails are drawn, seeded, spread evenly over the documents. ``control`` is the length of the
    1x control: a shorter target context cannot be recommended.
    """
    part = corpus.splits[split]
    tails = np.maximum(0, (part.lengths - target_context) // stride)
    if int(tails.sum()) * stride < FEWEST_TARGETS:
        raise PosxError(*_too_short(part, split, target_context, stride, control))
    left_out = int(np.maximum(0, part.lengths - target_context).sum() - tails.sum() * stride)
    random = stream("targets", seed)
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
    """The number from each document, as equal as possible: the level at which the sum is ``wanted``."""
    if int(available.sum()) <= wanted:
        return available
    low, high = 0, int(available.max())
    while low < high:  # the highest level with at most ``wanted`` in total
        level = (low + high + 1) // 2
        low, high = (level, high) if int(np.minimum(available, level).sum()) <= wanted else (low, level - 1)
    shares = np.minimum(available, low)
    more = np.flatnonzero(available > low)
    shares[random.choice(more, size=wanted - int(shares.sum()), replace=False)] += 1
    return shares


def _too_short(part: Split, split: str, target_context: int, stride: int, control: int) -> tuple[str, str]:
    """The error for a split with too few targets, with the longest context that has enough."""
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
        return message, f"Even the 1x control of {control} tokens does not fit. Use longer documents, or more of them."
    return (
        message,
        f"It has enough targets with a context of {low}: use lengths up to {low} and eval.target_context={low}.",
    )


def windows_of_targets(targets: TargetSet, length: int) -> Windows:
    """The windows of ``length`` tokens that end at the same targets."""
    count = len(targets.ends)
    return Windows(
        targets.ends - length,
        np.full(count, length, dtype=np.int64),
        np.full(count, targets.stride, dtype=np.int64),
        targets.documents,
    )


def targets_of(corpus: Corpus, config: EvalConfig, context: int) -> TargetSet:
    """The target set of a complete config, with a 1x control of ``context``. Raises PosxError if it is too small."""
    assert config.target_context
    assert config.stride
    return fixed_targets(
        corpus,
        config.split,
        config.target_context,
        config.stride,
        config.max_targets,
        config.seed,
        control=context,
    )


class FixedTargets(Protocol):
    """Windows that end at the same targets at every length."""

    name = "fixed-targets"
    targets: TargetSet

    def __init__(self, corpus: Corpus, config: EvalConfig, base_context: int):
        super().__init__(corpus, config, base_context)
        self.targets = targets_of(corpus, config, base_context)

    def windows(self, length: int) -> Windows:
        return windows_of_targets(self.targets, length)

    def sha256(self, length: int) -> str:
        return self.targets.sha256
