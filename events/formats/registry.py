"""The formats by their names in `[input] format`."""

from __future__ import annotations

from events.formats.amplitude import AMPLITUDE
from events.formats.base import Format
from events.formats.cloudevents import CLOUDEVENTS
from events.formats.eventbridge import EVENTBRIDGE
from events.formats.eventgrid import EVENTGRID
from events.formats.ga4 import GA4
from events.formats.posthog import POSTHOG
from events.formats.snowplow import SNOWPLOW

FORMATS: dict[str, Format] = {
    "cloudevents": CLOUDEVENTS,
    "eventbridge": EVENTBRIDGE,
    "eventgrid": EVENTGRID,
    "snowplow": SNOWPLOW,
    "posthog": POSTHOG,
    "ga4": GA4,
    "amplitude": AMPLITUDE,
}


def reads_tabs(name: str) -> bool:
    """Tell whether records of this format may come as tab-separated lines."""
    return name in FORMATS and bool(FORMATS[name].tabs)
