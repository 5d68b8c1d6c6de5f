"""Azure Event Grid's events in its own schema; those in the CloudEvents schema are CloudEvents."""

from __future__ import annotations

from events.formats.payload import Envelope, make_format

EVENTGRID = make_format(Envelope(id="id", time="eventTime", type="eventType", payload="data"))
