"""Which decoder reads which source's records."""

from __future__ import annotations

from dataclasses import replace

from config import Config, InputRules, SourceRules
from events.canonical import Decoded
from events.decode import Decoder, make_decoder
from events.raw import RawBlock

OWN_FORMATS = {"sqs": "eventbridge", "webhook": "eventgrid", "eventgrid": "cloudevents"}


def make_decoders(config: Config, now_us: int) -> dict[str, Decoder]:
    """Make the decoder of each live source, by its name; `now_us` bounds the future where nothing else does."""
    return {
        rules.name: make_decoder(choose_input(config.input, rules), config.steps, now_us) for rules in config.sources
    }


def make_file_decoder(config: Config, now_us: int) -> Decoder:
    """Make the decoder of files: archived records are read as the live source read them that they came from."""
    plain = make_decoder(config.input, config.steps, now_us)
    live = make_decoders(config, now_us)

    def decode(block: RawBlock) -> Decoded:
        archived = block.received is not None
        return (live.get(block.source.partition("/")[0], plain) if archived else plain)(block)

    return decode


def choose_input(rules: InputRules, source: SourceRules) -> InputRules:
    """Return `[input]` with what the source says itself, or its kind; fields mapped there stay with that format."""
    form = source.format or OWN_FORMATS.get(source.kind, "")
    own = {name: getattr(source, name) for name in ("time_unit", "channel", "event_name") if getattr(source, name)}
    fields = source.fields if form else {**rules.fields, **source.fields}
    return replace(rules, format=form or rules.format, fields=fields, **own)
