"""Training: exact by construction, resumable to the bit, fair between schemes."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from data_helpers import TINY, child_environment, corpus_of, many, python, tiny_config, trained, write_jsonl
from posx.config.schema import IGNORED, OptimConfig, RunConfig, TrainConfig
from posx.errors import PosxError
from posx.models import checkpoint as checkpoints
from posx.models.build import build_model
from posx.models.loss import CHUNK
from posx.runs.directory import Run, create, metrics, open_run
from posx.training.loop import learning_rate, train, train_step, validate
from posx.training.state import Session, start
from posx.utils.console import Display

STEPS = ["train.steps=12", "train.log_every=1", "train.checkpoint_every=5"]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents of 8 to 40 tokens: many are masked in a window of 17."""
    return write_jsonl(tmp_path_factory.mktemp("text") / "a.jsonl", many(80, 1, 12))


@pytest.fixture(scope="module")
def unbroken(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory.mktemp("unbroken"), "run", tiny_config(text, "scheme=learned", *STEPS))


def session_of(text: Path, *overrides: str) -> Session:
    config = tiny_config(text, *overrides)
    return start(config, corpus_of(config))


def same_run(one: Run, other: Run) -> None:
    """Weights, moments and state to the bit; every line of the metrics but its speed."""
    (a,), (b,) = (list(run.checkpoints.iterdir()) for run in (one, other))
    assert a.name == b.name == "step-000012"
    for part in ("model.safetensors", "optimizer.safetensors"):
        left, right = load_file(a / part), load_file(b / part)
        assert left.keys() == right.keys()
        assert [name for name in left if not torch.equal(left[name], right[name])] == []
    timed = {"tokens_per_second", "seconds"}
    lines = [[{k: v for k, v in row.items() if k not in timed} for row in metrics(run)] for run in (one, other)]
    assert [row["step"] for row in lines[0]] == list(range(1, 13))
    assert lines[0] == lines[1]
    assert one.meta["validation_nats_per_token"] == other.meta["validation_nats_per_token"]


# ---------------------------------------------------------------- resume

INTERRUPTED = """
import os, signal, sys
from pathlib import Path
from data_helpers import TINY, child_environment, corpus_of, tiny_config
from posx.utils.console import Display
from posx.runs.directory import create
from posx.training.loop import Interrupted, train

class Kill(Display):
    def update(self, done, note=""):
        if done == 5:
            os.kill(os.getpid(), getattr(signal, sys.argv[1]))

config = tiny_config(Path(sys.argv[2]), *sys.argv[4:])
try:
    train(create(Path(sys.argv[3]), "run", config, False), corpus_of(config), Kill(quiet=True))
except Interrupted as error:
    print(error)
    sys.exit(error.code)
"""


def test_a_signal_saves_and_resuming_repeats_the_unbroken_run(text: Path, unbroken: Run, tmp_path: Path) -> None:
    overrides = ["scheme=learned", "train.steps=12", "train.log_every=1"]  # no checkpoint but the signal's
    done = python(INTERRUPTED, "SIGTERM", text, tmp_path, *overrides)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert "--resume" in done.stdout
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000005"]
    assert open_run(tmp_path / "run").step == 5
    same_run(trained(tmp_path, "run", tiny_config(text, *overrides), resume=True), unbroken)


def test_an_interrupted_command_leaves_the_weights_of_its_last_step(text: Path, tmp_path: Path) -> None:
    """``posx train`` and Ctrl-C, whenever it comes: the same as a run that was never to go further."""
    overrides = ["data=text", f"data.path={text}", *TINY, "train.steps=100000", "train.log_every=1"]
    command = [sys.executable, "-m", "posx", "train", "--name", "run", "--runs-dir", str(tmp_path), *overrides]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=child_environment()) as child:
        until = time.monotonic() + 45
        log = tmp_path / "run" / "metrics.jsonl"
        while not (log.is_file() and log.stat().st_size) and child.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=30)
    assert child.returncode == 128 + signal.SIGINT, said
    assert "--resume" in said
    assert "Traceback" not in said
    run = open_run(tmp_path / "run")
    assert run.step == metrics(run)[-1]["step"] > 0
    config = tiny_config(text, "train.steps=100000", "train.log_every=1", f"train.checkpoint_every={run.step}")
    other = crashed(tmp_path / "other", config, run.step + 1)
    for part in ("model.safetensors", "optimizer.safetensors"):
        left, right = (load_file(r.checkpoints / f"step-{run.step:06d}" / part) for r in (run, other))
        assert left.keys() == right.keys()
        assert [name for name in left if not torch.equal(left[name], right[name])] == []


