"""Tests of ``posx.bench.schemes``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures.measured import (
    CONTEXT,
    cells,
    found,
    line_of,
    measured,  # noqa: F401
    obedient,  # noqa: F401
    own,  # noqa: F401 - a fixture
    text,  # noqa: F401
    tiny,
)
from posx.bench import schemes as bench
from posx.bench import schemes_page as costs
from posx.bench.schemes import Measured
from posx.config.catalog import PACKAGED
from posx.errors import PosxError
from posx.reporting.formats.markdown import markdown
from posx.utils.console import Display


def test_a_scheme_that_runs_has_every_number(measured: Any) -> None:
    rows = measured[0]
    for row in (rows["nope"], rows["heavy"]):
        assert [cell["length"] for cell in row["eval"]] == [CONTEXT, 4 * CONTEXT]
        assert [cell["multiple"] for cell in row["eval"]] == [1, 4]
        for cell in cells(row):
            assert cell["reason"] == ""
            assert len(cell["seconds_a_token"]) == len(cell["ratios"]) == 3
            assert all(seconds > 0 for seconds in cell["seconds_a_token"])
            assert cell["peak_memory_bytes"] > 0
    assert rows["learned"]["parameters"] - rows["nope"]["parameters"] == CONTEXT * 16


def test_numbers_are_medians_over_rounds(measured: Any) -> None:
    rows = measured[0]
    for cell, beside in zip(cells(rows["heavy"]), cells(rows["nope"]), strict=True):
        assert cell["tokens_per_second"] == 1 / sorted(cell["seconds_a_token"])[1]
        expected = [a / b for a, b in zip(cell["seconds_a_token"], beside["seconds_a_token"], strict=True)]
        assert cell["ratios"] == expected
        assert cell["ratio"] == sorted(expected)[1]
        assert beside["ratios"] == [1, 1, 1]
    train = rows["heavy"]["train"]
    assert train["step_ms"] == pytest.approx(64 * 1000 / train["tokens_per_second"])


def test_learned_past_its_table_is_a_dash(measured: Any) -> None:
    rows, table, _ = measured
    train, short, long = cells(rows["learned"])
    assert train["reason"] == short["reason"] == ""
    assert "learned positions end at 8" in long["reason"]
    assert long["tokens_per_second"] is long["ratio"] is long["peak_memory_bytes"] is None
    fields = line_of(table, "learned")
    assert [field.startswith("–") for field in fields[1:]] == [False, False, False, True, False, False, True]


@pytest.mark.parametrize(("name", "reason"), [("dies", "killed by SIGKILL"), ("stops", "no more of this")])
def test_a_killed_child_is_a_row_of_dashes_with_the_reason(measured: Any, name: str, reason: str) -> None:
    """`dies` evaluated at 4x before it was killed, which is not shown either."""
    rows, table, _ = measured
    for cell in cells(rows[name]):
        assert reason in cell["reason"]
        assert cell["tokens_per_second"] is cell["ratio"] is cell["peak_memory_bytes"] is None
    fields = line_of(table, name)[1:]
    assert all(field == fields[0] for field in fields)
    assert any(fields[0].removeprefix("– ") in line and reason in line for line in table.splitlines())


def test_an_error_at_one_length_does_not_affect_other_numbers(measured: Any) -> None:
    train, short, long = cells(measured[0]["breaks"])
    assert long["reason"] == "ValueError: too long for me"
    assert train["ratio"] > 0
    assert short["ratio"] > 0


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
def test_peak_memory_is_measured_separately_for_each_kind_of_work(measured: Any) -> None:
    """200 MB that only the long evaluation uses, before training, are not part of training's peak."""
    (train, short, long), plain = cells(measured[0]["heavy"]), cells(measured[0]["nope"])
    assert long["peak_memory_bytes"] > 200e6
    assert max(cell["peak_memory_bytes"] for cell in (train, short, *plain)) < 150e6


def rows_of(monkeypatch: pytest.MonkeyPatch, text: Path, groups: dict[str, Measured]) -> list[dict[str, Any]]:
    """The rows for figures that were not measured."""
    plan = bench.make_plan(tiny(text), [name for name in groups if name != "nope"], ["1x"])
    monkeypatch.setattr(bench, "_measure_group", lambda plan, names, *rest: {name: groups[name] for name in names})
    return bench.measure(plan, 3, 0.0, Display(quiet=True), "posx bench")


def test_a_ratio_is_the_median_of_the_ratios_within_rounds(monkeypatch: pytest.MonkeyPatch, text: Path) -> None:
    """The second round was slow for all schemes: the ratio of the medians would be 1.5."""
    _, rope = rows_of(
        monkeypatch,
        text,
        {"nope": found([1e-3, 10e-3, 2e-3], [1e-3] * 3), "rope": found([2e-3, 20e-3, 3e-3], [4e-3, 1e-3, 3e-3])},
    )
    assert rope["train"]["ratios"] == pytest.approx([2, 2, 1.5])
    assert rope["train"]["ratio"] == pytest.approx(2)
    assert rope["train"]["tokens_per_second"] == pytest.approx(1 / 3e-3)
    assert rope["train"]["step_ms"] == pytest.approx(64 * 3)
    assert rope["eval"][0]["ratio"] == pytest.approx(3)
    (line,) = [note for note in costs.page([rope]).notes if "×" in note]
    assert "in the median cell, ratios vary by 62% between rounds" in line  # of 0.5 / 2 and 3 / 3


