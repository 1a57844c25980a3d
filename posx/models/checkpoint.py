"""Checkpoints without pickle: weights and optimizer as safetensors, the rest as JSON.

checkpoints/step-000800/
  model.safetensors      float32 parameters by name
  optimizer.safetensors  AdamW's moments, "<parameter>.exp_avg" and "<parameter>.exp_avg_sq"
  state.json             step, tokens seen
  manifest.json          size and sha256 of the others; written last, so a folder without it is ignored
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from posx.errors import PosxError
from posx.runs.directory import newest_checkpoint
from posx.utils.files import read_json, sha256_file, whole_folder, write_json

PARTS = ("model.safetensors", "optimizer.safetensors", "state.json")


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint on disk."""

    path: Path
    step: int


def save(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> Checkpoint:
    """Write ``folder``/step-NNNNNN, then delete older ones: a run needs only the newest."""
    target = folder / f"step-{state['step']:06d}"
    if target.exists():  # damaged: training would have resumed after a complete one
        shutil.rmtree(target)
    try:
        with whole_folder(target) as temporary:
            save_file({n: p.detach().contiguous().cpu() for n, p in model.named_parameters()}, temporary / PARTS[0])
            save_file(_moments(model, optimizer), temporary / PARTS[1])
            write_json(temporary / PARTS[2], state)
            manifest = {
                p: {"bytes": (temporary / p).stat().st_size, "sha256": sha256_file(temporary / p)} for p in PARTS
            }
            write_json(temporary / "manifest.json", manifest)
    except (OSError, SafetensorError) as error:  # safetensors raises its own error for a full disk
        raise PosxError(
            f"The checkpoint {target} cannot be written: {error}.",
            "Free disk space and continue with --resume; the previous checkpoint is intact.",
            code=1,
        ) from None
    for older in folder.glob("step-*"):
        if older != target:
            shutil.rmtree(older, ignore_errors=True)
    return Checkpoint(target, state["step"])


def newest(folder: Path) -> Checkpoint | None:
    """The complete checkpoint with the highest step, or None."""
    step, path = newest_checkpoint(folder)
    return Checkpoint(path, step) if path else None


def manifest(checkpoint: Checkpoint) -> dict[str, dict[str, Any]]:
    """Size and sha256 of each part."""
    return read_json(checkpoint.path / "manifest.json", "a posx checkpoint")


def _verified(checkpoint: Checkpoint, part: str) -> Path:
    """The path of a part, after checking its hash: a flipped bit would load without an error."""
    path = checkpoint.path / part
    expected = manifest(checkpoint).get(part, {})
    if not path.is_file() or sha256_file(path) != expected.get("sha256"):
        raise PosxError(
            f"{path} is missing or damaged.",
            f"Delete {checkpoint.path.parent.parent} and train again, or copy the run again.",
        )
    return path


def load_weights(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Load the model's parameters; names must match exactly."""
    weights = load_file(_verified(checkpoint, PARTS[0]))
    parameters = dict(model.named_parameters())
    if set(weights) != set(parameters):
        mismatched = sorted(set(weights) ^ set(parameters))
        raise PosxError(
            f"{checkpoint.path} does not match its config: {', '.join(mismatched[:3])}.", "Was config.yaml edited?"
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            if weights[name].shape != parameter.shape:
                raise PosxError(
                    f"{checkpoint.path}: {name} is {list(weights[name].shape)}, "
                    f"but the config requires {list(parameter.shape)}.",
                    "Was config.yaml edited?",
                )
            parameter.copy_(weights[name])


def load_optimizer(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Load AdamW's moments; returns state.json."""
    moments = load_file(_verified(checkpoint, PARTS[1]))
    state = read_json(_verified(checkpoint, PARTS[2]), "a posx checkpoint")
    for name, parameter in model.named_parameters():
        optimizer.state[parameter] = {
            "step": torch.tensor(float(state["step"])),
            **{key: moments[f"{name}.{key}"].to(parameter.device) for key in ("exp_avg", "exp_avg_sq")},
        }
    return state


def _moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": optimizer.state[parameter][key].contiguous().cpu()
        for name, parameter in model.named_parameters()
        for key in ("exp_avg", "exp_avg_sq")
    }