class Crash(BaseException):
    """The machine went away."""


class CrashAt(Display):
    def __init__(self, step: int):
        super().__init__(quiet=True)
        self.step = step

    def update(self, done: int, note: str = "") -> None:
        if done == self.step:
            raise Crash


def crashed(folder: Path, config: RunConfig, step: int) -> Run:
    run = create(folder, "run", config, resume=False)
    with pytest.raises(Crash):
        train(run, corpus_of(config), CrashAt(step))
    return run


def test_after_a_crash_the_newest_checkpoint_is_continued(text: Path, unbroken: Run, tmp_path: Path) -> None:
    """Lines of the steps that are repeated must not stand twice."""
    config = tiny_config(text, "scheme=learned", *STEPS)
    run = crashed(tmp_path, config, 8)
    assert [row["step"] for row in metrics(run)] == list(range(1, 9))
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "nats_per')  # cut off in the middle of a line
    assert run.step == 5
    same_run(trained(tmp_path, "run", config, resume=True), unbroken)


def test_a_crash_before_the_first_checkpoint_starts_afresh(text: Path, unbroken: Run, tmp_path: Path) -> None:
    config = tiny_config(text, "scheme=learned", *STEPS)
    assert crashed(tmp_path, config, 4).step == 0
    same_run(trained(tmp_path, "run", config, resume=True), unbroken)


def test_a_folder_without_a_manifest_is_no_checkpoint(text: Path, unbroken: Run, tmp_path: Path) -> None:
    config = tiny_config(text, "scheme=learned", *STEPS)
    run = crashed(tmp_path, config, 8)
    half = run.checkpoints / "step-000009"
    shutil.copytree(run.checkpoints / "step-000005", half)
    (half / "manifest.json").unlink()
    found = checkpoints.newest(run.checkpoints)
    assert found is not None
    assert (found.step, run.step) == (5, 5)
    same_run(trained(tmp_path, "run", config, resume=True), unbroken)


def test_resuming_a_finished_run_changes_nothing(text: Path, unbroken: Run, tmp_path: Path) -> None:
    shutil.copytree(unbroken.path, tmp_path / "run")
    same_run(trained(tmp_path, "run", unbroken.config, resume=True), unbroken)


@pytest.mark.parametrize(
    "override, sentence",
    [
        ("train.steps=13", "train.steps was 12, now 13"),
        ("optim.lr=0.02", "optim.lr was 0.01, now 0.02"),
        ("train.seed=1", "train.seed was 0, now 1"),
        ("model.d_model=64", "model.d_model was 32, now 64"),
        ("scheme=rope", "scheme."),
        ("tokenizer.vocab_size=301", "tokenizer.vocab_size was 300, now 301"),
        ("data.max_bytes=9999", "data.max_bytes was None, now 9999"),
    ],
)
def test_resuming_with_other_settings_is_refused(
    text: Path, unbroken: Run, tmp_path: Path, override: str, sentence: str
) -> None:
    shutil.copytree(unbroken.path, tmp_path / "run")
    before = sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "run").rglob("*"))
    with pytest.raises(PosxError, match="other settings") as caught:
        create(tmp_path, "run", tiny_config(text, "scheme=learned", *STEPS, override), resume=True)
    assert sentence in str(caught.value)
    assert sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "run").rglob("*")) == before


def test_resuming_with_other_threads_goes_on(text: Path, unbroken: Run, tmp_path: Path) -> None:
    shutil.copytree(unbroken.path, tmp_path / "run")
    config = tiny_config(text, "scheme=learned", *STEPS, "train.threads=2", "train.log_every=3", "label=mine")
    assert create(tmp_path, "run", config, resume=True).config.train.threads == 2


def test_an_existing_name_without_resume_is_refused(text: Path, unbroken: Run) -> None:
    with pytest.raises(PosxError, match="--resume"):
        create(unbroken.path.parent, "run", unbroken.config, resume=False)


def test_two_processes_cannot_hold_one_run(text: Path, tmp_path: Path) -> None:
    config = tiny_config(text, *STEPS)
    run = create(tmp_path, "run", config, resume=False)

    class Second(Display):
        def update(self, done: int, note: str = "") -> None:
            if done == 1:
                with pytest.raises(PosxError, match="Another process"):
                    train(run, corpus_of(config), Display(quiet=True))

    train(run, corpus_of(config), Second(quiet=True))
    assert run.finished


