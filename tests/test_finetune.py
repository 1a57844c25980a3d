"""Fine-tuning: what a run takes over from another, what it says of that, and what an evaluation makes of it.

The numbers are held against transformers with the fine-tuned weights, one target at a time.
"""

from __future__ import annotations

import json
import math
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

from data_helpers import TINY, child_environment, corpus_of, python, sentence, silent, tiny_config, write_jsonl
from posx.cli.app import app
from posx.config.schema import EvalConfig, RunConfig
from posx.data.sampling import Slices
from posx.errors import PosxError
from posx.evaluation.evaluate import evaluate
from posx.evaluation.plan import make_plan
from posx.models.build import build_model
from posx.results.records import Record, read_records
from posx.runs.directory import Run, check_name, create, metrics, open_run
from posx.runs.identity import group_hash, recipe_hash
from posx.sweeps.plan import JobPlan, read_sweep
from posx.training.finetune import compose_finetune, default_name, with_weights
from posx.training.loop import train
from posx.training.resume import resume
from posx.training.state import start
from posx.utils.console import Display
from posx.utils.files import sha256_file
from posx.verify.oracles import hosts

L, LONG = 16, 64
STEPS, MORE = 30, 10
HEAD = 16  # dimensions of a head in TINY
THETA = 10000.0
TO_4X = ["train.context=4x", f"train.steps={MORE}", "train.log_every=1"]


def posx(*arguments: object, code: int = 0) -> Any:
    """A command in this process; anything but a clean exit with this code is a failure with its output."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, f"exit code {result.exit_code}\n{result.stdout}\n{result.stderr}"
    return result


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 documents of about 200 tokens: enough for targets at 8x of a context of 16."""
    return write_jsonl(tmp_path_factory.mktemp("text") / "a.jsonl", [sentence(120, n) for n in range(24)])


