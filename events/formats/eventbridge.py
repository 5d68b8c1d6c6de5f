"""Amazon EventBridge's events, as rules deliver and archives keep them."""

from __future__ import annotations

from events.formats.payload import Envelope, make_format

EVENTBRIDGE = make_format(Envelope(id="id", time="time", type="detail-type", payload="detail"))
