"""Commands as a user would type them."""

from __future__ import annotations

import shlex


def shell(parts: list[str]) -> str:
    """Quote a command for a shell. Parts with single quotes get double quotes if possible, which are easier to read."""
    special = '"$`\\!'
    return " ".join(
        f'"{part}"' if "'" in part and not any(character in part for character in special) else shlex.quote(part)
        for part in parts
    )
