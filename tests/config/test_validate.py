"""Tests of ``posx.config.validate``."""

from __future__ import annotations

import dataclasses

import pytest

from fixtures.composed import refused, whole
from posx.config.compose import compose_eval
from posx.errors import PosxError
from posx.models.build import compose_run


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.steps=ten", "a whole number"),
        ("train.steps=10.5", "a whole number"),
        ("train.steps=", "a whole number"),
        ("train.steps=[1,2]", "a whole number"),
        ("train.steps=true", "a whole number"),
        ("optim.lr=fast", "a number"),
        ("model.tie_embeddings=maybe", "true or false"),
        ("train.threads=two", "a whole number or null"),
        ("scheme.base=big", "a number"),
        ("train=5", "keys and values"),
    ],
)
def test_the_message_for_a_wrong_type_names_the_right_one(override: str, expected: str) -> None:
    error = refused(override)
    key, _, value = override.partition("=")
    assert key in error.message
    assert f"takes {expected}" in error.message
    assert value.strip("[]").split(",")[0].lower() in error.message.lower()


def test_lengths_must_be_a_list() -> None:
    with pytest.raises(PosxError, match=r"eval\.lengths takes a list, but '2x' was given"):
        compose_eval(["eval.lengths=2x"])


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ("train.context=0", "train.context=0"),
        ("train.context=1", "train.context=1"),
        ("train.context=-5", "train.context=-5"),
        ("train.steps=0", "train.steps=0"),
        ("train.batch_tokens=63", "train.batch_tokens=63"),
        ("train.accumulation=0", "train.accumulation=0"),
        ("train.accumulation=7", "train.accumulation=7"),
        ("train.seed=-1", "train.seed=-1"),
        ("train.seed=18446744073709551616", "train.seed"),
        ("train.threads=0", "train.threads=0"),
        ("train.dtype=float16", "train.dtype=float16"),
        ("train.compile=yes", "train.compile"),
        ("train.device=tpu", "train.device=tpu"),
        ("tokenizer.vocab_size=255", "tokenizer.vocab_size=255"),
        ("model.n_heads=3", "model.n_heads=3"),
        ("model.n_heads=0", "model.n_heads=0"),
        ("model.n_layers=0", "model.n_layers=0"),
        ("model.d_model=0", "model.d_model=0"),
        ("model.family=bert", "model.family=bert"),
        ("model.n_kv_heads=3", "model.n_kv_heads=3"),
        ("model.head_dim=31", "31"),
        ("model.n_heads=128", "rope rotates pairs"),
        ("optim.lr=0", "optim.lr=0"),
        ("optim.lr=-1", "optim.lr=-1"),
        ("optim.lr=nan", "optim.lr=nan"),
        ("optim.lr=inf", "optim.lr=inf"),
        ("optim.final_lr=2", "optim.final_lr=2"),
        ("optim.beta1=1", "optim.beta1=1"),
        ("optim.weight_decay=-0.1", "optim.weight_decay"),
        ("optim.weight_decay=nan", "optim.weight_decay"),
        ("data.max_bytes=0", "data.max_bytes"),
        ("data=text", "data=text"),
        ("scheme.base=1", "scheme.base=1"),
        ("scheme.fraction=0", "scheme.fraction"),
        ("scheme.fraction=1.5", "scheme.fraction"),
        ("scheme=partial-rope scheme.fraction=0.03", "scheme.fraction"),
        ("scheme=learned scheme.combine=mul", "scheme.combine"),
        ("scheme=learned scheme.width=8", "scheme.width"),
        ("scheme=learned-concat scheme.width=128", "width"),
        ("scheme=t5 scheme.buckets=0", "buckets"),
        ("scheme=t5 train.context=8", "scheme.buckets"),
    ],
)
def test_the_message_names_a_value_out_of_range(overrides: str, key: str) -> None:
    assert key in str(refused(*overrides.split()))


@pytest.mark.parametrize(
    "overrides",
    [
        "train.context=2 train.batch_tokens=2",
        "train.accumulation=8",
        "model.head_dim=31 scheme=alibi",
        "model.n_heads=3 model.head_dim=32",
        "model.n_kv_heads=2 model.family=llama",
        "tokenizer.vocab_size=256",
        "train.seed=0",
        "optim.grad_clip=0.0",
        "scheme=learned-concat scheme.width=8",
        "model.n_heads=64",
    ],
)
def test_values_at_the_edge_of_their_range_are_accepted(overrides: str) -> None:
    config = dataclasses.asdict(compose_run(overrides.split()))
    for override in overrides.split():
        key, _, value = override.partition("=")
        section, _, name = key.partition(".")
        assert str(config[section][name] if name else config[section]["name"]) == value


@pytest.mark.parametrize(
    "override",
    [
        "eval.stride=0",
        "eval.max_targets=0",
        "eval.protocol=streem",
        "eval.split=train",
        "eval.dtype=float16",
        "eval.lengths=[]",
        "eval.extensions=[]",
        "eval.seed=-1",
        "eval.seed=18446744073709551616",
        "eval.strid=3",
        "eval.stride=x",
    ],
)
def test_eval_settings_are_checked(override: str) -> None:
    with pytest.raises(PosxError) as caught:
        compose_eval([override])
    assert override.partition("=")[0] in str(whole(caught.value)) or "given" in str(caught.value)
