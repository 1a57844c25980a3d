"""The recipes of a fine-tune, drop and pose: what they train on, what they leave of the first run, and what is said.

Positions and text of pose are held against the paper's equations in plain Python and against counts of what was drawn;
numbers against transformers with the fine-tuned weights.
"""

from __future__ import annotations

import shlex
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from data_helpers import TINY, by_hand, child_environment, corpus_of, python, sentence, silent, tiny_config, write_jsonl
from helpers import posx
from posx.config.schema import IGNORED, RunConfig
from posx.data.sampling import Slices
from posx.errors import PosxError
from posx.models.binding import bind, parse_extension
from posx.models.build import build_model
from posx.reporting.reproduce import train_command
from posx.results.aggregate import aggregate
from posx.results.records import Record, read_record, read_records
from posx.runs.directory import Run, create, metrics, open_run
from posx.runs.identity import group_hash, recipe_hash
from posx.runtime.generator import generator
from posx.sweeps.plan import JobPlan, _identity, read_sweep
from posx.training.finetune import compose_finetune, default_name
from posx.training.recipes import skipping
from posx.training.resume import resume
from posx.training.state import start
from posx.utils.console import Display
from posx.utils.files import sha256_of
from posx.verify.oracles import hosts
from test_finetune import (
    EXACT,
    INTERRUPTED,
    SEEN,
    SMALL,
    as_gpt2,
    as_neox,
    ask,
    by_host,
    gap,
    losses,
    resized,
    same,
    same_run,
    sweep_file,
    tuned,
    weights,
)
from test_windows import LENGTHS, bounds, chi_square, home

L, REACH = 16, 64
STEPS, MORE = 30, 6
PI_4 = {"rope_type": "linear", "factor": 4.0}
POSE = ["train.recipe=pose", "train.reach=4x", f"train.steps={MORE}", "train.log_every=1"]
DROP = ["train.recipe=drop", f"train.steps={MORE}", "train.log_every=1"]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 documents of about 200 tokens."""
    return write_jsonl(tmp_path_factory.mktemp("text") / "a.jsonl", [sentence(120, n) for n in range(24)])


@pytest.fixture(scope="module")
def runs(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs at 16 tokens, and what the recipes make of them."""
    folder = tmp_path_factory.mktemp("runs") / "runs"
    at = ["--runs-dir", folder]
    for scheme, steps in (("rope", STEPS), ("learned", 4), ("nope", 2)):
        own = ["data=text", f"data.path={text}", *TINY, "train.log_every=1", f"train.steps={steps}"]
        posx("train", *own, "--scheme", scheme, "--name", scheme, *at)
    few = [f"train.steps={MORE}", "train.log_every=1"]
    pose = ["--recipe", "pose", "--reach", "4x", *few]
    posx("train", "--from", "rope", "--extension", "pi", "--name", "rope-pose", *pose, *at)
    posx("train", "--from", "learned", "--extension", "interpolate", "--name", "learned-pose", *pose, *at)
    posx("train", "--from", "rope", "--recipe", "drop", "--name", "rope-drop", *few, *at)
    return folder


@pytest.fixture
def own(runs: Path, tmp_path: Path) -> Path:
    """The runs, for a test that changes them."""
    return Path(shutil.copytree(runs, tmp_path / "runs"))


# ---------------------------------------------------------------- positions of pose


def drawn(rows: int, n: int, reach: int, seed: int = 0) -> list[tuple[int, int, list[int]]]:
    """(l, u, positions) of each row; u as the last position tells it."""
    first, positions = skipping(rows, n, reach, torch.Generator().manual_seed(seed))
    assert positions.dtype == torch.int64
    found = []
    for cut, row in zip(first.tolist(), positions.tolist(), strict=True):
        found.append((cut, row[-1] - (n - 1), row))
    return found


