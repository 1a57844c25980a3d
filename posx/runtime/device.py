"""What this machine can do, and what posx therefore chooses."""

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


def pick_device(wanted: str) -> torch.device:
    """``auto`` takes a CUDA GPU where there is one."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise PosxError("device=cuda was asked, but torch sees no GPU here.", "Use device=auto or device=cpu.")
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def fast_bf16(device: torch.device) -> bool:
    """Whether bf16 products run on their own instructions: Ampere and later, AVX512-BF16 or AMX.

    Elsewhere torch emulates them, slower than float32.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return processor().fast_bf16


def pick_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """``auto`` is bf16 where it is fast. Parameters stay float32; products run in this type."""
    if wanted == "auto":
        wanted = "bfloat16" if fast_bf16(device) else "float32"
    return torch.bfloat16 if wanted == "bfloat16" else torch.float32


def compiler() -> str | None:
    """The C++ compiler that torch.compile would use on a CPU, or None."""
    return next(
        filter(None, (shutil.which(name) for name in (os.environ.get("CXX") or "g++", "g++", "clang++"))),
        None,
    )


def pick_compile(wanted: str, device: torch.device, work: float) -> tuple[bool, str]:
    """Whether to compile the blocks, and why not. ``work`` is the run's floating-point operations.

    On a CPU the uncompiled step is the faster one (docs/LOG.md); on a GPU compilation pays in a long run.
    """
    if wanted == "off":
        return False, "train.compile=off"
    if device.type == "cpu" and compiler() is None:
        return False, "there is no C++ compiler (g++ or clang++), so that training runs uncompiled"
    if wanted == "on":
        return True, ""
    if device.type == "cpu":
        return False, "uncompiled steps are faster on a CPU"
    return (True, "") if work > 1e15 else (False, "the run is too short for compilation to pay")


def keep_compiled(folder: Path) -> None:
    """Where torch keeps what it compiled: the jobs of a sweep, and tomorrow's, compile nothing twice."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))


def prepare_for(device: torch.device, exact: bool) -> None:
    """Settings of torch and of the C library for the work to come; ``exact`` keeps float32 products in float32.

    Otherwise a GPU takes TF32 for them: 10 bits of mantissa, several times faster.

    Numbers below 1e-38 count as 0: a CPU computes with them many times slower, and the weights of far tokens under a
    growing penalty are such numbers. Threads that are started from here on inherit it.
    """
    keep_memory()
    torch.set_flush_denormal(True)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("highest" if exact else "high")


def to_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """The array as a tensor there; to a GPU by pinned memory, so that the copy runs beside the work before it."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def device_name(device: torch.device) -> str:
    """The GPU's or the processor's name."""
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
    """What a record says about where it was made."""
    return {"device": device_name(device), "dtype": str(dtype).removeprefix("torch."), "versions": versions()}
