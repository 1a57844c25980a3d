"""The model and the attention name no scheme, and need torch alone."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml

from fixtures.packages import ROOT
from posx.config.catalog import PACKAGED

CORE = [path for path in sorted((ROOT / "posx" / "models").rglob("*.py")) if path.name != "__init__.py"]
BASES = [ROOT / "posx" / "extensions" / "base.py", ROOT / "posx" / "schemes" / "base.py"]


@pytest.mark.parametrize("path", [*CORE, *BASES], ids=lambda path: path.name)
def test_the_core_names_no_scheme(path: Path) -> None:
    """In code or in prose: a new scheme is a new file and changes none of these."""
    text = path.read_text("utf-8")
    if path.name == "build.py":  # an error message shows how a setting names schemes
        text = text.replace("[rope,nope]", "").replace("=rope, or {{name: rope, base: 500}}", "")
    if path.parent.name == "schemes":  # the docstring may name schemes that need a hook; code may not
        text = re.sub(r'"""[\s\S]*?"""', "", text)
    classes = {
        yaml.safe_load(path.read_text("utf-8"))["_target_"].rpartition(".")[2]
        for path in PACKAGED.options("scheme").values()
    }
    words = {part for name in PACKAGED.options("scheme") for part in (name, name.replace("-", "_"))} | classes
    words -= {"shape", "Shape", "layers", "Layers"}  # words that any decoder uses
    assert set(re.findall(r"posx\.schemes\.(\w+)", text)) <= {"base", "facts"}
    named = sorted(word for word in words if re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text, re.IGNORECASE))
    assert named == []


@pytest.mark.parametrize("folder", ["schemes", "extensions"])
def test_modules_of_an_exported_model_need_torch_alone(folder: str) -> None:
    """DESIGN: model, attention, schemes and extensions import torch and nothing else."""
    core = [ROOT / "posx" / "models" / "decoder.py", *(ROOT / "posx" / "models" / "attention").glob("*.py")]
    files = [*(ROOT / "posx" / folder).glob("*.py"), *core]
    assert len(files) > 25
    standard = sys.stdlib_module_names
    for path in files:
        modules = re.findall(r"^\s*(?:from|import) ([\w.]+)", path.read_text("utf-8"), re.MULTILINE)
        foreign = {m.split(".")[0] for m in modules} - standard - {"torch", "posx"}
        assert foreign == set(), path
        internal = {m for m in modules if m.startswith("posx.")}
        names = (
            "schemes",
            "extensions",
            "models.attention",
            "errors",
            "config.schema",
            "runtime.processor",
            "runtime.generator",
        )
        carried = tuple(f"posx.{name}" for name in names)
        assert [m for m in internal if not m.startswith(carried)] == [], path
