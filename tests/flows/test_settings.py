"""journey.toml to settings: what is read, and how a mistake is reported."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config import DAY, HOUR, MINUTE, SECOND, Config, FunnelRules, InputRules, SourceRules
from errors import ConfigError
from flows.settings import list_keys, load_config
from flows.settings_lines import locate_keys
from sources.synthetic import FUNNEL, STEPS

EXAMPLES = Path(__file__).parents[2] / "data" / "examples"
FULL = """\
[sessions]
gap = "1h30m"
max_session = "2d"
allowed_lateness = "500ms"
max_path_steps = 20

[input]
format = "rudderstack"
time_unit = "ms"
channel = "web"
event_name = "Visit"
max_record_bytes = "64KiB"
max_future = "5m"
lanes = "each"

[input.fields]
page = "context.page.path"
campaign = ["utm.campaign", "context.`utm.source`"]

[[steps]]
name = "home"
where = "page = '/'"

[[steps]]
name = "product"
where = '''
event_name = 'Product Viewed'
or page like '/p/%'
'''

[stages]
Awareness = ["home"]
"Über alles" = ["product"]

[funnels.purchase]
steps = ["home", "product"]
within = "1w"

[funnels."a.b"]
steps = ["home", "product"]
scope = "session"

[dead_letters]
count = 0
share = 1

[job]
key_groups = 64
writers = 4
snapshot = "1m"
block = "4MB"
release_rows = 1_000
idle_after = "10s"
archive = true
compact_every = "0s"

[serve]
listen = "[::1]:9600"

[log]
format = "json"

[[source]]
name = "web"
kind = "kafka"
servers = "localhost:9092"
topics = ["events"]
group = "analytics"
start = 2026-01-31T06:00:00Z
format = "cloudevents"
time_unit = "s"
channel = "shop"
event_name = "Order"
[source.fields]
user_id = "data.customer"
page = ["data.page", "subject"]
[source.settings]
"security.protocol" = "SSL"
"socket.keepalive.enable" = true

[[source]]
name = "orders"
kind = "rabbitmq"
url = "amqp://guest:${PASSWORD}@localhost:5672/%2F"
queues = ["orders"]
streams = ["clicks"]
prefetch = 500
backlog = "1GiB"

[[source]]
name = "cloud"
kind = "sqs"
queues = ["https://sqs.eu-west-1.amazonaws.com/123456789012/journeys"]
region = "eu-west-1"

[[source]]
name = "grid"
kind = "eventgrid"
endpoint = "https://grid.example"
subscriptions = ["clicks/journeys"]
key = "${GRID_KEY}"

[[source]]
name = "site"
kind = "collector"
listen = "127.0.0.1:8080"
keys = ["${WRITE_KEY}"]
origins = ["https://shop.example"]
max_body = "256KiB"

[[sink]]
name = "crm"
kind = "kafka"
servers = "localhost:9092"
topic = "journeys"
tables = ["sessions", "paths", "sessions"]
key = "session_id"
[sink.settings]
"compression.type" = "zstd"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "journey.toml"
    path.write_bytes(text.encode())
    return path


def test_no_file_gives_the_defaults() -> None:
    assert load_config(None) == Config()


def test_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "")) == Config()


def test_every_key_reaches_its_setting(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, FULL))
    assert (config.sessions.gap, config.sessions.max_session) == (90 * MINUTE, 2 * DAY)
    assert (config.sessions.allowed_lateness, config.sessions.max_path_steps) == (500_000, 20)
    assert config.input == InputRules(
        format="segment",
        time_unit="ms",
        channel="web",
        event_name="Visit",
        max_record_bytes=65_536,
        max_future=5 * MINUTE,
        lanes="each",
        fields={"page": ("context.page.path",), "campaign": ("utm.campaign", "context.`utm.source`")},
    )
    assert [rule.name for rule in config.steps] == ["home", "product"]
    assert config.stages == {"Awareness": ("home",), "Über alles": ("product",)}
    assert config.funnels == (
        FunnelRules("purchase", ("home", "product"), 7 * DAY, "person"),
        FunnelRules("a.b", ("home", "product"), 7 * DAY, "session"),
    )
    assert (config.dead_letters.count, config.dead_letters.share) == (0, 1.0)
    assert (config.job.key_groups, config.job.writers, config.job.snapshot) == (64, 4, MINUTE)
    assert (config.job.block_bytes, config.job.release_rows) == (4_000_000, 1_000)
    assert (config.job.idle_after, config.job.archive, config.job.compact_every) == (10 * SECOND, True, 0)
    assert (config.serve.listen, config.log.format) == ("[::1]:9600", "json")
    assert config.sources == (
        SourceRules(
            "web",
            servers="localhost:9092",
            topics=("events",),
            group="analytics",
            start="2026-01-31T06:00:00+00:00",
            format="cloudevents",
            fields={"user_id": ("data.customer",), "page": ("data.page", "subject")},
            time_unit="s",
            channel="shop",
            event_name="Order",
            settings={"security.protocol": "SSL", "socket.keepalive.enable": "true"},
        ),
        SourceRules(
            "orders",
            "rabbitmq",
            url="amqp://guest:${PASSWORD}@localhost:5672/%2F",
            queues=("orders",),
            streams=("clicks",),
            prefetch=500,
            backlog=1 << 30,
        ),
        SourceRules(
            "cloud",
            "sqs",
            queues=("https://sqs.eu-west-1.amazonaws.com/123456789012/journeys",),
            region="eu-west-1",
        ),
        SourceRules(
            "grid",
            "eventgrid",
            endpoint="https://grid.example",
            subscriptions=("clicks/journeys",),
            key="${GRID_KEY}",
        ),
        SourceRules(
            "site",
            "collector",
            listen="127.0.0.1:8080",
            keys=("${WRITE_KEY}",),
            origins=("https://shop.example",),
            max_body=256 << 10,
        ),
    )