@given(st.integers(2, 40), st.integers(0, 100), st.integers(0, 2**40))
@settings(max_examples=150, deadline=None)
def test_positions_are_two_chunks_with_a_skip(n: int, further: int, seed: int) -> None:
    """Equations 3 and 4 of the paper, in plain Python, with u_0 = 0; all below the reach."""
    for cut, skip, row in drawn(5, n, n + further, seed):
        lengths, biases = [cut, n - cut], [0, skip]
        assert min(lengths) >= 1
        assert 0 <= skip <= further
        chunks = [[biases[i] + sum(lengths[:i]) + place for place in range(lengths[i])] for i in range(2)]
        assert row == [*chunks[0], *chunks[1]]


def test_every_cut_and_every_skip_is_equally_likely() -> None:
    """Both at once: chi-square over all pairs, so that neither tells of the other."""
    n, reach = 5, 12
    pairs = Counter((cut, skip) for seed in range(40) for cut, skip, _ in drawn(200, n, reach, seed))
    assert sorted(pairs) == [(cut, skip) for cut in range(1, n) for skip in range(reach - n + 1)]
    assert chi_square(np.array(list(pairs.values()))) < 4.5


def test_all_positions_and_all_distances_come_up() -> None:
    """What pose is for: every distance from 1 to the reach − 1, in windows of 8 of 40 tokens."""
    rows = [row for _, _, row in drawn(4000, 8, 40)]
    assert {place for row in rows for place in row} == set(range(40))
    assert {late - early for row in rows for early in row for late in row if late > early} == set(range(1, 40))


@given(LENGTHS.filter(lambda lengths: max(lengths) >= 2), st.integers(2, 40), st.integers(0, 2**40), st.data())
@settings(max_examples=150, deadline=None)
def test_the_text_of_the_second_chunk_is_of_the_same_document(
    lengths: list[int], context: int, seed: int, data: Any
) -> None:
    """Equation 5 with v_0 = 0. Token n of the split is the number n, so that a token tells its place."""
    split = by_hand(lengths).splits["test"]
    cuts = data.draw(st.lists(st.integers(1, context - 1), min_size=4, max_size=4))
    plain, _ = Slices(split, context).batch(seed, 3, 4)
    tokens, targets = Slices(split, context).batch(seed, 3, 4, np.array(cuts))
    for cut, before, row, wanted in zip(cuts, plain.tolist(), tokens.tolist(), targets.tolist(), strict=True):
        end = bounds(lengths)[home(row[0], lengths)][1]
        assert row[:cut] == before[:cut], "windows begin where they do without pose"
        if end - row[0] <= context + 1:
            assert row == before, "a document that a window holds whole has nowhere to go on"
            continue
        assert row[cut] >= row[cut - 1] + 1
        assert row[cut:] == list(range(row[cut], row[cut] + context - cut))
        assert wanted == [*row[1:], row[-1] + 1]
        assert wanted[-1] < end
        assert IGNORED not in wanted


def test_the_second_chunk_begins_anywhere_in_the_rest() -> None:
    """Chi-square over what lies between the chunks, of the windows that begin where the document does."""
    slices, cuts = Slices(by_hand([20]).splits["test"], 8), np.full(400, 3)
    rows = np.concatenate([slices.batch(seed, 0, 400, cuts)[0] for seed in range(40)])
    at_start = rows[rows[:, 0] == 0]
    seen, counts = np.unique(at_start[:, 3] - at_start[:, 2] - 1, return_counts=True)
    assert seen.tolist() == list(range(20 - 9 + 1))  # a window reads 9 of 20 tokens
    assert chi_square(counts) < 4.5


# ---------------------------------------------------------------- pose, trained


