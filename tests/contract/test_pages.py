"""Links, paths and commands in the pages exist. docs/LOG.md is history: its paths and commands may be old."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer

from fixtures.packages import ROOT
from posx.cli.app import app
from posx.config.catalog import PACKAGED
from posx.config.schema import EvalConfig, RunConfig

LOG = ROOT / "docs" / "LOG.md"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
CURRENT = [page for page in PAGES if page != LOG]
COMMANDS = typer.main.get_command(app)
CODE = re.compile(r"```.*?```|`[^`]+`", re.S)


def page_name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub derives from the headings of a page."""
    prose = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S)
    headings = re.findall(r"^#+ (.*)$", prose, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page: Path) -> list[list[str]]:
    """Every posx command in code of a page, as words without the leading ``posx``."""
    text = page.read_text("utf-8")
    blocks = re.findall(r"^```\n(.*?)^```$", text, re.S | re.M)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    inline = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M))
    lines += [span.replace("\n", " ") for span in inline]
    words = [shlex.split(line, comments=True) for line in lines if line.startswith("posx ")]
    return [line[1:] for line in words if line[1] not in ("COMMAND", "--help")]  # no placeholder


def settings_of(schema: type, prefix: str = "") -> set[str]:
    """The dotted names of all settings of a config dataclass."""
    names: set[str] = set()
    hints: dict[str, Any] = get_type_hints(schema)
    for field in fields(schema):
        nested = hints[field.name]
        key = prefix + field.name
        names |= settings_of(nested, f"{key}.") if is_dataclass(nested) else {key}
    return names


EVERY_COMMAND = [(page, words) for page in CURRENT for words in commands(page)]


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", CODE.sub("", page.read_text("utf-8")))
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), link
        assert not anchor or anchor in anchors(path), link


@pytest.mark.parametrize("page", CURRENT, ids=page_name)
def test_every_path_in_code_exists(page: Path) -> None:
    spans = re.findall(r"`((?:posx|results|configs|docs|scripts|tests)/[\w./-]+)(?: [^`]*)?`", page.read_text("utf-8"))
    paths = [span for span in spans if not re.search(r"NAME|MODULE|PACKAGE", span)]
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("words", [words for _, words in EVERY_COMMAND], ids=" ".join)
def test_every_command_parses(words: list[str]) -> None:
    """Its name, flags and arguments are accepted; the names of schemes, extensions and settings are valid."""
    name, *arguments = words
    assert name in COMMANDS.commands
    if not arguments:
        return  # prose that names a command
    context = COMMANDS.commands[name].make_context(name, [word for word in arguments if word != "--help"])
    if "--config-dir" in arguments:
        return
    given = context.params
    schemes = given.get("scheme") or []
    for scheme in [schemes] if isinstance(schemes, str) else schemes:
        assert scheme in PACKAGED.options("scheme")
    chosen = given.get("extension") or []
    for extension in [chosen] if isinstance(chosen, str) else chosen:
        parts = re.sub(r"\(.*?\)", "", extension).split("+")
        assert set(parts) <= {"none", *PACKAGED.options("extension")}
    settings = settings_of(RunConfig) | settings_of(EvalConfig, "eval.")
    keys = {word.partition("=")[0] for word in arguments if re.match(r"[a-z]+\.[\w.]+=", word)}
    assert {key for key in keys if not key.startswith(("scheme.", "extension."))} <= settings


def test_pages_show_commands_and_links() -> None:
    """The patterns of this module still match what they are meant to check."""
    assert len(EVERY_COMMAND) > 60
    assert {words[0] for _, words in EVERY_COMMAND} >= {"train", "eval", "table", "sweep", "explain", "bundle"}
    assert "fine-tuning-at-a-longer-context" in anchors(ROOT / "docs" / "protocol.md")


def test_the_readme_is_short() -> None:
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert len(lines) <= 100
    assert 5 < sum(line.startswith("|") for line in lines) <= 10
    assert sum(line.startswith("![") for line in lines) == 1
