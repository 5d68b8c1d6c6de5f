"""Segment's calls as they come over HTTP, made into records: what Segment's servers add is added here.

A call's own text stays as it is. What is added stands in front: `receivedAt`, and `type`, `messageId` and `timestamp` where
they are missing. A clock that is wrong is set right by when the call was sent and when it came.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from config import SECOND
from sources.inbox import Received
from sources.json_parts import Part, Parts, cut_object, cut_value, put_in_front, read_elements, read_text, write_object
from sources.live import flatten

MAX_CALLS = 2_500  # in a batch, as Segment has it
CLOCK_SLACK = 5 * SECOND  # what a call may have been under way, or a clock be wrong, before its time is set anew
DROPPED = ("writeKey", "receivedAt")  # a key has no business in a warehouse; when it came is known here
VOLATILE = (*DROPPED, "sentAt", "_metadata")  # differ between two deliveries of one call
WHO_AND_WHEN = ("messageId", "type", "userId", "anonymousId", "timestamp", "originalTimestamp")
FAR = 250_000_000_000 * SECOND  # the year 9892
Values = dict[str, Any]
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d)?)(?:[.,](\d{1,9}))?\s*(?:Z|([+-])(\d\d):?(\d\d)?)?", re.IGNORECASE
)


@dataclass(frozen=True)
class Calls:
    """The calls of one request, not yet made into records; `key`: the write key in its body, empty if there is none."""

    calls: list[Part]
    shared: Parts
    kind: str
    key: str

    def write(self, received: int) -> list[Received]:
        """Make a record of each call; `received`: when they came (microseconds)."""
        return [_write(call, self, received) for call in self.calls]


def read_call(body: bytes, kind: str) -> Calls:
    """Read one call; raises ValueError."""
    call = cut_value(read_text(body))
    if not isinstance(call.value, dict):
        raise ValueError("not an object")  # noqa: TRY004
    return Calls([call], {}, kind, _find_text(call.value, "writeKey"))


def read_batch(body: bytes) -> Calls:
    """Read a batch; what is no object in it is a record all the same, and will be a dead letter. Raises ValueError."""
    whole = cut_object(read_text(body), {"batch": read_elements})
    batch = whole["batch"].value if "batch" in whole else None
    if batch is None:
        raise ValueError("batch is not an array")
    if len(batch) > MAX_CALLS:
        raise ValueError(f"{len(batch):,} calls; at most {MAX_CALLS:,} may come in a batch")
    values = {name: part.value for name, part in whole.items()}
    shared = {name: whole[name] for name in ("context", "integrations", "sentAt") if _is_there(values, name)}
    return Calls(batch, shared, "", _find_text(values, "writeKey"))


def _write(call: Part, calls: Calls, received: int) -> Received:
    if not isinstance(call.value, dict):
        return Received(flatten(call.text.encode()), received)
    shared = _list_shared(call, calls.shared)
    said: Values = {**call.value, **{name: part.value for name, part in shared.items()}}
    times = [name for name in ("timestamp", "originalTimestamp") if _is_there(said, name)]
    name = _find_text(said, "messageId")
    if not name and times:
        members = cut_object(call.text).items()
        name = _digest(calls.kind, *(part.member for key, part in members if key not in VOLATILE))
    added = {"receivedAt": json.dumps(_write_moment(received)), **{key: part.text for key, part in shared.items()}}
    if calls.kind and not _is_there(said, "type"):
        added["type"] = json.dumps(calls.kind)
    if not _is_there(said, "messageId"):
        added["messageId"] = json.dumps(name or uuid.uuid4().hex)
    moment = _set_clock(said, times, received)
    if moment is not None:
        added["timestamp"] = json.dumps(_write_moment(moment))
        added |= {"originalTimestamp": json.dumps(said["timestamp"])} if times == ["timestamp"] else {}
    # When its time may be made anew as it comes again, the dataflow could not know it by that.
    is_named = bool(name) and (not times or (len(times) == 1 and _is_there(said, "sentAt")))
    delivery = _digest(name, calls.kind, *(repr(call.value.get(key)) for key in WHO_AND_WHEN)) if is_named else ""
    return Received(flatten(_put_in(added, call).encode()), received, delivery)


def _put_in(added: dict[str, str], call: Part) -> str:
    gone = {key for key in call.value if key in added or key in DROPPED}
    if not gone:
        return put_in_front(added, call.text)
    return write_object(added, (part for key, part in cut_object(call.text).items() if key not in gone))


def _list_shared(call: Part, shared: Parts) -> Parts:
    """List what a batch says for all and a call does not say itself; of both one's `context` that is both together."""
    found = {name: part for name, part in shared.items() if not _is_there(call.value, name)}
    if "context" in shared and "context" not in found:
        own, common = call.value["context"], shared["context"].value
        if isinstance(own, dict) and isinstance(common, dict) and common.keys() - own.keys():
            parts = cut_object(cut_object(call.text)["context"].text)
            missing = (part for key, part in cut_object(shared["context"].text).items() if key not in own)
            found["context"] = Part({**common, **own}, write_object({}, [*parts.values(), *missing]))
    return found


def _set_clock(said: Values, times: list[str], received: int) -> int | None:
    """Return a call's time by our clock, where it tells none or its sender's clock is off; None where it stays.

    With both `timestamp` and `originalTimestamp` somebody has set it right already.
    """
    if len(times) != 1:
        return None if times else received
    happened, sent = read_moment(_find_text(said, times[0])), read_moment(_find_text(said, "sentAt"))
    if happened is None or sent is None or abs(received - sent) <= CLOCK_SLACK:
        return None
    moment = received - (sent - happened)
    return moment if 0 <= moment < FAR else None


def read_moment(text: str) -> int | None:
    """Read an ISO 8601 time as libraries send it, to microseconds since 1970; None where it is none."""
    match = _MOMENT.fullmatch(text.strip())
    if match is None:
        return None
    try:
        moment = datetime.fromisoformat(f"{match[1]}T{match[2]}+00:00")
    except ValueError:
        return None
    away = timedelta(hours=int(match[5] or 0), minutes=int(match[6] or 0)) * (-1 if match[4] == "-" else 1)
    fraction = int((match[3] or "").ljust(6, "0")[:6])
    return (moment - EPOCH - away) // timedelta(microseconds=1) + fraction


def _write_moment(moment: int) -> str:
    return (EPOCH + timedelta(microseconds=moment)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _is_there(said: Values, name: str) -> bool:
    return said.get(name) not in (None, "")


def _find_text(said: Values, name: str) -> str:
    value = said.get(name)
    return value if isinstance(value, str) else ""


def _digest(*texts: str) -> str:
    return hashlib.blake2b("\0".join(texts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
