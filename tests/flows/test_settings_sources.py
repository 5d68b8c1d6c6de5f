"""[[source]] of journey.toml: what each kind knows, and how a mistake is reported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from config import InputRules
from errors import ConfigError
from flows.decoding import choose_input
from flows.settings import load_config


def write(folder: Path, text: str) -> Path:
    path = folder / "journey.toml"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('name = "a b"', r"should be a name of letters"),
        ('name = "web"\nstart = "soon"', r'should be "earliest", "latest" or a time'),
        ('name = "web"\nsettings = { a = [1] }', r"should be a table of texts and numbers \(a is neither\)"),
        ('name = "web"\nkind = "rabbit"', r"should be one of"),
        ('nome = "web"', r"unknown key"),
        ('name = "web"\nuser_id = "id"', r"unknown key\n.*'user_id' belongs in \[source.fields\]"),
        ('name = "web"\nevent_name = ""', r"should be a text that is not empty"),
        ('name = "web"\n[source.fields]\nuserid = "id"', r"journey.toml:6: .*unknown key\n.*did you mean 'user_id'"),
        ('name = "web"\n[source.fields]\npage = 1', r"source\[0\].fields.page = 1: should be a source path"),
        ('name = "web"\nformat = "fields"', r"journey.toml:5: .*event_time is missing"),
        (
            'name = "web"\nformat = "fields"\n[source.fields]\nevent_time = "t"\nuser_id = "u"',
            r"journey.toml:6: .*event_name is missing",
        ),
    ],
)
def test_mistakes_in_a_source_are_told(tmp_path: Path, line: str, told: str) -> None:
    text = f'[[source]]\nservers = "s"\ntopics = ["t"]\n{line}\n'
    with pytest.raises(ConfigError, match=told):
        load_config(write(tmp_path, text))


def test_source_knows_the_keys_of_its_kind_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"journey.toml:6: source\[0\].url = \"u\": not a key of .* 'kafka'"):
        load_config(
            write(tmp_path, '[[source]]\nname = "w"\nkind = "kafka"\nservers = "s"\ntopics = ["t"]\nurl = "u"\n')
        )
    with pytest.raises(ConfigError, match=r"the key 'queues' or 'streams' is missing"):
        load_config(write(tmp_path, '[[source]]\nname = "w"\nkind = "rabbitmq"\nurl = "u"\n'))


def test_source_maps_alone_or_over_the_input_as_its_format_says(tmp_path: Path) -> None:
    """A source of its own format knows nothing of what is mapped for the others; one of theirs goes on from there."""
    common = '[input]\nchannel = "web"\nevent_name = "Visit"\n[input.fields]\npage = "url"\nuser_id = "customer"\n'
    source = '[[source]]\nname = "{0}"\nservers = "s"\ntopics = ["{0}"]\n'
    desk = source.format("desk") + (
        'format = "fields"\nchannel = "support"\ntime_unit = "ms"\n[source.fields]\nevent_time = "at"\nuser_id = "id"\n'
    )
    shop = source.format("shop") + '[source.fields]\npage = "path"\n'
    config = load_config(write(tmp_path, common + desk + shop + source.format("plain")))
    read = {rules.name: choose_input(config.input, rules) for rules in config.sources}
    assert read["desk"] == InputRules(
        "fields", {"event_time": ("at",), "user_id": ("id",)}, "ms", channel="support", event_name="Visit"
    )
    assert read["shop"] == replace(config.input, fields={"page": ("path",), "user_id": ("customer",)})
    assert read["plain"] == config.input


def test_two_sources_of_one_name_are_an_error(tmp_path: Path) -> None:
    source = '[[source]]\nname = "web"\nservers = "s"\ntopics = ["t"]\n'
    with pytest.raises(ConfigError, match="another source has this name"):
        load_config(write(tmp_path, source * 2))
