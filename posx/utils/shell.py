"""Commands as a person types them."""

from __future__ import annotations

import shlex


def shell(parts: list[str]) -> str:
    """A line for a shell; double quotes around single ones, where that is enough, since people read it too."""
    plain = '"$`\\!'
    return " ".join(
        f'"{part}"' if "'" in part and not any(sign in part for sign in plain) else shlex.quote(part) for part in parts
    )