@pytest.fixture(scope="module")
def runs(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs at 16 tokens, ``rope-1`` of another seed and ``rope-31`` of another recipe, and fine-tunes of ``rope``."""
    folder = tmp_path_factory.mktemp("runs") / "runs"
    at = ["--runs-dir", folder]
    own = ["data=text", f"data.path={text}", *TINY, "train.log_every=1"]
    for name, scheme, seed, steps in (
        ("rope", "rope", 0, STEPS),
        ("rope-1", "rope", 1, STEPS),
        ("rope-31", "rope", 0, STEPS + 1),
        ("learned", "learned", 0, STEPS),
        ("sinusoidal", "sinusoidal", 0, 2),
        ("alibi", "alibi", 0, 2),
    ):
        posx("train", *own, "--scheme", scheme, "--seed", seed, "--name", name, f"train.steps={steps}", *at)
    for name, first, extension in (
        ("rope-pi", "rope", "pi"),
        ("rope-ntk", "rope", "ntk"),
        ("learned-interpolate", "learned", "interpolate"),
    ):
        posx("train", "--from", first, "--extension", extension, "--name", name, *TO_4X, *at)
    return folder


@pytest.fixture
def own(runs: Path, tmp_path: Path) -> Path:
    """The runs, for a test that changes them."""
    return Path(shutil.copytree(runs, tmp_path / "runs"))


def weights(run: Run) -> dict[str, Tensor]:
    (folder,) = run.checkpoints.glob("step-*")
    return load_file(folder / "model.safetensors")


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    """Bit for bit."""
    assert left.keys() == right.keys()
    return all(torch.equal(left[name], right[name]) for name in left)


def tuned(first: Run, *overrides: str) -> RunConfig:
    """The config of a fine-tune of a run that may lie in another folder."""
    return with_weights(compose_finetune(first.config, str(first.path), list(overrides)), first)


def finetune(runs: Path, first: str, name: str, *overrides: object) -> Run:
    """Through the command line."""
    posx("train", "--from", first, "--name", name, *overrides, "--runs-dir", runs)
    return open_run(runs / name)


# ---------------------------------------------------------------- oracles


def as_neox(run: Run, **rope: Any) -> Any:
    """A run's weights in GPT-NeoX."""
    own = weights(run)
    model = build_model(run.config, len(own["tokens.weight"]))
    model.load_state_dict(own)
    return hosts.neox(model, {"rope_type": "default", "rope_theta": THETA, "partial_rotary_factor": 1.0, **rope})


def as_gpt2(run: Run, table: Tensor) -> Any:
    """A run's weights in GPT-2, with this table of positions."""
    own = weights(run)
    model = build_model(run.config, len(own["tokens.weight"]))
    model.load_state_dict(own)
    return hosts.gpt2(model, table)


def resized(table: Tensor, rows: int) -> Tensor:
    """A table [L, C] with ``rows`` rows from its first to its last, as torch interpolates images."""
    return F.interpolate(table.T[None], size=rows, mode="linear", align_corners=True)[0].T.contiguous()


def ask(run: Run, lengths: list[int], *extensions: str, **settings: Any) -> dict[tuple[str, int], Record]:
    """(extension, length) → record, of 64 targets with at least 128 tokens before them."""
    settings = {"max_targets": 64, "target_context": 128, "stride": 1, **settings}
    asked = EvalConfig(lengths=list(map(str, lengths)), extensions=list(extensions), device="cpu", **settings)
    found = evaluate(make_plan(open_run(run.path), asked), Display(quiet=True))
    return {(record.extension, record.length): record for record in found}


def losses(record: Record) -> list[float]:
    assert record.path is not None
    return [row["nll"] for row in pq.read_table(record.path.with_suffix(".parquet")).to_pylist()]


@torch.no_grad()
def by_host(run: Run, record: Record, host: Any, addend: Callable[[int], Tensor] | None = None) -> list[float]:
    """Nats of every target of a record, each after its own context; ``addend`` of a length, to the logits."""
    split = corpus_of(run.config).splits["test"]
    found = []
    assert record.path is not None
    for row in pq.read_table(record.path.with_suffix(".parquet")).to_pylist():
        place = int(split.offsets[row["document"]]) + row["position"]
        assert row["context"] == record.length  # with a stride of 1
        ids = torch.from_numpy(split.tokens[place - record.length : place].astype("int64"))[None]
        logits, _ = hosts.run(host, ids, addend=addend(record.length) if addend else None)
        found.append(float(logits[0, -1].double().logsumexp(0) - logits[0, -1, int(split.tokens[place])].double()))
    return found


def gap(left: list[float], right: list[float]) -> float:
    assert len(left) == len(right) == 64
    return max(abs(a - b) for a, b in zip(left, right, strict=True))


EXACT = 1e-5  # nats, of one target
SEEN = 1e-3  # what the oracle must differ by, where it stands for something else


# ---------------------------------------------------------------- the start


def test_a_session_holds_the_weights_of_the_first_run(runs: Path, tmp_path: Path) -> None:
    first = open_run(runs / "rope")
    config = tuned(first, "train.context=4x", "train.extension=pi")
    run, corpus = create(tmp_path, "run", config, resume=False), corpus_of(config)
    session = start(config, corpus)
    fresh = {name: p.detach().clone() for name, p in session.model.named_parameters()}
    assert not same(fresh, weights(first))
    assert resume(run, session, corpus, Display(quiet=True)) == (0, 0.0)
    assert same({name: p.detach() for name, p in session.model.named_parameters()}, weights(first))
    assert len(session.optimizer.state) == 0  # moments of another text length and rate are none of its own


def test_steps_that_change_nothing_leave_the_weights_of_the_first_run(own: Path) -> None:
    run = finetune(own, "learned", "still", *TO_4X, "--extension", "interpolate", "optim.lr=1e-30")
    assert same(weights(run), weights(open_run(own / "learned")))


def test_training_changes_every_weight(runs: Path) -> None:
    before, after = weights(open_run(runs / "rope")), weights(open_run(runs / "rope-pi"))
    assert [name for name in before if torch.equal(before[name], after[name])] == []


@pytest.mark.parametrize("name, factor", [("rope-pi", 4.0), ("rope-ntk", 1.0)])
def test_a_step_is_taken_with_the_extension_on_the_batch_that_comes_next(runs: Path, name: str, factor: float) -> None:
    """The first loss, by GPT-NeoX: the first run's weights, the tokens of step 30, the extension."""
    first, run = open_run(runs / "rope"), open_run(runs / name)
    rope = {"rope_type": "linear", "factor": 4.0} if name == "rope-pi" else {"rope_theta": by_ntk(4)}

    @torch.no_grad()
    def loss(step: int, context: int = LONG, **rope: Any) -> float:
        tokens, targets = Slices(corpus_of(run.config).splits["train"], context).batch(0, step, 128 // context)
        logits, _ = hosts.run(as_neox(first, **rope), torch.from_numpy(tokens))
        return float(F.cross_entropy(logits.double().flatten(0, 1), torch.from_numpy(targets).flatten()))

    seen = metrics(run)[0]
    assert (seen["step"], seen["tokens"]) == (1, 128)
    assert seen["nats_per_token"] == pytest.approx(loss(STEPS, **rope), abs=EXACT)
    others = [loss(STEPS), loss(0, **rope), loss(STEPS - 1, **rope), loss(STEPS + 1, **rope), loss(STEPS, L, **rope)]
    assert min(abs(other - seen["nats_per_token"]) for other in others) > SEEN


def test_batches_go_on_in_every_step(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after two fine-tunes in a row: 30 + 10 steps lie before."""
    asked: list[tuple[int, int, int]] = []
    batch = Slices.batch

    def noted(slices: Slices, seed: int, step: int, size: int) -> Any:
        asked.append((seed, step, slices.context))
        return batch(slices, seed, step, size)

    monkeypatch.setattr(Slices, "batch", noted)
    config = tuned(open_run(runs / "rope-pi"), "train.steps=3", "train.eval_tokens=64")
    train(create(tmp_path, "run", config, resume=False), corpus_of(config), Display(quiet=True))
    assert [n for n in asked if n[1] > 0] == [(0, STEPS + MORE + n, LONG) for n in range(3)]


def test_validation_too_is_with_the_extension(runs: Path, tmp_path: Path) -> None:
    """Over so few steps that only the extension can tell the two apart."""
    found = {}
    for extension in ("none", "pi"):
        config = tuned(open_run(runs / "rope"), "train.context=4x", f"train.extension={extension}", "optim.lr=1e-30")
        run = create(tmp_path, extension, config, resume=False)
        train(run, corpus_of(config), Display(quiet=True))
        found[extension] = run.meta["validation_nats_per_token"]
    assert abs(found["pi"] - found["none"]) > SEEN


# ---------------------------------------------------------------- lineage


def test_a_finetune_says_where_it_comes_from(runs: Path) -> None:
    first, run = open_run(runs / "rope"), open_run(runs / "rope-pi")
    (checkpoint,) = first.checkpoints.glob("step-*")
    lineage = run.meta["lineage"]
    begin = lineage.pop("start")
    assert lineage == {"base_context": L, "train_context": LONG, "train_extension": "pi(s=4)"}
    assert begin["weights_sha256"] == sha256_file(checkpoint / "model.safetensors")
    assert (begin["run"], begin["step"], begin["base_context"]) == ("rope", STEPS, L)
    assert begin["recipe_sha256"] == group_hash(first.config)
    assert yaml.safe_load((run.path / "config.yaml").read_text())["start"] == begin
    assert run.config.base_context == L
    assert first.meta["lineage"] == {
        "base_context": L,
        "train_context": L,
        "train_extension": "none",
        "start": None,
    }


def test_records_carry_the_lineage(runs: Path) -> None:
    record = ask(open_run(runs / "rope-ntk"), [LONG], "trained")["trained", LONG]
    assert (record.base_context, record.train_context, record.train_extension) == (L, LONG, "ntk(s=4)")
    assert (record.multiple, record.train_steps, record.train_tokens) == (4, MORE, MORE * 128)
    assert record.parent_sha256 == record_of(runs, "rope").config_sha256
    assert record.extension_params == {"trained": {"ntk": {"s": 4.0}}}


def record_of(runs: Path, name: str) -> Record:
    return next(iter(ask(open_run(runs / name), [L], "trained").values()))


def test_multiples_refer_to_the_base_context(own: Path) -> None:
    """And the 1x control is at the base context, with what the run was trained with."""
    posx("eval", "rope-pi", "--length", "4x", "eval.target_context=128", "eval.max_targets=64", "--runs-dir", own)
    found = {(r.extension, r.length) for r in read_records(own, ["rope-pi"])}
    assert found == {("trained", L), ("trained", 4 * L)}


def test_a_finetune_is_scored_on_the_targets_of_the_run_that_it_started_from(own: Path) -> None:
    """PROTOCOL: stride and context of the targets follow L, which is the same for both; so the hash is too."""
    for name in ("rope", "rope-pi"):
        posx("eval", name, "--length", "4x", "eval.max_targets=64", "--runs-dir", own)
    found = read_records(own, ["rope", "rope-pi"])
    assert {(r.stride, r.target_context) for r in found} == {(1, 8 * L)}
    assert len({r.targets_sha256 for r in found}) == 1


def test_json_prints_the_records_of_a_finetune(own: Path) -> None:
    asked = ["--length", "1x", "eval.target_context=128", "eval.max_targets=64", "--json"]
    (record,) = json.loads(posx("eval", "rope-pi", *asked, "--runs-dir", own).stdout)
    assert (record["base_context"], record["train_context"], record["train_extension"]) == (L, LONG, "pi(s=4)")


# ---------------------------------------------------------------- evaluation


def by_ntk(scale: float) -> float:
    """The base of NTK-aware scaling: b · s^(R / (R − 2))."""
    return THETA * scale ** (HEAD / (HEAD - 2))


TRAINED_WITH: dict[str, dict[str, Any]] = {
    "rope-pi": {"rope_type": "linear", "factor": 4.0},
    "rope-ntk": {"rope_theta": by_ntk(4)},
}


@pytest.mark.parametrize("name", TRAINED_WITH)
def test_what_a_run_was_trained_with_acts_at_every_length_with_its_scale(runs: Path, name: str) -> None:
    """Below, at and above the length of its training; the factor stays 4."""
    run = open_run(runs / name)
    found = ask(run, [L, 37, LONG, 100], "trained")
    with_it, plain = as_neox(run, **TRAINED_WITH[name]), as_neox(run)
    for record in found.values():
        assert gap(losses(record), by_host(run, record, with_it)) < EXACT
    assert gap(losses(found["trained", L]), by_host(run, found["trained", L], plain)) > SEEN


@pytest.mark.parametrize("name", TRAINED_WITH)
def test_none_drops_it(runs: Path, name: str) -> None:
    """The plain forward pass, and beside it the control as it was trained."""
    run = open_run(runs / name)
    found = ask(run, [L, LONG], "none")
    assert set(found) == {("none", L), ("none", LONG), ("trained", L)}
    for length in (L, LONG):
        record = found["none", length]
        assert gap(losses(record), by_host(run, record, as_neox(run))) < EXACT
        assert record.extension_params == {}
        assert record.train_extension != "none"
    assert gap(losses(found["none", L]), losses(found["trained", L])) > SEEN
    assert not found["none", L].as_trained


def test_the_default_is_what_a_run_was_trained_with() -> None:
    assert EvalConfig().extensions == ["trained"]


def test_a_window_composes_on_top(runs: Path) -> None:
    run = open_run(runs / "rope-pi")
    record = ask(run, [40], "window(w=8)")["trained+window(w=8)", 40]

    def addend(length: int) -> Tensor:
        i, j = torch.arange(length)[:, None], torch.arange(length)
        return torch.where(i - j < 8, 0.0, float("-inf"))

    host = as_neox(run, **TRAINED_WITH["rope-pi"])
    assert gap(losses(record), by_host(run, record, host, addend)) < EXACT
    assert gap(losses(record), by_host(run, record, host)) > SEEN
    assert record.extension_params == {"window": {"w": 8}, "trained": {"pi": {"s": 4.0}}}


@pytest.mark.parametrize("length, on_top", [(40, 1.0), (LONG, 1.0), (96, 1.5), (128, 2.0)])
def test_another_pi_extends_what_the_training_reached(runs: Path, length: int, on_top: float) -> None:
    """Its scale is ℓ / train_context: pi(s=4) trained, then pi at 8x, is pi(s=8)."""
    run = open_run(runs / "rope-pi")
    record = ask(run, [length], "pi")["trained+pi", length]
    assert record.extension_params == {"pi": {"s": on_top}, "trained": {"pi": {"s": 4.0}}}
    host = as_neox(run, rope_type="linear", factor=4 * on_top)
    assert gap(losses(record), by_host(run, record, host)) < EXACT


def test_ntk_on_top_of_pi_acts_on_the_frequencies_that_were_trained(runs: Path) -> None:
    run = open_run(runs / "rope-pi")
    record = ask(run, [128], "ntk")["trained+ntk", 128]
    host = as_neox(run)
    pairs = HEAD // 2
    angles = [THETA ** (-k / pairs) / 4 * 2 ** (-k / (pairs - 1)) for k in range(pairs)]
    before = host.gpt_neox.rotary_emb.inv_freq
    assert torch.allclose(before, torch.tensor([THETA ** (-k / pairs) for k in range(pairs)]))
    before.copy_(torch.tensor(angles))
    assert gap(losses(record), by_host(run, record, host)) < EXACT


def test_learned_positions_keep_their_rows_and_interpolate_as_in_training(runs: Path) -> None:
    """The table still has 16 rows; 64 positions are spread over them at every length, and 128 with interpolate."""
    run = open_run(runs / "learned-interpolate")
    table = weights(run)["scheme.table"]
    assert len(table) == L
    found = ask(run, [L, 37, LONG], "trained") | ask(run, [128], "interpolate")
    assert set(found) == {("trained", L), ("trained", 37), ("trained", LONG), ("trained+interpolate", 128)}
    for (_, length), record in found.items():
        host = as_gpt2(run, resized(table, 128 if length == 128 else LONG))
        assert gap(losses(record), by_host(run, record, host)) < EXACT
    at_once = by_host(run, found["trained", L], as_gpt2(run, table))
    assert gap(losses(found["trained", L]), at_once) > SEEN


def test_learned_positions_past_the_training_end_with_a_way_out_that_works(runs: Path) -> None:
    """Trained at 64 with interpolate, 64 tokens are within reach: the reason must not say 16."""
    run = open_run(runs / "learned-interpolate")
    record = ask(run, [128, LONG], "trained")["trained", 128]
    assert record.status == "unsupported"
    assert "interpolate" in record.reason
    assert "64" in record.reason
    assert "up to 16" not in record.reason


def test_sinusoids_interpolate_as_in_training(runs: Path, tmp_path: Path) -> None:
    """p / 4 at every length, and p / 8 with interpolate on top at 8x; the formula in float64."""
    config = tuned(open_run(runs / "sinusoidal"), "train.context=4x", "train.steps=10", "train.extension=interpolate")
    run = create(tmp_path, "run", config, resume=False)
    train(run, corpus_of(config), Display(quiet=True))
    found = ask(run, [L, LONG], "trained") | ask(run, [128], "interpolate")
    width = run.config.model.d_model
    for (_, length), record in found.items():
        positions = torch.arange(length).double() / (8 if length == 128 else 4)
        angles = positions[:, None] * THETA ** (-torch.arange(0, width, 2).double() / width)
        host = as_gpt2(run, torch.stack([angles.sin(), angles.cos()], -1).flatten(1).float())
        with torch.no_grad():  # tokens are scaled on their way in, and not in the tied head
            host.transformer.wte.weight *= width**0.5
        assert gap(losses(record), by_host(run, record, host)) < EXACT


# ---------------------------------------------------------------- schedule and defaults


def test_the_schedule_follows_the_first_run(runs: Path) -> None:
    first = open_run(runs / "rope")
    config = compose_finetune(first.config, "rope", [])
    assert config.train.steps == STEPS // 10
    assert config.optim.lr == pytest.approx(metrics(first)[-1]["lr"])
    assert (config.train.context, config.train.extension, config.base_context) == (L, "none", L)
    assert config.optim.warmup_steps is None
    assert config.train.eval_every is None
    assert (config.model, config.scheme, config.data, config.tokenizer) == (
        first.config.model,
        first.config.scheme,
        first.config.data,
        first.config.tokenizer,
    )
    assert compose_finetune(replace_steps(first.config, 7), "rope", []).train.steps == 1
    asked = compose_finetune(first.config, "rope", ["optim.lr=3e-4", "optim.warmup_steps=2", "train.seed=5"])
    assert (asked.optim.lr, asked.optim.warmup_steps, asked.train.seed) == (3e-4, 2, 5)


def replace_steps(config: RunConfig, steps: int) -> RunConfig:
    return replace(config, train=replace(config.train, steps=steps))


def test_the_rate_in_the_metrics_is_that_of_the_schedule(runs: Path) -> None:
    rates = [row["lr"] for row in metrics(open_run(runs / "rope-pi"))]
    peak = metrics(open_run(runs / "rope"))[-1]["lr"]
    assert len(rates) == MORE
    assert max(rates) == pytest.approx(peak)
    assert rates[-1] == pytest.approx(peak / 10)


def test_a_name_and_a_label_say_what_was_done(own: Path) -> None:
    posx("train", "--from", "rope", "--extension", "pi", "train.context=4x", "train.steps=2", "--runs-dir", own)
    (found,) = (p for p in own.iterdir() if p.name.startswith("rope-pi-"))
    assert "64" in found.name
    assert open_run(found).label == "rope + 2 steps at 64"
    posx("train", "--from", "rope", "label=mine", "train.steps=1", "--name", "mine", "--runs-dir", own)
    assert open_run(own / "mine").label == "mine"


def test_a_control_trains_on_at_the_old_context_without_an_extension(own: Path) -> None:
    run = finetune(own, "rope", "control", f"train.steps={MORE}", "train.log_every=1")
    lineage = run.meta["lineage"]
    assert (lineage["base_context"], lineage["train_context"], lineage["train_extension"]) == (L, L, "none")
    record = ask(run, [LONG], "trained")["none", LONG]
    assert record.as_trained
    assert gap(losses(record), by_host(run, record, as_neox(run))) < EXACT
    assert record.train_tokens == record_of(own, "rope-pi").train_tokens


def test_a_finetune_without_an_extension_is_plain_at_its_context(own: Path) -> None:
    run = finetune(own, "rope", "plain", *TO_4X)
    found = ask(run, [LONG], "none", "pi")
    assert set(found) == {("none", L), ("none", LONG), ("pi", LONG)}
    assert gap(losses(found["none", LONG]), by_host(run, found["none", LONG], as_neox(run))) < EXACT
    # Training reached 64: pi there has nothing to do.
    assert found["pi", LONG].extension_params == {"pi": {"s": 1.0}}


def test_a_finetune_of_a_finetune(own: Path) -> None:
    """L stays; so does the extension with its scale, unless another is named."""
    again = finetune(own, "rope-pi", "again", "train.context=8x", "train.steps=1")
    assert again.meta["lineage"]["start"]["step"] == STEPS + MORE
    longer = finetune(own, "rope-pi", "longer", "--extension", "pi", "train.context=8x", "train.steps=1")
    other = finetune(own, "rope-pi", "other", "--extension", "ntk", "train.steps=1")
    dropped = finetune(own, "rope-pi", "dropped", "--extension", "none", "train.steps=1")
    lineages = [
        tuple(run.meta["lineage"][key] for key in ("base_context", "train_context", "train_extension"))
        for run in (again, longer, other, dropped)
    ]
    assert lineages == [(L, 128, "pi(s=4)"), (L, 128, "pi(s=8)"), (L, LONG, "ntk(s=4)"), (L, LONG, "none")]
    record = ask(again, [128], "trained")["trained", 128]
    assert gap(losses(record), by_host(again, record, as_neox(again, rope_type="linear", factor=4.0))) < EXACT
    assert record.parent_sha256 == group_hash(open_run(own / "rope-pi").config)


def test_the_same_scheme_by_name_is_no_change(own: Path) -> None:
    assert finetune(own, "rope", "named", "--scheme", "rope", "train.steps=1").finished


def test_a_run_from_scratch_may_train_with_an_extension_too(text: Path) -> None:
    """At its own context the scale is 1, and is kept as such."""
    config = tiny_config(text, "scheme=rope", "train.extension=pi")
    assert (config.train.extension, config.base_context) == ("pi(s=1)", L)


# ---------------------------------------------------------------- groups


def test_finetunes_of_seeds_share_a_row_and_those_of_other_recipes_do_not(own: Path) -> None:
    of_1 = finetune(own, "rope-1", "rope-1-pi", "--extension", "pi", *TO_4X)
    of_31 = finetune(own, "rope-31", "rope-31-pi", "--extension", "pi", *TO_4X)
    first, second, other = (record_of(own, name) for name in ("rope-pi", of_1.name, of_31.name))
    assert (first.seed, second.seed) == (0, 1)
    assert first.checkpoint_sha256 != second.checkpoint_sha256
    assert first.config_sha256 == second.config_sha256
    assert first.label == second.label
    assert first.parent_sha256 == second.parent_sha256 != other.parent_sha256
    assert first.config_sha256 != other.config_sha256
    assert len({record_of(own, n).config_sha256 for n in ("rope", "rope-pi", "rope-ntk", "rope-31")}) == 4


def test_a_recipe_is_all_but_seed_and_training_context(text: Path, runs: Path) -> None:
    base = tiny_config(text, "scheme=rope")
    same_recipe = [
        tiny_config(text, "scheme=rope", *more)
        for more in (["train.context=64"], ["train.seed=3"], ["train.context=32", "train.seed=1", "label=x"])
    ]
    assert {recipe_hash(config) for config in same_recipe} == {recipe_hash(base)}
    assert group_hash(same_recipe[0]) != group_hash(base) == group_hash(same_recipe[1])
    others = [
        tiny_config(text, "scheme=rope", more)
        for more in ("train.steps=401", "optim.lr=0.02", "scheme.base=500", "model.d_ff=64", "train.batch_tokens=256")
    ]
    others += [tiny_config(text, "scheme=alibi"), open_run(runs / "rope-pi").config]
    assert len({recipe_hash(config) for config in [base, *others]}) == len(others) + 1


# ---------------------------------------------------------------- refusals


def refused(runs: Path, *arguments: object, code: int = 2) -> str:
    """The sentence of a ``posx train`` that leaves no run behind."""
    before = {p.name for p in runs.iterdir()}
    result = posx("train", *arguments, "--runs-dir", runs, code=code)
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    message = result.stderr.partition("Error: ")[2]
    assert len([line for line in message.splitlines() if line.strip()]) in (1, 2), result.stderr
    assert {p.name for p in runs.iterdir()} == before
    return " ".join(message.split())


REFUSED: dict[str, tuple[list[str], str]] = {
    "missing": (["--from", "rop"], "There is no run 'rop'"),
    "another model": (["--from", "rope", "model.d_model=64"], "model.d_model=64 cannot change in a fine-tune"),
    "another text": (["--from", "rope", "data.max_bytes=9"], "data.max_bytes=9 cannot change in a fine-tune"),
    "another tokenizer": (["--from", "rope", "tokenizer.vocab_size=270"], "cannot change in a fine-tune"),
    "another scheme": (["--from", "rope", "scheme=alibi"], "scheme=alibi cannot change in a fine-tune"),
    "another scheme by flag": (["--from", "rope", "--scheme", "alibi"], "cannot change in a fine-tune"),
    "a setting of the scheme": (["--from", "rope", "scheme.base=500"], "scheme.base=500 cannot change"),
    "a whole group": (["--from", "rope", "model=small"], "model=small cannot change"),
    "the start by hand": (["--from", "rope", "start.run=x"], "start.run=x cannot change"),
    "the base context by hand": (["--from", "rope", "start.base_context=64"], "start.base_context=64 cannot change"),
    "the start without --from": (["--scheme", "rope", "start.run=x"], "posx train --from RUN"),
    "no whole tokens": (["--from", "rope", "train.context=4.3x"], "not a whole number of tokens"),
    "a shorter multiple": (["--from", "rope", "train.context=0.5x"], "at least 1"),
    "a context of no number": (["--from", "rope", "train.context=long"], "train.context takes a whole number"),
    "more than a batch": (["--from", "rope", "train.context=16x"], "train.batch_tokens"),
    "more than a document": (
        ["--from", "rope", "train.context=300", "train.batch_tokens=300"],
        "the longest training document",
    ),
    "an extension that does not fit": (
        ["--from", "alibi", "--extension", "pi", "train.context=4x"],
        "pi changes the spectrum and does not fit alibi",
    ),
    "rope has no table": (["--from", "rope", "--extension", "interpolate"], "does not fit rope"),
    "none and another": (["--from", "rope", "--extension", "none+pi"], "none stands alone"),
    "two of a kind": (["--from", "rope", "--extension", "pi+ntk"], "one at a time"),
    "an unknown extension": (["--from", "rope", "--extension", "pii"], "Did you mean pi"),
    "a scale below 1": (["--from", "rope", "--extension", "pi(s=0.5)"], "Give s of at least 1"),
    "a contradiction": (["--from", "rope", "--extension", "pi", "train.extension=ntk"], "contradict each other"),
    "no steps": (["--from", "rope", "train.steps=0"], "train.steps=0 is too small"),
    "an unknown setting": (["--from", "rope", "train.stepz=3"], "Did you mean train.steps"),
    "an evaluation's setting": (["--from", "rope", "eval.stride=3"], "eval.stride=3"),
    "a word": (["--from", "rope", "longer"], "is not an override"),
    "a name that is taken": (["--from", "rope", "--name", "rope-pi"], "--resume"),
    "resumed with another": (
        ["--from", "rope", "--name", "rope-pi", "--resume", "--extension", "ntk", *TO_4X],
        "train.extension was pi(s=4), now ntk(s=4)",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_is_a_sentence(runs: Path, what: str) -> None:
    arguments, sentence_of_it = REFUSED[what]
    assert sentence_of_it in refused(runs, *arguments)


def test_an_unfinished_run_is_no_start(own: Path) -> None:
    config = open_run(own / "rope").config
    create(own, "half", config, resume=False)
    said = refused(own, "--from", "half")
    assert f"half is not finished: step 0 of {STEPS}" in said
    assert "--resume --name half" in said


def test_learned_positions_without_an_extension_end_with_a_way_out(own: Path) -> None:
    result = CliRunner().invoke(app, ["train", "--from", "learned", *TO_4X, "--name", "ft", "--runs-dir", str(own)])
    assert result.exit_code in (1, 2)
    assert "Traceback" not in result.stderr
    assert "learned positions end at 16" in result.stderr
    assert "--extension interpolate" in result.stderr


def test_the_way_out_of_learned_positions_can_be_followed(own: Path) -> None:
    """The same command with what was advised: nothing may lie in its way."""
    command = ["train", "--from", "learned", *TO_4X, "--name", "ft", "--runs-dir", str(own)]
    CliRunner().invoke(app, command)
    posx(*command, "--extension", "interpolate")


def replace_weights(run: Run) -> None:
    """As training it anew would: other weights, with a manifest of their own."""
    (folder,) = run.checkpoints.glob("step-*")
    changed = {name: 1.5 * tensor for name, tensor in weights(run).items()}
    save_file(changed, folder / "model.safetensors")
    about = json.loads((folder / "manifest.json").read_text())
    about["model.safetensors"]["sha256"] = sha256_file(folder / "model.safetensors")
    (folder / "manifest.json").write_text(json.dumps(about))


def test_weights_that_were_replaced_before_the_first_checkpoint_are_refused(own: Path) -> None:
    first = open_run(own / "rope")
    config = with_weights(compose_finetune(first.config, "rope", TO_4X), first)
    run = create(own, "ft", config, resume=False)
    replace_weights(first)
    assert "start.weights_sha256" in refused(own, "--from", "rope", "--name", "ft", "--resume", *TO_4X)
    with pytest.raises(PosxError, match="no longer has the weights") as caught:
        train(run, corpus_of(config), Display(quiet=True))
    assert caught.value.code == 2
    assert not run.finished


def test_a_flipped_byte_in_the_first_runs_weights_is_caught(own: Path) -> None:
    (folder,) = open_run(own / "rope").checkpoints.glob("step-*")
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    result = posx("train", "--from", "rope", "train.steps=1", "--name", "ft", "--runs-dir", own, code=2)
    assert "not what was written" in result.stderr


def test_changed_text_is_refused(tmp_path: Path) -> None:
    """The held-out documents of another text may be what the first run was trained on."""
    path = write_jsonl(tmp_path / "a.jsonl", [sentence(40, n) for n in range(24)])
    at = ["--runs-dir", tmp_path / "runs"]
    posx("train", "data=text", f"data.path={path}", *TINY, "train.steps=2", "--name", "first", *at)
    write_jsonl(path, [sentence(40, n) for n in range(1, 25)])
    result = posx("train", "--from", "first", "train.steps=1", "--name", "ft", *at, code=2)
    assert "its text or its tokenizer has changed" in " ".join(result.stderr.split())
    assert not open_run(tmp_path / "runs" / "ft").finished if (tmp_path / "runs" / "ft").exists() else True


def test_a_finetune_without_its_first_run_still_evaluates(own: Path) -> None:
    run = open_run(own / "rope-pi")
    expected = losses(ask(run, [L], "trained")["trained", L])
    shutil.rmtree(run.path / "eval")
    shutil.rmtree(own / "rope")
    asked = ["eval.target_context=128", "eval.max_targets=64", "eval.stride=1"]
    posx("eval", "rope-pi", "--length", "1x", *asked, "--runs-dir", own)
    (record,) = read_records(own, ["rope-pi"])
    assert losses(record) == expected
    posx("table", "--runs-dir", own)


def test_a_first_run_that_is_gone_is_a_sentence(own: Path) -> None:
    first = open_run(own / "rope")
    config = with_weights(compose_finetune(first.config, "rope", TO_4X), first)
    run = create(own, "ft", config, resume=False)
    shutil.rmtree(first.path)
    with pytest.raises(PosxError, match="no longer there") as caught:
        train(run, corpus_of(config), Display(quiet=True))
    assert caught.value.code == 2


def test_a_first_run_elsewhere_is_found_by_its_path(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs.parent)
    run = finetune(tmp_path / "elsewhere", f"{runs.name}/rope", "ft", "train.steps=1")
    monkeypatch.chdir(tmp_path)
    assert Path(run.config.start.run).is_absolute()
    assert same_text(run.config.start.weights_sha256, open_run(runs / "rope"))


def same_text(digest: str, run: Run) -> bool:
    (folder,) = run.checkpoints.glob("step-*")
    return digest == sha256_file(folder / "model.safetensors")


# ---------------------------------------------------------------- interrupted

INTERRUPTED = """
import os, signal, sys
from pathlib import Path
from data_helpers import corpus_of
from posx.training.finetune import compose_finetune, with_weights
from posx.utils.console import Display
from posx.runs.directory import create, open_run
from posx.training.loop import Interrupted, train

class Kill(Display):
    def update(self, done, note=""):
        if done == 4:
            os.kill(os.getpid(), signal.SIGINT)

runs = Path(sys.argv[1])
first = open_run(runs / "rope")
config = with_weights(compose_finetune(first.config, "rope", sys.argv[2:]), first)
try:
    train(create(runs, "broken", config, False), corpus_of(config), Kill(quiet=True))
except Interrupted as error:
    print(error)
    sys.exit(error.code)
"""


def same_run(one: Run, other: Run) -> None:
    """Weights, moments and state to the bit; every line of the metrics but its speed."""
    (a,), (b,) = (list(run.checkpoints.glob("step-*")) for run in (one, other))
    assert a.name == b.name
    for part in ("model.safetensors", "optimizer.safetensors"):
        assert same(load_file(a / part), load_file(b / part))
    lines = [[{k: v for k, v in r.items() if k != "tokens_per_second"} for r in metrics(run)] for run in (one, other)]
    assert lines[0] == lines[1]
    assert one.meta["validation_nats_per_token"] == other.meta["validation_nats_per_token"]
    assert one.meta["lineage"] == other.meta["lineage"]


def test_a_signal_saves_and_resuming_repeats_the_unbroken_finetune(own: Path) -> None:
    done = python(INTERRUPTED, own, *TO_4X, "train.extension=pi")
    assert done.returncode == 128 + signal.SIGINT, done.stderr
    assert open_run(own / "broken").step == 4
    again = shutil.copytree(own / "broken", own / "alone" / "broken")
    run = finetune(own, "rope", "broken", *TO_4X, "--extension", "pi", "--resume")
    same_run(run, open_run(own / "rope-pi"))
    # With a checkpoint of its own it needs its first run no longer.
    alone = open_run(again)
    train(alone, corpus_of(alone.config), Display(quiet=True))
    same_run(alone, open_run(own / "rope-pi"))


class Crash(BaseException):
    """The machine went away."""


class CrashAt(Display):
    def __init__(self, step: int):
        super().__init__(quiet=True)
        self.step = step

    def update(self, done: int, note: str = "") -> None:
        if done == self.step:
            raise Crash


def test_a_crash_before_the_first_checkpoint_starts_from_the_first_run_again(own: Path) -> None:
    first = open_run(own / "rope")
    config = with_weights(compose_finetune(first.config, "rope", [*TO_4X, "train.extension=pi"]), first)
    run = create(own, "crashed", config, resume=False)
    with pytest.raises(Crash):
        train(run, corpus_of(config), CrashAt(3))
    same_run(finetune(own, "rope", "crashed", *TO_4X, "--extension", "pi", "--resume"), open_run(own / "rope-pi"))


def test_a_finished_finetune_is_left_alone(own: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (own / "rope-pi").rglob("*")}
    result = posx(
        "train", "--from", "rope", "--extension", "pi", *TO_4X, "--name", "rope-pi", "--resume", "--runs-dir", own
    )
    assert "is finished" in result.stderr
    assert {p: p.stat().st_mtime_ns for p in (own / "rope-pi").rglob("*")} == before


# ---------------------------------------------------------------- sweeps

SMALL = [
    "data=text",
    "model.n_layers=1",
    "model.d_model=16",
    "model.n_heads=2",
    "tokenizer.vocab_size=300",
    "train.context=8",
    "train.steps=3",
    "train.batch_tokens=64",
    "train.eval_tokens=64",
    "train.log_every=1",
    "train.dtype=float32",
    "train.device=cpu",
    "train.compile=off",
    "eval.max_targets=64",
]
BOOM = {"scheme": "rope", "label": "boom", "overrides": ["optim.lr=1e30", "optim.grad_clip=0"]}


def sweep_file(path: Path, text: Path, **settings: Any) -> Path:
    values: dict[str, Any] = {
        "schemes": ["rope"],
        "overrides": [*SMALL, f"data.path={text}"],
        "lengths": ["1x", "4x"],
        "extensions": {"rope": ["none", "pi"]},
        "controls": ["4x"],
        "finetune": {"context": "4x", "steps": [2], "extensions": {"rope": ["pi"]}, "control": True},
        **settings,
    }
    path.write_text(yaml.safe_dump(values), "utf-8")
    return path


def planned(path: Path) -> list[JobPlan]:
    return read_sweep(path, [], silent, None, False).jobs


@pytest.fixture(scope="module")
def swept(text: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Any]:
    """A sweep with a row that diverges first: the file without that row, the runs, and what the command said."""
    folder = tmp_path_factory.mktemp("sweep")
    both = sweep_file(folder / "both.yaml", text, schemes=[BOOM, "rope"], controls=[])
    path = sweep_file(folder / "s.yaml", text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", child_environment()["PYTHONPATH"])
        failing = posx("sweep", both, "--workers", 2, "--runs-dir", folder / "runs", code=1)
        posx("sweep", path, "--workers", 2, "--runs-dir", folder / "runs")
    return path, folder / "runs", failing


def test_a_sweep_plans_controls_and_finetunes(tmp_path: Path, text: Path) -> None:
    finetunes = {"context": "4x", "steps": [1, 2], "extensions": {"rope": ["none", "pi", "ntk"]}, "control": True}
    jobs = planned(sweep_file(tmp_path / "s.yaml", text, seeds=[0, 1], finetune=finetunes))
    per_seed = 1 + 1 + 2 * (3 + 1)
    assert len(jobs) == len({job.name for job in jobs}) == 2 * per_seed
    for seed in (0, 1):
        own = [job for job in jobs if job.config.train.seed == seed]
        (first,) = (j for j in own if j.after is None and j.config.train.context == 8)
        (long,) = (j for j in own if j.after is None and j.config.train.context == 32)
        assert (first.config.start.run, long.config.base_context) == ("", 32)
        rest = [job for job in own if job not in (first, long)]
        assert {job.after for job in rest} == {first.name}
        kinds = {(j.config.train.steps, j.config.train.context, j.config.train.extension) for j in rest}
        longer = {(steps, 32, extension) for steps in (1, 2) for extension in ("none", "pi(s=4)", "ntk(s=4)")}
        assert kinds == longer | {(steps, 8, "none") for steps in (1, 2)}
        assert all(job.config.base_context == 8 for job in rest)
        assert jobs.index(first) < min(map(jobs.index, rest))


def test_a_second_sweep_with_a_control_and_finetunes_does_nothing(
    swept: tuple[Path, Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, runs, _ = swept
    monkeypatch.setattr("posx.sweeps.engines.subprocess.Popen", lambda *_, **__: pytest.fail("a job was started"))
    result = posx("sweep", path, "--runs-dir", runs)
    assert "4 jobs, 0 to do" in " ".join(result.stderr.split())
    listed = posx("sweep", path, "--dry-run", "--runs-dir", runs).stdout
    assert (listed.count("done"), listed.count("to do")) == (4, 0)


def test_jobs_begin_after_the_run_whose_weights_they_start_from(swept: tuple[Path, Path, Any]) -> None:
    path, runs, _ = swept
    after = [job for job in planned(path) if job.after]
    assert len(after) == 2
    for job in after:
        assert job.after is not None
        done = (runs / ".jobs" / f"{job.after}.done").stat().st_mtime_ns
        assert (runs / job.name / "config.yaml").stat().st_mtime_ns > done
        (checkpoint,) = (runs / job.after / "checkpoints").glob("step-*")
        run = open_run(runs / job.name)
        assert run.config.start.weights_sha256 == sha256_file(checkpoint / "model.safetensors")
        assert run.config.start.run == job.after


def test_base_controls_and_finetunes_are_scored_on_the_same_targets(swept: tuple[Path, Path, Any]) -> None:
    path, runs, _ = swept
    jobs = planned(path)
    records = read_records(runs, [job.name for job in jobs])
    assert len({r.targets_sha256 for r in records}) == 1
    assert {(r.stride, r.target_context, r.n_targets) for r in records} == {(1, 64, 64)}
    cells = {(r.base_context, r.train_context, r.train_extension, r.extension, r.length) for r in records}
    # And the first point of the curve over steps: what the fine-tune is trained with, at its scale, untrained.
    assert cells - {(8, 8, "none", "pi(s=4)", length) for length in (8, 32)} == {
        (8, 8, "none", "none", 8),  # the base run, and its control with the same extra tokens
        (8, 8, "none", "none", 32),
        (8, 8, "none", "pi", 8),
        (8, 8, "none", "pi", 32),
        (32, 32, "none", "none", 8),
        (32, 32, "none", "none", 32),
        (8, 32, "pi(s=4)", "trained", 8),
        (8, 32, "pi(s=4)", "trained", 32),
    }
    base, long = ({r.recipe_sha256 for r in records if r.run == jobs[n].name} for n in (0, 1))
    assert base == long
    assert {r.parent_sha256 for r in records if r.run in (jobs[2].name, jobs[3].name)} == {
        r.config_sha256 for r in records if r.run == jobs[0].name
    }
    assert len({r.label for r in records if r.run in (jobs[0].name, jobs[1].name)}) == 1


def test_a_first_run_that_fails_takes_its_finetunes_along_and_no_others(
    swept: tuple[Path, Path, Any], text: Path, tmp_path: Path
) -> None:
    _, runs, failing = swept
    path = sweep_file(tmp_path / "both.yaml", text, schemes=[BOOM, "rope"], controls=[])
    jobs = planned(path)
    assert [bool(job.after) for job in jobs] == [False, True, True] * 2
    words = " ".join(failing.stderr.split())
    assert "3 of 6 jobs failed" in words
    assert "Training diverged at step" in words
    for job in jobs[1:3]:
        log = (runs / ".jobs" / f"{job.name}.log").read_text("utf-8")
        assert log == f"not started: {job.after}, whose weights it starts from, failed\n"
        assert not (runs / job.name).exists()
        assert f"{job.name} failed: not started" in words
    assert all((runs / ".jobs" / f"{job.name}.done").is_file() for job in jobs[3:])


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "a control that is not evaluated": (
        {"controls": ["2x"]},
        "the control 2x is not a longer length that is evaluated",
    ),
    "a control at 1x": ({"controls": ["1x"]}, "the control 1x is not a longer length"),
    "no steps": ({"finetune": {"context": "4x"}}, "finetune wants a context and steps"),
    "no context": ({"finetune": {"steps": [3]}}, "finetune wants a context and steps"),
    "an unknown row": (
        {"finetune": {"context": "4x", "steps": [1], "extensions": {"rop": ["pi"]}}},
        "Did you mean rope",
    ),
    "an unknown key": ({"finetune": {"contxt": "4x", "steps": [1]}}, "Did you mean finetune.context"),
    "an extension that does not fit": (
        {"finetune": {"context": "4x", "steps": [1], "extensions": {"rope": ["interpolate"]}}},
        "does not fit rope",
    ),
    "no whole tokens": ({"finetune": {"context": "1.3x", "steps": [1]}}, "not a whole number of tokens"),
    "negative steps": ({"finetune": {"context": "4x", "steps": [-1]}}, "train.steps=-1 is too small"),
    "the same steps twice": ({"finetune": {"context": "4x", "steps": [1, 1]}}, "the same run twice"),
    "another model": (
        {"finetune": {"context": "4x", "steps": [1], "overrides": ["model.d_model=32"]}},
        "model.d_model=32 cannot change in a fine-tune",
    ),
    "a seed of its own": ({"finetune": {"context": "4x", "steps": [1], "overrides": ["train.seed=3"]}}, "seeds"),
    "more than a document": (
        {"finetune": {"context": "300", "steps": [1], "overrides": ["train.batch_tokens=300"]}},
        "longest training document",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_sweep_is_a_sentence_before_any_work(tmp_path: Path, text: Path, what: str) -> None:
    settings, says = BROKEN[what]
    path = sweep_file(tmp_path / "s.yaml", text, **settings)
    result = posx("sweep", path, "--dry-run", "--runs-dir", tmp_path / "runs", code=2)
    message = result.stderr.partition("Error: ")[2]
    assert says in " ".join(message.split())
    assert len([line for line in message.splitlines() if line.strip()]) in (1, 2)
    assert not (tmp_path / "runs").exists()


def test_learned_positions_that_cannot_be_tuned_are_refused_before_any_work(tmp_path: Path, text: Path) -> None:
    """A table of 8 rows at 32 tokens, without an extension: not after the base run has been trained for an hour."""
    path = sweep_file(
        tmp_path / "s.yaml",
        text,
        schemes=["learned"],
        extensions={},
        controls=[],
        finetune={"context": "4x", "steps": [2], "control": False},
    )
    result = posx("sweep", path, "--dry-run", "--runs-dir", tmp_path / "runs", code=2)
    assert "interpolate" in result.stderr


def test_no_steps_are_the_first_run_itself(tmp_path: Path, text: Path) -> None:
    """A curve is asked for as 0, 50, 200: its first point needs no training."""
    tune = {"context": "4x", "steps": [0, 2], "control": False}
    path = sweep_file(tmp_path / "s.yaml", text, controls=[], finetune=tune)
    jobs = read_sweep(path, [], silent, None, False).jobs
    assert {job.config.train.steps for job in jobs if job.after} == {2}


def test_nats_are_finite(runs: Path) -> None:
    """Else every comparison above would be one of NaNs."""
    for name in ("rope", "rope-pi", "rope-ntk", "learned-interpolate"):
        assert all(math.isfinite(row["nats_per_token"]) for row in metrics(open_run(runs / name)))


# ---------------------------------------------------------------- what an extension cannot


def test_an_extension_that_cannot_be_at_a_length_is_a_cell(own: Path) -> None:
    """self-extend reaches 52 tokens where L is 16: beyond it is a dash with a reason, and the others are scored."""
    asked = [*("--extension", "self-extend"), *("--extension", "pi"), "eval.max_targets=60", "--runs-dir", own]
    rows = json.loads(posx("eval", "rope", "--length", "2x", "--length", LONG, *asked, "--json").stdout)
    found = {(row["extension"], row["length"]): row for row in rows}
    assert found["self-extend", LONG]["status"] == "unsupported"
    assert "cannot keep the distances of 64 tokens below 16" in found["self-extend", LONG]["reason"]
    others = [("self-extend", 32), ("pi", 32), ("pi", LONG), ("none", L)]
    assert [found[key]["status"] for key in others] == ["ok"] * 4
    shown = posx("eval", "rope", "--length", LONG, "--extension", "self-extend", *asked[2:]).stdout
    assert "cannot keep the distances" in " ".join(shown.split())
    only = posx("eval", "rope", "--length", LONG, "--extension", "self-extend", *asked[4:], code=2)
    assert "cannot keep the distances" in " ".join(only.stderr.split())
    ranked = json.loads(posx("recommend", "rope", "--length", LONG, *asked[4:], "--json").stdout)
    assert {row["extension"] for row in ranked if row["status"] == "unsupported"} == {"self-extend"}


def test_the_name_of_a_fine_tune_with_many_numbers_can_be_one(own: Path) -> None:
    """A factor for each frequency: shortened, but for what tells two of them apart."""
    names = []
    for last in (4, 5):
        factors = ":".join(f"{1.23456 + k / 10:.5f}" for k in range(7)) + f":{last}"
        first = open_run(own / "rope")
        config = tuned(first, f"train.extension='longrope(factors={factors})'", "train.context=4x", "train.steps=3")
        names.append(default_name(config))
    assert len(set(names)) == 2
    for name in names:
        check_name(name + "-12")
        assert name.endswith("-64-3steps")
