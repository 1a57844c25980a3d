"""Tests of ``posx`` itself: what importing it costs, and its public names."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import posx
from fixtures.corpora import child_environment, python
from posx import api

IMPORT = """
import sys, time
began = time.perf_counter()
import posx
seconds = time.perf_counter() - began
assert "train" in dir(posx)
heavy = "torch numpy pyarrow rich yaml pandas hydra pydantic posx.api".split()
print(seconds, *[name for name in heavy if name in sys.modules])
"""


def test_import_is_quick_and_imports_nothing_heavy() -> None:
    printed = [python(IMPORT).stdout.split() for _ in range(3)]
    assert [names for _, *names in printed] == [[], [], []]
    assert min(float(seconds) for seconds, *_ in printed) < 0.1


def test_the_stub_file_has_every_public_name(tmp_path: Path) -> None:
    package = Path(posx.__file__).parent
    stub = (package / "__init__.pyi").read_text("utf-8")
    assert sorted(re.findall(r"import \w+ as (\w+)", stub)) == posx.__all__ == sorted(posx.__all__)
    assert (package / "py.typed").is_file()
    assert set(posx.__all__) <= set(dir(posx))
    assert all(getattr(posx, name).__doc__ for name in posx.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        posx.trian  # type: ignore[attr-defined]  # noqa: B018


def test_every_public_name_has_a_docstring() -> None:
    for name in api.__all__:
        value = getattr(api, name)
        if name not in ("OnProgress", "Overrides"):  # types
            assert inspect.getdoc(value), name
    assert api.__all__ == sorted(api.__all__)


def test_every_function_is_annotated() -> None:
    functions = [value for name in api.__all__ if inspect.isfunction(value := getattr(api, name))]
    assert len(functions) > 30
    for function in functions:
        signature = inspect.signature(function)
        assert signature.return_annotation is not inspect.Signature.empty, function
        missing = [name for name, p in signature.parameters.items() if p.annotation is inspect.Parameter.empty]
        assert missing == [], function


PROGRAM = """
from pathlib import Path

import posx
from posx.extensions.pi import PI
from posx.schemes.alibi import Alibi

config: posx.RunConfig = posx.compose({"train.steps": 20}, scheme=Alibi, settings={})
run: posx.Run = posx.train(config, Path("runs/first"), progress=lambda event: print(event.done, event.total))
records: list[posx.Record] = posx.evaluate(run, [64, "2x"], ["none", PI], protocol="curve")
table: posx.Table = posx.sweep("quick", ["train.steps=3"], workers=1)
text: str = table.to_markdown()
steps: int = posx.finetune(posx.load_run("runs/first"), {"train.steps": 3}).step
posx.load_records("runs")
WRONG
"""


# Their types play no part here, and reading them takes a minute.
SKIPPED = ("torch", "numpy", "pandas", "rich", "pyarrow", "pydantic", "hydra", "omegaconf", "tokenizers", "safetensors")


def test_a_program_type_checks(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    settings = "[mypy]\nstrict = true\nfollow_imports = silent\nignore_missing_imports = true\n"
    settings += "".join(f"[mypy-{name}.*]\nfollow_imports = skip\n" for name in SKIPPED)
    (tmp_path / "mypy.ini").write_text(settings, "utf-8")
    (tmp_path / "program.py").write_text(PROGRAM.replace("WRONG", "posx.train(3)"), "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "program.py"],
        cwd=tmp_path,
        env=child_environment(MYPYPATH=str(Path(posx.__file__).parents[1])),
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [line for line in done.stdout.splitlines() if "error:" in line]
    assert len(errors) == 1, done.stdout + done.stderr
    assert 'incompatible type "int"; expected "RunConfig"' in errors[0]
