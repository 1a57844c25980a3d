"""Composing a config: defaults, YAML, overrides, flags; and every mistake as a sentence."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from posx.config.catalog import PACKAGED, Catalog, packaged_configs
from posx.config.compose import as_overrides, compose_eval, read_run_config, to_yaml
from posx.config.schema import EvalConfig, OptimConfig, TrainConfig
from posx.errors import PosxError
from posx.models.binding import parse_extension, spec_name
from posx.models.build import compose_run, make_scheme
from posx.models.classes import known_schemes
from posx.models.decoder import model_shape


def refused(*overrides: str, config_dir: Path | None = None, trust: bool = False) -> PosxError:
    """The error of a training config; it must be a whole one."""
    with pytest.raises(PosxError) as caught:
        compose_run(list(overrides), Catalog(config_dir, trust))
    return whole(caught.value)


def whole(error: PosxError) -> PosxError:
    """A sentence, a way out, exit code 2, and none of Hydra's words."""
    assert error.message[-1] in ".!"
    assert error.hint
    assert error.code == 2
    for word in ("Traceback", "object_type", "full_key", "OmegaConf", "hydra.cc"):
        assert word not in str(error)
    return error


# ---------------------------------------------------------------- order


def test_default_then_yaml_then_override() -> None:
    tiny = yaml.safe_load((packaged_configs() / "model" / "tiny.yaml").read_text("utf-8"))
    config = compose_run([])
    assert config.train.log_every == TrainConfig().log_every  # no YAML speaks of it
    assert tiny["optim"]["lr"] != OptimConfig().lr
    assert config.optim.lr == tiny["optim"]["lr"]
    changed = compose_run(["optim.lr=0.5", "train.log_every=7"])
    assert (changed.optim.lr, changed.train.log_every) == (0.5, 7)
    assert changed.train.steps == config.train.steps


def test_an_override_beats_the_yaml_wherever_it_stands() -> None:
    for overrides in (["model=small", "train.context=32"], ["train.context=32", "model=small"]):
        config = compose_run(overrides)
        assert config.train.context == 32
        assert config.model.d_model == 256


@pytest.mark.parametrize("size", sorted(PACKAGED.options("model")))
def test_each_size_composes_to_what_its_yaml_says(size: str) -> None:
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


# ---------------------------------------------------------------- flags


def test_a_flag_is_one_override() -> None:
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
def test_a_flag_against_an_override_is_an_error(flag: tuple[str, str, Any], override: str) -> None:
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
def test_a_flag_beside_an_equal_override_is_none(flag: tuple[str, str, Any], override: str) -> None:
    assert as_overrides([flag], [override]) == [override]


@pytest.mark.parametrize("value", ["pi(s=4)", "ntk+window(w=64)", "it's", 'a "b"', "a,b", "back\\slash", "a: b", ""])
def test_a_flag_may_hold_any_sign(value: str) -> None:
    """Through the whole of Hydra's grammar and back."""
    overrides = as_overrides([("--extension", "eval.extensions", [value])], [])
    assert compose_eval(overrides).extensions == [value]


def test_a_bare_word_is_not_an_override() -> None:
    with pytest.raises(PosxError, match="'rope' is not an override"):
        as_overrides([], ["rope"])


# ---------------------------------------------------------------- keys and types


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
def test_an_unknown_key_says_what_there_is(override: str, guess: str) -> None:
    error = refused(override)
    assert override.lstrip("+").split("=")[0].split(".")[0] in error.message
    assert guess in error.hint


def test_a_plus_is_taken_for_every_key_or_for_none() -> None:
    """Which keys a YAML happens to hold is nothing that a user knows."""
    errors = []
    for override in ("+train.seed=1", "+train.steps=3"):
        try:
            compose_run([override])
        except PosxError as error:
            errors.append(whole(error))
    assert len(errors) in (0, 2), str(errors[0])


