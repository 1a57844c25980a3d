"""Configs: found, composed by Hydra, checked against the dataclasses. The only file that imports hydra."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from posx.config.schema import EvalConfig, EvalRoot, RunConfig, check_eval, check_train, needs_a_start
from posx.config.validate import typed
from posx.errors import PosxError, unknown

T = TypeVar("T")
GROUPS = ("data", "model", "optim", "scheme")
TRAINED = "trained"  # the extension that a run was trained with, if any
# Their values are taken as they are: a file's name or a label may hold signs that mean something to Hydra.
LITERAL = ("data.path", "data.cache_dir", "label")


def configs_dir() -> Path:
    """Where the configs lie: inside an installed package, or beside it in a checkout."""
    here = Path(__file__).resolve().parents[1]
    for path in (here / "configs", here.parent / "configs"):
        if (path / "train.yaml").is_file():
            return path
    raise PosxError("The configs of posx are missing.", "Install posx again, or run it from a whole checkout.")


def search_dirs(config_dir: Path | None) -> list[Path]:
    """The packaged configs, then the user's own. A name in both would hide one of them: refused."""
    packaged = configs_dir()
    if config_dir is None:
        return [packaged]
    if not config_dir.is_dir():
        raise PosxError(
            f"--config-dir {config_dir} is not a directory.", "Give the folder that holds scheme/NAME.yaml."
        )
    for own in sorted(config_dir.glob("*/*.yaml")):
        relative = own.relative_to(config_dir)
        if (packaged / relative).exists():
            raise PosxError(f"{own} has the name of a config of posx.", "Call it something else; both would be meant.")
    return [packaged, config_dir.resolve()]


def options(group: str, config_dir: Path | None = None) -> dict[str, Path]:
    """What exists in a group: name → file."""
    return {p.stem: p for folder in search_dirs(config_dir) for p in sorted((folder / group).glob("*.yaml"))}


def read_yaml(path: Path, what: str) -> Any:
    """Parse a YAML file; a broken one is a sentence with its line."""
    try:
        return yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise PosxError(f"There is no {what} {path}.", "Check the path.") from None
    except IsADirectoryError:
        raise PosxError(f"{path} is a directory, not a {what}.", "Name the file itself.") from None
    except UnicodeDecodeError as error:
        raise PosxError(f"{path} is not UTF-8 text (byte {error.start}).", f"Is it really a {what}?") from None
    except yaml.YAMLError as error:
        raise PosxError(f"{path} is not valid YAML: {' '.join(str(error).split())}.", "Mend that line.") from None


# ---------------------------------------------------------------- flags and overrides


def as_overrides(flags: Iterable[tuple[str, str, Any]], overrides: Iterable[str]) -> list[str]:
    """Flags (name, key, value) as overrides; None was not given. A flag beside its own override is an error."""
    overrides = list(overrides)
    for override in overrides:
        if "=" not in override and not override.startswith("~"):
            raise PosxError(f"'{override}' is not an override.", "Overrides look like train.steps=100.")
    given = {key_of(o): o for o in overrides}
    added = []
    for flag, key, value in flags:
        if value is None:
            continue
        if key not in given:
            added.append(f"{key}={quote(value)}")
        elif _bare(given[key].partition("=")[2]) != _bare(",".join(value) if isinstance(value, list) else str(value)):
            shown = " ".join(map(str, value)) if isinstance(value, list) else value
            raise PosxError(f"{flag} {shown} and {given[key]} contradict each other.", "Give one of them.")
    return added + overrides


def key_of(override: str) -> str:
    """What an override sets."""
    return override.lstrip("+~").partition("=")[0]


def quote(value: Any) -> str:
    """A value so that Hydra's grammar reads it as it is."""
    if isinstance(value, list):
        return "[" + ",".join(map(quote, value)) + "]"
    text = str(value)
    return text if re.fullmatch(r"[A-Za-z0-9_.\-/]+", text) else "'" + text.replace("'", "\\'") + "'"


def _bare(value: str) -> str:
    """A value without quotes, brackets and spaces, to compare what it says."""
    return re.sub(r"[\[\]'\"\s]", "", value)


def _compose(root: str, overrides: list[str], config_dir: Path | None) -> dict[str, Any]:
    """Hydra's composition as a plain dict, with the chosen option of each group as its ``name``."""
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    folders = search_dirs(config_dir)
    prepared, literal = [], {}
    for override in overrides:
        key, _, value = override.partition("=")
        if key in GROUPS:
            known = options(key, config_dir)
            if value not in known:
                raise unknown(key, value, known)
            read_yaml(known[value], f"{key} config")  # a broken one is our sentence, not Hydra's
            prepared.append(override)
        elif key in LITERAL:
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
            literal[key] = value[1:-1] if quoted else value
        elif key_of(override).split(".")[0] == "hydra":
            raise PosxError(f"{override} is a setting of Hydra, not of posx.", "posx config shows what can be set.")
        elif key.startswith("~"):
            prepared.append(override)
        else:
            # A YAML holds only what differs from the defaults, so most keys are new to Hydra.
            prepared.append("++" + override.lstrip("+"))
    if config_dir is not None:
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
            f"The overrides do not compose: {reason}.",
            "Overrides look like train.steps=100; quote a text with signs in it: \"key='a(b)'\".",
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


