"""The wheel: complete, without anything of this machine, and usable from any directory."""

from __future__ import annotations

import configparser
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import posx
from fixtures.corpora import child_environment, sentence, write_jsonl
from fixtures.packages import ROOT
from posx.config.catalog import PACKAGED, packaged_configs
from posx.runs.provenance import versions

OFFLINE = ("Could not find a version", "No matching distribution", "Temporary failure", "ConnectionError", "timed out")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built in an isolated environment with hatchling from the package index."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "--quiet", "-w", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("building a wheel took too long: no network?")
    if done.returncode and any(words in done.stderr for words in OFFLINE):
        pytest.skip("building a wheel requires hatchling, which is not available offline")
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_the_wheel_contains_every_config_module_and_template(unpacked: Path) -> None:
    for source, inside in ((ROOT / "configs", "posx/configs"), (ROOT / "posx", "posx")):
        expected = {
            f"{inside}/{p.relative_to(source)}": p.read_bytes()
            for p in source.rglob("*")
            if p.is_file()
            and p.suffix in (".py", ".pyi", ".typed", ".yaml", ".html")
            and not p.name.startswith("test_")
        }
        assert len(expected) > 20
        assert [name for name, content in expected.items() if not (unpacked / name).is_file()] == []
        assert [name for name, content in expected.items() if (unpacked / name).read_bytes() != content] == []


def test_the_wheel_contains_nothing_else(unpacked: Path) -> None:
    names = {p.name for p in unpacked.iterdir()}
    assert names == {"posx", f"posx-{posx.__version__}.dist-info"}
    files = [p for p in (unpacked / "posx").rglob("*") if p.is_file() and p.suffix not in (".py", ".yaml")]
    others = {p.relative_to(unpacked).as_posix() for p in files if p.suffix not in ("", ".typed")}
    assert others == {"posx/__init__.pyi", "posx/reporting/templates/report.html"}


def test_the_wheel_contains_no_path_of_this_machine(unpacked: Path) -> None:
    private = [str(ROOT), str(Path.home()) + "/", str(unpacked.parent)]
    for path in unpacked.rglob("*"):
        if path.is_file():
            content = path.read_text("utf-8")
            assert [p for p in private if p in content] == [], path
            assert re.search(r"(?<![\w.])/(home|root|Users|work|tmp)/", content) is None, path


def test_the_command_is_an_entry_point_that_exists(unpacked: Path) -> None:
    (file,) = unpacked.glob("*.dist-info/entry_points.txt")
    parsed = configparser.ConfigParser()
    parsed.read(file)
    assert dict(parsed["console_scripts"]) == {"posx": "posx.__main__:main"}
    from posx.__main__ import main

    assert callable(main)


FROM_ANYWHERE = """
import sys
import posx
from posx.__main__ import main
from posx.config.catalog import packaged_configs
from posx.config.compose import compose_eval
from posx.models.build import compose_run
from posx.models.classes import known_extensions, known_schemes
assert compose_run(["scheme=learned", "model=small"]).model.d_model == 256
assert compose_eval([]).lengths == ["1x", "2x", "4x"]
print(posx.__file__)
print(packaged_configs())
print(*sorted(known_schemes()))
print(*sorted(known_extensions()))
sys.argv = ["posx", "config", "--scheme", "alibi"]
main()
"""


def test_a_wheel_finds_its_own_configs_from_anywhere(unpacked: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FROM_ANYWHERE],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=child_environment(PYTHONPATH=str(unpacked)),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    package, configs, schemes, extensions, printed = done.stdout.split("\n", 4)
    assert Path(package).is_relative_to(unpacked)
    assert Path(configs) == unpacked / "posx" / "configs"
    assert schemes.split() == sorted(PACKAGED.options("scheme"))
    assert extensions.split() == sorted(PACKAGED.options("extension"))
    assert yaml.safe_load(printed)["scheme"]["_target_"] == "posx.schemes.alibi.Alibi"
    assert list(tmp_path.iterdir()) == []


def test_a_checkout_finds_its_configs() -> None:
    assert packaged_configs() in (ROOT / "configs", ROOT / "posx" / "configs")


def test_a_wheel_verifies_schemes_from_anywhere(unpacked: Path, tmp_path: Path) -> None:
    """With the formulas in the wheel; the checkout is not on the path."""
    script = "import sys; from posx.__main__ import main; sys.argv = ['posx', 'verify', 'alibi', '--json']; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**child_environment(), "PYTHONPATH": str(unpacked)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert {row["ok"] for row in rows} == {True}
    assert {"the paper's formula in float64", "transformers MPT"} < {row["oracle"] for row in rows}
    assert list(tmp_path.iterdir()) == []


