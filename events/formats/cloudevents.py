"""CloudEvents 1.0 in JSON: https://github.com/cloudevents/spec."""

from __future__ import annotations

from events.formats.payload import Envelope, make_format

# The specification promises that source and id together are unique, and no more.
CLOUDEVENTS = make_format(Envelope(id="id", time="time", type="type", payload="data", source="source"))