def test_full_example_names_every_key() -> None:
    """Guards the test above: a key added to the table has to be added there."""
    found = {tuple(part for part in path if isinstance(part, str)) for path in locate_keys(FULL)}
    for key in list_keys():
        if not key.startswith(("input.fields.", "source.fields.")):
            named = tuple(key.split("."))
            spelled = {named, *((named[0], name, *named[2:]) for name in ("purchase", "a.b", "Awareness"))}
            assert spelled & found, key


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("30m", 30 * MINUTE),
        ("24h", DAY),
        ("7d", 7 * DAY),
        ("90s", 90 * SECOND),
        ("500ms", 500_000),
        ("1us", 1),
        ("1.5h", 90 * MINUTE),
        ("1h 30m", 90 * MINUTE),
        (" 2 h ", 2 * HOUR),
        ("0.1s", 100_000),
        ("36500d", 36_500 * DAY),
    ],
)
def test_durations(text: str, micros: int) -> None:
    assert load_config(None, {"sessions.gap": text}).sessions.gap == micros


@pytest.mark.parametrize(("size", "count"), [("8MB", 8_000_000), ("8MiB", 8 << 20), ("1.5kib", 1536), (4096, 4096)])
def test_sizes(size: object, count: int) -> None:
    assert load_config(None, {"job.block": size}).job.block_bytes == count


def test_byte_order_mark_and_windows_line_ends_are_read_and_counted(tmp_path: Path) -> None:
    text = '\ufeff[sessions]\r\ngap = "1m"\r\n\r\n'
    assert load_config(write(tmp_path, text)).sessions.gap == MINUTE
    with pytest.raises(ConfigError, match=r"journey\.toml:4: sessions\.gapp"):
        load_config(write(tmp_path, text + "gapp = 1\r\n"))


def test_option_wins_over_the_file_and_none_is_not_given(tmp_path: Path) -> None:
    path = write(tmp_path, '[sessions]\ngap = "1m"\nmax_session = "2h"\n')
    config = load_config(path, {"sessions.gap": "5m", "sessions.max_session": None, "job.writers": 3})
    assert (config.sessions.gap, config.sessions.max_session, config.job.writers) == (5 * MINUTE, 2 * HOUR, 3)


def test_option_reaches_a_name_with_a_dot(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, FULL), {"funnels.`a.b`.within": "1d"})
    assert config.funnels[1].within == DAY


@pytest.mark.parametrize("option", ["sessions.gap", "sessions.gapp", "session.gap"])
def test_wrong_option_is_named_and_not_the_file(tmp_path: Path, option: str) -> None:
    path = write(tmp_path, '[sessions]\ngap = "1m"\n')
    with pytest.raises(ConfigError) as caught:
        load_config(path, {option: "5 moons"})
    assert caught.value.problem.startswith(f"option {option}: ")


def test_wrong_element_of_an_option_is_not_looked_for_in_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, '[stages]\nA = ["x"]\n')
    with pytest.raises(ConfigError, match=r"^option stages\.A: stages\.A\[0\] = 3: should be"):
        load_config(path, {"stages.A": [3]})


def test_options_do_not_change_what_they_were_given() -> None:
    given_options = {"stages": {"A": ["x"]}, "stages.B": ["y"]}
    load_config(None, given_options)
    assert given_options == {"stages": {"A": ["x"]}, "stages.B": ["y"]}


def test_preset_and_its_other_name_give_one_fingerprint(tmp_path: Path) -> None:
    other = load_config(write(tmp_path, '[input]\nformat = "rudderstack"'))
    assert other.fingerprint() == Config().fingerprint()


def test_minimal_example_is_a_funnel_over_event_names() -> None:
    config = load_config(EXAMPLES / "minimal.toml")
    assert set(config.funnels[0].steps) <= set(STEPS)
    assert config.steps == ()


def test_shop_example_names_every_step_of_the_demo_shop() -> None:
    config = load_config(EXAMPLES / "shop.toml")
    short = dict(zip(STEPS, (rule.name for rule in config.steps), strict=True))
    assert all(f"'{name}'" in rule.where for name, rule in zip(STEPS, config.steps, strict=True))
    assert list(config.stages) == ["Awareness", "Consideration", "Purchase", "Support"]
    assert sorted(step for steps in config.stages.values() for step in steps) == sorted(short.values())
    by_name = {funnel.name: funnel for funnel in config.funnels}
    assert by_name["purchase"] == FunnelRules("purchase", tuple(short[name] for name in FUNNEL), 7 * DAY, "person")
    assert [funnel.scope for funnel in config.funnels] == ["person", "session"]


@settings(max_examples=150, deadline=None)
@given(text=st.text(alphabet='[]{}=.,"#\n ab1', max_size=40), at=st.integers(0, 70))
def test_any_damage_to_a_file_is_a_config_error_or_still_a_config(
    tmp_path_factory: pytest.TempPathFactory, text: str, at: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.toml"
    lines = FULL.splitlines(keepends=True)
    path.write_text("".join([*lines[:at], text, *lines[at:]]), encoding="utf-8")
    try:
        assert isinstance(load_config(path), Config)
    except ConfigError as error:
        assert str(path) in error.problem
