"""Sources that are each read in their own way: one person's journey through a shop on one topic and a desk on another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from errors import ConfigChangedError
from flows.live import LiveOptions, run_live
from flows.settings import load_config
from tests.brokers.kafka import KafkaBroker
from tests.live.support import SENTINEL, START_S, ask, count_rows, make_record, produce, running, wait_until

pytestmark = pytest.mark.slow
TOML = """
[job]
snapshot = "300ms"
[[steps]]
name = "help"
where = "channel = 'support'"
[funnels.after_help]
steps = ["view", "help", "buy"]
[[source]]
name = "shop"
servers = "{servers}"
topics = ["{shop}"]
[[source]]
name = "desk"
servers = "{servers}"
topics = ["{desk}"]
format = "fields"
channel = "support"
event_name = "Ticket Opened"
time_unit = "s"
[source.fields]
event_id = "id"
event_time = "opened"
user_id = ["requester.external_id", "requester_id"]
event_name = "type"
page = "subject"
"""


def make_ticket(number: int, person: str, at_s: int, **more: object) -> bytes:
    body = {"id": number, "opened": at_s, "subject": "Where is it?", "requester": {"external_id": person}}
    return json.dumps(body | more).encode()


def test_one_journey_through_a_topic_of_segment_and_one_of_tickets(kafka: KafkaBroker, tmp_path: Path) -> None:
    shop, desk, live = kafka.make_topic(1), kafka.make_topic(1), tmp_path / "live"
    (tmp_path / "journey.toml").write_text(TOML.format(servers=kafka.bootstrap, shop=shop, desk=desk))
    last = START_S + 90_000
    with running(live, load_config(tmp_path / "journey.toml")):
        visit = [make_record("m1", "ann", START_S, "view"), make_record("m2", "ann", START_S + 600, "buy")]
        produce(kafka.bootstrap, shop, [[*visit, make_record("end", SENTINEL, last, "view")]])
        tickets = [
            make_ticket(1, "ann", START_S + 300),
            make_ticket(2, "", START_S + 400, requester_id=77, type="problem"),
            visit[0],  # a record of the shop is none of the desk's
            make_ticket(3, SENTINEL, last),
        ]
        produce(kafka.bootstrap, desk, [tickets])
        wait_until(lambda: count_rows(live, "sessions") == 2)
    assert ask(live, "SELECT person_id, channels, steps FROM sessions") == [
        "('77', ['support'], ['help'])",
        "('ann', ['web', 'support'], ['view', 'help', 'buy'])",
    ]
    names = "SELECT event_id, event_name, page, source_partition FROM events WHERE channel = 'support'"
    assert ask(live, names) == [
        f"('1', 'Ticket Opened', 'Where is it?', 'desk/{desk}/0')",
        f"('2', 'problem', 'Where is it?', 'desk/{desk}/0')",
    ]
    assert ask(live, "SELECT max(step_index), channel FROM funnel_steps GROUP BY channel") == [
        "(1, 'support')",
        "(2, 'web')",
    ]
    assert ask(live, "SELECT reason, source_partition FROM dead_letters") == [f"('no_time', 'desk/{desk}/0')"]


def test_changed_mapping_of_a_source_is_an_error_and_a_new_source_is_not(kafka: KafkaBroker, tmp_path: Path) -> None:
    names = {"servers": kafka.bootstrap, "shop": kafka.make_topic(1), "desk": kafka.make_topic(1)}
    file, text, live = tmp_path / "journey.toml", TOML.format(**names), tmp_path / "live"
    file.write_text(text)
    with running(live, load_config(file)) as seen:
        produce(kafka.bootstrap, names["shop"], [[make_record("m", "ann", START_S, "view")]])
        wait_until(lambda: seen[-1].records >= 1)
    for old, new in [
        ('page = "subject"', 'page = "title"'),
        ('channel = "support"\n', 'channel = "help"\n'),
        ('time_unit = "s"\n', ""),
        ('event_name = "Ticket Opened"', 'event_name = "Ticket"'),
        ('format = "fields"\n', 'format = "cloudevents"\n'),
    ]:
        file.write_text(text.replace(old, new, 1))
        with pytest.raises(
            ConfigChangedError, match=r"was made with other settings in \[\[source\]\] desk;.*\n.*new --ware"
        ):
            run_live(LiveOptions(live), load_config(file))
    more = f'[[source]]\nname = "more"\nservers = "{kafka.bootstrap}"\ntopics = ["{kafka.make_topic(1)}"]\n'
    file.write_text(text + more)
    with running(live, load_config(file)) as seen:
        produce(kafka.bootstrap, names["shop"], [[make_record("n", "ann", START_S + 1, "view")]])
        wait_until(lambda: seen[-1].records >= 1)
