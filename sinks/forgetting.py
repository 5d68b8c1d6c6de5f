"""Taking a person out of the data files: who it is, which files hold rows of theirs, and whether all are gone."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from events.schema import TABLES
from sinks.manifest import DataFile, Files, Manifest, list_data
from sinks.rewriting import read_data, write_data
from sinks.sent import find_place
from sinks.storage import Folders

IDS = ("person_id", "device_id", "user_id")
TEXTS = ("page", "referrer", "campaign", "properties")
RAW = {"late_events": ("raw",), "dead_letters": ("raw", "detail")}
FORGOTTEN = "(forgotten)"
SHORT = 4
NOT_INSIDE = r"(?<![0-9A-Za-z_-])(?:%s)(?![0-9A-Za-z_-])"


@dataclass(frozen=True)
class Target:
    """Whom to forget: the id as given, and every person_id that it belongs to.

    A device stands for all who used it: leaving a part of their rows would leave sessions that nobody had.
    """

    given: str
    persons: frozenset[str]

    def pattern(self, *, loose: bool) -> re.Pattern[bytes]:
        """Match mentions of the given id: alone standing, or, where it could be any number, as a JSON string only."""
        names = join_spellings([self.given])
        is_vague = len(self.given) < SHORT or self.given.isdigit()
        return re.compile((f'"(?:{names})"' if is_vague and not loose else NOT_INSIDE % names).encode())

    def any_pattern(self) -> re.Pattern[bytes]:
        """Match mentions, in a record as it came, of the given id or of a person that it belongs to."""
        return re.compile((NOT_INSIDE % join_spellings(sorted({self.given, *self.persons}))).encode())

    def owns(self) -> pl.Expr:
        """Tell which rows are the person's own."""
        return pl.col("person_id").is_in(list(self.persons))


def spell(name: str) -> list[str]:
    """Return an id as it stands in text and in JSON."""
    escaped = [json.dumps(name, ensure_ascii=plain)[1:-1] for plain in (True, False)]
    return list(dict.fromkeys([name, *escaped]))


def join_spellings(names: Iterable[str]) -> str:
    """Return the part of a regular expression that matches any of these ids."""
    return "|".join(re.escape(one) for name in names for one in spell(name))


@dataclass(frozen=True)
class FileChange:
    """A data file that was replaced; `new_path` is empty where no row stayed; `redacted`: mentions in others' rows."""

    table: str
    path: str
    new_path: str
    rows_before: int
    rows_after: int
    redacted: int


@dataclass
class Removed:
    """How many rows were taken away, as `journeys check` has to know it: by place of origin, and in all."""

    by_origin: dict[str, Counter[tuple[str, str]]] = field(default_factory=dict)
    totals: Counter[str] = field(default_factory=Counter)

    def note(self, table: str, gone: pl.DataFrame) -> None:
        """Count rows that were taken from a table."""
        if "source_partition" in gone.columns:
            rows = gone.group_by("source", "source_partition").len().iter_rows()
            self.by_origin.setdefault(table, Counter()).update({(source, lane): count for source, lane, count in rows})
        else:
            self.totals[table] += gone.height
        if table == "events":
            self.totals["starts"] += int((gone["session_index"] == 0).sum())
        if table == "sessions":
            self.totals["session_events"] += int(gone["events"].sum())

    def save(self) -> dict[str, Any]:
        """Write the counts as JSON values."""
        return {**{name: save_origins(counts) for name, counts in self.by_origin.items()}, **self.totals}


def save_origins(counts: Counter[tuple[str, str]]) -> list[list[Any]]:
    """Write counts by (source, source_partition) as JSON values."""
    return [[source, lane, count] for (source, lane), count in sorted(counts.items()) if count]


@dataclass
class Rewritten:
    """The file lists of the next manifest, what changed in them, and how many rows went from base and tail."""

    files: Files
    tail: Files
    changes: list[FileChange]
    base_removed: Removed
    tail_removed: Removed


def find_persons(frames: Iterable[pl.DataFrame], given: str) -> tuple[set[str], set[str]]:
    """Return the person ids of all rows that bear the given id as person, device or user, and those rows' devices."""
    persons: set[str] = {given}
    devices: set[str] = set()
    for frame in frames:
        ids = [pl.col(name) == given for name in IDS if name in frame.columns]
        found = frame.filter(pl.any_horizontal(ids))
        if found.height:
            persons |= set(found["person_id"].to_list())
            devices |= set(found["device_id"].drop_nulls().to_list()) if "device_id" in found.columns else set()
    return persons, devices


def read_ids(folders: Folders, manifest: Manifest) -> Iterable[pl.DataFrame]:
    """Read the id columns of all files that bear more than a person id."""
    for table in ("events", "sessions"):
        for file in manifest.visible(table):
            yield read_data(folders, table, file.path, IDS)


