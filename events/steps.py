"""Step rules: SQL conditions over the canonical columns that give each event its step.

The SQL is Polars' own (`pl.sql_expr`). What that means for a condition, each line pinned by a test:

- Names are exact: `page`, not `PAGE`. 'Single quotes' hold text, "double quotes" and backticks hold a column.
- `=`, `in` and `like` tell upper from lower case; `ilike` and `~*` do not, beyond ASCII too.
- `like` has `%` (any text, line breaks included) and `_` (one character, not one byte). It has no escape:
  a backslash stands for itself. For a literal `%` or `_` use `strpos`, `starts_with` or a regular expression.
- Regular expressions (`~`, `rlike`, `regexp_like(column, pattern, flags)`) search anywhere in the text, anchor
  with `^` and `$`, and know no look-around and no back references.
- A comparison with null is null, and null is no match, so `page <> '/'` is no match where `page` is null.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from itertools import pairwise

import polars as pl

from config import StepRule
from errors import ConfigError
from events.schema import CANONICAL, END, START

# Where a record was read from is no trait of the event, and `step` is what the rules make.
RULE_COLUMNS = tuple(c for c in CANONICAL if c not in ("step", "source", "source_partition", "source_position"))
# Only functions of one row: the answer for an event may not depend on the batch it came in, nor on the day of the run.
FUNCTIONS = (
    "abs",
    "cast",
    "char_length",
    "coalesce",
    "concat",
    "date_part",
    "ends_with",
    "extract",
    "greatest",
    "if",
    "ifnull",
    "least",
    "left",
    "length",
    "lower",
    "ltrim",
    "nullif",
    "octet_length",
    "position",
    "regexp_like",
    "replace",
    "reverse",
    "right",
    "rtrim",
    "split_part",
    "starts_with",
    "strpos",
    "substr",
    "substring",
    "trim",
    "try_cast",
    "upper",
)
_KEYWORDS = (
    "and",
    "or",
    "not",
    "in",
    "like",
    "ilike",
    "rlike",
    "regexp",
    "between",
    "is",
    "case",
    "when",
    "then",
    "else",
)
_BEFORE_BRACKET = frozenset([*FUNCTIONS, *_KEYWORDS, "varchar", "char"])
_REFUSED_WORDS = {
    "select": "a query inside a condition is not possible",
    "over": "window functions look at other events",
    "current_date": "the step of an event may not depend on the day of the run",
    "current_time": "the step of an event may not depend on the day of the run",
    "current_timestamp": "the step of an event may not depend on the day of the run",
    "localtime": "the step of an event may not depend on the day of the run",
    "localtimestamp": "the step of an event may not depend on the day of the run",
}
_TOKEN = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|--|/\*|[^\W\d]\w*|\d[\w.]*|\S")
_SAMPLES = (None, "", "a", "/p/1", "(", "[a", "é", "0", "12b", '{"a": [1]}', "x\ny")


def compile_steps(rules: Sequence[StepRule]) -> pl.Expr:
    """Compile the rules to one expression: the name of the first rule that holds, else `event_name`.

    Input columns: those the conditions name, of `RULE_COLUMNS`, and event_name. Output column: step (String,
    null only where event_name is). n -> n, each row by itself, same order. Raises ConfigError.
    """
    index = pl.lit(None, dtype=pl.UInt32)
    for number, rule in reversed(list(enumerate(rules))):
        index = pl.when(compile_rule(rule)).then(pl.lit(number, dtype=pl.UInt32)).otherwise(index)
    event_name = pl.col("event_name").cast(pl.String)
    if not rules:
        return event_name.alias("step")
    # Picking a small number per row and the name once costs a third of carrying the text through every rule.
    names = pl.lit(pl.Series([rule.name for rule in rules], dtype=pl.String))
    return pl.coalesce(names.gather(index), event_name).alias("step")


def compile_rule(rule: StepRule) -> pl.Expr:
    """Compile one rule's condition to a Boolean expression over `RULE_COLUMNS`; raises ConfigError naming the rule."""
    if rule.name in ("", START, END):
        raise ConfigError(
            f"step rule with the name {rule.name!r}", remedy=f"any name will do but {START}, {END} and none"
        )
    _refuse_beyond_the_row(rule)
    try:
        condition = pl.sql_expr(rule.where)
    except pl.exceptions.PolarsError as error:
        raise _reject(rule, f"is not SQL that can be read: {_first_line(error)}", _hint_syntax(rule.where)) from None
    if not condition.meta.undo_aliases().meta.eq(condition):
        name = condition.meta.output_name()
        raise _reject(rule, f"goes on after its end, with {name!r}", "join two conditions by `and` or `or`")
    _refuse_unknown_columns(rule, condition)
    _try_out(rule, condition)
    return condition


