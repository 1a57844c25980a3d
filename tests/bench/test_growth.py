"""Tests of ``posx.bench.growth``."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from fixtures.measured import (
    line_of,
    obedient,  # noqa: F401
    refused,
    text,  # noqa: F401
    tiny,
)
from fixtures.models import posx
from posx.bench import growth as scaling
from posx.bench import growth_page
from posx.reporting.formats.markdown import markdown
from posx.utils.console import Display


def test_scaling_counts_seconds_of_as_many_tokens_at_every_context(
    text: Path, obedient: list[tuple[str, dict[str, Any]]]
) -> None:
    """A step of 128 tokens takes longer than one of 64 at any context."""
    plan = scaling.make_plan(tiny(text), [64, 128], [], [])
    data = scaling.measure(plan, 2, 0.5, Display(quiet=True), "")
    assert [point["seconds"] for point in data["points"]] == [[2.0, 2.0], [2.0, 2.0]]
    assert [point["peak_memory_bytes"] for point in data["points"]] == [[7, 7], [7, 7]]
    assert [name for name, request in obedient if request.get("memory")] == ["context-64", "context-128"] * 2


@pytest.mark.parametrize("content", ["[]", "{}", '{"schema": 1}', '{"schema": 9}', "nonsense"])
def test_a_file_without_measurements_is_an_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    assert str(path) in refused("--scaling", "--from", path)


def test_invalid_numbers_are_an_error_with_json_too(scaled: tuple[Path, str], tmp_path: Path) -> None:
    data = json.loads((scaled[0] / "scaling.json").read_text())
    data["points"][0]["seconds"] = [float("nan")]
    (tmp_path / "scaling.json").write_text(json.dumps(data))
    for source in (tmp_path, tmp_path / "scaling.json"):
        assert "a cost is not a number" in refused("--scaling", "--from", source, "--json")


def test_a_directory_without_measurements_is_an_error(tmp_path: Path) -> None:
    assert "scaling.json is missing" in refused("--scaling", "--from", tmp_path)


def test_an_exact_power_law_is_found() -> None:
    law = scaling.fit([(x, 3 * x**1.7) for x in (128, 256, 1024, 4096)])
    assert law is not None
    assert law.exponent == pytest.approx(1.7, abs=1e-12)
    assert law.factor == pytest.approx(3, rel=1e-9)
    assert law.local == pytest.approx(1.7, abs=1e-12)
    assert (law.low, law.high, law.local_from) == (128, 4096, 1024)


def test_least_squares_by_hand() -> None:
    """log y = 0, 1, 1 over log x = 0, 1, 2: slope 1/2, and nothing between the last two."""
    law = scaling.fit([(1, 1), (math.e, math.e), (math.e**2, math.e)])
    assert law is not None
    assert law.exponent == pytest.approx(0.5)
    assert law.factor == pytest.approx(math.exp(1 / 6))
    assert law.local == pytest.approx(0, abs=1e-12)


def test_the_last_two_points_of_a_sum_of_powers_follow_the_larger_one() -> None:
    law = scaling.fit([(2.0**n, 2.0**n + 4.0**n) for n in range(-6, 7)])  # x + x², as long below 1 as above
    assert law is not None
    assert law.exponent == pytest.approx(1.5, abs=1e-9)  # x → 1/x turns log(1 + x) by log x: symmetrical
    assert law.local == pytest.approx(1 + math.log2(65 / 33))


def test_a_fit_requires_two_points() -> None:
    assert scaling.fit([]) is None
    assert scaling.fit([(128, 1.0)]) is None
    assert scaling.fit([(128, 1.0), (256, 0.0)]) is None
    assert scaling.fit([(128, 1.0), (128, 2.0)]) is None


def test_the_points_of_scaling() -> None:
    plan = scaling.make_plan(["scheme=alibi"])
    contexts = {x: c.train for axis, x, c in plan.training if axis == "context"}
    assert {x: (t.context, t.batch_tokens) for x, t in contexts.items()} == {
        x: (x, 4096) for x in (128, 256, 512, 1024, 2048, 4096)
    }
    widths = {x: c for axis, x, c in plan.training if axis == "width"}
    assert [(x, c.model.d_model, c.model.n_heads) for x, c in widths.items()] == [
        (64, 64, 1), (128, 128, 2), (256, 256, 4), (512, 512, 8), (1024, 1024, 16)
    ]  # fmt: skip
    assert all(c.train.context == 256 for c in widths.values())
    for _, _, config in plan.training:
        assert config.scheme["name"] == "alibi"
        assert config.train.compile == "off"
        assert config.model.n_layers == 4
    assert plan.corpus_mb == (1, 10, 100, 1000)
    (longer,) = scaling.make_plan([], [8192], [], []).training
    assert longer[2].train.batch_tokens == 8192


@pytest.fixture(scope="module")
def scaled(text: Path, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder of results with one point that cannot be, and what was printed."""
    folder = tmp_path_factory.mktemp("scaled") / "deep" / "out"
    result = posx(
        "bench", *tiny(text), "--scaling", "--contexts", "8,16,5000", "--widths", "none", "--corpus-mb", "1",
        "--rounds", "2", "--burst", "0", "-o", folder,
    )  # fmt: skip
    return folder, result.stdout


