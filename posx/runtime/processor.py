"""The processor of this machine, as far as choices go by it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Processor:
    """``vendor`` as Linux names it ("GenuineIntel"; empty where unknown), ``flags`` its instruction sets."""

    vendor: str = ""
    flags: frozenset[str] = frozenset()

    @property
    def fast_bf16(self) -> bool:
        """Whether bf16 products run on instructions of their own: AVX512-BF16 or AMX. Else torch emulates them."""
        return not self.flags.isdisjoint({"avx512_bf16", "amx_bf16"})


# The kinds on which posx chooses differently, by what Linux says of them. Tests run under each, wherever they run.
KINDS = {
    "Intel with AMX": Processor("GenuineIntel", frozenset({"avx2", "avx512f", "avx512_bf16", "amx_bf16"})),
    "Intel without AMX": Processor("GenuineIntel", frozenset({"avx2", "avx512f"})),
    "AMD with bf16": Processor("AuthenticAMD", frozenset({"avx2", "avx512f", "avx512_bf16"})),
    "AMD without bf16": Processor("AuthenticAMD", frozenset({"avx2"})),
    "arm64": Processor("", frozenset({"asimd", "fp"})),
}
_forced: Processor | None = None


def processor() -> Processor:
    """This machine's, unless another one is forced."""
    return _forced or _read()


@contextmanager
def forced(other: Processor) -> Iterator[None]:
    """Choose as on this processor. For tests."""
    global _forced
    before, _forced = _forced, other
    try:
        yield
    finally:
        _forced = before


@cache
def _read() -> Processor:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return Processor()
    values = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in values.items()}
    return Processor(fields.get("vendor_id", ""), frozenset(fields.get("flags", fields.get("Features", "")).split()))
