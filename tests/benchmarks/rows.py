"""All rows, in groups: the cases of one group take turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.benchmarks import commands, evidence, live, merging, page, reading, training
from tests.benchmarks.row import Row

__all__ = ["GROUPS"]

GROUPS: Mapping[str, Sequence[Row]] = {
    "commands": commands.ROWS,
    "page": page.ROWS,
    "reading": reading.ROWS,
    "live": live.ROWS,
    "merging": merging.NETWORKS,
    "growth of merging": merging.GROWTH,
    "training": training.ROWS,
    "evidence": evidence.ROWS,
    "memory": (*merging.MEMORY, *training.MEMORY, *evidence.MEMORY),
}
