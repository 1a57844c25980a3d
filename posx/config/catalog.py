"""The catalog of options: configs shipped with posx, configs in a user's folder, and whether their code may run.

A config names a class by ``_target_``. Nothing here imports the class; ``posx.models.build`` does when it is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from posx.errors import PosxError, unknown

GROUPS = ("data", "model", "optim", "scheme")  # groups that a run is composed of; one file per option
CARD = ("formula", "changes", "outlook", "cost", "paper")  # keys that only lists print, not settings of the class


@dataclass(frozen=True)
class Catalog:
    """The packaged configs, plus those in ``config_dir`` if given. ``trust``: load code from outside posx."""

    config_dir: Path | str | None = None
    trust: bool = False

    @cached_property
    def folders(self) -> list[Path]:
        """The folder of packaged configs, then the user's. Raises PosxError if a name is in both."""
        packaged = packaged_configs()
        if self.config_dir is None:
            return [packaged]
        folder = Path(self.config_dir)
        if not folder.is_dir():
            raise PosxError(
                f"--config-dir {folder} is not a directory.", "Give the folder that contains scheme/NAME.yaml."
            )
        for path in sorted(folder.glob("*/*.yaml")):
            if (packaged / path.relative_to(folder)).exists():
                raise PosxError(f"{path} has the same name as a config of posx.", "Give it another name.")
        return [packaged, folder.resolve()]

    @cached_property
    def interpolates(self) -> bool:
        """Whether any of these files uses interpolation, such as ``base: ${train.context}``."""
        return any("${" in path.read_text("utf-8") for folder in self.folders for path in folder.rglob("*.yaml"))

    def options(self, group: str) -> dict[str, Path]:
        """The options of a group: name → file."""
        return {p.stem: p for folder in self.folders for p in sorted((folder / group).glob("*.yaml"))}

    def read(self, group: str, name: str) -> dict[str, Any]:
        """The config of an option. Raises PosxError if it does not exist or is not a mapping."""
        known = self.options(group)
        if name not in known:
            raise unknown(group, name, known)
        values = read_yaml(known[name], f"{group} config")
        if not isinstance(values, dict | None):
            raise PosxError(f"{known[name]} does not contain keys and values.", "Write _target_: package.module.Class.")
        return values or {}

    def settings(self, group: str, name: str) -> dict[str, Any]:
        """The config without its card: ``_target_`` and settings that differ from the class's defaults."""
        return {key: value for key, value in self.read(group, name).items() if key not in CARD}

    def card(self, group: str, name: str) -> dict[str, str]:
        """The keys that lists print: ``formula``, ``cost``, ``paper``, …; empty for an unknown name."""
        values = self.read(group, name) if name in self.options(group) else {}
        return {key: str(values[key]) for key in CARD if values.get(key) is not None}

    def flags(self) -> list[str]:
        """The catalog as command-line flags."""
        folder = ["--config-dir", str(self.config_dir)] if self.config_dir else []
        return [*folder, *(["--trust"] if self.trust else [])]

    def as_json(self) -> dict[str, Any]:
        """For the file that a job or a benchmark process reads."""
        return {"config_dir": str(self.config_dir) if self.config_dir else None, "trust": self.trust}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Catalog:
        """Inverse of :meth:`as_json`; other keys are ignored."""
        folder = values["config_dir"]
        return cls(Path(folder) if folder else None, bool(values["trust"]))


PACKAGED = Catalog()


def packaged_configs() -> Path:
    """Folder of the configs: inside an installed package, or next to it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for path in (package / "configs", package.parent / "configs"):
        if (path / "train.yaml").is_file():
            return path
    raise PosxError("The configs of posx are missing.", "Reinstall posx, or run it from a complete checkout.")


def read_yaml(path: Path, what: str) -> Any:
    """Parse a YAML file. Raises PosxError; if the YAML is invalid, the message has the line."""
    import yaml  # imported late: every command imports the catalog, and few read a file

    try:
        return yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise PosxError(f"There is no {what} {path}.", "Check the path.") from None
    except IsADirectoryError:
        raise PosxError(f"{path} is a directory, not a {what}.", "Give the path of a file.") from None
    except UnicodeDecodeError as error:
        raise PosxError(f"{path} is not UTF-8 text (byte {error.start}).", f"Check that it is a {what}.") from None
    except yaml.YAMLError as error:
        raise PosxError(f"{path} is not valid YAML: {' '.join(str(error).split())}.", "Fix that line.") from None