# ---------------------------------------------------------------- what is on disk


def test_a_flipped_byte_is_caught(unbroken: Run, tmp_path: Path) -> None:
    shutil.copytree(unbroken.path, tmp_path / "run")
    found = checkpoints.newest(tmp_path / "run" / "checkpoints")
    assert found is not None
    path = found.path / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1  # in the values: the file still opens, and holds other weights
    path.write_bytes(content)
    model = build_model(unbroken.config, unbroken.meta["vocab_size"])
    with pytest.raises(PosxError) as caught:
        checkpoints.load_weights(found, model)
    assert str(path) in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("part", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_part_stops_a_resumed_run(text: Path, tmp_path: Path, part: str) -> None:
    config = tiny_config(text, *STEPS)
    run = crashed(tmp_path, config, 6)
    path = run.checkpoints / "step-000005" / part
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(PosxError) as caught:
        trained(tmp_path, "run", config, resume=True)
    assert str(path) in str(caught.value)


def test_no_pickle_in_a_run(unbroken: Run) -> None:
    files = [p for p in unbroken.path.rglob("*") if p.is_file()]
    assert {p.suffix or p.name for p in files} <= {".json", ".jsonl", ".yaml", ".safetensors", ".lock"}
    names = {p.name for p in files}
    assert {"config.yaml", "tokenizer.json", "meta.json", "metrics.jsonl", "manifest.json", "state.json"} <= names
    for path in files:
        begins = path.read_bytes()[:2]
        assert begins[:1] != b"\x80", f"{path} is a pickle"
        assert begins != b"PK", f"{path} is a zip, as torch.save writes"
        assert not path.name.startswith(".") or path.name == ".lock", f"{path} is temporary"


FULL = """
import resource, signal, sys
from pathlib import Path
from data_helpers import TINY, child_environment, corpus_of, tiny_config
from posx.errors import PosxError
from posx.utils.console import Display
from posx.runs.directory import create
from posx.training.loop import train

class Fill(Display):
    def update(self, done, note=""):
        if done == 7:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))

config = tiny_config(Path(sys.argv[1]), *sys.argv[4:])
corpus = corpus_of(config)
run = create(Path(sys.argv[2]), "run", config, False)
try:
    train(run, corpus, Fill(quiet=True))
except PosxError as error:
    print(error)
    sys.exit(error.code)
"""


def test_a_full_disk_leaves_the_checkpoint_before(text: Path, unbroken: Run, tmp_path: Path) -> None:
    """Room for the weights, and for a part of the optimizer's moments."""
    overrides = ["scheme=learned", *STEPS]
    done = python(FULL, text, tmp_path, 200_000, *overrides)
    run = open_run(tmp_path / "run")
    assert [p.name for p in run.checkpoints.iterdir()] == ["step-000005"]
    assert done.returncode == 1, done.stderr
    assert "cannot be written" in done.stdout, done.stderr
    assert "--resume" in done.stdout
    same_run(trained(tmp_path, "run", tiny_config(text, *overrides), resume=True), unbroken)


# ---------------------------------------------------------------- a step


def captured(session: Session, step: int) -> tuple[float, float, dict[str, torch.Tensor]]:
    """Loss, gradient norm, and the gradient of every parameter in a step."""
    taken: dict[str, torch.Tensor] = {}

    def keep(*_: Any) -> None:
        for name, parameter in session.model.named_parameters():
            assert parameter.grad is not None
            taken[name] = parameter.grad.clone()

    handle = session.optimizer.register_step_pre_hook(keep)
    loss, norm = train_step(session, step)
    handle.remove()
    return float(loss), float(norm), taken


def close(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, gradient in left.items():
        assert float((gradient - right[name]).abs().max()) <= 2e-5 * float(right[name].abs().max()), name


def length_of(gradients: dict[str, torch.Tensor]) -> float:
    return math.sqrt(sum(float(g.double().square().sum()) for g in gradients.values()))


def test_the_gradient_is_that_of_the_mean_over_all_scored_targets(text: Path) -> None:
    """Against torch's own cross-entropy, over a batch of several chunks in which some windows are masked."""
    session = session_of(text, "scheme=learned", "optim.grad_clip=0", f"train.batch_tokens={80 * 16}")
    tokens, targets = map(torch.from_numpy, session.slices.batch(0, 4, 80))
    assert targets.numel() > 2 * CHUNK["cpu"]
    assert 0 < int((targets == IGNORED).sum()) < targets.numel() // 2
    logits = session.model.logits(session.model(tokens)).flatten(0, 1)
    expected = F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORED)
    expected.backward()
    by_torch = {n: p.grad.clone() for n, p in session.model.named_parameters() if p.grad is not None}
    session.optimizer.zero_grad()
    loss, norm, gradients = captured(session, 4)
    assert loss == pytest.approx(float(expected.detach()), rel=1e-6)
    close(gradients, by_torch)
    assert norm == pytest.approx(length_of(by_torch), rel=1e-5)


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_accumulation_gives_the_same_step(text: Path, parts: int) -> None:
    """Parts hold unlike numbers of targets: a mean of their means would be another step."""
    whole, split = (session_of(text, "optim.grad_clip=0", f"train.accumulation={n}") for n in (1, parts))
    counts = (split.slices.batch(0, 4, 8)[1] != IGNORED).reshape(parts, -1).sum(axis=1)
    assert len(set(counts.tolist())) > 1
    loss, norm, gradients = captured(whole, 4)
    other_loss, other_norm, other = captured(split, 4)
    assert other_loss == pytest.approx(loss, rel=1e-6)
    assert other_norm == pytest.approx(norm, rel=1e-5)
    close(other, gradients)


def test_the_gradient_is_clipped_to_its_largest_norm(text: Path) -> None:
    session = session_of(text, "optim.grad_clip=0.05")
    _, norm, gradients = captured(session, 0)
    assert norm > 0.1, "the norm that is reported is the one before clipping"
    assert length_of(gradients) == pytest.approx(0.05, rel=1e-4)


def test_schemes_see_the_same_batches_from_the_same_start(text: Path) -> None:
    names = ["rope", "learned", "alibi", "nope", "t5"]
    settings = {"t5": ["scheme.buckets=8"]}
    sessions = {name: session_of(text, f"scheme={name}", *settings.get(name, [])) for name in names}
    begins = {n: {k: p.detach().clone() for k, p in s.model.named_parameters()} for n, s in sessions.items()}
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in names}
    for name, session in sessions.items():
        tokens = seen[name]
        hook = session.model.register_forward_pre_hook(lambda _, given, to=tokens: to.append(given[0].clone()))
        for step in range(4):
            train_step(session, step)
        hook.remove()
    shared = {k for k in begins["rope"] if not k.startswith("scheme.")}
    assert len(shared) > 10
    for name in names[1:]:
        assert {k for k in begins[name] if not k.startswith("scheme.")} == shared
        assert all(torch.equal(begins[name][k], begins["rope"][k]) for k in shared)
        assert all(torch.equal(a, b) for a, b in zip(seen[name], seen["rope"], strict=True))
    other = session_of(text, "scheme=rope", "train.seed=1")
    assert not any(torch.equal(p, begins["rope"][k]) for k, p in other.model.named_parameters() if p.ndim == 2)
    assert not np.array_equal(other.slices.batch(1, 0, 8)[0], seen["rope"][0].numpy())


