"""Compaction as a process of its own: `python tests/recovery/compactor.py WAREHOUSE TIMES`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from sinks.compaction import compact
from sinks.storage import Folders


def main() -> None:
    """Compact, to which every file is small, keeping as many old manifests as readers may have open."""
    merged = removed = 0
    for _ in range(int(sys.argv[2])):
        report = compact(Folders(Path(sys.argv[1])), target_bytes=1 << 20, keep=8)
        merged += sum(table.files_before for table in report.tables)
        removed += report.removed
    print(json.dumps({"merged": merged, "removed": removed}))


if __name__ == "__main__":
    main()