def _refuse_beyond_the_row(rule: StepRule) -> None:
    tokens = [token.lower() for token in _TOKEN.findall(rule.where)]
    for token, following in pairwise([*tokens, ""]):
        if token in _REFUSED_WORDS:
            raise _reject(rule, f"uses {token!r}: {_REFUSED_WORDS[token]}", "compare columns of the event itself")
        if token in ("--", "/*"):
            raise _reject(rule, "holds an SQL comment", "write it as a # comment of the file, on a line of its own")
        if token == "$":  # noqa: S105
            raise _reject(rule, "holds a bare '$'", "text stands in single quotes")
        name = token.strip('"`')
        if following == "(" and re.fullmatch(r"[^\W\d]\w*", name) and name not in _BEFORE_BRACKET:
            raise _reject(
                rule, f"calls {name!r}, which is not one of the functions of a single event", _near_call(name)
            )


def _near_call(name: str) -> str:
    near = difflib.get_close_matches(name, FUNCTIONS, n=1, cutoff=0.75)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(FUNCTIONS)}"


def _refuse_unknown_columns(rule: StepRule, condition: pl.Expr) -> None:
    for name in condition.meta.root_names():
        if name in RULE_COLUMNS:
            continue
        near = difflib.get_close_matches(name.lower(), RULE_COLUMNS, n=1)
        if name in CANONICAL:
            remedy = f"{name!r} is known only after the rules; there are: {', '.join(RULE_COLUMNS)}"
        elif f'"{name}"' in rule.where:
            remedy = f"text stands in single quotes: '{name}'"
        elif near:
            remedy = f"did you mean {near[0]!r}?"
        else:
            remedy = f"there are: {', '.join(RULE_COLUMNS)}"
        raise _reject(rule, f"names {name!r}, which is no column of a condition", remedy)


def _try_out(rule: StepRule, condition: pl.Expr) -> None:
    """Run the condition on awkward values: bad patterns, types and casts fail now, not in the middle of a job."""
    try:
        dtype = _sample_events().select(condition).dtypes[0]
    except pl.exceptions.PolarsError as error:
        raise _reject(rule, f"fails on an event: {_first_line(error)}", _hint_failure(error)) from None
    if dtype != pl.Boolean:
        raise _reject(rule, f"gives {dtype}, not true or false", "compare it with something, as in `page = '/'`")


def _sample_events() -> pl.DataFrame:
    moment = datetime(2026, 1, 5, tzinfo=timezone.utc)
    values: dict[str, Iterable[object]] = {
        name: _SAMPLES if CANONICAL[name] == pl.String else [None, *[moment] * (len(_SAMPLES) - 1)]
        for name in RULE_COLUMNS
    }
    return pl.DataFrame(values, schema={name: CANONICAL[name] for name in RULE_COLUMNS})


def _reject(rule: StepRule, problem: str, remedy: str) -> ConfigError:
    return ConfigError(f"step rule {rule.name!r}: the condition `{rule.where}` {problem}", remedy=remedy)


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    precise = [line for line in lines if line.startswith("error: ")]
    return (precise or lines or [type(error).__name__])[0][:200]


def _hint_syntax(where: str) -> str:
    if "escape" in where.lower():
        return "`like` has no escape: use strpos, starts_with or regexp_like for a literal % or _"
    if where.count("'") % 2:
        return "a quote is open; a quote inside text is written twice: 'it''s'"
    return "a condition is like: event_name = 'Order Completed' or page like '/thanks%'"


def _hint_failure(error: Exception) -> str:
    text = str(error)
    if isinstance(error, pl.exceptions.StructFieldNotFoundError):
        return (
            "`properties` is JSON text: use like or regexp_like on it, or map the field to a column in [input.fields]"
        )
    if "regex" in text:
        return "write the pattern in the syntax of Rust's regex crate: no look-around, every bracket closed"
    if "datetime" in text.lower():
        return "compare times like this: event_time::timestamp >= timestamp '2026-01-31 00:00:00'"
    if "conversion" in text:
        return "use try_cast, which gives null where a value can't be converted"
    return "compare text with text: event_name = '1'"
