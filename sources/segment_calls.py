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

from config import SECOND
from sources.inbox import Received
from sources.json_parts import Part, Parts, cut_object, put_in_front, read_elements, read_text, write_object
from sources.live import flatten

MAX_CALLS = 2_500  # in a batch, as Segment has it
CLOCK_SLACK = 5 * SECOND  # what a call may have been under way, or a clock be wrong, before its time is set anew
DROPPED = ("writeKey", "receivedAt")  # a key has no business in a warehouse; when it came is known here
VOLATILE = (*DROPPED, "sentAt", "_metadata")  # differ between two deliveries of one call
WHO_AND_WHEN = ("messageId", "type", "userId", "anonymousId", "timestamp", "originalTimestamp")
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
    text = read_text(body)
    call = cut_object(text)
    return Calls([Part(call, text)], {}, kind, _find_text(call, "writeKey"))


def read_batch(body: bytes) -> Calls:
    """Read a batch; what is no object in it is a record all the same, and will be a dead letter. Raises ValueError."""
    whole = cut_object(read_text(body), {"batch": read_elements})
    batch = whole["batch"].value if "batch" in whole else None
    if batch is None:
        raise ValueError("batch is not an array")
    if len(batch) > MAX_CALLS:
        raise ValueError(f"{len(batch):,} calls; at most {MAX_CALLS:,} may come in a batch")
    shared = {name: whole[name] for name in ("context", "integrations", "sentAt") if _is_there(whole, name)}
    return Calls(batch, shared, "", _find_text(whole, "writeKey"))


def _write(call: Part, calls: Calls, received: int) -> Received:
    if not isinstance(call.value, dict):
        return Received(flatten(call.text.encode()), received)
    parts = _add_shared(call.value, calls.shared) if calls.shared else call.value
    added = {"receivedAt": json.dumps(_write_moment(received))}
    if calls.kind and not _is_there(parts, "type"):
        added["type"] = json.dumps(calls.kind)
    has_time = _is_there(parts, "timestamp") or _is_there(parts, "originalTimestamp")
    name = _find_text(parts, "messageId")
    if not name and has_time:
        name = _digest(calls.kind, *(part.member for key, part in parts.items() if key not in VOLATILE))
    added |= {} if _is_there(parts, "messageId") else {"messageId": json.dumps(name or uuid.uuid4().hex)}
    moment = _set_clock(parts, received) if has_time else received
    if moment is not None:
        added["timestamp"] = json.dumps(_write_moment(moment))
        if has_time and not _is_there(parts, "originalTimestamp"):
            added["originalTimestamp"] = parts["timestamp"].text
    gone = [key for key in parts if key in added or key in DROPPED]
    if gone or calls.shared:
        line = write_object(added, (part for key, part in parts.items() if key not in gone))
    else:
        line = put_in_front(added, call.text)
    return Received(flatten(line.encode()), received, _name_delivery(name, calls.kind, parts))


def _name_delivery(name: str, kind: str, parts: Parts) -> str:
    """Name a delivery, if its time may be made anew when it comes again: then the dataflow can't know it by its time."""
    times = [_is_there(parts, key) for key in ("timestamp", "originalTimestamp")]
    if not name or all(times) or (any(times) and not _is_there(parts, "sentAt")):
        return ""
    return _digest(name, kind, *(repr(parts[key].value) if key in parts else "" for key in WHO_AND_WHEN))


def _add_shared(parts: Parts, shared: Parts) -> Parts:
    """Give a call what its batch says for all; its own word counts, in `context` key by key."""
    missing = {name: part for name, part in shared.items() if not _is_there(parts, name)}
    merged = {**parts, **missing}
    both = "context" in shared and "context" not in missing
    if both and isinstance(shared["context"].value, dict) and isinstance(parts["context"].value, dict):
        own, common = cut_object(parts["context"].text), cut_object(shared["context"].text)
        text = write_object({}, [*own.values(), *(part for key, part in common.items() if key not in own)])
        merged["context"] = Part(parts["context"].value, text, f'"context":{text}')
    return merged


def _set_clock(parts: Parts, received: int) -> int | None:
    """Return the call's time by our clock, where the sender's clock is off; None where it stays as it is.

    With both `timestamp` and `originalTimestamp` somebody has set it right already.
    """
    if _is_there(parts, "timestamp") and _is_there(parts, "originalTimestamp"):
        return None
    said = _find_text(parts, "timestamp") or _find_text(parts, "originalTimestamp")
    happened, sent = read_moment(said), read_moment(_find_text(parts, "sentAt"))
    if happened is None or sent is None or abs(received - sent) <= CLOCK_SLACK:
        return None
    moment = received - (sent - happened)
    return moment if 0 <= moment < 250_000_000_000 * SECOND else None


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


def _is_there(parts: Parts, name: str) -> bool:
    return name in parts and parts[name].value not in (None, "")


def _find_text(parts: Parts, name: str) -> str:
    value = parts[name].value if name in parts else ""
    return value if isinstance(value, str) else ""


def _digest(*texts: str) -> str:
    return hashlib.blake2b("\0".join(texts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
