"""Batches, threads, backends, blocks and workers do not change the sums of an evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

from fixtures.corpora import TINY, child_environment
from fixtures.recomputed_runs import (
    CONTEXT,
    LEAST,
    Trained,
    alibi,  # noqa: F401 - a fixture
    copy_without_records,
    either,  # noqa: F401
    evaluate_run,
    folder,  # noqa: F401
    rope,  # noqa: F401
    stored_losses,
)
from posx.cli.app import app
from posx.evaluation import scorer as scoring
from posx.extensions.base import NONE
from posx.models.attention import sdpa
from posx.models.attention import tiled as tiles
from posx.models.attention.dispatch import forced
from posx.models.build import build_model
from posx.models.loss import nll
from posx.results.records import Record, read_records

# Two orders of adding the same float32 products differ in each of a few dozen sums by half a unit in the last place. An
# NLL of 4 to 8 nats has units of 2^-21 = 4.8e-7: allow sixteen of them for one target. Signs are random, so a sum grows
# by far less than one per target: allow 2^-22 of the sum, the worst case of one rounding per number.
ONE_TARGET = 16 * 2.0**-21


OF_A_SUM = 2.0**-22


def assert_same_sums(record: Record, other: Record) -> None:
    """The same targets, with losses equal up to float32 rounding (ONE_TARGET and OF_A_SUM)."""
    losses, others = stored_losses(record), stored_losses(other)
    assert losses.keys() == others.keys()
    assert max(abs(losses[key][0] - others[key][0]) for key in losses) <= ONE_TARGET
    assert record.nats is not None
    assert other.nats == pytest.approx(record.nats, rel=OF_A_SUM)
    assert (other.bytes, other.n_targets, other.targets_sha256) == (
        record.bytes,
        record.n_targets,
        record.targets_sha256,
    )


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Restore the single thread of all tests afterwards."""
    yield
    torch.set_num_threads(1)


PROTOCOLS: dict[str, dict[str, Any]] = {
    "fixed-targets": {"stride": 5, "max_targets": 200},
    "non-overlapping": {},
    "stream": {},
    "curve": {"stride": 5, "max_targets": 65},
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.usefixtures("one_thread")
def test_batches_threads_and_blocks_change_no_sum(
    either: Trained, tmp_path: Path, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows per batch, threads, attention backend, queries per block, rows of logits at a time."""
    number = 0

    def number_of(**settings: Any) -> Record:
        nonlocal number
        number += 1
        (tmp_path / str(number)).mkdir()
        copy = copy_without_records(either, tmp_path / str(number))
        return evaluate_run(copy, 37, protocol=protocol, **PROTOCOLS[protocol], **settings)[37]

    base = number_of()
    for settings in ({"batch_tokens": 1}, {"batch_tokens": 100}, {"batch_tokens": 10**6}):
        assert_same_sums(base, number_of(**settings))
    assert_same_sums(base, number_of(threads=2, batch_tokens=10**6))
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "LOGIT_ROWS", 7)
        assert_same_sums(base, number_of())
    assert base.backend == ("fused" if sdpa.is_fast() else "tiles")
    with monkeypatch.context() as patch:
        patch.setattr(tiles, "FEWEST_QUERIES", 3)
        for most in (1, 10_000, 64 * 2**20):  # one head and three queries per tile, several, and all
            patch.setattr(tiles, "TILE_BYTES", most)
            with forced("tiles"):
                assert_same_sums(base, number_of())
    for backend in ("dense", "blocks", "tiles", "fused"):
        with forced(backend):
            other = number_of()
        assert other.backend == backend
        assert_same_sums(base, other)


@pytest.mark.parametrize("length", [37, 3 * CONTEXT])
def test_the_size_of_a_block_changes_no_sum(either: Trained, length: int) -> None:
    """Computed by the model directly, with and without all queries in the last layer."""
    (checkpoint,) = (either.run.path / "checkpoints").glob("step-*")
    model = build_model(either.run.config, len(either.sizes)).eval()
    model.load_state_dict(load_file(checkpoint / "model.safetensors"))
    ids = torch.tensor([d[: length + 1] for d in either.documents if len(d) > length])

    @torch.inference_mode()
    def losses(tail: int | None, **how: Any) -> torch.Tensor:
        hidden = model(ids[:, :-1], extension=NONE, tail=tail, **how)
        return nll(model.logits(hidden).flatten(0, 1), ids[:, -hidden.shape[1] :].flatten()).double()

    for tail in (None, 5):
        whole = losses(tail, backend="dense")
        assert len(whole) == len(ids) * (tail or length)
        for block in (1, 2, 5, 16, length - 1, length, 1000):
            part = losses(tail, block=block)
            assert float((part - whole).abs().max()) <= ONE_TARGET
            assert float(part.sum()) == pytest.approx(float(whole.sum()), rel=OF_A_SUM)


def test_workers_change_no_sum(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two parallel jobs with one thread each, and the first job alone with all threads, as separate processes."""
    monkeypatch.setenv("PYTHONPATH", child_environment()["PYTHONPATH"])
    tiny = [o for o in TINY if not o.startswith("train.threads")]
    common = ["data=text", f"data.path={folder / 'a.jsonl'}", *tiny, "train.steps=3", "eval.max_targets=128"]
    found = {}
    for workers, seeds in ((2, [0, 1]), (1, [0])):
        values = {
            "schemes": ["rope"],
            "seeds": seeds,
            "overrides": [*common, f"eval.target_context={LEAST}"],
            "lengths": ["1x", "37", "3x"],
        }
        path = tmp_path / f"s{workers}.yaml"
        path.write_text(yaml.safe_dump(values), "utf-8")
        runs = tmp_path / f"runs{workers}"
        result = CliRunner().invoke(app, ["sweep", str(path), "--workers", str(workers), "--runs-dir", str(runs)])
        assert result.exit_code == 0, result.stderr
        found[workers] = {r.length: r for r in read_records(runs, []) if r.seed == 0}
    assert found[1].keys() == found[2].keys() == {CONTEXT, 37, LEAST}
    for length, record in found[1].items():
        assert_same_sums(record, found[2][length])
