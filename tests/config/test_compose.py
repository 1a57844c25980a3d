"""Tests of ``posx.config.compose``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from fixtures.composed import refused, whole
from posx.config.catalog import PACKAGED, packaged_configs
from posx.config.compose import as_overrides, compose_eval, read_run_config, to_yaml
from posx.config.schema import EvalConfig, OptimConfig, TrainConfig
from posx.errors import PosxError
from posx.models.build import complete, compose_run, make_scheme
from posx.models.classes import known_schemes
from posx.models.decoder import model_shape


def test_default_then_yaml_then_override() -> None:
    tiny = yaml.safe_load((packaged_configs() / "model" / "tiny.yaml").read_text("utf-8"))
    config = compose_run([])
    assert config.train.log_every == TrainConfig().log_every  # not set in any YAML file
    assert tiny["optim"]["lr"] != OptimConfig().lr
    assert config.optim.lr == tiny["optim"]["lr"]
    changed = compose_run(["optim.lr=0.5", "train.log_every=7"])
    assert (changed.optim.lr, changed.train.log_every) == (0.5, 7)
    assert changed.train.steps == config.train.steps


def test_an_override_takes_precedence_over_yaml_in_any_position() -> None:
    for overrides in (["model=small", "train.context=32"], ["train.context=32", "model=small"]):
        config = compose_run(overrides)
        assert config.train.context == 32
        assert config.model.d_model == 256


@pytest.mark.parametrize("size", sorted(PACKAGED.options("model")))
def test_each_size_composes_to_the_values_of_its_yaml(size: str) -> None:
    file = yaml.safe_load((packaged_configs() / "model" / f"{size}.yaml").read_text("utf-8"))
    config = compose_run([f"model={size}"])
    assert config.model.name == size
    for section, settings in file.items():
        for key, value in settings.items():
            assert getattr(getattr(config, section), key) == value, f"{section}.{key}"


@pytest.mark.parametrize("scheme", sorted(PACKAGED.options("scheme")))
def test_each_scheme_composes_to_its_class_and_yaml(scheme: str) -> None:
    cls, settings = known_schemes()[scheme]
    config = compose_run([f"scheme={scheme}"])
    assert config.scheme["name"] == scheme
    assert settings.items() <= config.scheme.items()
    made = make_scheme(config.scheme, model_shape(config.model, config.train.context))
    assert type(made) is cls


def test_a_flag_becomes_an_override() -> None:
    assert as_overrides([("--seed", "train.seed", 3)], ["a=1"]) == ["train.seed=3", "a=1"]
    assert as_overrides([("--seed", "train.seed", None)], ["a=1"]) == ["a=1"]


@pytest.mark.parametrize(
    ("flag", "override"),
    [
        (("--scheme", "scheme", "rope"), "scheme=alibi"),
        (("--seed", "train.seed", 1), "train.seed=2"),
        (("--length", "eval.lengths", ["2x"]), "eval.lengths=[4x]"),
        (("--length", "eval.lengths", ["2x"]), "eval.lengths=[2x,4x]"),
    ],
)
def test_a_flag_that_contradicts_an_override_is_an_error(flag: tuple[str, str, Any], override: str) -> None:
    with pytest.raises(PosxError, match="contradict") as caught:
        as_overrides([flag], [override])
    assert flag[0] in str(whole(caught.value))
    assert override in str(caught.value)


@pytest.mark.parametrize(
    ("flag", "override"),
    [
        (("--scheme", "scheme", "rope"), "scheme=rope"),
        (("--seed", "train.seed", 1), "train.seed=1"),
        (("--seed", "train.seed", 1), "++train.seed=1"),
        (("--protocol", "eval.protocol", "stream"), "eval.protocol='stream'"),
        (("--length", "eval.lengths", ["2x", "3000"]), "eval.lengths=[2x,3000]"),
        (("--extension", "eval.extensions", ["pi"]), "eval.extensions=[pi]"),
        (("--extension", "eval.extensions", ["pi(s=4)"]), "eval.extensions=['pi(s=4)']"),
    ],
)
def test_a_flag_equal_to_an_override_is_dropped(flag: tuple[str, str, Any], override: str) -> None:
    assert as_overrides([flag], [override]) == [override]


@pytest.mark.parametrize("value", ["pi(s=4)", "ntk+window(w=64)", "it's", 'a "b"', "a,b", "back\\slash", "a: b", ""])
def test_a_flag_may_contain_any_character(value: str) -> None:
    """Through the whole of Hydra's grammar and back."""
    overrides = as_overrides([("--extension", "eval.extensions", [value])], [])
    assert compose_eval(overrides).extensions == [value]


def test_a_bare_word_is_not_an_override() -> None:
    with pytest.raises(PosxError, match="'rope' is not an override"):
        as_overrides([], ["rope"])


