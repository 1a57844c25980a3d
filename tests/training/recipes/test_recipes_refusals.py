"""Tests of ``posx.training.recipes``: what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.corpora import tiny_config
from fixtures.models import posx
from fixtures.recipe_runs import (
    DROP,
    POSE,
    runs,  # noqa: F401
    text,  # noqa: F401
)
from posx.config.schema import RunConfig
from posx.errors import PosxError
from posx.training.finetune import compose_finetune

REFUSED: dict[str, tuple[list[str], str]] = {
    "an unknown recipe": (["--from", "rope", "--recipe", "dropp"], "Did you mean drop"),
    "drop without a run": (["--recipe", "drop"], "posx train --from RUN"),
    "pose without a run": (["--recipe", "pose", "--reach", "4x"], "posx train --from RUN"),
    "a reach without a run": (["train.reach=64"], "posx train --from RUN"),
    "no reach": (["--from", "rope", "--recipe", "pose"], "Add --reach 4x"),
    "a reach within the window": (["--from", "rope", "--recipe", "pose", "--reach", "1x"], "train.reach=16 was given"),
    "a shorter reach": (["--from", "rope", "--recipe", "pose", "--reach", "8"], "train.reach=8 was given"),
    "no whole tokens": (["--from", "rope", "--recipe", "pose", "--reach", "4.3x"], "not a whole number of tokens"),
    "no length": (["--from", "rope", "--recipe", "pose", "--reach", "far"], "train.reach takes a whole number"),
    "too far": (["--from", "rope", "--recipe", "pose", "--reach", "99999999"], "train.reach=99999999 is too large"),
    "a reach alone": (["--from", "rope", "--reach", "4x"], "Add --recipe pose"),
    "a reach for drop": (["--from", "rope", "--recipe", "drop", "--reach", "4x"], "train.recipe=drop"),
    "drop of learned": (["--from", "learned", "--recipe", "drop"], "does not support learned. It supports rope"),
    "drop of nothing": (["--from", "nope", "--recipe", "drop"], "does not support nope. It supports rope"),
    "drop twice": (["--from", "rope-drop", "--recipe", "drop"], "does not support nope"),
    "pi without rotations": (["--from", "rope", "--recipe", "drop", "--extension", "pi"], "pi changes the spectrum"),
    "pose of nothing": (["--from", "nope", "--recipe", "pose", "--reach", "4x"], "nope does not use positions"),
    "pose past the table": (
        ["--from", "learned", "--recipe", "pose", "--reach", "4x"],
        "learned positions end at 16, but train.reach=64 was requested. Train with --extension interpolate",
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
    with pytest.raises(PosxError, match=r"does not support|does not use positions|selects its own") as caught:
        compose_finetune(first, "first", POSE if recipe == "pose" else DROP)
    assert caught.value.hint


def test_a_recipe_by_hand_is_refused(text: Path) -> None:
    """In a config that no --from made."""
    from posx.config.validate import check_train

    config: RunConfig = tiny_config(text)
    config.train.recipe = "drop"
    with pytest.raises(PosxError, match="no run was given"):
        check_train(config)
