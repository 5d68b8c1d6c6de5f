"""Moto's server, with two repairs: an ordered queue keeps its order after a time-out, and a long queue is not so slow."""

from __future__ import annotations

import time

from moto.server import main
from moto.sqs import models


def list_pending_groups(queue: models.Queue) -> set[str]:
    """Return the groups with messages under way; moto counts those whose time has run out, all but the last of a group."""
    return {one.group_id for one in list(queue.pending_messages) if one.group_id is not None and not one.visible}


def read_millis() -> float:
    """Return the time; moto asks for it for every message of a queue with every call, by way of two datetimes."""
    return time.time() * 1000


setattr(models.Queue, "pending_message_groups", property(list_pending_groups))  # noqa: B010
vars(models)["unix_time_millis"] = read_millis

if __name__ == "__main__":
    main()