@pytest.mark.parametrize(
    ("override", "guess"),
    [
        ("train.stepz=3", "train.steps"),
        ("optim.learning_rate=1", "optim.lr"),
        ("scheme.bse=5", "scheme.base"),
        ("trian.steps=3", "train"),
        ("foo=1", "train"),
        ("+foo=1", "train"),
        ("+train.stepz=3", "train.steps"),
        ("model.heads=2", "model.n_heads"),
    ],
)
def test_the_message_for_an_unknown_key_suggests_a_key(override: str, guess: str) -> None:
    error = refused(override)
    assert override.lstrip("+").split("=")[0].split(".")[0] in error.message
    assert guess in error.hint


def test_a_plus_is_accepted_for_all_keys_or_for_none() -> None:
    """Users do not know which keys are in a YAML file."""
    errors = []
    for override in ("+train.seed=1", "+train.steps=3"):
        try:
            compose_run([override])
        except PosxError as error:
            errors.append(whole(error))
    assert len(errors) in (0, 2), str(errors[0])


@pytest.mark.parametrize("override", ["hydra.foo=1", "hydra.run.dir=x"])
def test_settings_of_hydra_are_refused(override: str) -> None:
    refused(override)


def test_an_invalid_interpolation_is_reported() -> None:
    assert "nope" in refused("data.text_field=${nope}").message


def test_text_that_hydra_cannot_parse_is_reported() -> None:
    assert "a(b" in refused("data.text_field=a(b").message


def test_training_and_evaluation_refuse_each_others_settings() -> None:
    assert "posx eval" in refused("eval.stride=2").hint
    for override in ("train.steps=3", "scheme=rope", "data.path=x", "+train.steps=3"):
        with pytest.raises(PosxError, match="belongs to training") as caught:
            compose_eval([override])
        assert "eval.*" in whole(caught.value).hint


def test_defaults_of_an_evaluation() -> None:
    config = compose_eval([])
    assert config == EvalConfig()
    assert config.lengths == ["1x", "2x", "4x"]
    assert config.extensions == ["trained"]  # and a run from scratch is trained without one
    assert compose_run([]).train.extension == "none"
    assert config.protocol == "fixed-targets"


@pytest.mark.parametrize(
    "name",
    [
        "with space.txt",
        "a=b.txt",
        "a(b).txt",
        "[x],{y}.txt",
        "it's.txt",
        'say "hi".txt',
        "#%&~!.txt",
        "λ/東京.txt",
        "a: b.txt",
        "$HOME.txt",
        "back\\slash.txt",
        "end\\",
        "${train.steps}.txt",
        "'quoted'.txt",
        "null",
        "1e3",
    ],
)
def test_a_path_is_taken_literally(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    assert Path(compose_run(["data=text", f"data.path={path}"]).data.path or "") == path


@pytest.mark.parametrize("name", ["with space.txt", "a=b.txt", "'quoted'.txt", "null", "1e3"])
def test_a_relative_path_is_taken_literally(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = compose_run(["data=text", f"data.path={name}"]).data.path
    assert (tmp_path / (path or "")) == tmp_path / name


@pytest.mark.parametrize("scheme", sorted(PACKAGED.options("scheme")))
def test_a_config_round_trips_through_yaml(scheme: str, tmp_path: Path) -> None:
    overrides = [f"scheme={scheme}", "model=small", "optim.lr=3e-4", "label='λ: x #1'", "train.threads=2"]
    config = compose_run([*overrides, "data=text", f"data.path={tmp_path}/a=b (c).txt"])
    (tmp_path / "config.yaml").write_text(to_yaml(config), "utf-8")
    assert read_run_config(tmp_path / "config.yaml") == config
    assert config.label == "λ: x #1"


def test_a_stored_config_does_not_depend_on_later_defaults(tmp_path: Path) -> None:
    """All settings are stored, including those with default values."""
    text = yaml.safe_load(to_yaml(compose_run(["scheme=rope"])))
    for section, cls in (("train", TrainConfig), ("optim", OptimConfig)):
        assert set(text[section]) == {f.name for f in dataclasses.fields(cls)}
    assert text["scheme"] == {"name": "rope", "_target_": "posx.schemes.rope.Rope", "base": 10000.0, "fraction": 1.0}


@pytest.mark.parametrize(
    "change",
    [
        ("steps: ", "stepz: "),
        ("n_heads: 4", "n_heads: 5"),
        ("n_heads: 4", "n_heads: four"),
        ("posx.schemes.rope.Rope", "os.system"),
        ("model:", "model: ["),
    ],
)
def test_an_edited_stored_config_is_checked(tmp_path: Path, change: tuple[str, str]) -> None:
    text = to_yaml(compose_run([]))
    assert change[0] in text
    (tmp_path / "config.yaml").write_text(text.replace(*change), "utf-8")
    with pytest.raises(PosxError) as caught:
        complete(read_run_config(tmp_path / "config.yaml"))
    whole(caught.value)