@pytest.mark.parametrize("scheme, settings", [("learned", []), ("t5", ["scheme.buckets=8"]), ("rope", [])])
def test_weight_decay_spares_norms_and_schemes(text: Path, scheme: str, settings: list[str]) -> None:
    """With a gradient of zero AdamW moves nothing but what it decays."""
    session = session_of(text, f"scheme={scheme}", *settings, "optim.weight_decay=0.5", "optim.lr=0.1")
    before = {name: p.detach().clone() for name, p in session.model.named_parameters()}
    for parameter in session.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    session.optimizer.step()
    for name, parameter in session.model.named_parameters():
        spared = name.startswith("scheme.") or "norm" in name
        factor = 1.0 if spared else 1 - 0.1 * 0.5
        assert torch.allclose(parameter, before[name] * factor, rtol=1e-6, atol=0), name


def test_every_parameter_is_trained(text: Path) -> None:
    session = session_of(text, "scheme=t5", "scheme.buckets=8", "model.tie_embeddings=false")
    before = {name: p.detach().clone() for name, p in session.model.named_parameters()}
    for step in range(2):
        train_step(session, step)
    still = [n for n, p in session.model.named_parameters() if torch.equal(p, before[n])]
    assert still == []


# ---------------------------------------------------------------- learning rate