# ---------------------------------------------------------------- what commands ask for


def compose_run(overrides: list[str], config_dir: Path | None = None, trust: bool = False) -> RunConfig:
    """The config of a training run, complete and checked. Raises PosxError."""
    for override in overrides:
        if override.lstrip("+").startswith("eval."):
            raise PosxError(
                f"{override} is a setting of an evaluation, not of a training run.", "Give it to posx eval."
            )
        if override.lstrip("+~").startswith("start"):
            raise PosxError(f"{override} is written by --from, not by hand.", "Use posx train --from RUN.")
        if key_of(override) in ("train.recipe", "train.reach") and override.partition("=")[2] not in ("none", "null"):
            raise needs_a_start(override)
    values = _compose("train", overrides, config_dir)
    config = typed(RunConfig, values)
    check_train(config)
    if config.data.source == "text":  # a run must find its text from any directory
        config.data.path = str(Path(config.data.path or "").expanduser().resolve())
    return freeze_extension(resolve_scheme(config, trust, config_dir), config_dir, trust)


def override_value(override: str) -> Any:
    """The value of ``key=value``, typed as Hydra reads it. Raises PosxError."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(override.lstrip("+")).value()
    except HydraException as error:
        reason = " ".join(str(error).split()).split(" See https")[0]
        raise PosxError(f"{override} is not an override: {reason}.", "Overrides look like train.steps=100.") from None


def freeze_extension(config: RunConfig, config_dir: Path | None = None, trust: bool = False) -> RunConfig:
    """Check the extension that is to be trained with, and fix its scale at that of the positions it is trained at."""
    from posx.models.build import check_fit, check_reach, freeze, scheme_of, spec_name
    from posx.models.decoder import model_shape

    specs = parse_extension(config.train.extension, config_dir, trust)
    if TRAINED in config.train.extension:
        raise PosxError(
            f"train.extension={config.train.extension} does not say which extension to train with.",
            "Name it, such as pi; without one a fine-tune keeps that of the run that it starts from.",
        )
    if specs:
        check_fit(specs, config.scheme["name"], scheme_of(config, trust), known_extensions(config_dir, trust))
    check_reach(specs, config.scheme, model_shape(config.model, config.base_context), config.train, trust)
    config.train.extension = spec_name(freeze(specs, config.base_context, config.train.reached))
    return config


def resolve_scheme(config: RunConfig, trust: bool = False, config_dir: Path | None = None) -> RunConfig:
    """Fill in the scheme's own defaults, and let it check itself against the model."""
    from posx.models.decoder import model_shape

    shape = model_shape(config.model, config.base_context)
    config.scheme = complete_scheme(config.scheme, shape, config_dir, trust)
    return config


def complete_scheme(
    given: Any, shape: Any, config_dir: Path | None = None, trust: bool = False, prefix: str = "scheme."
) -> dict[str, Any]:
    """A scheme's config with its class, all its settings, and those of the schemes that it names. Raises PosxError.

    ``given`` is a name, or has at least a ``name`` or a ``_target_``; a name stands for its YAML.
    """
    from posx.models.build import load_class
    from posx.schemes.base import Scheme

    if isinstance(given, str):
        given = {"name": given}
    if not isinstance(given, dict) or not ("_target_" in given or given.get("name")):
        field, _, number = prefix.rstrip(".").rpartition(".")
        example = f"{field}=[rope,nope]" if number.isdigit() else f"{field}.{number}=rope, or {{name: rope, base: 500}}"
        raise PosxError(f"{prefix.rstrip('.')} takes a scheme, but '{given}' was given.", f"Write {example}.")
    if "_target_" not in given:
        known = options("scheme", config_dir)
        if given["name"] not in known:
            raise unknown("scheme", given["name"], known)
        given = {**(read_yaml(known[given["name"]], "scheme") or {}), **given}
    own = dict(given)
    name, target = own.pop("name", ""), own.pop("_target_", None)
    cls = load_class(target, Scheme, trust)
    settings: Any = typed(cls.Config, own, prefix)
    for field in cls.inner_fields:
        value = getattr(settings, field)
        if isinstance(value, list):
            found: Any = [
                complete_scheme(
                    one, cls.inner_shape(settings, shape, number), config_dir, trust, f"{prefix}{field}.{number}."
                )
                for number, one in enumerate(value)
            ]
        else:
            within = cls.inner_shape(settings, shape)
            found = complete_scheme(value, within, config_dir, trust, f"{prefix}{field}.")
        setattr(settings, field, found)
    cls.check(settings, shape)
    return {"name": name, "_target_": target, **asdict(settings)}


