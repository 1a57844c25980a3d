"""Device, precision and compilation: what the machine supports, and what posx chooses."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posx.errors import PosxError
from posx.runs.provenance import versions
from posx.runtime.memory import keep_memory
from posx.runtime.processor import processor
from posx.runtime.threads import cores


def pick_device(requested: str) -> torch.device:
    """The device for ``auto | cpu | cuda``; ``auto`` selects a CUDA GPU if there is one. Raises PosxError."""
    if requested == "cuda" and not torch.cuda.is_available():
        raise PosxError("device=cuda was requested, but torch sees no GPU.", "Use device=auto or device=cpu.")
    if requested == "auto":
        requested = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(requested)


def fast_bf16(device: torch.device) -> bool:
    """Whether the hardware supports bf16 products: GPUs from Ampere on, CPUs with AVX512-BF16 or AMX.

    On other hardware, torch emulates them, which is slower than float32.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return processor().fast_bf16


def pick_dtype(requested: str, device: torch.device) -> torch.dtype:
    """The dtype of matrix products; ``auto`` selects bf16 if it is fast. Parameters stay float32."""
    if requested == "auto":
        requested = "bfloat16" if fast_bf16(device) else "float32"
    return torch.bfloat16 if requested == "bfloat16" else torch.float32


def compiler() -> str | None:
    """The C++ compiler that torch.compile would use on a CPU, or None."""
    return next(
        filter(None, (shutil.which(name) for name in (os.environ.get("CXX") or "g++", "g++", "clang++"))),
        None,
    )


def pick_compile(requested: str, device: torch.device, work: float) -> tuple[bool, str]:
    """Whether to compile the blocks, and if not, why. ``work`` is the number of floating-point operations of the run.

    On a CPU, uncompiled steps are faster (docs/LOG.md); on a GPU, compilation pays off in long runs.
    """
    if requested == "off":
        return False, "train.compile=off"
    if device.type == "cpu" and compiler() is None:
        return False, "no C++ compiler (g++ or clang++) was found, so training runs uncompiled"
    if requested == "on":
        return True, ""
    if device.type == "cpu":
        return False, "uncompiled steps are faster on a CPU"
    return (True, "") if work > 1e15 else (False, "the run is too short for compilation to pay off")


def keep_compiled(folder: Path) -> None:
    """Make torch cache compiled code in this folder, so that the jobs of a sweep share it."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))


def prepare_for(device: torch.device, exact: bool) -> None:
    """Set up torch and the C library. With ``exact``, a GPU computes float32 products in float32.

    Otherwise it uses TF32, which has 10 bits of mantissa and is several times faster.

    Denormal numbers (below 1e-38) are flushed to 0: they make a CPU many times slower, and a penalty that grows with
    distance produces them as weights of distant tokens. Threads that are started later inherit this setting.
    """
    keep_memory()
    torch.set_flush_denormal(True)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("highest" if exact else "high")


def to_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """Copy an array to the device. For a GPU, pinned memory lets the copy overlap with earlier work."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def device_name(device: torch.device) -> str:
    """Name of the GPU or the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.split(':', 1)[1].strip()}, {cores()} cores"
    except OSError:
        pass
    return f"{platform.processor() or platform.machine()}, {cores()} cores"


def facts(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Device, precision and versions, as meta.json stores them."""
    return {"device": device_name(device), "dtype": str(dtype).removeprefix("torch."), "versions": versions()}
