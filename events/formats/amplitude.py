"""Amplitude's Export API: lines of JSON."""

from __future__ import annotations

from config import InputRules
from events.formats.base import NULL, PLATFORMS, Format, choose, first, guess_channel, name_event, reach

_COLUMNS = {
    "uuid": "VARCHAR",
    "$insert_id": "VARCHAR",
    "event_time": "VARCHAR",
    "server_received_time": "VARCHAR",
    "device_id": "VARCHAR",
    "user_id": "VARCHAR",
    "platform": "VARCHAR",
    "library": "VARCHAR",
    "event_type": "VARCHAR",
    "event_properties": "JSON",
    "user_properties": "JSON",
}
_USES = {
    "event_id": ("uuid", "$insert_id"),
    "event_time": ("event_time",),
    "received_at": ("server_received_time",),
    "device_id": ("device_id",),
    "user_id": ("user_id",),
    "channel": ("platform", "library"),
    "event_type": (),
    "event_name": ("event_type",),
    "page": ("event_properties",),
    "referrer": ("event_properties",),
    "campaign": ("event_properties", "user_properties"),
    "properties": ("event_properties",),
}
_BROWSER = r"^amplitude-(?:js|ts)\b"


def _select(rules: InputRules) -> dict[str, str]:
    # Amplitude drops repeated insert ids of one device, so they need not be unique across devices; uuids are.
    return {
        "event_id": "coalesce(nullif(uuid, ''), \"$insert_id\")",
        "event_time": "event_time",
        "received_at": "server_received_time",
        "device_id": "device_id",
        "user_id": "user_id",
        "channel": choose("platform", PLATFORMS, guess_channel("library", _BROWSER, rules)),
        "event_type": NULL,
        "event_name": name_event(rules, "event_type"),
        "page": first(
            *(
                reach("event_properties", f"[Amplitude] {name}")
                for name in ("Page Path", "Screen Name", "Page Location", "Page URL")
            )
        ),
        "referrer": first(reach("event_properties", "referrer")),
        "campaign": first(reach("event_properties", "utm_campaign"), reach("user_properties", "utm_campaign")),
        "properties": "CAST(event_properties AS VARCHAR)",
    }


AMPLITUDE = Format(_COLUMNS, _USES, _select)
