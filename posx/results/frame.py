"""Records as a pandas data frame. A separate module, since importing pandas takes a fifth of a second."""

from __future__ import annotations

from collections.abc import Iterable

from pandas import DataFrame

from posx.results.records import Record, as_json, bits_per_byte, perplexity

NUMBERS = ("nats", "nats_per_token", "perplexity", "bits_per_byte")  # NaN if nothing was computed


def as_frame(records: Iterable[Record]) -> DataFrame:
    """One row for each record: its fields, its path, the NUMBERS, and ``multiple`` of the base context."""
    rows = []
    for record in records:
        mean = record.nats_per_token
        by_byte = bits_per_byte(record.nats, record.bytes) if record.nats is not None and record.bytes else None
        derived = {
            "nats_per_token": mean,
            "perplexity": None if mean is None else perplexity(mean),
            "bits_per_byte": by_byte,
            "multiple": record.multiple,
            "path": str(record.path),
        }
        rows.append({**as_json(record), **derived})
    return DataFrame(rows).astype(dict.fromkeys(NUMBERS, float))
