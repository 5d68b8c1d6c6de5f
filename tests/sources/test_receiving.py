"""Which deliveries are known to be second ones, and what becomes of a receiver that fails."""

from __future__ import annotations

import threading

import pytest

from errors import ReceiverError
from sources.receiving import OpenDeliveries, RecentDeliveries, receiving


def test_recent_deliveries_forget_the_oldest() -> None:
    recent = RecentDeliveries(["a", "b", "a", ""], size=2)
    assert [recent.is_known(one) for one in ("a", "b", "c", "")] == [True, True, False, False]
    recent.note("c")
    assert [recent.is_known(one) for one in ("a", "b", "c")] == [False, True, True]


def test_open_delivery_is_used_up_by_its_redelivery() -> None:
    waiting = OpenDeliveries(["a", "a", "b"])
    assert [waiting.take(one) for one in ("a", "b", "c", "a", "a", "b")] == [True, True, False, True, False, False]


class Broken:
    name = "broken"

    def run(self, stop: threading.Event) -> None:
        raise ReceiverError("the queue is gone", remedy="make it")


class Patient:
    name = "patient"

    def __init__(self) -> None:
        self.ended = False

    def run(self, stop: threading.Event) -> None:
        self.ended = stop.wait(10)


def test_failure_is_told_and_the_others_go_on_until_the_end() -> None:
    patient, told, failed = Patient(), [], threading.Event()

    def fail(problem: Exception) -> None:
        told.append(problem)
        failed.set()

    with receiving([Broken(), patient], fail):
        assert failed.wait(10)
        assert not patient.ended
    assert patient.ended
    with pytest.raises(ReceiverError, match="the queue is gone"):
        raise told[0]