def run_from_yaml(path: Path, trust: bool = False) -> RunConfig:
    """A run's stored config.yaml, through the same checks as a new one."""
    config = typed(RunConfig, read_yaml(path, "run config"), source=f" in {path}")
    check_train(config)
    return resolve_scheme(config, trust)


def compose_eval(overrides: list[str], config_dir: Path | None = None) -> EvalConfig:
    """The config of an evaluation, complete and checked. Raises PosxError."""
    for override in overrides:
        if not override.lstrip("+~").startswith("eval."):
            raise PosxError(
                f"{override} belongs to training; a run keeps the config that it was trained with.",
                "posx eval takes eval.* overrides, such as eval.max_targets=1024.",
            )
    config = typed(EvalRoot, _compose("eval", overrides, config_dir)).eval
    check_eval(config)
    return config


def to_yaml(config: Any) -> str:
    """A config dataclass as YAML, in the order of its fields."""
    return yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True)


def known_extensions(config_dir: Path | None = None, trust: bool = False) -> dict[str, Any]:
    """Name → class of every extension that there is."""
    from posx.extensions.base import Extension
    from posx.models.build import load_class

    files = options("extension", config_dir)
    return {
        n: load_class((read_yaml(p, "extension") or {}).get("_target_"), Extension, trust) for n, p in files.items()
    }


def known_schemes(config_dir: Path | None = None, trust: bool = False) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Name → (class, the settings of its YAML) of every scheme that there is."""
    from posx.models.build import load_class
    from posx.schemes.base import Scheme

    found = {}
    for name, path in options("scheme", config_dir).items():
        settings = dict(read_yaml(path, "scheme") or {})
        cls = load_class(settings.pop("_target_", None), Scheme, trust)
        found[name] = (cls, settings)
    return found


MOST = 10**9  # no text has more tokens
_SPEC = re.compile(r"([\w.\-]+)\s*(?:\((.*)\))?")


def parse_extension(text: str, config_dir: Path | None = None, trust: bool = False) -> list[Any]:
    """``pi``, ``pi(s=4)``, ``ntk+window(w=64)`` or ``none`` as a list of ExtensionSpec (empty for none and trained)."""
    from posx.extensions.base import Extension
    from posx.models.build import ExtensionSpec, load_class

    specs: list[ExtensionSpec] = []
    for part in _split_plus(text):
        match = _SPEC.fullmatch(part.strip())
        if match is None:
            raise PosxError(f"'{text}' is not an extension.", "They look like pi, pi(s=4) or ntk+window(w=64).")
        name, inside = match.groups()
        if name == "none":
            if inside or len(_split_plus(text)) > 1:
                raise PosxError(f"'{text}': none stands alone.", "Drop it, or use --extension none.")
            return []
        if name == TRAINED:
            if inside is not None:
                raise PosxError(f"'{text}': {TRAINED} takes no parameters.", "It means what the run was trained with.")
            continue  # it is the run that knows what that is
        known = options("extension", config_dir)
        if name not in known:
            raise unknown("extension", name, [*known, "none", TRAINED])
        settings = dict(read_yaml(known[name], "extension") or {})
        cls = load_class(settings.pop("_target_", None), Extension, trust)
        given: set[str] = set()
        for pair in filter(None, re.split(r",(?=[^,=]*=)", inside or "")):  # a path may hold commas
            key, equals, value = pair.partition("=")
            if not equals:
                raise PosxError(f"'{text}': '{pair}' is not a parameter.", "They look like pi(s=4).")
            if key.strip() in given:
                raise PosxError(f"'{text}' sets {key.strip()} twice.", "Once is enough.")
            given.add(key.strip())
            settings[key.strip()] = number = _number(value.strip())
            if isinstance(number, int) and abs(number) > MOST:
                raise PosxError(f"'{text}': {key.strip()}={number} is too large.", f"Give at most {MOST}.")
        config: Any = typed(cls.Config, cls.read(settings, read_yaml), f"{name}.")
        cls.check(config)
        defaults = cls.Config()
        params = {f.name: getattr(config, f.name) for f in fields(cls.Config)}
        if any(spec.name == name for spec in specs):
            raise PosxError(f"'{text}' names {name} twice.", "Once is enough.")
        specs.append(ExtensionSpec(name, cls, {k: v for k, v in params.items() if v != getattr(defaults, k)}))
    return specs


def _split_plus(text: str) -> list[str]:
    """Split at the + signs outside parentheses."""
    parts, depth = [""], 0
    for sign in text:
        depth += (sign == "(") - (sign == ")")
        if sign == "+" and depth <= 0:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
