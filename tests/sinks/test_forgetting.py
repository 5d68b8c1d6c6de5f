"""What counts as a mention of a person, and what stays of a frame from which rows were taken."""

from __future__ import annotations

import io

import polars as pl
import pytest

from flows.forgetting import pack
from sinks.forgetting import Target, find_mentions, redact


def test_packed_frame_holds_no_bytes_of_rows_that_were_taken_out() -> None:
    numbers = range(9)
    frame = pl.DataFrame(
        {"id": [f"a-long-name-number-{n}" for n in numbers], "steps": [[f"a-long-step-{n}"] for n in numbers]}
    )
    kept = frame.filter(pl.col("id") != "a-long-name-number-3")

    def write(frame: pl.DataFrame) -> bytes:
        out = io.BytesIO()
        frame.write_ipc_stream(out)
        return out.getvalue()

    assert b"a-long-name-number-3" in write(kept)  # what pack is for
    assert b"a-long-name-number-3" not in write(pack(kept))
    assert b"a-long-step-3" not in write(pack(kept))
    assert pack(kept).equals(kept)


@pytest.mark.parametrize(
    ("given", "text", "mentioned"),
    [
        ("u-12", '{"user":"u-12"}', True),
        ("u-12", '{"user":"u-123"}', False),
        ("u-12", "/profile/u-12?x", True),
        ("u-12", "/profile/xu-12", False),
        ("42", '{"user":"42","n":42}', True),
        ("42", '{"n":42}', False),
        ('q"uo', '{"user":"q\\"uo"}', True),
        ("jörg", '{"user":"j\\u00f6rg"}', True),
        ("jörg", '{"user":"jörg"}', True),
    ],
)
def test_mention_is_the_id_standing_alone(given: str, text: str, mentioned: bool) -> None:
    column = pl.Series("properties", [text, None, ""])
    target = Target(given, frozenset([given]))
    assert find_mentions(column, target).to_list() == [mentioned, False, False]
    changed, count = redact(column.to_frame(), target)
    assert count == int(mentioned)
    assert find_mentions(changed["properties"], target).to_list() == [False] * 3
