"""Text columns to canonical events and dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from config import InputRules
from events.hashing import I64, hash_strings, read_first_bytes, to_hex
from events.presets import MAPPED
from events.raw import WHOLE, RawBlock, read_raw
from events.rejects import explain_unreadable, find_nested
from events.schema import CODED, CODED_COLUMNS, DEAD_LETTERS, END, START, UTC
from events.times import EARLIEST_US, LATEST_US, parse_times

TEXT_COLUMNS = tuple(name for name in MAPPED if name not in ("event_id", "event_time", "received_at"))
# The columns of decoded events, in their order.
ORDER = (
    *("event_id", "event_time", "received_at", "person_id", *TEXT_COLUMNS),
    *("step", "source", "source_partition", "source_position", "person_hash"),
)
IS_BRACKET = np.isin(np.arange(256), list(b"([{"))


@dataclass(frozen=True)
class Decoded:
    """One block, decoded.

    `events`: canonical columns (always-null ones left out, CODED_COLUMNS as categories) and `person_hash` (UInt64),
    in partition order;
    `lines`: each event's line in the block; `dead`: the dead_letters columns; received = events + dead.
    """

    block: RawBlock
    events: pl.DataFrame
    lines: pl.Series
    dead: pl.DataFrame
    received: int


def canonicalise(
    text: pl.DataFrame,
    lines: Sequence[int] | None,
    block: RawBlock,
    rules: InputRules,
    step: pl.Expr | None,
    now_us: int,
) -> Decoded:
    """Make canonical events of one block's text columns.

    Row relation: every row of `text` is one row of `events` or one of `dead`; both keep the order.
    `step` is None where every step is the event's name. Times are UTC microseconds; `now_us` bounds the future
    where a record has no received_at and its source does not know when it came.
    """
    numbers = (
        pl.int_range(text.height, eager=True, dtype=pl.Int64) if lines is None else pl.Series(lines, dtype=pl.Int64)
    )
    time = parse_times(text["event_time"], rules.time_unit)
    received = _parse_optional(text["received_at"], rules.time_unit)
    user, device = _read_id(text["user_id"]), _read_id(text["device_id"])
    name = _blank_to_null(text["event_name"])
    person = user if device.null_count() == device.len() else _prefer(user, device)
    columns = {"time": time, "received": received, "person_id": person, "user_id": user, "device_id": device}
    columns |= {"event_name": name, "line": numbers}
    work = text.with_columns(column.alias(key) for key, column in columns.items())
    dead = pl.DataFrame(schema=DEAD_LETTERS)
    if not _is_all_good(columns, rules, now_us if block.received is None else int(block.received.min())):
        now = pl.lit(now_us) if block.received is None else pl.Series(block.received[numbers.to_numpy()])
        nested = (find_nested(person).alias("person_nested"), find_nested(name).alias("name_nested"))
        work = work.with_columns(now.alias("now"), *nested)
        good = _is_good(work, rules)
        dead = _bury(work.filter(~good), block, rules)
        work = work.filter(good)
    if block.received is not None:
        work = work.with_columns(fill_received(work["received"], work["line"].to_numpy(), block.received))
    return Decoded(block, _finish(work, block, step), work["line"], dead, text.height)


def fill_received(known: pl.Series, lines: I64, moments: I64) -> pl.Series:
    """Take the moment when a record came where it does not say itself; n -> n, `lines` are those of the rows."""
    came = pl.Series(known.name, moments if lines.size == moments.size else moments[lines])
    return came if known.null_count() == known.len() else known.fill_null(came)


def _prefer(first: pl.Series, second: pl.Series) -> pl.Series:
    known = first.is_not_null()
    return first if known.all() else first.zip_with(known, second)


def _is_all_good(columns: dict[str, pl.Series], rules: InputRules, soonest: int) -> bool:
    """Tell at little cost that no row can be bad; False where rows have to be looked at one by one.

    `soonest`: when the first of them came (microseconds).
    """
    time, person, name = columns["time"], columns["person_id"], columns["event_name"]
    if time.len() == 0 or any(column.null_count() for column in (time, person, name)):
        return False
    if columns["received"].null_count() < time.len():
        return False
    times = time.to_numpy()
    if times.min() < EARLIEST_US or times.max() >= min(LATEST_US, soonest + rules.max_future + 1):
        return False
    # Nested ids and names begin with a bracket, and so do the reserved names.
    return not any(IS_BRACKET[read_first_bytes(column)].any() for column in (person, name))


def _parse_optional(text: pl.Series, unit: str) -> pl.Series:
    if text.null_count() == text.len():
        return pl.Series([None], dtype=pl.Int64).new_from_index(0, text.len()) if text.len() else text.cast(pl.Int64)
    return parse_times(text, unit)


def _blank_to_null(text: pl.Series) -> pl.Series:
    blank = text == ""
    return text.set(blank, None) if blank.any() else text


def _read_id(text: pl.Series) -> pl.Series:
    # NaN is how a missing number gets into JSON; taken for an id, it would make one person of all who have none.
    missing = (text == "") | (text == "NaN")
    return text.set(missing, None) if missing.any() else text


def _latest(rules: InputRules) -> pl.Expr:
    # A receipt that has not happened yet is the sender's clock, and no proof of the event's time.
    known = pl.when(pl.col("received") <= pl.col("now") + rules.max_future).then(pl.col("received"))
    return known.otherwise(pl.col("now")) + rules.max_future


def _is_reserved() -> pl.Expr:
    return (pl.col("event_name") == START) | (pl.col("event_name") == END)


def _is_good(work: pl.DataFrame, rules: InputRules) -> pl.Series:
    time, person = pl.col("time"), pl.col("person_id")
    in_range = (time >= EARLIEST_US) & (time < LATEST_US) & (time <= _latest(rules))
    wrong = person.is_null() | pl.col("person_nested") | pl.col("name_nested") | _is_reserved()
    good = in_range & ~wrong & pl.col("event_name").is_not_null()
    return work.select(good.fill_null(False)).to_series()


def _bury(bad: pl.DataFrame, block: RawBlock, rules: InputRules) -> pl.DataFrame:
    raws = read_raw(block, bad["line"].to_list())
    time, person = pl.col("time"), pl.col("person_id")
    reason = (
        pl.when(pl.col("event_time").is_null() | (pl.col("event_time").str.strip_chars() == ""))
        .then(pl.lit("no_time"))
        .when(time.is_null())
        .then(pl.lit("bad_time"))
        .when((time < EARLIEST_US) | (time >= LATEST_US))
        .then(pl.lit("time_out_of_range"))
        .when(time > _latest(rules))
        .then(pl.lit("future"))
        .when(person.is_null())
        .then(pl.lit("no_person"))
        .when(pl.col("person_nested"))
        .then(pl.lit("bad_person"))
        .when(pl.col("event_name").is_null())
        .then(pl.lit("no_name"))
        .when(pl.col("name_nested"))
        .then(pl.lit("bad_name"))
        .otherwise(pl.lit("reserved_name"))
    )
    shown = pl.when(reason.is_in(["bad_time", "time_out_of_range", "future"])).then(
        pl.col("event_time").str.slice(0, 80)
    )
    rows = bad.select(reason.alias("reason"), shown.fill_null("").alias("detail")).rows()
    if block.kind == "ndjson":
        rows = [
            explain_unreadable(raw) if why == "no_time" else (why, note)
            for (why, note), raw in zip(rows, raws, strict=True)
        ]
    return make_dead_letters(block, rows, bad["line"].to_list(), raws)


def make_dead_letters(
    block: RawBlock, reasons: Sequence[tuple[str, str]], lines: Sequence[int], raws: Sequence[bytes]
) -> pl.DataFrame:
    """Build dead_letters rows for records of one block; one row each, same order."""
    return pl.DataFrame(
        {
            "reason": [reason for reason, _ in reasons],
            "detail": [detail for _, detail in reasons],
            "source": [block.source] * len(lines),
            "source_partition": [block.partition] * len(lines),
            "source_position": [block.first_position + line for line in lines],
            "raw": list(raws),
        },
        schema=DEAD_LETTERS,
    )


def _finish(work: pl.DataFrame, block: RawBlock, step: pl.Expr | None) -> pl.DataFrame:
    event_id = _blank_to_null(work["event_id"])
    if event_id.null_count():
        event_id = _fill_ids(event_id, work["line"], block)
    present = [name for name in TEXT_COLUMNS if work[name].null_count() < work.height]
    received = ["received_at"] if work["received"].null_count() < work.height else []
    coded = {name: work[name].cast(CODED) for name in present if name in CODED_COLUMNS}
    # Step rules may ask for any canonical column, so the step is found before the empty ones are dropped.
    typed = work.with_columns(
        event_id.alias("event_id"),
        pl.col("time").cast(UTC).alias("event_time"),
        pl.col("received").cast(UTC).alias("received_at"),
        pl.Series("person_hash", hash_strings(work["person_id"])),
    )
    if step is None and "event_name" in coded:
        found = coded["event_name"]
    else:
        found = typed.select(pl.col("event_name") if step is None else step).to_series().cast(CODED)
    texts = [coded.get(name, typed[name]) for name in present]
    return pl.DataFrame(
        [
            *(typed[name] for name in ("event_id", "event_time", *received, "person_id")),
            *texts,
            found.alias("step"),
            repeat("source", block.source, work.height),
            repeat("source_partition", block.partition, work.height),
            (typed["line"] + block.first_position).alias("source_position"),
            typed["person_hash"],
        ]
    )


def repeat(name: str, value: str, count: int) -> pl.Series:
    """Make a column of categories that has one value in all rows."""
    return pl.Series(name, [value], dtype=pl.String).cast(CODED).new_from_index(0, count)


def _fill_ids(event_id: pl.Series, lines: pl.Series, block: RawBlock) -> pl.Series:
    rows = event_id.is_null().arg_true()
    whole = read_raw(block, lines.gather(rows).to_list(), kept=WHOLE)
    raws = pl.Series([raw.decode(errors="replace") for raw in whole], dtype=pl.String)
    ids = to_hex(hash_strings(raws, seed=1), hash_strings(raws, seed=2))
    return event_id.scatter(np.asarray(rows), ids)
