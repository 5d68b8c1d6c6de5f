"""PostHog's events: batch exports in JSON lines or Parquet, and what its API gives."""

from __future__ import annotations

from config import InputRules
from events.formats.base import NULL, Format, first, guess_channel, name_event, reach

_COLUMNS = {
    "uuid": "VARCHAR",
    "id": "VARCHAR",
    "event": "VARCHAR",
    "distinct_id": "VARCHAR",
    "timestamp": "VARCHAR",
    "created_at": "VARCHAR",
    "properties": "JSON",
}
_USES = {
    "event_id": ("uuid", "id"),
    "event_time": ("timestamp",),
    "received_at": ("created_at",),
    "device_id": ("distinct_id", "properties"),
    "user_id": ("distinct_id", "properties"),
    "channel": ("properties",),
    "event_type": (),
    "event_name": ("event",),
    "page": ("properties",),
    "referrer": ("properties",),
    "campaign": ("properties",),
    "properties": ("properties",),
}
_BROWSER = "^(?:web|js|posthog-js.*)$"


def _find_person() -> tuple[str, str]:
    """Return the expressions of device and user.

    A browser's distinct id is the device's until the visitor is identified, and the user's from then on. Libraries of
    servers send no device, and their distinct ids are users.
    """
    device = first(reach("properties", "$device_id"))
    distinct = first("distinct_id", reach("properties", "distinct_id"))
    identified = reach("properties", "$is_identified")
    user = (
        f"coalesce({first(reach('properties', '$user_id'))}, CASE WHEN {identified} = 'true' THEN {distinct}"
        f" WHEN {identified} = 'false' OR {device} = {distinct} THEN NULL ELSE {distinct} END)"
    )
    anonymous = first(reach("properties", "$anon_distinct_id"))
    return f"coalesce({device}, {anonymous}, CASE WHEN {user} IS NULL THEN {distinct} END)", user


def _select(rules: InputRules) -> dict[str, str]:
    device, user = _find_person()
    return {
        "event_id": first("uuid", "id"),
        "event_time": '"timestamp"',
        "received_at": "created_at",
        "device_id": device,
        "user_id": user,
        "channel": guess_channel(reach("properties", "$lib"), _BROWSER, rules),
        "event_type": NULL,
        "event_name": name_event(rules, '"event"'),
        "page": first(*(reach("properties", name) for name in ("$pathname", "$screen_name", "$current_url"))),
        "referrer": f"nullif({first(reach('properties', '$referrer'))}, '$direct')",
        "campaign": first(reach("properties", "utm_campaign")),
        "properties": "CAST(properties AS VARCHAR)",
    }


POSTHOG = Format(_COLUMNS, _USES, _select)
