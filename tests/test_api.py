"""Tests of ``posx.api`` through the public names of ``posx``."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml

import posx
from fixtures.corpora import TINY, child_environment, python, sentence, tiny_config, trained, write_jsonl
from fixtures.sweep_files import sweep_file
from posx.models import classes
from posx.results.records import read_records

torch.set_num_threads(1)

MODULE = '''
from dataclasses import dataclass

import torch
from posx.extensions.pi import PI
from posx.schemes.distance import DistanceBias


@dataclass
class RootConfig:
    slope: float = 0.5


class MyRoot(DistanceBias):
    """logit(i, j) −= slope · √(i − j)"""

    Config = RootConfig
    formula = "logit − slope·√d"

    def addend(self, h, distance):
        return -self.config.slope * (h + 1) * torch.sqrt(distance.float())


class Shrink(PI):
    """The same as pi."""


class Alibi(MyRoot):
    """Named like another one."""


def local():
    class Inside(MyRoot):
        pass

    return Inside
'''


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("text") / "a.jsonl", [sentence(120, n) for n in range(24)])


@pytest.fixture(scope="module")
def overrides(text: Path) -> list[str]:
    return ["data=text", f"data.path={text}", *TINY, "train.steps=3", "train.log_every=1"]


@pytest.fixture(scope="module")
def run(overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> posx.Run:
    return posx.train(posx.compose(overrides, scheme="rope"), tmp_path_factory.mktemp("runs") / "rope")


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A user's package; nothing is trusted before or after the test."""
    (tmp_path / "mine.py").write_text(MODULE, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(classes, "_passed", set())
    import mine

    yield mine
    sys.modules.pop("mine")


# ---------------------------------------------------------------- the package


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


# ---------------------------------------------------------------- configs


def test_a_mapping_composes_like_a_list(text: Path) -> None:
    values = {"train.steps": 7, "train.compile": "off", "model.tie_embeddings": False, "model.n_kv_heads": None}
    there = ["data=text", f"data.path={text}", "scheme.base=500", "train.steps=7", "train.compile=off"]
    there += ["model.tie_embeddings=false", "model.n_kv_heads=null", "label=a (b), c"]
    mapping = {"data": "text", "data.path": text, **values, "label": "a (b), c"}
    found = posx.compose(mapping, scheme="rope", settings={"base": 500})
    assert found == posx.compose(there)
    assert (found.train.steps, found.scheme["base"], found.label) == (7, 500, "a (b), c")


@pytest.mark.parametrize(
    "overrides, options, message",
    [
        ("train.steps=3", {}, "is a string"),
        ({"train.stepz": 3}, {}, "There is no setting"),
        (["train.steps"], {}, "is not an override"),
        (["scheme=alibi"], {"scheme": "rope"}, "contradict"),
        ([], {"scheme": "rop"}, "Did you mean rope"),
    ],
)
def test_mistakes_raise_posx_error(overrides: object, options: dict[str, str], message: str) -> None:
    with pytest.raises(posx.PosxError, match=message):
        posx.compose(overrides, **options)  # type: ignore[arg-type]


# ---------------------------------------------------------------- training


def test_a_run_equals_that_of_the_training_loop_and_prints_nothing(
    run: posx.Run, overrides: list[str], text: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    events: list[posx.Progress] = []
    config = posx.compose(overrides, scheme="rope")
    second = posx.train(config, tmp_path / "second", progress=events.append)
    posx.evaluate(second, ["1x"], max_targets=32, progress=events.append)
    assert capfd.readouterr() == ("", "")
    below = trained(tmp_path, "below", tiny_config(text, "scheme=rope", "train.steps=3", "train.log_every=1"))
    weights = [(one.checkpoints / "step-000003" / "model.safetensors").read_bytes() for one in (run, second, below)]
    assert weights[0] == weights[1] == weights[2]
    steps = [(e.done, e.total) for e in events if e.title == "second" and not e.message]
    assert steps[0] == (0, 3)
    assert steps[-1] == (3, 3)
    assert any("loss" in e.note or any(sign.isdigit() for sign in e.note) for e in events)
    assert any(e.message for e in events)
    assert any(e.title == "second  none  16" and e.done == e.total > 0 for e in events)


def test_an_existing_run_is_an_error_or_is_resumed(run: posx.Run, overrides: list[str]) -> None:
    config = posx.compose(overrides, scheme="rope")
    with pytest.raises(posx.PosxError, match="already exists"):
        posx.train(config, run.path)
    events: list[posx.Progress] = []
    assert posx.train(config, run.path, resume=True, progress=events.append).finished
    assert "is finished: step 3 of 3" in events[-1].message


def test_a_config_changed_in_python_is_checked(overrides: list[str], tmp_path: Path) -> None:
    config = posx.compose(overrides)
    config.train.batch_tokens = 8  # less than a window
    with pytest.raises(posx.PosxError, match="less than one window"):
        posx.train(config, tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_without_a_path_runs_are_named_after_their_settings(
    overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = posx.compose([*overrides, "train.steps=1"], scheme="nope")
    paths = [posx.train(config).path for _ in range(2)]
    assert paths == [Path("runs/nope-tiny-16-seed0"), Path("runs/nope-tiny-16-seed0-2")]


def test_a_finetune_starts_from_the_run(run: posx.Run, tmp_path: Path) -> None:
    changes = {"train.context": "2x", "train.extension": "pi", "train.steps": 1}
    beside = posx.finetune(run, changes)
    assert beside.path == run.path.parent / "rope-pi-s-2-32-1steps"
    assert (beside.config.start.run, beside.config.train.context, beside.config.train.extension) == (
        "rope",
        32,
        "pi(s=2)",
    )
    elsewhere = posx.finetune(run, posx.compose_finetune(run, changes, runs_dir=tmp_path), tmp_path / "tuned")
    assert elsewhere.config.start.run == str(run.path.resolve())
    assert elsewhere.finished
    with pytest.raises(posx.PosxError, match="weights of no run"):
        posx.finetune(run, run.config)


# ---------------------------------------------------------------- evaluation


def test_records_equal_those_stored_in_the_run(run: posx.Run) -> None:
    records = posx.evaluate(run, [16, "2x"], ["none", "pi"], max_targets=64, device="cpu")
    assert [(r.extension, r.length) for r in records] == [("none", 16), ("none", 32), ("pi", 16), ("pi", 32)]
    assert all(r.status == "ok" and r.n_targets == 64 for r in records)
    stored = {r.path: r for r in read_records(run.path.parent, [run.name])}
    assert all(stored[r.path] == r for r in records)


def test_all_protocols_and_several_runs(run: posx.Run, overrides: list[str], tmp_path: Path) -> None:
    other = posx.train(posx.compose([*overrides, "train.context=32", "train.steps=1"]), tmp_path / "other")
    records = posx.evaluate([run, other], [32], protocol="all", max_targets=32, target_context=64)
    fixed = [r for r in records if r.protocol == "fixed-targets" and r.length == 32]
    assert {r.protocol for r in records} == {"fixed-targets", "non-overlapping", "stream"}
    assert [r.run for r in fixed] == ["rope", "other"]
    assert len({r.target_context for r in fixed}) == 1
    # No document is that long. The other protocols are computed first, and the error is raised without a callback too.
    events: list[posx.Progress] = []
    with pytest.raises(posx.PosxError, match="900"):
        posx.evaluate(other, [32], protocol="all", max_targets=32, target_context=900, progress=events.append)
    assert any("900" in event.message for event in events)


def test_an_unsupported_cell_is_an_error_only_if_all_are_unsupported(overrides: list[str], tmp_path: Path) -> None:
    learned = posx.train(posx.compose([*overrides, "train.steps=1"], scheme="learned"), tmp_path / "learned")
    with pytest.raises(posx.PosxError, match="positions end"):
        posx.evaluate(learned, ["2x"], max_targets=32)
    records = posx.evaluate(learned, ["1x", "2x"], max_targets=32)
    assert [r.status for r in records] == ["ok", "unsupported"]
    frame = posx.load_records(learned.path)
    assert list(frame["status"]) == ["ok", "unsupported"]
    assert math.isnan(frame["perplexity"][1])
    with pytest.raises(posx.PosxError, match="There is no setting"):
        posx.evaluate(learned, ["1x"], max_target=32)


def test_records_as_a_frame(run: posx.Run) -> None:
    records = posx.evaluate(run, ["1x", "2x"], max_targets=64)
    frame = posx.load_records(run.path.parent).set_index("path")
    for record in records:
        row = frame.loc[str(record.path)]
        assert record.nats is not None
        assert row["perplexity"] == pytest.approx(math.exp(record.nats / record.n_targets))
        assert row["bits_per_byte"] == pytest.approx(record.nats / math.log(2) / record.bytes)
        assert row["multiple"] == record.length / 16
    assert posx.load_run(run.path).step == 3
    with pytest.raises(posx.PosxError, match="There are no evaluations"):
        posx.load_records(run.path.parent / "nowhere")


def test_the_table_equals_that_of_the_command(run: posx.Run, tmp_path: Path) -> None:
    again = posx.train(run.config, tmp_path / "rope")
    table = posx.Table(posx.evaluate(again, ["1x", "2x"], ["none", "pi"], max_targets=64))
    command = [sys.executable, "-m", "posx", "table", "--runs-dir", str(tmp_path), "--format"]
    environment = child_environment()
    for form, mine in (("md", table.to_markdown()), ("json", table.render("json"))):
        done = subprocess.run([*command, form], capture_output=True, text=True, env=environment, check=True)
        assert mine == done.stdout
    frame = table.to_pandas()
    assert list(frame["length"]) == [cell.length for cell in table.cells]
    assert list(frame["nats_per_token"]) == pytest.approx([cell.nats_per_token for cell in table.cells])


# ---------------------------------------------------------------- custom classes


def test_a_scheme_without_yaml(mine: ModuleType, overrides: list[str], tmp_path: Path) -> None:
    config = posx.compose(overrides, scheme=mine.MyRoot, settings={"slope": 0.25})
    assert config.scheme == {"name": "my-root", "_target_": "mine.MyRoot", "slope": 0.25}
    run = posx.train(config, tmp_path / "runs" / "mine")
    assert yaml.safe_load((run.path / "config.yaml").read_text("utf-8"))["scheme"] == config.scheme
    records = posx.evaluate(posx.load_run(run.path), ["2x"], max_targets=32)
    assert [(r.scheme, r.length, r.status) for r in records] == [("my-root", 16, "ok"), ("my-root", 32, "ok")]

    command = [sys.executable, "-m", "posx", "eval", str(run.path), "--length", "2x", "--json", "eval.max_targets=32"]
    environment = child_environment()
    environment["PYTHONPATH"] += os.pathsep + str(tmp_path)
    refused = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert refused.returncode == 2
    assert "mine.MyRoot is not part of posx" in refused.stderr
    done = subprocess.run([*command, "--trust"], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert [one["nats"] for one in json.loads(done.stdout)] == [r.nats for r in records]


def test_only_a_class_that_was_passed_is_trusted(mine: ModuleType, overrides: list[str]) -> None:
    written = [*overrides, "+scheme._target_=mine.MyRoot"]
    with pytest.raises(posx.PosxError, match="not part of posx"):
        posx.compose(written)
    posx.compose(overrides, scheme=mine.MyRoot)
    with pytest.raises(posx.PosxError, match=r"mine\.Alibi is not part of posx"):
        posx.compose([*overrides, "+scheme._target_=mine.Alibi"])


def test_an_extension_without_yaml(mine: ModuleType, run: posx.Run) -> None:
    with pytest.raises(posx.PosxError, match=r"There is no extension 'mine\.Shrink'"):
        posx.evaluate(run, ["2x"], ["mine.Shrink"], max_targets=64)
    instance = mine.Shrink(mine.Shrink.Config(s=4))
    records = posx.evaluate(run, ["2x"], ["pi", mine.Shrink, "pi(s=4)", instance], max_targets=64)
    control, pi, shrunk, four, shrunk_four = records
    assert (control.extension, control.length) == ("none", 16)
    assert [r.extension for r in records[1:]] == ["pi", "mine.Shrink", "pi(s=4)", "mine.Shrink(s=4)"]
    assert pi.nats == shrunk.nats != four.nats == shrunk_four.nats
    tuned = posx.compose_finetune(run, {"train.context": "2x", "train.extension": mine.Shrink})
    assert tuned.train.extension == "mine.Shrink(s=2)"


def test_classes_of_posx_are_stored_by_name() -> None:
    from posx.extensions.pi import PI
    from posx.schemes.alibi import Alibi

    config = posx.compose(["train.context=16"], scheme=Alibi)
    assert config.scheme == posx.compose(["train.context=16"], scheme="alibi").scheme
    assert posx.compose({"train.extension": PI}, scheme="rope").train.extension.startswith("pi")


def test_classes_that_cannot_be_used(mine: ModuleType, overrides: list[str]) -> None:
    with pytest.raises(posx.PosxError, match="Define it at the top level"):
        posx.compose(overrides, scheme=mine.local())
    with pytest.raises(posx.PosxError, match="A scheme named alibi exists"):
        posx.compose(overrides, scheme=mine.Alibi)
    with pytest.raises(posx.PosxError, match="is not a posx scheme"):
        posx.compose(overrides, scheme=mine.Shrink)
    with pytest.raises(posx.PosxError, match="Give the settings of a class in settings"):
        posx.compose([*overrides, "scheme.slope=1"], scheme=mine.MyRoot)


# ---------------------------------------------------------------- sweeps


def test_a_sweep_is_a_table(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", child_environment()["PYTHONPATH"])
    path = sweep_file(tmp_path / "small.yaml", text, schemes=["rope"], seeds=[0])
    events: list[posx.Progress] = []
    table = posx.sweep(path, runs_dir=tmp_path / "runs", workers=1, progress=events.append)
    assert capfd.readouterr() == ("", "")
    assert {(r.extension, r.length) for r in table.records} == {(e, n) for e in ("none", "pi") for n in (8, 16)}
    assert table.failed == []
    assert "| rope | pi |" in table.to_markdown()
    assert "Sweep small: 1 jobs, 1 to do" in events[0].message
    again = posx.sweep(path, runs_dir=tmp_path / "runs", workers=1, progress=events.append)
    assert again.records == table.records
    assert "0 to do" in events[-1].message
