"""Google Analytics 4's export to BigQuery, taken out of it as JSON lines or Parquet."""

from __future__ import annotations

from config import InputRules
from events.formats.base import NULL, PLATFORMS, Format, choose, name_event, reach, text

_COLUMNS = {
    "event_timestamp": "VARCHAR",
    "event_name": "VARCHAR",
    "user_pseudo_id": "VARCHAR",
    "user_id": "VARCHAR",
    "platform": "VARCHAR",
    "event_params": "JSON",
    "collected_traffic_source": "JSON",
    "session_traffic_source_last_click": "JSON",
}
_USES = {
    "event_id": (),
    "event_time": ("event_timestamp",),
    "received_at": (),
    "device_id": ("user_pseudo_id",),
    "user_id": ("user_id",),
    "channel": ("platform",),
    "event_type": (),
    "event_name": ("event_name",),
    "page": ("event_params",),
    "referrer": ("event_params",),
    "campaign": ("collected_traffic_source", "event_params", "session_traffic_source_last_click"),
    "properties": ("event_params",),
}
_SHAPE = (
    '[{"key": "VARCHAR", "value": {"string_value": "VARCHAR", "int_value": "BIGINT",'
    ' "float_value": "DOUBLE", "double_value": "DOUBLE"}}]'
)
_ADDRESS = "^[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*/?([^?#]*).*$"
_NO_CAMPAIGN = ("(direct)", "(organic)", "(referral)", "(not set)")


def _flatten(column: str) -> str:
    """Make an object of a list of keys and typed values; an object is left as it is, anything else is nothing."""
    finite = [f"CASE WHEN isfinite(p.value.{name}) THEN p.value.{name} END" for name in ("double_value", "float_value")]
    values = ", ".join(f"to_json({value})" for value in ("p.value.string_value", "p.value.int_value", *finite))
    pair = f"CAST(to_json(p.key) AS VARCHAR) || ':' || CAST(coalesce({values}) AS VARCHAR)"
    pairs = f"list_transform(from_json({column}, {text(_SHAPE)}), lambda p: {pair})"
    return (
        f"CASE json_type({column}) WHEN 'OBJECT' THEN {column}"
        f" WHEN 'ARRAY' THEN TRY_CAST('{{' || coalesce(array_to_string({pairs}, ','), '') || '}}' AS JSON) END"
    )


def _pick(terms: list[str], without: tuple[str, ...] = ()) -> str:
    """Return the first of the terms that is none of the texts; unlike `first`, each term is worked out once."""
    return f"list_filter([{', '.join(terms)}], lambda t: t NOT IN ({', '.join(map(text, ('', *without)))}))[1]"


_PARAMETERS = _flatten("event_params")


def _select(rules: InputRules) -> dict[str, str]:
    def parameter(name: str) -> str:
        return reach(f"({_PARAMETERS})", name)

    # Each parameter is looked up once: the list is gone through for every mention.
    page = f"regexp_replace({parameter('page_location')}, '{_ADDRESS}', '/\\1', 's')"
    campaigns = [
        reach("collected_traffic_source", "manual_campaign_name"),
        parameter("campaign"),
        reach("session_traffic_source_last_click", "manual_campaign", "campaign_name"),
    ]
    return {
        "event_id": NULL,
        "event_time": "event_timestamp",
        "received_at": NULL,
        "device_id": "user_pseudo_id",
        "user_id": "user_id",
        "channel": choose("platform", PLATFORMS, text(rules.channel)),
        "event_type": NULL,
        "event_name": name_event(rules, "event_name"),
        "page": _pick([page, parameter("firebase_screen"), parameter("firebase_screen_class")]),
        "referrer": _pick([parameter("page_referrer")]),
        "campaign": _pick(campaigns, _NO_CAMPAIGN),
        "properties": f"CAST(({_PARAMETERS}) AS VARCHAR)",
    }


GA4 = Format(
    _COLUMNS,
    _USES,
    _select,
    inside={name: f"({_flatten(name)})" for name in ("event_params", "user_properties")},
)
