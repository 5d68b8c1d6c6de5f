"""Snowplow's enriched events: tab-separated lines without a header, or the JSON that its analytics SDKs make of them."""

from __future__ import annotations

from config import InputRules
from events.formats.base import Format, choose, first, name_event, quote, reach, split_path, text

# In the order of the enriched event: https://docs.snowplow.io/docs/pipeline/enriched-tsv-format
_ORDER = """
    app_id platform etl_tstamp collector_tstamp dvce_created_tstamp event event_id txn_id name_tracker v_tracker
    v_collector v_etl user_id user_ipaddress user_fingerprint domain_userid domain_sessionidx network_userid
    geo_country geo_region geo_city geo_zipcode geo_latitude geo_longitude geo_region_name
    ip_isp ip_organization ip_domain ip_netspeed page_url page_title page_referrer
    page_urlscheme page_urlhost page_urlport page_urlpath page_urlquery page_urlfragment
    refr_urlscheme refr_urlhost refr_urlport refr_urlpath refr_urlquery refr_urlfragment
    refr_medium refr_source refr_term mkt_medium mkt_source mkt_term mkt_content mkt_campaign contexts
    se_category se_action se_label se_property se_value unstruct_event
    tr_orderid tr_affiliation tr_total tr_tax tr_shipping tr_city tr_state tr_country
    ti_orderid ti_sku ti_name ti_category ti_price ti_quantity
    pp_xoffset_min pp_xoffset_max pp_yoffset_min pp_yoffset_max useragent
    br_name br_family br_version br_type br_renderengine br_lang
    br_features_pdf br_features_flash br_features_java br_features_director br_features_quicktime
    br_features_realplayer br_features_windowsmedia br_features_gears br_features_silverlight
    br_cookies br_colordepth br_viewwidth br_viewheight os_name os_family os_manufacturer os_timezone
    dvce_type dvce_ismobile dvce_screenwidth dvce_screenheight doc_charset doc_width doc_height
    tr_currency tr_total_base tr_tax_base tr_shipping_base ti_currency ti_price_base base_currency
    geo_timezone mkt_clickid mkt_network etl_tags dvce_sent_tstamp refr_domain_userid refr_device_tstamp
    derived_contexts domain_sessionid derived_tstamp event_vendor event_name event_format event_version
    event_fingerprint true_tstamp
"""
TABS = tuple(_ORDER.split())
# The SDKs name the key of a self-describing event after its schema: unstruct_event_com_acme_order_placed_1.
SELF_DESCRIBING = "unstruct_event_"
_SESSION = "contexts_com_snowplowanalytics_snowplow_client_session_1"
_TEXTS = (
    "event_id",
    "derived_tstamp",
    "true_tstamp",
    "collector_tstamp",
    "domain_userid",
    "network_userid",
    "user_id",
    "platform",
    "event",
    "event_name",
    "page_urlpath",
    "page_url",
    "page_referrer",
    "mkt_campaign",
    "se_category",
    "se_action",
    "se_label",
    "se_property",
    "se_value",
)
_COLUMNS = dict.fromkeys(_TEXTS, "VARCHAR") | dict.fromkeys(("unstruct_event", "contexts", _SESSION), "JSON")
_USES = {
    "event_id": ("event_id",),
    "event_time": ("derived_tstamp", "true_tstamp", "collector_tstamp"),
    "received_at": ("collector_tstamp",),
    "device_id": ("domain_userid", "contexts", _SESSION, "network_userid"),
    "user_id": ("user_id",),
    "channel": ("platform",),
    "event_type": ("event",),
    "event_name": ("event", "event_name", "se_action", "se_category"),
    "page": ("page_urlpath", "event_name", "unstruct_event", "page_url"),
    "referrer": ("page_referrer",),
    "campaign": ("mkt_campaign",),
    "properties": ("unstruct_event", "event", "se_category", "se_action", "se_label", "se_property", "se_value"),
}
_PLATFORMS = {
    "web": "web",
    "mob": "mobile",
    "pc": "desktop",
    "tv": "tv",
    "cnsl": "console",
    "iot": "iot",
    "headset": "headset",
}
_UNSTRUCT = "iglu:com.snowplowanalytics.snowplow/unstruct_event/"
# Wrapped in two schemas as it is in the enriched event, or bare as the SDKs give it.
_EVENT = (
    f"(CASE WHEN starts_with({reach('unstruct_event', 'schema')}, '{_UNSTRUCT}')"
    " THEN json_extract(unstruct_event, '$.data.data') ELSE unstruct_event END)"
)
_CONTEXTS = '[{"schema": "VARCHAR", "data": {"userId": "VARCHAR"}}]'
_FIND_SESSION = (
    f"list_filter(from_json(json_extract(contexts, '$.data'), '{_CONTEXTS}'),"
    " lambda c: contains(c.schema, '/client_session/'))[1].data.userId"
)


def _select(rules: InputRules) -> dict[str, str]:
    own = {split_path(path)[0] for paths in rules.fields.values() for path in paths}
    bare = [f"CAST({quote(name)} AS VARCHAR)" for name in sorted(own) if name.startswith(SELF_DESCRIBING)]
    details = ", ".join(f"'{name}', nullif(se_{name}, '')" for name in ("category", "action", "label", "property"))
    value = "TRY_CAST(se_value AS DOUBLE)"
    # A merge leaves out what is null.
    struct = f"json_merge_patch('{{}}', json_object({details}, 'value', CASE WHEN isfinite({value}) THEN {value} END))"
    return {
        "event_id": "event_id",
        "event_time": first("derived_tstamp", "true_tstamp", "collector_tstamp"),
        "received_at": "collector_tstamp",
        "device_id": first(
            "domain_userid", f"json_extract_string({_SESSION}, '$[0].userId')", _FIND_SESSION, "network_userid"
        ),
        "user_id": "user_id",
        "channel": choose("platform", _PLATFORMS, text(rules.channel)),
        "event_type": '"event"',
        "event_name": name_event(
            rules,
            "CASE WHEN \"event\" = 'struct' THEN coalesce(nullif(se_action, ''), se_category) END",
            "event_name",
            '"event"',
        ),
        "page": first(
            "page_urlpath", f"CASE WHEN event_name = 'screen_view' THEN {reach(_EVENT, 'name')} END", "page_url"
        ),
        "referrer": first("page_referrer"),
        "campaign": first("mkt_campaign"),
        "properties": f"coalesce({', '.join([f'CAST({_EVENT} AS VARCHAR)', *bare])},"
        f" CASE WHEN \"event\" = 'struct' THEN CAST({struct} AS VARCHAR) END)",
    }


SNOWPLOW = Format(_COLUMNS, _USES, _select, inside={"unstruct_event": _EVENT}, tabs=TABS)
