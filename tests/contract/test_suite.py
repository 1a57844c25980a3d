"""Rules of the test suite: it mirrors the package, and no test module imports another one."""

from __future__ import annotations

import ast
from pathlib import Path

import posx

TESTS = Path(__file__).resolve().parents[1]
PACKAGE = Path(posx.__file__).parent
MODULES = sorted(TESTS.rglob("*.py"))


def test_no_test_module_imports_another() -> None:
    names = {path.stem for path in MODULES if path.stem.startswith("test_")}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not names & {part for module in modules for part in module.split(".")}, path


def test_no_test_file_is_over_500_lines() -> None:
    assert [path for path in MODULES if len(path.read_text("utf-8").splitlines()) > 500] == []


def test_each_folder_of_tests_mirrors_a_package() -> None:
    folders = {path.parent.relative_to(TESTS) for path in MODULES if path.stem.startswith("test_")}
    assert len(folders) > 15
    packages = [folder for folder in folders if folder != Path("contract")]
    assert [folder for folder in packages if not (PACKAGE / folder / "__init__.py").is_file()] == []
