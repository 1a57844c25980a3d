"""What there is to choose: the configs that posx ships, those of a user's own folder, and whether their code may run.

A config names a class by ``_target_``; nothing here imports it. ``posx.models.build`` does, once it is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from posx.errors import PosxError, unknown

GROUPS = ("data", "model", "optim", "scheme")  # what a run is composed of, with a file for each option
CARD = ("formula", "changes", "outlook", "cost", "paper")  # keys of a config that lists print, and no class is given


@dataclass(frozen=True)
class Catalog:
    """The packaged configs and, where ``config_dir`` is given, those in it; ``trust``: load code from outside posx."""

    config_dir: Path | None = None
    trust: bool = False

    @cached_property
    def folders(self) -> list[Path]:
        """The packaged configs, then the user's own. Raises PosxError for a name that is in both."""
        packaged = packaged_configs()
        own = self.config_dir
        if own is None:
            return [packaged]
        if not own.is_dir():
            raise PosxError(f"--config-dir {own} is not a directory.", "Give the folder that holds scheme/NAME.yaml.")
        for path in sorted(own.glob("*/*.yaml")):
            if (packaged / path.relative_to(own)).exists():
                raise PosxError(f"{path} has the same name as a config of posx.", "Give it another name.")
        return [packaged, own.resolve()]

    @cached_property
    def interpolates(self) -> bool:
        """Whether a value in any of these files follows from another, as ``base: ${train.context}`` does."""
        return any("${" in path.read_text("utf-8") for folder in self.folders for path in folder.rglob("*.yaml"))

    def options(self, group: str) -> dict[str, Path]:
        """What exists in a group: name → file."""
        return {p.stem: p for folder in self.folders for p in sorted((folder / group).glob("*.yaml"))}

    def read(self, group: str, name: str) -> dict[str, Any]:
        """The config of an option. Raises PosxError where there is none of that name, or where it is no mapping."""
        known = self.options(group)
        if name not in known:
            raise unknown(group, name, known)
        found = read_yaml(known[name], f"{group} config")
        if not isinstance(found, dict | None):
            raise PosxError(f"{known[name]} does not hold keys and values.", "Write _target_: package.module.Class.")
        return found or {}

    def settings(self, group: str, name: str) -> dict[str, Any]:
        """The same without what only lists print: ``_target_`` and settings that differ from the class's defaults."""
        return {key: value for key, value in self.read(group, name).items() if key not in CARD}

    def card(self, group: str, name: str) -> dict[str, str]:
        """What lists print of an option: ``formula``, ``cost``, ``paper``, …; empty for a name that does not exist."""
        found = self.read(group, name) if name in self.options(group) else {}
        return {key: str(found[key]) for key in CARD if found.get(key) is not None}

    def flags(self) -> list[str]:
        """The catalog as options of the command line."""
        folder = ["--config-dir", str(self.config_dir)] if self.config_dir else []
        return [*folder, *(["--trust"] if self.trust else [])]

    def as_json(self) -> dict[str, Any]:
        """For the file that a job or a measuring process reads."""
        return {"config_dir": str(self.config_dir) if self.config_dir else None, "trust": self.trust}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Catalog:
        """What :meth:`as_json` gave; other keys are ignored."""
        folder = values["config_dir"]
        return cls(Path(folder) if folder else None, bool(values["trust"]))


PACKAGED = Catalog()


def packaged_configs() -> Path:
    """Where the configs lie: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for path in (package / "configs", package.parent / "configs"):
        if (path / "train.yaml").is_file():
            return path
    raise PosxError("The configs of posx are missing.", "Install posx again, or run it from a whole checkout.")


def read_yaml(path: Path, what: str) -> Any:
    """Parse a YAML file; a broken one is a sentence with its line."""
    import yaml  # not at the head: every command imports the catalog, and few read a file

    try:
        return yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise PosxError(f"There is no {what} {path}.", "Check the path.") from None
    except IsADirectoryError:
        raise PosxError(f"{path} is a directory, not a {what}.", "Name the file itself.") from None
    except UnicodeDecodeError as error:
        raise PosxError(f"{path} is not UTF-8 text (byte {error.start}).", f"Is it really a {what}?") from None
    except yaml.YAMLError as error:
        raise PosxError(f"{path} is not valid YAML: {' '.join(str(error).split())}.", "Fix that line.") from None