@pytest.mark.parametrize(
    "steps, warmup, step, share",
    [
        (100, 10, 0, 0.1),
        (100, 10, 4, 0.5),
        (100, 10, 9, 1.0),  # the end of warm-up
        (100, 10, 10, 1.0),
        (101, 10, 55, 0.55),  # half of the cosine, to a tenth
        (100, 10, 99, 0.1),  # the last
        (100, 0, 0, 1.0),
        (100, 0, 99, 0.1),
        (400, None, 0, 1 / 40),  # a tenth of the steps
        (400, None, 39, 1.0),
        (5000, None, 0, 1 / 100),  # never more than 100
        (5000, None, 99, 1.0),
        (5000, None, 4999, 0.1),
        (5, None, 0, 1.0),
        (1, None, 0, 1.0),
        (4, 8, 3, 0.5),  # a warm-up that never ends
    ],
)
def test_learning_rate(steps: int, warmup: int | None, step: int, share: float) -> None:
    optim = OptimConfig(lr=3e-3, final_lr=0.1, warmup_steps=warmup)
    assert learning_rate(step, TrainConfig(steps=steps), optim) == pytest.approx(3e-3 * share)


def test_the_rate_of_a_step_is_the_optimizers(text: Path, unbroken: Run) -> None:
    session = session_of(text, "train.steps=40", "optim.warmup_steps=4")
    for step, share in ((0, 0.25), (3, 1.0), (39, 0.1)):
        train_step(session, step)
        assert [g["lr"] for g in session.optimizer.param_groups] == pytest.approx([0.01 * share] * 2)
    assert metrics(unbroken)[-1]["lr"] == pytest.approx(0.001)


# ---------------------------------------------------------------- as a whole


def test_a_repetitive_text_is_learned(tmp_path: Path) -> None:
    """Documents that tell the same thing over and over: far below the ln V of guessing."""
    texts = [("north east south west " * 30)[n:] + f"{n}" for n in range(30)]
    path = write_jsonl(tmp_path / "a.jsonl", texts)
    config = tiny_config(path, "train.steps=60", "tokenizer.vocab_size=260", "train.log_every=1")
    run = trained(tmp_path, "run", config)
    first, last = metrics(run)[0], metrics(run)[-1]
    guess = math.log(run.meta["vocab_size"])
    assert guess == pytest.approx(math.log(260))
    assert last["nats_per_token"] < guess / 2 < first["nats_per_token"]
    assert last["validation_nats_per_token"] < guess / 2


def test_validation_is_the_mean_over_the_same_slices(text: Path) -> None:
    session = session_of(text, "train.eval_tokens=80")
    split = corpus_of(session.config).splits["validation"]
    nats = validate(session, split)
    for step in range(2):
        train_step(session, step)
    assert validate(session, split) != nats
    again = session_of(text, "train.eval_tokens=80", "train.batch_tokens=128")
    assert validate(again, split) == nats


def test_a_run_that_diverges_is_a_sentence_with_code_1(text: Path, tmp_path: Path) -> None:
    config = tiny_config(text, "train.steps=20", "optim.lr=1e30", "optim.warmup_steps=0", "optim.grad_clip=0")
    run = create(tmp_path, "run", config, resume=False)
    with pytest.raises(PosxError, match="diverged") as caught:
        train(run, corpus_of(config), Display(quiet=True))
    assert caught.value.code == 1
    assert "optim.lr" in caught.value.hint
    for line in (run.path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def test_a_diverged_run_keeps_no_weights_that_are_not_finite(text: Path, tmp_path: Path) -> None:
    """Resuming from such a checkpoint would diverge for ever."""
    overrides = ["train.steps=20", "train.checkpoint_every=3", "train.log_every=10", "train.eval_every=20"]
    overrides += ["optim.lr=1e30", "optim.warmup_steps=0", "optim.grad_clip=0"]
    config = tiny_config(text, *overrides)
    run = create(tmp_path, "run", config, resume=False)
    with pytest.raises(PosxError, match="diverged"):
        train(run, corpus_of(config), Display(quiet=True))
    for path in run.checkpoints.glob("*/model.safetensors"):
        assert all(bool(w.isfinite().all()) for w in load_file(path).values()), path
