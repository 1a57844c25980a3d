"""Composition of configs from overrides and the catalog's files. The only module that imports hydra."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from posx.config.catalog import GROUPS, PACKAGED, Catalog, read_yaml
from posx.config.schema import EvalConfig, EvalRoot, RunConfig
from posx.config.validate import check_eval, check_train, needs_a_start, typed
from posx.errors import PosxError, unknown

# Values of these keys are taken literally: paths and labels may contain characters that are special to Hydra.
LITERAL = ("data.path", "data.cache_dir", "label")


# ---------------------------------------------------------------- flags and overrides


def as_overrides(flags: Iterable[tuple[str, str, Any]], overrides: Iterable[str]) -> list[str]:
    """Convert flags (name, key, value) to overrides; None means not given. Raises PosxError on a contradiction."""
    overrides = list(overrides)
    for override in overrides:
        if "=" not in override and not override.startswith("~"):
            raise PosxError(f"'{override}' is not an override.", "Overrides look like train.steps=100.")
    by_key = {key_of(o): o for o in overrides}
    added = []
    for flag, key, value in flags:
        if value is None:
            continue
        if key not in by_key:
            added.append(f"{key}={quote(value)}")
        elif _bare(by_key[key].partition("=")[2]) != _bare(",".join(value) if isinstance(value, list) else str(value)):
            text = " ".join(map(str, value)) if isinstance(value, list) else value
            raise PosxError(f"{flag} {text} and {by_key[key]} contradict each other.", "Give only one of them.")
    return added + overrides


def key_of(override: str) -> str:
    """The key that an override sets."""
    return override.lstrip("+~").partition("=")[0]


def quote(value: Any) -> str:
    """Quote a value so that Hydra's grammar reads it literally."""
    if isinstance(value, list):
        return "[" + ",".join(map(quote, value)) + "]"
    text = str(value)
    return text if re.fullmatch(r"[A-Za-z0-9_.\-/]+", text) else "'" + text.replace("'", "\\'") + "'"


def _bare(value: str) -> str:
    """A value without quotes, brackets and spaces, for comparisons."""
    return re.sub(r"[\[\]'\"\s]", "", value)


def _compose(root: str, overrides: list[str], catalog: Catalog) -> dict[str, Any]:
    """Hydra's composition as a plain dict, with the chosen option of each group as its ``name``."""
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    folders = catalog.folders
    prepared, literal = [], {}
    for override in overrides:
        key, _, value = override.partition("=")
        if key in GROUPS:
            known = catalog.options(key)
            if value not in known:
                raise unknown(key, value, known)
            read_yaml(known[value], f"{key} config")  # an invalid file raises PosxError here, not an error of Hydra
            prepared.append(override)
        elif key in LITERAL:
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
            literal[key] = value[1:-1] if quoted else value
        elif key_of(override).split(".")[0] == "hydra":
            raise PosxError(f"{override} is a setting of Hydra, not of posx.", "posx config lists all settings.")
        elif key.startswith("~"):
            prepared.append(override)
        else:
            # YAML files contain only differences from the defaults, so most keys are new to Hydra.
            prepared.append("++" + override.lstrip("+"))
    if catalog.config_dir is not None:
        prepared.append(f"hydra.searchpath=[{quote('file://' + str(folders[1]))}]")
    try:
        with initialize_config_dir(str(folders[0]), version_base="1.3"):
            composed = compose(root, overrides=prepared, return_hydra_config=True)
            choices = dict(composed.hydra.runtime.choices)
            sections = [str(key) for key in composed if key != "hydra"]
            plain = OmegaConf.to_container(OmegaConf.masked_copy(composed, sections), resolve=True)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        reason = " ".join(f"{error} {error.__cause__ or ''}".split()).replace("++", "")
        reason = re.sub(
            r"See https?://\S+ for details|full_key:.*|reference_type=\S+|object_type=\S+", "", reason
        ).strip()
        raise PosxError(
            f"The overrides are not valid: {reason}.",
            "Overrides look like train.steps=100; quote text with special characters: \"key='a(b)'\".",
        ) from None
    assert isinstance(plain, dict)
    result: dict[str, Any] = {str(key): value for key, value in plain.items()}
    for group in GROUPS:
        if isinstance(result.get(group), dict):
            result[group]["name"] = choices.get(group) or result[group].get("name", "")
    for key, value in literal.items():
        section, _, name = key.rpartition(".")
        (result.setdefault(section, {}) if section else result)[name] = value
    return result


# ---------------------------------------------------------------- configs of runs and evaluations


def compose_settings(overrides: list[str], catalog: Catalog = PACKAGED) -> RunConfig:
    """The config of a training run, without checks that require its classes. Raises PosxError.

    ``posx.models.build.compose_run`` completes it and checks the settings of the scheme and the extension.
    """
    for override in overrides:
        if override.lstrip("+").startswith("eval."):
            raise PosxError(
                f"{override} is a setting of an evaluation, not of a training run.", "Pass it to posx eval."
            )
        if override.lstrip("+~").startswith("start"):
            raise PosxError(f"{override} cannot be set directly; --from sets it.", "Use posx train --from RUN.")
        if key_of(override) in ("train.recipe", "train.reach") and override.partition("=")[2] not in ("none", "null"):
            raise needs_a_start(override)
    values = _compose("train", overrides, catalog)
    config = typed(RunConfig, values)
    check_train(config)
    if config.data.source == "text":  # so that the run finds its text from any directory
        config.data.path = str(Path(config.data.path or "").expanduser().resolve())
    return config


def override_value(override: str) -> Any:
    """The value of ``key=value``, with the type that Hydra gives it. Raises PosxError."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(override.lstrip("+")).value()
    except HydraException as error:
        reason = " ".join(str(error).split()).split(" See https")[0]
        raise PosxError(f"{override} is not an override: {reason}.", "Overrides look like train.steps=100.") from None


def read_run_config(path: Path) -> RunConfig:
    """Read a run's config.yaml, with the same checks as for a new config. Its scheme is already complete."""
    return checked_run_config(read_yaml(path, "run config"), f" in {path}")


def checked_run_config(values: Any, source: str) -> RunConfig:
    """The same for parsed values; ``source`` describes their origin in errors."""
    config = typed(RunConfig, values, source=source)
    check_train(config)
    return config


def compose_eval(overrides: list[str], catalog: Catalog = PACKAGED) -> EvalConfig:
    """The config of an evaluation, complete and checked. Raises PosxError."""
    for override in overrides:
        if not override.lstrip("+~").startswith("eval."):
            raise PosxError(
                f"{override} belongs to training; evaluation uses the config that the run was trained with.",
                "posx eval takes eval.* overrides, such as eval.max_targets=1024.",
            )
    config = typed(EvalRoot, _compose("eval", overrides, catalog)).eval
    check_eval(config)
    return config


def to_yaml(config: Any) -> str:
    """A config dataclass as YAML, in the order of its fields."""
    return yaml_of(asdict(config))


def yaml_of(values: dict[str, Any]) -> str:
    """The same for a config as a dict."""
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