@pytest.mark.parametrize("override", ["hydra.foo=1", "hydra.run.dir=x"])
def test_hydras_own_settings_are_unknown_keys(override: str) -> None:
    refused(override)


@pytest.mark.parametrize(
    ("override", "wanted"),
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
def test_a_wrong_type_says_which_is_wanted(override: str, wanted: str) -> None:
    error = refused(override)
    key, _, value = override.partition("=")
    assert key in error.message
    assert f"takes {wanted}" in error.message
    assert value.strip("[]").split(",")[0].lower() in error.message.lower()


def test_a_list_is_wanted_for_lengths() -> None:
    with pytest.raises(PosxError, match=r"eval\.lengths takes a list, but '2x' was given"):
        compose_eval(["eval.lengths=2x"])


@pytest.mark.parametrize(
    ("override", "guess"),
    [("scheme=rop", "rope"), ("model=tinny", "tiny"), ("data=wikitext", "wikitext103"), ("optim=adam", "adamw")],
)
def test_an_unknown_option_says_did_you_mean(override: str, guess: str) -> None:
    error = refused(override)
    assert override.partition("=")[2] in error.message
    assert f"Did you mean {guess}" in error.hint


def test_a_broken_interpolation_is_a_sentence() -> None:
    assert "nope" in refused("data.text_field=${nope}").message


def test_words_that_hydra_cannot_parse_are_a_sentence() -> None:
    assert "a(b" in refused("data.text_field=a(b").message


# ---------------------------------------------------------------- ranges


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
def test_a_value_out_of_range_is_named(overrides: str, key: str) -> None:
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
def test_what_lies_just_inside_its_range_is_taken(overrides: str) -> None:
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
def test_eval_settings_are_checked_too(override: str) -> None:
    with pytest.raises(PosxError) as caught:
        compose_eval([override])
    assert override.partition("=")[0] in str(whole(caught.value)) or "was asked" in str(caught.value)


def test_training_and_evaluation_do_not_take_each_others_settings() -> None:
    assert "posx eval" in refused("eval.stride=2").hint
    for override in ("train.steps=3", "scheme=rope", "data.path=x", "+train.steps=3"):
        with pytest.raises(PosxError, match="belongs to training") as caught:
            compose_eval([override])
        assert "eval.*" in whole(caught.value).hint


def test_defaults_of_an_evaluation() -> None:
    config = compose_eval([])
    assert config == EvalConfig()
    assert config.lengths == ["1x", "2x", "4x"]
    assert config.extensions == ["trained"]  # and a run from scratch was trained with none
    assert compose_run([]).train.extension == "none"
    assert config.protocol == "fixed-targets"


# ---------------------------------------------------------------- paths


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


# ---------------------------------------------------------------- a directory of one's own

SCHEME = """
from dataclasses import dataclass
from posx.schemes.alibi import Alibi
from posx.schemes.base import Scheme

@dataclass
class Config:
    strength: float = 2.0

class Strange(Scheme):
    Config = Config
    formula = "strange"

class NotOne:
    pass

open(__file__ + ".was-imported", "w").close()
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's package ``strangepos`` on sys.path; importing it leaves a file beside it."""
    (tmp_path / "site" / "strangepos").mkdir(parents=True)
    (tmp_path / "site" / "strangepos" / "__init__.py").write_text(SCHEME)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "strangepos", raising=False)
    return tmp_path / "site" / "strangepos"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A --config-dir with a scheme of posx under another name and a scheme of the package."""
    folder = tmp_path / "own"
    (folder / "scheme").mkdir(parents=True)
    (folder / "scheme" / "rope-500k.yaml").write_text("_target_: posx.schemes.rope.Rope\nbase: 500000\n")
    (folder / "scheme" / "strange.yaml").write_text("_target_: strangepos.Strange\nstrength: 3\n")
    return folder


def test_a_config_dir_adds_options(own: Path) -> None:
    assert compose_run(["scheme=rope-500k"], Catalog(own)).scheme == {
        "name": "rope-500k",
        "_target_": "posx.schemes.rope.Rope",
        "base": 500000.0,
        "fraction": 1.0,
    }
    assert compose_run(["scheme=rope-500k", "scheme.base=99"], Catalog(own)).scheme["base"] == 99
    assert "rope-500k" not in PACKAGED.options("scheme")
    assert "rope-500k" not in refused("scheme=rope-500").hint
    assert "Did you mean rope-500k" in refused("scheme=rope-500", config_dir=own).hint


def test_a_config_dir_with_signs_in_its_path(own: Path, tmp_path: Path) -> None:
    other = own.rename(tmp_path / "my configs (v=2), 100%")
    assert compose_run(["scheme=rope-500k"], Catalog(other)).scheme["base"] == 500000


def test_a_clash_of_names_is_an_error(own: Path) -> None:
    (own / "scheme" / "alibi.yaml").write_text("_target_: posx.schemes.rope.Rope\n")
    assert "alibi.yaml" in refused("scheme=rope", config_dir=own).message


def test_a_missing_config_dir_is_an_error(tmp_path: Path) -> None:
    assert "not a directory" in refused(config_dir=tmp_path / "nowhere").message
    (tmp_path / "file").touch()
    assert "not a directory" in refused(config_dir=tmp_path / "file").message


def test_a_broken_yaml_of_ones_own_is_a_sentence(own: Path) -> None:
    (own / "scheme" / "broken.yaml").write_text("_target_: [posx\n")
    assert "broken" in str(refused("scheme=broken", config_dir=own))
    (own / "scheme" / "empty.yaml").write_text("")
    assert "_target_" in str(refused("scheme=empty", config_dir=own))


def test_foreign_code_is_not_imported_without_trust(own: Path, package: Path) -> None:
    error = refused("scheme=strange", config_dir=own)
    assert "--trust" in error.hint
    assert [p.name for p in package.iterdir()] == ["__init__.py"]


def test_foreign_code_works_with_trust(own: Path, package: Path) -> None:
    config = compose_run(["scheme=strange"], Catalog(own, trust=True))
    assert config.scheme == {"name": "strange", "_target_": "strangepos.Strange", "strength": 3.0}
    made = make_scheme(config.scheme, model_shape(config.model, 64), Catalog(own, trust=True))
    assert (type(made).__name__, made.config.strength) == ("Strange", 3.0)
    assert (package / "__init__.py.was-imported").exists()
    assert "scheme.strength" in refused("scheme=strange", "scheme.strenght=1", config_dir=own, trust=True).hint


@pytest.mark.parametrize("prefix", ["posxtra", "posx_evil"])
def test_a_name_that_only_begins_like_posx_is_foreign(prefix: str) -> None:
    assert "--trust" in refused(f"scheme._target_={prefix}.Rope").hint


@pytest.mark.parametrize(
    "target",
    [
        "posx.schemes.rope.Nope",
        "posx.nowhere.Rope",
        "posx.extensions.pi.PI",
        "posx.schemes.rope.RopeConfig",
        "posx.compose.yaml",
        "Rope",
        "5",
        "null",
    ],
)
def test_a_target_that_is_no_scheme_of_posx_is_a_sentence(target: str) -> None:
    refused(f"scheme._target_={target}")


@pytest.mark.parametrize(
    "target", ["strangepos.NotOne", "strangepos.Missing", "strangepos.deeper.Strange", "nowhere.X"]
)
def test_trust_does_not_make_a_scheme_of_anything(target: str, package: Path) -> None:
    refused(f"scheme._target_={target}", trust=True)


# ---------------------------------------------------------------- extensions


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("none", "none"),
        ("pi", "pi"),
        ("pi()", "pi"),
        (" pi ", "pi"),
        ("pi(s=4)", "pi(s=4)"),
        ("pi(s=4.0)", "pi(s=4)"),
        ("pi( s = 4 )", "pi(s=4)"),
        ("pi(s=2.5)", "pi(s=2.5)"),
        ("ntk+window", "ntk+window"),
        ("window+ntk", "ntk+window"),
        ("window(w=64)+ntk(s=2)", "ntk(s=2)+window(w=64)"),
        ("ntk(s=2) + window(w=64)", "ntk(s=2)+window(w=64)"),
        ("interpolate", "interpolate"),
    ],
)
def test_an_extension_has_one_name_however_it_is_typed(text: str, name: str) -> None:
    specs = parse_extension(text)
    assert spec_name(specs) == name
    assert spec_name(parse_extension(name)) == name
    assert parse_extension(name) == sorted(specs, key=str)


def test_parameters_arrive_with_their_types() -> None:
    (pi,) = parse_extension("pi(s=4)")
    assert (pi.params, type(pi.params["s"])) == ({"s": 4.0}, float)
    (window,) = parse_extension("window(w=64)")
    assert (window.config.w, type(window.config.w)) == (64, int)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not an extension"),
        ("+", "is not an extension"),
        ("pi+", "is not an extension"),
        ("+pi", "is not an extension"),
        ("pi++ntk", "is not an extension"),
        ("pi(s=4", "is not an extension"),
        ("pi)", "is not an extension"),
        ("pi s=4", "is not an extension"),
        ("pi,ntk", "is not an extension"),
        ("pii", "Did you mean pi"),
        (
            "4",
            "There are: abf, alibi-scale, by-parts, dual-chunk, dynamic-ntk, interpolate, leaky-rerope, llama3, ",
        ),
        ("pi(4)", "is not a parameter"),
        ("pi(t=4)", "pi.s"),
        ("pi(=4)", "pi.s"),
        ("pi(s=)", "pi.s takes a number"),
        ("pi(s=four)", "pi.s takes a number"),
        ("pi(s=0.5)", "at least 1"),
        ("pi(s=-2)", "at least 1"),
        ("pi(s=nan)", "s=nan"),
        ("ntk(s=inf)", "s=inf"),
        ("window(w=0)", "w"),
        ("window(w=2.5)", "window.w takes a whole number"),
        ("interpolate(s=4)", "interpolate.s"),
        ("pi+pi", "twice"),
        ("pi(s=2)+pi(s=4)", "twice"),
        ("pi(s=2,s=4)", "s"),
        ("none+pi", "none stands alone"),
        ("none(s=1)", "none stands alone"),
    ],
)
def test_what_is_no_extension_is_a_sentence(text: str, says: str) -> None:
    with pytest.raises(PosxError) as caught:
        parse_extension(text)
    assert says in str(whole(caught.value))


def test_a_list_of_choices_is_never_empty() -> None:
    with pytest.raises(PosxError) as caught:
        parse_extension("interpolate(s=4)")
    assert "There are: ." not in str(caught.value)


# ---------------------------------------------------------------- stored


@pytest.mark.parametrize("scheme", sorted(PACKAGED.options("scheme")))
def test_a_config_comes_back_from_its_yaml(scheme: str, tmp_path: Path) -> None:
    overrides = [f"scheme={scheme}", "model=small", "optim.lr=3e-4", "label='λ: x #1'", "train.threads=2"]
    config = compose_run([*overrides, "data=text", f"data.path={tmp_path}/a=b (c).txt"])
    (tmp_path / "config.yaml").write_text(to_yaml(config), "utf-8")
    assert read_run_config(tmp_path / "config.yaml") == config
    assert config.label == "λ: x #1"


def test_a_stored_config_does_not_follow_later_defaults(tmp_path: Path) -> None:
    """Everything is written out, also what nobody asked for."""
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
def test_a_stored_config_that_was_edited_is_checked_again(tmp_path: Path, change: tuple[str, str]) -> None:
    text = to_yaml(compose_run([]))
    assert change[0] in text
    (tmp_path / "config.yaml").write_text(text.replace(*change), "utf-8")
    with pytest.raises(PosxError) as caught:
        read_run_config(tmp_path / "config.yaml")
    whole(caught.value)
