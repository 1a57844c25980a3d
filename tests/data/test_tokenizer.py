"""Tests of ``posx.data.tokenizer``."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from fixtures.corpora import many, python
from posx.data import tokenizer as tokens
from posx.data.tokenizer import encode, load_tokenizer, token_bytes, train_tokenizer
from posx.errors import PosxError


@functools.cache
def _tokenizer() -> tuple[Tokenizer, np.ndarray]:
    """A tokenizer with merges inside characters; otherwise, byte lengths would be trivial."""
    made = train_tokenizer(["東京東京 Ärger über naïve 👍🏽👍🏽 the the then " * 9, *many(20)], 400)
    assert any(len(token) == 2 and token[0] == "æ" for token in made.get_vocab()), "東 is 0xe6 0x9d 0xb1"
    return made, token_bytes(made)


@given(st.text(max_size=80))
@settings(max_examples=150, deadline=None)
def test_any_text_round_trips_and_its_bytes_add_up(text: str) -> None:
    """Decoding restores the text, and the lengths of the tokens add up to its UTF-8 bytes."""
    tokenizer, lengths = _tokenizer()
    (ids,) = encode(tokenizer, [text])
    assert tokenizer.decode(ids.tolist(), skip_special_tokens=False) == text
    assert int(lengths[ids].sum()) == len(text.encode("utf-8"))


@given(st.lists(st.text(st.sampled_from("ab é1_.,'s\n\t \u00a0\x1c東"), max_size=60), max_size=4), st.integers(1, 9))
@settings(max_examples=300, deadline=None)
def test_encoding_in_parts_gives_the_tokens_of_the_whole_document(texts: list[str], part: int) -> None:
    tokenizer, _ = _tokenizer()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "PART", part)
        patch.setattr(tokens, "BATCH", 3 * part)
        in_parts = [ids.tolist() for ids in encode(tokenizer, iter(texts))]
    assert in_parts == [tokenizer.encode(text).ids for text in texts]


@pytest.mark.parametrize(
    "text", ["  two  spaces ", "\u00e9 and e\u0301", "\ufb01", "\x00\x7f", "\r\n\n", "<|endoftext|>", "\ufeff"]
)
def test_nothing_is_normalised(text: str) -> None:
    tokenizer, _ = _tokenizer()
    (ids,) = encode(tokenizer, [text])
    assert tokenizer.decode(ids.tolist(), skip_special_tokens=False) == text


def test_the_same_documents_give_the_same_tokenizer() -> None:
    first, second = (train_tokenizer(iter(many(20)), 350).to_str() for _ in range(2))
    assert first == second


CTRL_C = """
import itertools, os, signal, threading, time
from posx.data.tokenizer import train_tokenizer
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    train_tokenizer(itertools.repeat("text without end " * 1000), 300)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_interrupts_the_training_of_a_tokenizer() -> None:
    """The library trains in its own threads. The text is infinite, so that only the signal ends training."""
    done = python(CTRL_C, TOKENIZERS_PARALLELISM="true")
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


def test_a_damaged_tokenizer_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(PosxError) as caught:
        load_tokenizer(tmp_path / "tokenizer.json")
    assert str(tmp_path / "tokenizer.json") in str(caught.value)
