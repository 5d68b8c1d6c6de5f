"""Step rules: which rule names an event, how Polars reads a condition, and what is refused."""

from __future__ import annotations

from datetime import datetime, timezone

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config import StepRule
from errors import ConfigError
from events.schema import CANONICAL
from events.steps import FUNCTIONS, RULE_COLUMNS, compile_rule, compile_steps

NAMES = ["Product Viewed", "product viewed", None, "a_b", "axb", "50%", "500", "it's", "x\ny", "É"]
PAGES = ["/p/1", "/P/2", "/q", None, "/p/", "p", "/p/x\n", "a", "", "é"]


def make_events() -> pl.DataFrame:
    schema = {name: dtype for name, dtype in CANONICAL.items() if name in RULE_COLUMNS}
    times = [datetime(2026, 1, 5, hour, tzinfo=timezone.utc) for hour in range(10)]
    values: dict[str, object] = dict.fromkeys(RULE_COLUMNS, [None] * 10)
    return pl.DataFrame(values | {"event_name": NAMES, "page": PAGES, "event_time": times}, schema=schema)


def find_steps(*rules: tuple[str, str]) -> list[str | None]:
    expression = compile_steps([StepRule(name, where) for name, where in rules])
    return make_events().select(expression)["step"].to_list()


def find_matches(where: str, column: str = "event_name") -> list[str | None]:
    """Return the column's values where the condition holds."""
    found = find_steps(("match", where))
    return [value for value, step in zip(make_events()[column].to_list(), found, strict=True) if step == "match"]


def find_error(where: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        compile_rule(StepRule("product", where))
    return caught.value


def test_first_matching_rule_wins_and_the_event_name_is_the_default() -> None:
    found = find_steps(
        ("first", "event_name = 'a_b'"), ("second", "event_name like 'a_b'"), ("third", "event_name = 'a_b'")
    )
    assert found == ["Product Viewed", "product viewed", None, "first", "second", "50%", "500", "it's", "x\ny", "É"]


def test_no_rules_give_the_event_name() -> None:
    assert find_steps() == NAMES


def test_step_is_text_and_null_only_where_no_rule_holds_and_there_is_no_name() -> None:
    steps = make_events().select(compile_steps([StepRule("unnamed", "event_name is null")]))
    assert steps.schema == {"step": pl.String}
    assert steps["step"].null_count() == 0
    assert steps["step"][2] == "unnamed"


def test_null_condition_is_no_match_and_later_rules_are_still_asked() -> None:
    assert find_steps(("home", "page = '/q'"), ("elsewhere", "page is null"))[2:4] == ["home", "elsewhere"]
    assert find_matches("page <> '/q'", "page") == [page for page in PAGES if page not in (None, "/q")]


def test_condition_without_columns_holds_for_every_event() -> None:
    assert find_steps(("all", "true")) == ["all"] * 10
    assert find_steps(("none", "1 = 2")) == NAMES


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("event_name = 'Product Viewed'", ["Product Viewed"]),
        ("event_name in ('a_b', 'it''s')", ["a_b", "it's"]),
        ("event_name like 'a_b'", ["a_b", "axb"]),
        (r"event_name like 'a\_b'", []),
        ("event_name like 'x%y'", ["x\ny"]),
        ("event_name like 'Product%'", ["Product Viewed"]),
        ("event_name ilike 'product%'", ["Product Viewed", "product viewed"]),
        ("event_name ilike 'é'", ["É"]),
        ("event_name like '_'", ["É"]),
        ("strpos(event_name, '%') > 0", ["50%"]),
        ("event_name not like '%o%' and event_name <> 'É'", ["a_b", "axb", "50%", "500", "it's", "x\ny"]),
        ("regexp_like(event_name, '[0-9]$')", ["500"]),
        ("regexp_like(event_name, '^PRODUCT', 'i')", ["Product Viewed", "product viewed"]),
        ("event_name ~ 'View'", ["Product Viewed"]),
        ("event_name ~* '^é$'", ["É"]),
        ("event_name rlike '^50'", ["50%", "500"]),
        ("event_name !~ '[a-z]'", ["50%", "500", "É"]),
        ("not event_name = 'a_b' and page = '/p/'", ["axb"]),
        ("event_name between '50' and '509'", ["50%", "500"]),
        ("\"event_name\" = 'a_b' or `page` = 'a'", ["a_b", "it's"]),
        ("extract(hour from event_time) = 3", ["a_b"]),
        ("event_time::timestamp >= timestamp '2026-01-05 09:00:00'", ["É"]),
        ("case when page = 'a' then true else false end", ["it's"]),
    ],
)
def test_sql_means_what_the_documentation_says(where: str, names: list[str]) -> None:
    assert find_matches(where) == names