def test_without_the_baseline_there_are_rates_and_no_ratios(monkeypatch: pytest.MonkeyPatch, text: Path) -> None:
    nope, rope = rows_of(
        monkeypatch, text, {"nope": found([1.0], [1.0], "it died"), "rope": found([2.0, 3.0, 4.0], [1.0])}
    )
    assert nope["train"]["tokens_per_second"] is None
    assert rope["train"]["ratio"] is None
    table = markdown(costs.page([nope, rope]))
    assert line_of(table, "rope") == ["rope", "192,000 –", "0", "1 –", "5", "1"]
    assert line_of(table, "nope") == ["nope", *["– [1]"] * 5]
    assert "- [1] it died" in table


def test_the_command_fails_if_nothing_can_be_measured(monkeypatch: pytest.MonkeyPatch, text: Path) -> None:
    with pytest.raises(PosxError, match="no luck") as caught:
        rows_of(monkeypatch, text, {"nope": found([], [], "no luck"), "rope": found([], [], "nor here")})
    assert caught.value.code == 1


def test_each_group_has_its_own_baseline(monkeypatch: pytest.MonkeyPatch, text: Path) -> None:
    monkeypatch.setattr(bench, "GROUP", 1)
    seen: list[list[str]] = []

    def group(plan: bench.Plan, names: list[str], *rest: Any) -> dict[str, Measured]:
        seen.append(names)
        base = 1.0 * len(seen)  # the machine is half as fast for the second group
        return {"nope": found([base], [base]), names[1]: found([3 * base], [3 * base])}

    monkeypatch.setattr(bench, "_measure_group", group)
    plan = bench.make_plan(tiny(text), ["rope", "alibi"], ["1x"])
    nope, rope, alibi = bench.measure(plan, 1, 0.0, Display(quiet=True), "")
    assert seen == [["nope", "rope"], ["nope", "alibi"]]
    assert nope["train"]["seconds_a_token"] == [1.0]
    assert rope["train"]["ratio"] == alibi["train"]["ratio"] == 3


def test_schemes_alternate_and_memory_is_measured_first(text: Path, obedient: list[tuple[str, dict[str, Any]]]) -> None:
    """The longest evaluation first, before the optimizer allocates memory. Then rounds, forwards and backwards."""
    plan = bench.make_plan(tiny(text), ["rope", "alibi"], ["1x", "4x"])
    rows = bench.measure(plan, 2, 0.5, Display(quiet=True), "")
    looks = [(name, request["length"]) for name, request in obedient if request["memory"]]
    assert looks == [(name, kind) for name in ("nope", "rope", "alibi") for kind in (32, 8, None) for _ in range(3)]
    bursts = [(name, request["length"]) for name, request in obedient[len(looks) :]]
    forwards = [(name, length) for length in (None, 8, 32) for name in ("nope", "rope", "alibi")]
    backwards = [(name, length) for length in (None, 8, 32) for name in ("alibi", "rope", "nope")]
    assert bursts == forwards + backwards
    assert all(request["seconds"] == 0.5 and not request["memory"] for _, request in obedient[len(looks) :])
    assert rows[1]["train"]["tokens_per_second"] == 32
    assert rows[1]["train"]["step_ms"] == 2000


def test_by_default_every_scheme_at_the_reference_shape() -> None:
    plan = bench.make_plan([])
    assert sorted(plan.configs) == sorted(PACKAGED.options("scheme"))
    assert plan.lengths == (256, 1024, 4096)
    assert plan.eval.dtype == "float32"
    model, train = plan.baseline.model, plan.baseline.train
    assert (model.n_layers, model.d_model, model.n_heads) == (4, 256, 4)
    assert (train.context, train.batch_tokens) == (256, 4096)
    assert plan.baseline.tokenizer.vocab_size == 4096
    assert plan.baseline.data.name == "sotu"


def test_overrides_replace_the_reference_settings() -> None:
    plan = bench.make_plan(["model=tiny", "train.batch_tokens=128", "eval.lengths=[1x,3x]", "eval.dtype=bfloat16"])
    assert plan.baseline.model.d_model == 128
    assert plan.baseline.train.batch_tokens == 128
    assert plan.lengths == (64, 192)
    assert plan.eval.dtype == "bfloat16"


def test_a_scheme_that_refuses_the_shape_has_a_reason() -> None:
    """T5's 32 buckets are more than the distances at a context of 16."""
    plan = bench.make_plan(["model=tiny", "train.context=16", "train.batch_tokens=64"], ["t5"])
    with pytest.raises(bench.Refused, match="bucket"):
        plan.spec("t5")
