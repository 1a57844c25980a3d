"""Features of the processor that posx's choices depend on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Processor:
    """``vendor`` as Linux reports it ("GenuineIntel"; empty if unknown), and ``flags``, its instruction sets."""

    vendor: str = ""
    flags: frozenset[str] = frozenset()

    @property
    def fast_bf16(self) -> bool:
        """Whether the processor has bf16 instructions: AVX512-BF16 or AMX. Otherwise torch emulates them."""
        return not self.flags.isdisjoint({"avx512_bf16", "amx_bf16"})


# Kinds of processors for which posx makes different choices, as Linux reports them. Tests emulate each of them.
KINDS = {
    "Intel with AMX": Processor("GenuineIntel", frozenset({"avx2", "avx512f", "avx512_bf16", "amx_bf16"})),
    "Intel without AMX": Processor("GenuineIntel", frozenset({"avx2", "avx512f"})),
    "AMD with bf16": Processor("AuthenticAMD", frozenset({"avx2", "avx512f", "avx512_bf16"})),
    "AMD without bf16": Processor("AuthenticAMD", frozenset({"avx2"})),
    "arm64": Processor("", frozenset({"asimd", "fp"})),
}
_forced: Processor | None = None


def processor() -> Processor:
    """The processor of this machine, unless :func:`forced` replaces it."""
    return _forced or _read()


@contextmanager
def forced(other: Processor) -> Iterator[None]:
    """Make choices as on this processor. For tests."""
    global _forced
    previous, _forced = _forced, other
    try:
        yield
    finally:
        _forced = previous


@cache
def _read() -> Processor:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return Processor()
    values = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in values.items()}
    return Processor(fields.get("vendor_id", ""), frozenset(fields.get("flags", fields.get("Features", "")).split()))
