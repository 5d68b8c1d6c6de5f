"""100,000 records, half of them damaged in some hundred ways, through whole replays.

    python -m bench.bad_input --records 100000

The damaged file is replayed with two sizes of block, with the compiled scanner of lines and without it, and the good
records alone once. Exit code 1 unless every record is
counted once, every dead letter has the reason, place and bytes that it must have, and all other tables are the same.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from clock import read_stopwatch
from events.scanning import load_scanner
from tests.support.damage import BLANK_LINE, DEAD, KEPT, ODD
from tests.support.mixing import Mixture, Tables, count_ledger, find_differences, list_dead, mix, replay_lines

BLOCKS = (8 << 20, 256 << 10)


def main() -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--heavy", type=int, default=150, help="how often a kind of many bytes comes at most")
    arguments = parser.parse_args()
    console = Console()
    began = read_stopwatch()
    mixture = mix(arguments.records, arguments.seed, arguments.heavy)
    size = sum(map(len, mixture.lines)) / 1e6
    console.print(f"{len(mixture.lines):,} lines, {size:,.0f} MB, {len(DEAD) + len(ODD)} kinds of damage")
    with tempfile.TemporaryDirectory() as folder:
        large = replay_lines(mixture.lines, Path(folder) / "large", BLOCKS[0])
        console.print(f"from here on with the scanner: {load_scanner()}")
        small = replay_lines(mixture.lines, Path(folder) / "small", BLOCKS[1])
        alone = replay_lines(mixture.without_dead(), Path(folder) / "alone", BLOCKS[0])
    failures = check(mixture, large, small, alone)
    console.print(_count_fates(mixture))
    ledger = count_ledger(large)
    console.print(
        " = ".join((f"received {ledger['received']:,}", " + ".join(f"{n} {ledger[n]:,}" for n in list(ledger)[1:])))
    )
    console.print(f"3 replays in {read_stopwatch() - began:.0f} s; {len(failures)} failures")
    for failure in failures:
        console.print(f"[red]{failure}")
    return 1 if failures else 0


def check(mixture: Mixture, large: Tables, small: Tables, alone: Tables) -> list[str]:
    """Name what is not as it has to be."""
    ledger, expected = count_ledger(large), mixture.expect_dead()
    sums = ledger["accepted"] + ledger["duplicate"] + ledger["late"] + ledger["dead"]
    findings = {
        "records are not counted once": not ledger["received"] == sums == mixture.count_records(),
        "dead letters are not those expected": list_dead(large) != expected,
        "dead letters depend on the block": list_dead(small) != expected,
        "tables depend on the block": find_differences(large, small) != [],
        "tables differ from those of the good records": find_differences(large, alone) != [],
    }
    return [text for text, found in findings.items() if found]


def _count_fates(mixture: Mixture) -> Table:
    names = {KEPT: "an event all the same", BLANK_LINE: "no record"}
    fates = Counter(names.get(damage.fate, damage.fate) if damage else "good" for damage in mixture.damages)
    kinds = Counter(names.get(damage.fate, damage.fate) for damage in [*DEAD, *ODD])
    table = Table("becomes", "kinds", "lines")
    for fate, lines in fates.most_common():
        table.add_row(fate, str(kinds[fate] or ""), f"{lines:,}")
    return table


if __name__ == "__main__":
    sys.exit(main())