def test_versions_agree(wheel: Path) -> None:
    assert wheel.name.startswith(f"posx-{posx.__version__}-py3-none-any")


def test_every_pin_satisfies_the_project() -> None:
    """constraints.txt pins each dependency exactly."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pins = {
        re.split("==", line)[0].strip().lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
        if "==" in line and not line.startswith("#")
    }
    required = {re.split(r"[<>=!~\[ ;]", d)[0].lower().replace("_", "-") for d in project["dependencies"]}
    assert required - pins == set()


def test_the_guide_to_a_custom_scheme_works_as_written(wheel: Path, tmp_path: Path) -> None:
    """docs/your-own-scheme.md, as written: its package and configs in a folder, posx installed from the wheel."""
    blocks = re.findall(r"```(python|yaml)\n(.*?)```", (ROOT / "docs" / "your-own-scheme.md").read_text("utf-8"), re.S)
    code = [text for kind, text in blocks if kind == "python"]
    configs = [text for kind, text in blocks if kind == "yaml"]
    assert (len(code), len(configs)) == (3, 1)
    for folder in ("mine", "own/scheme", "own/extension"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "mine" / "__init__.py").write_text("\n\n".join(code[:2]), "utf-8")
    (tmp_path / "compare.py").write_text(code[2], "utf-8")
    (tmp_path / "own" / "scheme" / "root.yaml").write_text(configs[0], "utf-8")
    (tmp_path / "own" / "extension" / "strided.yaml").write_text("_target_: mine.Strided\n", "utf-8")
    write_jsonl(tmp_path / "text.jsonl", [sentence(120, n) for n in range(24)])
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target", "site", str(wheel)]
    subprocess.run(install, cwd=tmp_path, check=True, capture_output=True, timeout=300)

    def run(*words: str) -> str:
        path = os.pathsep.join([str(tmp_path / "site"), str(tmp_path)])
        done = subprocess.run(
            [sys.executable, *words],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=child_environment(PYTHONPATH=path),
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def posx(*words: str) -> str:
        return run("-m", "posx", *words)

    trusted = ["--config-dir", "own", "--trust"]
    small = ["model.n_layers=1", "model.d_model=16", "model.n_heads=2", "train.context=16", "train.batch_tokens=64",
             "train.steps=2", "train.eval_tokens=64", "train.device=cpu"]  # fmt: skip
    data = ["data=text", "data.path=text.jsonl", f"data.cache_dir={tmp_path / 'cache'}", "tokenizer.vocab_size=270"]
    posx("train", "--scheme", "root", "scheme.slope=0.1", *small, *data, "--name", "m", *trusted)
    assert "posx" in {path.name for path in (tmp_path / "site").iterdir()}
    request = ["--length", "4x", "--extension", "strided(step=3)", "--extension", "none", "eval.max_targets=32"]
    records = json.loads(posx("eval", "m", *request, "--json", *trusted))
    assert {(r["scheme"], r["extension"], r["status"]) for r in records if r["length"] == 64} == {
        ("root", "none", "ok"),
        ("root", "strided(step=3)", "ok"),
    }
    assert records[0]["scheme_params"] == {"slope": 0.1}
    assert len({r["nats"] for r in records if r["length"] == 64}) == 2
    listed = json.loads(posx("schemes", "--json", *trusted))
    assert next(row for row in listed if row["name"] == "root")["formula"] == "logit − slope·√d"
    verified = json.loads(posx("verify", "root", "--json", *trusted))
    assert {row["ok"] for row in verified} == {True}
    assert 0 < float(run("compare.py")) < 2e-5


def test_the_version_is_written_in_one_place() -> None:
    """posx/__init__.py has it; pyproject.toml and CITATION.cff do not repeat it, and the changelog begins with it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["dynamic"] == ["version"]
    assert "version" not in project
    first = next(line for line in (ROOT / "CHANGELOG.md").read_text("utf-8").splitlines() if line.startswith("## "))
    assert first.split()[1] == posx.__version__ == versions()["posx"]


def test_the_citation_has_what_the_format_requires() -> None:
    """CFF 1.2.0, section "Required keys": authors, cff-version, message, title."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["message"]
    assert citation["title"]
    assert all(author.keys() <= {"name", "given-names", "family-names"} for author in citation["authors"])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert citation["license"] == project["license"]
    assert "version" not in citation