@pytest.mark.parametrize(
    ("where", "problem", "remedy"),
    [
        ("pgae = '/'", "'pgae'", "did you mean 'page'?"),
        ("PAGE = '/'", "'PAGE'", "did you mean 'page'?"),
        ('page = "/p/1"', "'/p/1'", "single quotes: '/p/1'"),
        ("step = 'a'", "'step'", "known only after the rules"),
        ("source_position = 1", "'source_position'", "known only after the rules"),
        ("zzz = 'a'", "'zzz'", "event_id, event_time"),
        ("page = 'a", "not SQL", "a quote is open"),
        ("", "not SQL", "a condition is like"),
        ("page = ", "not SQL", "a condition is like"),
        ("page like 'a!_' escape '!'", "not SQL", "no escape"),
        ("page = '/p/1' event_name", "after its end, with 'event_name'", "and"),
        ("page = 'a' -- home", "comment", "#"),
        ("page = $$a$$", "'$'", "single quotes"),
        ("page = 1", "fails on an event", "compare text with text"),
        ("page", "gives String", "compare it"),
        ("null", "gives Null", "compare it"),
        ("page ~ '('", "unclosed group", "regex"),
        ("regexp_like(page, event_name)", "fails on an event", "regex"),
        ("cast(page as int) = 1", "fails on an event", "try_cast"),
        ("event_time > '2026-01-01'", "fails on an event", "event_time::timestamp >="),
        ("(properties ->> 'vip') = 'yes'", "fails on an event", "JSON text"),
        ("lower(page) over (partition by channel) = 'a'", "'over'", "event itself"),
        ("regexp_lik(page, 'a')", "'regexp_lik'", "did you mean 'regexp_like'?"),
    ],
)
def test_refused_condition_names_the_rule_what_is_wrong_and_a_way_out(where: str, problem: str, remedy: str) -> None:
    error = find_error(where)
    assert "'product'" in error.problem
    assert problem in error.problem
    assert remedy in error.remedy


@pytest.mark.parametrize(
    "where",
    [
        "count(*) > 1",
        "page = max(page)",
        '"max"(page) = page',
        "max (page) = page",
        "first_value(page) over (order by event_time) = 'a'",
        "row_number() over () = 1",
        "page in (select 'a')",
        "exists (select 1)",
        "(select 1) = 1",
        "unnest(page) = 'a'",
        "columns('pa.*') = 'a'",
        "page = any(array['a'])",
        "current_date > date '2026-01-01'",
        "event_time < now()",
        "page = $$'$$ or max(page) = '' or page = $$'$$",
        "page = 'a'; drop table events",
    ],
)
def test_anything_beyond_one_event_is_refused(where: str) -> None:
    find_error(where)


@pytest.mark.parametrize("name", ["", "(start)", "(end)"])
def test_names_that_stand_for_something_else_are_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        compile_steps([StepRule(name, "true")])


CALLS = {
    "abs": "abs(length(page)) = 1",
    "cast": "cast(event_time as date) = date '2026-01-05'",
    "char_length": "char_length(page) = 1",
    "coalesce": "coalesce(page, event_name) = 'a'",
    "concat": "concat(page, event_name) = 'ait''s'",
    "date_part": "date_part('hour', event_time) > 5",
    "ends_with": "ends_with(page, '/')",
    "extract": "extract(hour from event_time) < 3",
    "greatest": "greatest(page, event_name) = page",
    "if": "if(page = 'a', true, false)",
    "ifnull": "ifnull(page, 'a') = 'a'",
    "least": "least(page, event_name) = page",
    "left": "left(page, 3) = '/p/'",
    "length": "length(page) > 2",
    "lower": "lower(page) = '/p/2'",
    "ltrim": "ltrim(page) = 'a'",
    "nullif": "nullif(page, '') is null",
    "octet_length": "octet_length(page) = 2",
    "position": "position('p' in page) > 0",
    "regexp_like": "regexp_like(page, '^/')",
    "replace": "replace(page, '/', '') = 'p'",
    "reverse": "reverse(page) = '1/p/'",
    "right": "right(page, 1) = '1'",
    "rtrim": "rtrim(page) = 'a'",
    "split_part": "split_part(page, '/', 2) = 'p'",
    "starts_with": "starts_with(page, '/p')",
    "strpos": "strpos(page, '/') = 1",
    "substr": "substr(page, 2, 1) = 'p'",
    "substring": "substring(page from 2 for 1) = 'p'",
    "trim": "trim(page) = 'a'",
    "try_cast": "try_cast(event_name as int) = 500",
    "upper": "upper(page) = '/P/1'",
}


def test_every_function_on_the_list_has_a_call_here() -> None:
    assert sorted(CALLS) == sorted(FUNCTIONS)


@pytest.mark.parametrize("where", CALLS.values(), ids=CALLS.keys())
def test_function_answers_for_each_event_alone(where: str) -> None:
    events = make_events()
    step = compile_steps([StepRule("match", where)])
    whole = events.select(step)["step"].to_list()
    alone = [events[row].select(step)["step"][0] for row in range(events.height)]
    assert whole == alone
    assert "match" in whole


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(st.one_of(st.none(), st.sampled_from(["a", "b", "c", "d"])), max_size=20),
    rules=st.lists(
        st.tuples(
            st.sampled_from(["one", "two", "three"]), st.lists(st.sampled_from(["a", "b", "c", "e"]), min_size=1)
        ),
        max_size=5,
    ),
)
def test_any_rules_over_any_events_agree_with_a_plain_loop(
    names: list[str | None], rules: list[tuple[str, list[str]]]
) -> None:
    expected = [next((step for step, wanted in rules if name in wanted), name) for name in names]
    compiled = compile_steps(
        [StepRule(step, "event_name in (" + ", ".join(f"'{name}'" for name in wanted) + ")") for step, wanted in rules]
    )
    frame = pl.DataFrame({"event_name": names}, schema={"event_name": pl.String})
    assert frame.with_columns(compiled)["step"].to_list() == expected
    assert frame.lazy().select(compiled).collect()["step"].to_list() == expected
