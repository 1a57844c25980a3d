"""Byte-level BPE: every text has an encoding, and every token a length in UTF-8 bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from posx.errors import PosxError


def train_tokenizer(documents: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train on documents; the same documents give the same tokenizer. No special tokens, no normalisation."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    return tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """From a tokenizer.json."""
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises the bare Exception
        raise PosxError(f"{path} is not a tokenizer ({error}).", "Was the run copied whole?") from None


def token_bytes(tokenizer: Tokenizer) -> np.ndarray:
    """UTF-8 length of every token, uint16 [V]. In the byte-level alphabet a character stands for one byte."""
    lengths = np.zeros(tokenizer.get_vocab_size(), dtype=np.uint16)
    for token, index in tokenizer.get_vocab().items():
        lengths[index] = len(token)
    return lengths


def encode(tokenizer: Tokenizer, documents: Sequence[str], batch: int = 64) -> Iterable[np.ndarray]:
    """Token ids of each document, in order: uint16 where the vocabulary allows, else uint32."""
    dtype = id_dtype(tokenizer.get_vocab_size())
    for start in range(0, len(documents), batch):
        for encoding in tokenizer.encode_batch_fast(list(documents[start : start + batch])):
            yield np.asarray(encoding.ids, dtype=dtype)


def id_dtype(vocab_size: int) -> type[np.unsignedinteger]:
    """The smallest type that holds all ids."""
    return np.uint16 if vocab_size <= 2**16 else np.uint32