def rewrite_files(folders: Folders, manifest: Manifest, target: Target) -> Rewritten:
    """Write the files that hold rows of the person anew without them; nothing is published or removed."""
    done = Rewritten({}, {}, [], Removed(), Removed())
    stem = f"forgot-{manifest.version + 1:07d}"
    for source, into, removed in (
        (manifest.files, done.files, done.base_removed),
        (manifest.tail, done.tail, done.tail_removed),
    ):
        for table, files in source.items():
            kept = []
            for file in files:
                place = find_place(file.path)  # which a topic that still waits for the file has to know
                name = f"{place[2] + '-' if place else ''}{stem}-{len(done.changes):05d}"
                new = _rewrite_file(folders, table, file, target, (name, done.changes, removed))
                kept += [new] if new is not None else []
            if kept:
                into[table] = tuple(kept)
    return done


def _rewrite_file(
    folders: Folders, table: str, file: DataFile, target: Target, notes: tuple[str, list[FileChange], Removed]
) -> DataFile | None:
    stem, changes, removed = notes
    columns = [name for name in (*IDS, *TEXTS, "raw", "detail") if name in TABLES[table]]
    if not columns or not _is_touched(read_data(folders, table, file.path, columns), table, target):
        return file
    frame = read_data(folders, table, file.path)
    gone = mark_rows(frame, table, target)
    kept, redacted = redact(frame.filter(~gone), target)
    removed.note(table, frame.filter(gone))
    new = write_data(folders, table, file.dt, stem, kept) if kept.height else None
    changes.append(FileChange(table, file.path, new.path if new else "", frame.height, kept.height, redacted))
    return new


def _is_touched(frame: pl.DataFrame, table: str, target: Target) -> bool:
    return bool(mark_rows(frame, table, target).any()) or redact(frame, target)[1] > 0


def mark_rows(frame: pl.DataFrame, table: str, target: Target) -> pl.Series:
    """Mark the rows to remove: the person's own, and raw records that mention the id; n -> n."""
    marks = pl.repeat(False, frame.height, eager=True)
    if "person_id" in frame.columns:
        marks = frame.select(target.owns().fill_null(False)).to_series()
    for name in RAW.get(table, ()):
        # A dead letter names no person, so here a mention is all there is to go by.
        marks = marks | find_mentions(frame[name], target, loose=table == "dead_letters")
    return marks


def find_mentions(column: pl.Series, target: Target, *, loose: bool = False) -> pl.Series:
    """Mark the values of a text or binary column that mention the given id; n -> n."""
    raw = column.cast(pl.Binary)
    maybe = pl.repeat(False, raw.len(), eager=True)
    for name in spell(target.given):
        maybe = maybe | raw.bin.contains(name.encode()).fill_null(False)
    rows = maybe.arg_true()
    pattern = target.pattern(loose=loose)
    sure = [pattern.search(value) is not None for value in raw.gather(rows).to_list()]
    return pl.repeat(False, raw.len(), eager=True).scatter(rows.filter(pl.Series(sure, dtype=pl.Boolean)), True)


def redact(frame: pl.DataFrame, target: Target) -> tuple[pl.DataFrame, int]:
    """Replace mentions of the id in other persons' texts by `(forgotten)`; n -> n, and the number of values changed."""
    count, pattern = 0, target.pattern(loose=False)
    for name in TEXTS:
        if name not in frame.columns:
            continue
        rows = find_mentions(frame[name], target).arg_true()
        if rows.len():
            count += rows.len()
            texts = [_replace(pattern, value) for value in frame[name].gather(rows).to_list()]
            frame = frame.with_columns(frame[name].scatter(rows, pl.Series(texts, dtype=pl.String)))
    return frame, count


def _replace(pattern: re.Pattern[bytes], text: str) -> str:
    quoted = pattern.pattern.startswith(b'"')
    return pattern.sub(f'"{FORGOTTEN}"'.encode() if quoted else FORGOTTEN.encode(), text.encode()).decode()


def find_traces(folders: Folders, target: Target) -> list[str]:
    """Read every column of every data file in the folder and say where the person still is."""
    traces = []
    for path in list_data(folders):
        name = path.relative_to(folders.root).as_posix()
        table = name.split("/", 1)[0]
        texts = [column for column, dtype in TABLES[table].items() if dtype in (pl.String, pl.Binary)]
        traces += [f"{name}: {trace}" for trace in look_for(read_data(folders, table, name, texts), target)]
    return traces


def look_for(frame: pl.DataFrame, target: Target) -> Sequence[str]:
    """Say in which text columns of a frame the person's ids, or mentions of the given one, are."""
    found = []
    for column in frame.columns:
        if column in IDS:
            count = int(frame[column].is_in(list(target.persons)).sum())
        elif frame[column].dtype in (pl.String, pl.Binary, pl.Categorical):
            count = int(find_mentions(_as_text(frame[column]), target).sum())
        else:
            continue
        if count:
            found.append(f"{column} in {count} rows")
    return found


def _as_text(column: pl.Series) -> pl.Series:
    return column.cast(pl.String) if column.dtype == pl.Categorical else column
