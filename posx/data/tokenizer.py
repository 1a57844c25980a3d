"""Byte-level BPE: any text can be encoded, and every token has a length in UTF-8 bytes."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from posx.errors import PosxError

PART = 2**15  # characters; longer documents are encoded in parts, so that memory use does not grow with their length
BATCH = 2**18  # characters encoded at once; each temporarily takes a few hundred bytes
# The byte-level pre-tokeniser always splits words here, whatever the context, and never looks ahead across the split.
_BETWEEN_WORDS = re.compile(r"(?<=[\w.,;:!?])(?=[ \n])")


def train_tokenizer(documents: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a tokenizer without special tokens or normalisation. The same documents give the same tokenizer.

    Memory use grows only with the number of distinct words, by about 600 bytes each.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    stop = threading.Event()

    def parts() -> Iterator[str]:
        for text in documents:
            for part, _ in _parts(text):
                if stop.is_set():
                    raise InterruptedError
                yield part

    # The library reads text in its own threads and blocks the thread that calls it. In the main thread, Python could
    # handle Ctrl-C only at the end. So a worker thread calls the library, and this one waits.
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(tokenizer.train_from_iterator, parts(), trainer)
        try:
            training.result()
        except BaseException:
            stop.set()
            raise
    return tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """Load a tokenizer.json. Raises PosxError."""
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises the bare Exception
        raise PosxError(f"{path} is not a valid tokenizer ({error}).", "Check that the run is complete.") from None


def token_bytes(tokenizer: Tokenizer) -> np.ndarray:
    """UTF-8 length of every token, uint16 [V]. In the byte-level alphabet, a character represents one byte."""
    lengths = np.zeros(tokenizer.get_vocab_size(), dtype=np.uint16)
    for token, index in tokenizer.get_vocab().items():
        lengths[index] = len(token)
    return lengths


def encode(tokenizer: Tokenizer, documents: Iterable[str]) -> Iterator[np.ndarray]:
    """Token ids of each document, in order: uint16 if the vocabulary is small enough, else uint32."""
    dtype = id_dtype(tokenizer.get_vocab_size())
    ids: list[np.ndarray] = []
    for batch in _batches(documents):
        encodings = tokenizer.encode_batch_fast([part for part, _ in batch])
        for (_, last), encoding in zip(batch, encodings, strict=True):
            ids.append(np.asarray(encoding.ids, dtype=dtype))
            if last:
                yield np.concatenate(ids)
                ids = []


def _batches(documents: Iterable[str]) -> Iterator[list[tuple[str, bool]]]:
    """Parts of documents, about BATCH characters at a time."""
    batch: list[tuple[str, bool]] = []
    size = 0
    for text in documents:
        for part, last in _parts(text):
            batch.append((part, last))
            size += len(part)
            if size >= BATCH:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    """Parts of a document, each with a flag for the last one. Their concatenated tokens are the document's tokens.

    A text without spaces and line feeds is not cut.
    """
    start = 0
    while cut := _BETWEEN_WORDS.search(text, start + PART):
        yield text[start : cut.start()], False
        start = cut.start()
    yield text[start:], True


def id_dtype(vocab_size: int) -> type[np.unsignedinteger]:
    """The smallest type that holds all ids."""
    return np.uint16 if vocab_size <= 2**16 else np.uint32