@torch.no_grad()
def test_a_step_of_pose_is_that_of_an_oracle_at_these_positions(runs: Path) -> None:
    """The first loss, by GPT-NeoX with pi: the first run's weights, batch 30, positions drawn from the step alone."""
    first, run = open_run(runs / "rope"), open_run(runs / "rope-pose")
    cuts, positions = skipping(128 // L, L, REACH, generator(0, f"positions of step {STEPS}"))
    slices = Slices(corpus_of(run.config).splits["train"], L)

    def loss(tokens: np.ndarray, targets: np.ndarray, where: Tensor, **rope: Any) -> float:
        # With a mask of its own: without one transformers takes a skip for the beginning of another sequence.
        mask = torch.full((L, L), float("-inf")).triu(1)[None, None]
        out = as_neox(first, **rope)(input_ids=torch.from_numpy(tokens), position_ids=where, attention_mask=mask)
        return float(F.cross_entropy(out.logits.double().flatten(0, 1), torch.from_numpy(targets).flatten()))

    batch = slices.batch(0, STEPS, 128 // L, cuts.numpy())
    plain, straight = slices.batch(0, STEPS, 128 // L), torch.arange(L)[None]
    seen = metrics(run)[0]["nats_per_token"]
    assert seen == pytest.approx(loss(*batch, positions, **PI_4), abs=EXACT)
    others = [loss(*batch, positions), loss(*batch, straight, **PI_4), loss(*plain, positions, **PI_4)]
    assert min(abs(other - seen) for other in others) > SEEN


def test_pose_freezes_the_extension_at_its_reach(runs: Path) -> None:
    """64 / 16, though no window is longer than 16."""
    run = open_run(runs / "rope-pose")
    train = run.config.train
    assert (train.context, train.reach, train.reached, train.extension) == (L, REACH, REACH, "pi(s=4)")
    assert run.config.base_context == L
    lineage = run.meta["lineage"]
    assert (lineage["base_context"], lineage["train_context"], lineage["train_extension"]) == (L, L, "pi(s=4)")
    base = open_run(runs / "rope").config
    for extension, frozen in (("ntk", "ntk(s=4)"), ("pi(s=5)", "pi(s=5)"), ("pi+resonance", "pi(s=4)+resonance")):
        assert compose_finetune(base, "rope", [*POSE, f"train.extension='{extension}'"]).train.extension == frozen


def test_what_pose_trained_with_acts_at_every_length_and_others_extend_its_reach(runs: Path) -> None:
    """pi(s=4) below, at and above the reach; pi on top of it at 8x is s = 128 / 64."""
    run = open_run(runs / "rope-pose")
    found = ask(run, [L, 40, REACH, 128], "trained") | ask(run, [REACH, 128], "pi")
    for (extension, length), record in found.items():
        on_top = 2.0 if (extension, length) == ("trained+pi", 128) else 1.0
        host = as_neox(run, rope_type="linear", factor=4 * on_top)
        assert gap(losses(record), by_host(run, record, host)) < EXACT
        assert record.extension_params["trained"] == {"pi": {"s": 4.0}}
    assert found["trained+pi", 128].extension_params["pi"] == {"s": 2.0}
    assert gap(losses(found["trained", L]), by_host(run, found["trained", L], as_neox(run))) > SEEN


def test_learned_positions_are_spread_over_the_reach(runs: Path) -> None:
    """Table and interpolation: 16 rows over 64 positions, and over 128 on top. Trained in windows of 16 tokens."""
    run = open_run(runs / "learned-pose")
    table = weights(run)["scheme.table"]
    assert len(table) == L
    found = ask(run, [L, REACH], "trained") | ask(run, [128], "interpolate")
    for (_, length), record in found.items():
        host = as_gpt2(run, resized(table, 128 if length == 128 else REACH))
        assert gap(losses(record), by_host(run, record, host)) < EXACT
    past = ask(run, [L, 128], "trained")["trained", 128]
    assert past.status == "unsupported"
    assert "up to 64" in past.reason


@pytest.mark.parametrize(
    "scheme", ["alibi", "fire", "linear-rope", "p-rope", "shaw", "sinusoidal", "t5 scheme.buckets=16", "xpos"]
)
def test_pose_trains_other_schemes_at_its_positions(text: Path, scheme: str) -> None:
    """Rows of a batch at positions of their own are those rows, each by itself at its positions."""
    config = compose_finetune(tiny_config(text, *f"scheme={scheme}".split()), "first", POSE)
    session = start(config, corpus_of(config))
    tokens = torch.from_numpy(session.slices.batch(0, 0, 4)[0])
    _, positions = skipping(4, L, REACH, generator(0, "some"))
    with torch.no_grad():
        together = session.model(tokens, positions, extension=session.extension)
        alone = [session.model(tokens[n : n + 1], positions[n], extension=session.extension) for n in range(4)]
    assert float((together - torch.cat(alone)).abs().max()) < 1e-5
    assert int(positions.max()) > L


# ---------------------------------------------------------------- drop


@torch.no_grad()
def test_a_dropped_model_is_nope_with_the_weights_of_rope(runs: Path, tmp_path: Path) -> None:
    """Before any step, bit for bit; and the very start that resume makes of it."""
    first = open_run(runs / "rope")
    config = tuned(first, *DROP)
    assert config.scheme == {"name": "nope", "_target_": "posx.schemes.nope.Nope"}
    run, corpus = create(tmp_path, "run", config, resume=False), corpus_of(config)
    session = start(config, corpus)
    resume(run, session, corpus, Display(quiet=True))
    nope = build_model(open_run(runs / "nope").config, corpus.vocab_size)
    nope.load_state_dict(weights(first))
    tokens = torch.from_numpy(session.slices.batch(0, 0, 4)[0])
    assert torch.equal(session.model(tokens), nope(tokens))
    rope = build_model(first.config, corpus.vocab_size)
    rope.load_state_dict(weights(first))
    assert float((rope(tokens) - nope(tokens)).abs().max()) > SEEN


@torch.no_grad()
def test_a_step_of_drop_is_taken_without_positions(runs: Path) -> None:
    """The first loss, by GPT-2 whose position table is zero, on the batch that comes next."""
    first, run = open_run(runs / "rope"), open_run(runs / "rope-drop")
    tokens, targets = Slices(corpus_of(run.config).splits["train"], L).batch(0, STEPS, 128 // L)
    model = build_model(first.config, len(weights(first)["tokens.weight"]))
    model.load_state_dict(weights(first))
    logits, _ = hosts.run(hosts.gpt2(model), torch.from_numpy(tokens))
    expected = float(F.cross_entropy(logits.double().flatten(0, 1), torch.from_numpy(targets).flatten()))
    assert metrics(run)[0]["nats_per_token"] == pytest.approx(expected, abs=EXACT)


def test_a_dropped_model_is_evaluated_without_positions(runs: Path) -> None:
    run = open_run(runs / "rope-drop")
    for record in ask(run, [L, REACH, 128], "trained").values():
        host = as_gpt2(run, torch.zeros(128, run.config.model.d_model))
        assert gap(losses(record), by_host(run, record, host)) < EXACT
        assert (record.scheme, record.scheme_params, record.train_recipe) == ("nope", {}, "drop")


ROTATES_ONLY = ["rope", "partial-rope scheme.fraction=0.5", "p-rope", "xpos", "layers scheme.layers=[rope,nope]"]


@pytest.mark.parametrize("scheme", ROTATES_ONLY)
def test_the_rotary_schemes_can_be_dropped(text: Path, scheme: str) -> None:
    """And no parameter is lost or made by it."""
    first = tiny_config(text, *f"scheme={scheme}".split())
    config = compose_finetune(first, "first", DROP)
    shapes = [{n: p.shape for n, p in build_model(one, 300).named_parameters()} for one in (first, config)]
    assert shapes[0] == shapes[1]
    assert config.scheme["name"] == "nope"


# ---------------------------------------------------------------- what is said


def test_records_and_labels_name_the_recipe(own: Path) -> None:
    """With the 1x control, on the targets of the first run."""
    names = ["rope", "rope-pose", "rope-drop"]
    asked = ["--length", "4x", "eval.max_targets=64"]
    for name in names:
        shutil.rmtree(own / name / "eval", ignore_errors=True)
        posx("eval", name, *asked, "--runs-dir", own)
    found: dict[str, list[Record]] = {name: read_records(own, [name]) for name in names}
    assert {(name, r.length) for name in names for r in found[name]} == {(n, x) for n in names for x in (L, 4 * L)}
    assert len({r.targets_sha256 for records in found.values() for r in records}) == 1
    said = {name: (r[0].label, r[0].train_recipe, r[0].train_reach, r[0].recipe) for name, r in found.items()}
    assert said == {
        "rope": ("rope", "none", None, ""),
        "rope-pose": ("rope + 6 steps at 16, pose to 64", "pose", REACH, "pose to 64"),
        "rope-drop": ("rope, dropped + 6 steps at 16", "drop", None, "positions dropped"),
    }
    tuned_ones = [*found["rope-pose"], *found["rope-drop"]]
    assert {r.parent_sha256 for r in tuned_ones} == {found["rope"][0].config_sha256}
    assert {(r.base_context, r.train_context, r.train_tokens) for r in tuned_ones} == {(L, L, MORE * 128)}
    assert len({r.config_sha256 for records in found.values() for r in records}) == 3
    shown = posx("table", "--format", "md", "--runs-dir", own).stdout
    assert "rope, dropped + 6 steps at 16" in shown
    assert "rope + 6 steps at 16, pose to 64" in shown


def test_names_of_folders_tell_recipes_apart(runs: Path) -> None:
    base = open_run(runs / "rope").config
    names = [
        default_name(compose_finetune(base, "rope", overrides))
        for overrides in ([*POSE, "train.extension=pi"], POSE, DROP, [f"train.steps={MORE}"])
    ]
    assert names == ["rope-pi-s-4-pose64-16-6steps", "rope-pose64-16-6steps", "rope-drop-16-6steps", "rope-16-6steps"]


@pytest.mark.parametrize("name", ["rope-pose", "rope-drop"])
def test_the_command_of_a_run_says_its_recipe(runs: Path, name: str) -> None:
    """Its overrides, through the same composition, give the same config."""
    run = open_run(runs / name)
    words = shlex.split(train_command(run, []))
    overrides = [word for word in words if "=" in word]
    assert words[:6] == ["posx", "train", "--name", name, "--from", "rope"]
    assert f"train.recipe={run.config.train.recipe}" in overrides
    again = tuned(open_run(runs / "rope"), *overrides)
    assert group_hash(again) == group_hash(run.config)
    assert again.label == run.config.label


def test_it_is_reproduced(own: Path) -> None:
    """Both trainings again from the config alone, and the number."""
    posx("eval", "rope-pose", "--length", "4x", "eval.max_targets=64", "--runs-dir", own)
    key = next(r.key for r in read_records(own, ["rope-pose"]) if r.length == 4 * L)
    posx("reproduce", key, "--from-scratch", "--runs-dir", own)


# ---------------------------------------------------------------- another fine-tune on top


def test_a_finetune_of_a_pose_run_goes_on_with_it_and_of_a_dropped_one_does_not(runs: Path) -> None:
    """As the extension and the context do; what is dropped is dropped."""
    pose, dropped = (open_run(runs / name).config for name in ("rope-pose", "rope-drop"))
    train = compose_finetune(pose, "rope-pose", []).train
    assert (train.recipe, train.reach, train.extension) == ("pose", REACH, "pi(s=4)")
    train = compose_finetune(pose, "rope-pose", ["train.recipe=none", "train.context=4x"]).train
    assert (train.recipe, train.reach, train.reached, train.extension) == ("none", None, REACH, "pi(s=4)")
    again = compose_finetune(dropped, "rope-drop", [])
    assert (again.train.recipe, again.scheme["name"]) == ("none", "nope")
    assert again.label == "rope, dropped + 6 steps at 16 + 1 steps at 16"


def test_positions_of_pi_can_be_dropped_with_it(runs: Path) -> None:
    pose = open_run(runs / "rope-pose").config
    with pytest.raises(PosxError, match=r"pi changes the spectrum and does not fit nope"):
        compose_finetune(pose, "rope-pose", DROP)
    config = compose_finetune(pose, "rope-pose", [*DROP, "train.extension=none"])
    assert (config.scheme["name"], config.train.extension, config.train.reach) == ("nope", "none", None)


# ---------------------------------------------------------------- interrupted


@pytest.mark.parametrize("name, overrides", [("rope-pose", [*POSE, "train.extension=pi"]), ("rope-drop", DROP)])
def test_a_signal_saves_and_resuming_repeats_the_unbroken_run(own: Path, name: str, overrides: list[str]) -> None:
    """To the bit: text, cuts and skips of a step are drawn from its number alone."""
    done = python(INTERRUPTED, own, *overrides)
    assert done.returncode == 128 + signal.SIGINT, done.stderr
    assert open_run(own / "broken").step == 4
    posx("train", "--from", "rope", "--name", "broken", "--resume", *overrides, "--runs-dir", own)
    same_run(open_run(own / "broken"), open_run(own / name))
    assert not same(weights(open_run(own / name)), weights(open_run(own / "rope")))


# ---------------------------------------------------------------- hashes of runs from before


FINETUNES = sorted((Path(__file__).resolve().parents[1] / "results" / "finetune").glob("*/config.yaml"))


@pytest.mark.parametrize("path", FINETUNES[::7], ids=lambda path: path.parent.name)
def test_the_hashes_of_runs_without_a_recipe_are_what_they_were(path: Path) -> None:
    """Those in the records that are committed, from before there were recipes; a seed of today joins their row."""
    run = open_run(path.parent)
    records = [read_record(one) for one in (path.parent / "eval").glob("*.json")]
    assert {r.config_sha256 for r in records} == {group_hash(run.config)}
    assert {r.recipe_sha256 for r in records} == {recipe_hash(run.config)}
    assert {(r.train_recipe, r.train_reach, r.recipe) for r in records} == {("none", None, "")}
    # And a sweep finds the run under its name.
    digest = sha256_of(_identity(run.config), run.meta["corpus_sha256"], run.meta["tokenizer_sha256"])
    assert run.name.endswith(digest[:8])


def test_a_recipe_and_its_reach_are_in_the_hash(runs: Path) -> None:
    base = open_run(runs / "rope").config
    few = f"train.steps={MORE}"
    configs = [compose_finetune(base, "rope", o) for o in ([few], POSE, [*POSE, "train.reach=32"], DROP)]
    assert len({group_hash(config) for config in configs}) == 4


# ---------------------------------------------------------------- sweeps


def jobs_of(path: Path) -> list[JobPlan]:
    return read_sweep(path, [], silent, None, False).jobs


def test_a_sweep_plans_recipes(tmp_path: Path, text: Path) -> None:
    """pose with each extension, at the old context up to the new one; drop once, without; the control as ever."""
    tune = {"context": "4x", "steps": [1, 2], "extensions": {"rope": ["none", "pi"]}, "control": True}
    plain = jobs_of(sweep_file(tmp_path / "a.yaml", text, controls=[], finetune=tune))
    told = {**tune, "recipes": {"rope": ["none"]}}
    same_names = jobs_of(sweep_file(tmp_path / "b.yaml", text, controls=[], finetune=told))
    assert [job.name for job in plain] == [job.name for job in same_names]
    more = {**tune, "recipes": {"rope": ["none", "pose", "drop"]}}
    jobs = jobs_of(sweep_file(tmp_path / "c.yaml", text, controls=[], finetune=more))
    assert {job.name for job in plain} < {job.name for job in jobs}
    added = [job for job in jobs if job.name not in {one.name for one in plain}]
    kinds = {
        (t.recipe, t.context, t.reach, t.extension, t.steps, job.config.scheme["name"])
        for job in added
        for t in [job.config.train]
    }
    assert kinds == {
        row
        for steps in (1, 2)
        for row in (
            ("pose", 8, 32, "none", steps, "rope"),
            ("pose", 8, 32, "pi(s=4)", steps, "rope"),
            ("drop", 8, None, "none", steps, "nope"),
        )
    }
    assert len(added) == len(kinds)
    assert {job.after for job in added} == {jobs[0].name}


def test_a_sweep_with_recipes_runs(tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a row and a curve of its own; the point at 0 steps is the extension untrained, which drop has not."""
    from posx.results.curves import finetunes

    tune = {"context": "4x", "steps": [2], "extensions": {"rope": ["none"]}, "recipes": {"rope": ["pose", "drop"]}}
    path = sweep_file(tmp_path / "s.yaml", text, controls=[], extensions={}, finetune=tune)
    monkeypatch.setenv("PYTHONPATH", child_environment()["PYTHONPATH"])
    posx("sweep", path, "--workers", 2, "--runs-dir", tmp_path / "runs")
    records = read_records(tmp_path / "runs", [])
    assert all(r.status == "ok" for r in records)
    assert {r.label for r in records} == {
        "rope",
        "rope + 2 steps at 8",
        "rope + 2 steps at 8, pose to 32",
        "rope, dropped + 2 steps at 8",
    }
    curves = {(c.recipe, c.length): [p.x for p in c.points] for c in finetunes(aggregate(records))}
    assert curves == {
        (recipe, length): points
        for length in (8, 32)
        for recipe, points in (("", [0, 2]), ("pose to 32", [0, 2]), ("positions dropped", [2]))
    }
    listed = posx("sweep", path, "--dry-run", "--runs-dir", tmp_path / "runs").stdout
    assert (listed.count("done"), listed.count("to do")) == (4, 0)


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown row": ({"recipes": {"rop": ["pose"]}}, "in s.yaml for the recipes. Did you mean rope"),
    "an unknown recipe": ({"recipes": {"rope": ["poze"]}}, "Did you mean pose"),
    "the same twice": ({"recipes": {"rope": ["drop", "drop"]}}, "the same run twice"),
    "a list": ({"recipes": ["pose"]}, "finetune.recipes takes keys and values"),
    "an override": ({"overrides": ["train.recipe=pose"]}, "Change its field 'finetune.recipes' instead"),
    "a reach": ({"overrides": ["train.reach=64"]}, "Change its field 'finetune.context' instead"),
    "no longer context": ({"context": "1x", "recipes": {"rope": ["pose"]}}, "train.reach=8 was asked"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_sweep_is_a_sentence_before_any_work(
    tmp_path: Path, text: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes, says = BROKEN[what]
    monkeypatch.chdir(tmp_path)
    sweep_file(tmp_path / "s.yaml", text, controls=[], finetune={"context": "4x", "steps": [1], **changes})
    result = posx("sweep", "s.yaml", "--dry-run", "--runs-dir", tmp_path / "runs", code=2)
    assert says in " ".join(result.stderr.split())
    assert not (tmp_path / "runs").exists()


def test_a_recipe_that_does_not_fit_a_row_is_refused_before_any_work(tmp_path: Path, text: Path) -> None:
    tune = {"context": "4x", "steps": [1], "recipes": {"alibi": ["drop"]}}
    values = {"schemes": ["alibi"], "overrides": [*SMALL, f"data.path={text}"], "lengths": ["1x"], "finetune": tune}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(values), "utf-8")
    result = posx("sweep", tmp_path / "s.yaml", "--dry-run", "--runs-dir", tmp_path / "runs", code=2)
    assert "does not fit alibi" in result.stderr
    assert not (tmp_path / "runs").exists()


# ---------------------------------------------------------------- refusals

REFUSED: dict[str, tuple[list[str], str]] = {
    "an unknown recipe": (["--from", "rope", "--recipe", "dropp"], "Did you mean drop"),
    "drop without a run": (["--recipe", "drop"], "posx train --from RUN"),
    "pose without a run": (["--recipe", "pose", "--reach", "4x"], "posx train --from RUN"),
    "a reach without a run": (["train.reach=64"], "posx train --from RUN"),
    "no reach": (["--from", "rope", "--recipe", "pose"], "Add --reach 4x"),
    "a reach within the window": (["--from", "rope", "--recipe", "pose", "--reach", "1x"], "train.reach=16 was asked"),
    "a shorter reach": (["--from", "rope", "--recipe", "pose", "--reach", "8"], "train.reach=8 was asked"),
    "no whole tokens": (["--from", "rope", "--recipe", "pose", "--reach", "4.3x"], "not a whole number of tokens"),
    "no length": (["--from", "rope", "--recipe", "pose", "--reach", "far"], "train.reach takes a whole number"),
    "too far": (["--from", "rope", "--recipe", "pose", "--reach", "99999999"], "train.reach=99999999 is too large"),
    "a reach alone": (["--from", "rope", "--reach", "4x"], "Add --recipe pose"),
    "a reach for drop": (["--from", "rope", "--recipe", "drop", "--reach", "4x"], "train.recipe=drop"),
    "drop of learned": (["--from", "learned", "--recipe", "drop"], "does not fit learned. It fits rope"),
    "drop of nothing": (["--from", "nope", "--recipe", "drop"], "does not fit nope. It fits rope"),
    "drop twice": (["--from", "rope-drop", "--recipe", "drop"], "does not fit nope"),
    "pi without rotations": (["--from", "rope", "--recipe", "drop", "--extension", "pi"], "pi changes the spectrum"),
    "pose of nothing": (["--from", "nope", "--recipe", "pose", "--reach", "4x"], "nope does not hear"),
    "pose past the table": (
        ["--from", "learned", "--recipe", "pose", "--reach", "4x"],
        "learned positions end at 16, but train.reach=64 was asked. Train with --extension interpolate",
    ),
    "a contradiction": (["--from", "rope", "--recipe", "pose", "train.recipe=drop"], "contradict each other"),
    "resumed with another": (
        ["--from", "rope", "--name", "rope-pose", "--resume", *POSE, "--extension", "pi", "train.reach=48"],
        "train.reach was 64, now 48",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_is_a_sentence(runs: Path, what: str) -> None:
    arguments, says = REFUSED[what]
    before = {p.name for p in runs.iterdir()}
    result = posx("train", *arguments, "--runs-dir", runs, code=2)
    assert (result.stdout, "Traceback" in result.stderr) == ("", False)
    message = result.stderr.partition("Error: ")[2]
    assert says in " ".join(message.split())
    assert len([line for line in message.splitlines() if line.strip()]) == 2, "a sentence and a way out"
    assert {p.name for p in runs.iterdir()} == before


DO_NOT_FIT = [
    ("drop", scheme)
    for scheme in ("alibi", "sinusoidal", "shaw", "linear-rope", "ssmax", "layers "
                   "scheme.layers=[rope,alibi]")
] + [("pose", scheme) for scheme in ("forgetting", "stick-breaking", "cope", "shape", "randomized")]  # fmt: skip


@pytest.mark.parametrize("recipe, scheme", DO_NOT_FIT)
def test_a_recipe_that_does_not_fit_the_scheme_is_refused(text: Path, recipe: str, scheme: str) -> None:
    first = tiny_config(text, *f"scheme={scheme}".split())
    with pytest.raises(PosxError, match=r"does not fit|does not hear|chooses its own") as caught:
        compose_finetune(first, "first", POSE if recipe == "pose" else DROP)
    assert caught.value.hint


def test_a_recipe_by_hand_is_refused(text: Path) -> None:
    """In a config that no --from made."""
    from posx.config.schema import check_train

    config: RunConfig = tiny_config(text)
    config.train.recipe = "drop"
    with pytest.raises(PosxError, match="no run is named"):
        check_train(config)


def test_reached_is_the_context_without_pose(runs: Path) -> None:
    """And extensions bind to it as they always did."""
    run: Run = open_run(runs / "rope")
    assert run.config.train.reached == L
    scheme = build_model(run.config, 300).scheme
    bound = bind(parse_extension("pi"), scheme, 40, (), run.config.train.reached)
    assert bound.target.scale == 40 / L