def test_scaling_reports_points_that_could_not_be_measured(scaled: tuple[Path, str]) -> None:
    data = json.loads((scaled[0] / "scaling.json").read_text("utf-8"))
    points = {(point["axis"], point["x"]): point for point in data["points"]}
    assert list(points) == [("context", 8), ("context", 16), ("context", 5000), ("corpus", 1)]
    impossible = points.pop(("context", 5000))
    assert impossible["seconds"] == impossible["peak_memory_bytes"] == []
    assert "the longest training document" in impossible["reason"]
    for (axis, _), point in points.items():
        assert point["reason"] == ""
        assert len(point["seconds"]) == len(point["peak_memory_bytes"]) == (1 if axis == "corpus" else 2)
        assert all(value > 0 for value in point["seconds"] + point["peak_memory_bytes"])
    assert data["setup"]["device"]
    assert data["setup"]["threads"] == 1
    assert data["scheme"] == "rope"
    for page in (scaled[1], (scaled[0] / "scaling.md").read_text("utf-8")):
        assert "the longest training document" in page
        assert f"Command: `{data['command']}`" in page


def test_scaling_is_drawn_again_without_measuring(
    scaled: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaling, "Child", lambda *rest: pytest.fail("it measured"))
    redrawn = posx("bench", "--scaling", "--from", scaled[0] / "scaling.json", "-o", tmp_path / "again")
    assert redrawn.stdout == scaled[1]
    assert {path.name for path in scaled[0].iterdir()} == {f"scaling.{s}" for s in ("json", "md", "png", "svg")}
    assert {path.name for path in (tmp_path / "again").iterdir()} == {f"scaling.{s}" for s in ("md", "png", "svg")}
    assert (tmp_path / "again" / "scaling.md").read_bytes() == (scaled[0] / "scaling.md").read_bytes()


def known() -> dict[str, Any]:
    """Measurements whose exponents are known: time 1 and memory 0.5 over the context, one width, no corpus."""

    def point(axis: str, x: int, seconds: float, memory: float) -> dict[str, Any]:
        return {"axis": axis, "x": x, "seconds": [9 * seconds, seconds, 0.1 * seconds],
                "peak_memory_bytes": [memory], "reason": ""}  # fmt: skip

    made = {"device": "a machine", "torch": "2", "threads": 1, "dtype": "float32", "compiled": False, "eval_dtype": "",
            "n_layers": 1, "d_model": 64, "n_heads": 1, "context": 8, "vocab_size": 9, "step_tokens": 4096,
            "data": "sotu"}  # fmt: skip
    points = [point("context", x, 0.01 * x, 1e6 * x**0.5) for x in (4, 16, 64)] + [point("width", 64, 1.0, 1e9)]
    return {"schema": 1, "command": "posx bench --scaling", "scheme": "rope", "setup": made, "points": points}


def test_curves_take_medians_and_fit_them() -> None:
    time_, memory, *width = scaling.curves(known())
    assert time_["name"] == "time over context"
    assert time_["points"] == [(x, pytest.approx(0.01 * x)) for x in (4, 16, 64)]
    assert time_["fit"]["exponent"] == pytest.approx(1)
    assert memory["fit"]["exponent"] == pytest.approx(0.5)
    assert [curve["fit"] for curve in width] == [None, None]
    exponents, measurements = map(markdown, growth_page.pages(known()))
    assert line_of(exponents, "time over context")[1:] == ["1.00", "4–64", "1.00", "16–64"]
    assert line_of(exponents, "memory over context")[1:3] == ["0.50", "4–64"]
    assert line_of(exponents, "time over width")[1:] == ["–"] * 4
    assert "| context (tokens) | 64 | 640 ms | 8 MB |" in measurements


def test_the_picture_shows_points_and_fitted_lines() -> None:
    figure = growth_page.draw(known())
    (panel,) = figure.axes  # a single width draws no line
    assert panel.get_xscale() == panel.get_yscale() == "log"
    points, line, *_ = panel.get_lines()
    assert list(points.get_xdata()) == [4, 16, 64]
    assert list(points.get_ydata()) == pytest.approx([1, 4, 16])
    assert list(line.get_ydata()) == pytest.approx([1, 16])
    names = [entry.get_text() for entry in panel.get_legend().get_texts()]
    assert names == ["time: exponent 1.00; last two points 1.00", "memory: exponent 0.50; last two points 0.50"]


def test_a_single_point_is_a_table_without_a_picture(tmp_path: Path) -> None:
    data = known()
    data["points"] = data["points"][-1:]
    written = growth_page.write(data, tmp_path, measured=True)
    assert [path.name for path in written] == ["scaling.json", "scaling.md"]
