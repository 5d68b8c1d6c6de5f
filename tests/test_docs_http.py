"""docs/collector.md and docs/eventgrid-webhook.md against the code: paths, settings, limits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import serving
from flows.settings import load_config
from sources import http_calls, receiving, segment_calls
from sources.collector import BATCH_PATHS, CALL_PATHS

DOCS = Path(__file__).parents[1] / "docs"
COLLECTOR, WEBHOOK = (DOCS / name for name in ("collector.md", "eventgrid-webhook.md"))


@pytest.mark.parametrize("page", [COLLECTOR, WEBHOOK])
def test_settings_shown_are_accepted(page: Path, tmp_path: Path) -> None:
    (shown,) = re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    file = tmp_path / "journey.toml"
    file.write_text(shown, encoding="utf-8")
    (source,) = load_config(file).sources
    assert source.kind == ("collector" if page == COLLECTOR else "webhook")


def test_paths_shown_are_those_that_are_answered() -> None:
    rows = [line for line in COLLECTOR.read_text(encoding="utf-8").splitlines() if line.startswith("| `/")]
    shown = {path for row in rows for path in re.findall(r"`(/[\w/]+)`", row)}
    assert shown == {*CALL_PATHS, *BATCH_PATHS, "/health"}


def test_limits_shown_are_the_real_ones() -> None:
    text = COLLECTOR.read_text(encoding="utf-8")
    assert f"at most {segment_calls.MAX_CALLS:,} calls" in text
    assert f"more than {segment_calls.CLOCK_SLACK // 1_000_000} s from" in text
    assert f"the last {receiving.RecentDeliveries().size:,} of an hour" in text
    assert (serving.REQUEST_S, serving.CONNECTIONS, http_calls.HELD) == (60, 500, 128 << 20)
    assert "takes more than a minute to come, takes 500 connections at a time and 128 MiB" in text
