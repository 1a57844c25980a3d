"""Numbers as text, for tables and messages."""

from __future__ import annotations

import math

DASH = "–"
MB = 10**6


def figure(value: float, digits: int = 4) -> str:
    """Four significant digits; no exponent below a million."""
    if math.isinf(value):
        return "∞"
    if value >= 1e6:
        return f"{value:.2e}"
    places = max(0, digits - 1 - math.floor(math.log10(value))) if value > 0 else 2
    return f"{value:,.{min(places, 3)}f}"


def nats(value: float | None) -> str:
    """Nats per token with three decimals, a tenth of the threshold of a verdict."""
    return DASH if value is None else f"{value:.3f}"


def signed(value: float) -> str:
    """A difference in nats per token. Zero is +0.000, never -0.000."""
    return f"{round(value, 3) + 0.0:+.3f}"


def bounds(interval: tuple[float, float] | None) -> str:
    """``[+0.210, +0.274]``; empty if there is none."""
    return "" if interval is None else f"[{signed(interval[0])}, {signed(interval[1])}]"


def percent(share: float | None) -> str:
    """A fraction as a percentage."""
    return DASH if share is None else f"{round(100 * share) + 0:d}%"


def change(delta: float) -> str:
    """Change of perplexity as a percentage, or as a factor if large, from a difference in nats."""
    if delta > 3:
        return f"×{figure(math.exp(min(delta, 700)), 3)}"
    return f"{round(100 * math.expm1(delta), 1) + 0.0:+.1f}%"


def count(parameters: int) -> str:
    """``1.05M`` or ``12.3k``."""
    if parameters >= 1e6:
        return f"{parameters / 1e6:.2f}M"
    return f"{parameters / 1e3:.1f}k"


def clock(seconds: float) -> str:
    """``2 h 05 min``, ``3 min 20 s`` or ``8 s``."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"
