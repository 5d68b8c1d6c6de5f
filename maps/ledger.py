"""The committed ledger, summed by source partition as commits come in."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from events.schema import LEDGER
from sinks.manifest import Manifest
from sinks.storage import Folders

KEYS = ("source", "source_partition")
OUTCOMES = tuple(name for name in LEDGER if name not in (*KEYS, "epoch"))  # received, accepted, duplicate, late, dead


@dataclass(frozen=True)
class LedgerTotals:
    """Sums of the ledger by (source, partition), in the order of OUTCOMES, and the files that they are of."""

    rows: dict[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)
    files: frozenset[str] = frozenset()

    def advance(self, folders: Folders, manifest: Manifest) -> LedgerTotals:
        """Return the totals at a manifest; reads only files that are new, or all once some were merged."""
        files = frozenset(file.path for file in manifest.visible("ledger"))
        if files == self.files:
            return self
        known = self if self.files <= files else LedgerTotals()
        rows = dict(known.rows)
        for key, counts in _sum_files(folders, sorted(files - known.files)).items():
            before = rows.get(key, (0,) * len(OUTCOMES))
            rows[key] = tuple(a + b for a, b in zip(before, counts, strict=True))
        return LedgerTotals(rows, files)


def _sum_files(folders: Folders, names: list[str]) -> dict[tuple[str, str], tuple[int, ...]]:
    if not names:
        return {}
    paths = [folders.root / name for name in names]
    frame = pl.read_parquet(paths, columns=[*KEYS, *OUTCOMES], hive_partitioning=False)
    sums = frame.group_by(KEYS).agg(pl.col(OUTCOMES).sum()).sort(KEYS)
    return {(row[0], row[1]): row[2:] for row in sums.select(*KEYS, *OUTCOMES).rows()}
