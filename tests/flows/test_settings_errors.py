"""Mistakes in journey.toml: each is reported with its place and a way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from errors import ConfigError
from flows.settings import load_config


def write(folder: Path, text: str) -> Path:
    path = folder / "journey.toml"
    path.write_bytes(text.encode())
    return path


def find_error(folder: Path, text: str) -> tuple[str, str]:
    """Return the problem, with the file as `journey.toml` whatever its folder, and the remedy."""
    path = write(folder, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return caught.value.problem.replace(str(path), "journey.toml"), caught.value.remedy


@pytest.mark.parametrize(
    ("text", "problem", "remedy"),
    [
        ('gap = "30m"', 'journey.toml:1: gap = "30m": unknown key', "'gap' belongs in [sessions]"),
        ('\n[session]\ngap = "1m"', 'journey.toml:2: session = {gap = "1m"}: unknown key', "did you mean 'sessions'?"),
        ('[sessions]\n\ngapp = "1m"', 'journey.toml:3: sessions.gapp = "1m": unknown key', "did you mean 'gap'?"),
        ('[job]\ngap = "1m"', 'journey.toml:2: job.gap = "1m": unknown key', "'gap' belongs in [sessions]"),
        ('[sessions]\ngap = "30min"', 'journey.toml:2: sessions.gap = "30min": should be a duration', '"30m"'),
        ("[sessions]\ngap = 30", "journey.toml:2: sessions.gap = 30: should be a duration", '"30s"'),
        ('[sessions]\ngap = "0s"', 'journey.toml:2: sessions.gap = "0s": should be a duration longer than 0', ""),
        (
            '[serve]\nlisten = ":9600"',
            'journey.toml:2: serve.listen = ":9600": should be an address',
            '"127.0.0.1:9600"',
        ),
        ("[serve]\nlisten = 9600", "journey.toml:2: serve.listen = 9600", '"127.0.0.1:9600"'),
        ('[serve]\nlisten = "http://0.0.0.0:80/"', "journey.toml:2: serve.listen", '"0.0.0.0:80"'),
        ('[serve]\nlisten = "h:99999"', "journey.toml:2: serve.listen", ""),
        ('[serve]\nlisten = "localhost"', "journey.toml:2: serve.listen", ""),
        ("[serve]\nlisten = false", "journey.toml:2: serve.listen", ""),
        ('[log]\nformat = "JSON"', "journey.toml:2: log.format", '"json"'),
        ('[sessions]\ngap = "40000d"', "journey.toml:2: sessions.gap", '"36500d"'),
        ('[sessions]\ngap = "0.1us"', "whole microseconds", ""),
        ("[sessions]\ngap = 1979-05-27", "journey.toml:2: sessions.gap = 1979-05-27", ""),
        ("[sessions]\nmax_path_steps = 0", "journey.toml:2: sessions.max_path_steps = 0", "did you mean 1?"),
        ("sessions = 3", "journey.toml:1: sessions = 3: should be a table", "[sessions]"),
        ('[input]\nformat = "segmnt"', 'journey.toml:2: input.format = "segmnt"', '"segment"'),
        ('[input]\ntime_unit = "millis"', 'journey.toml:2: input.time_unit = "millis"', '"ms"'),
        ('[input]\nlanes = "All"', 'journey.toml:2: input.lanes = "All"', ""),
        ('[input]\nchannel = ""', 'journey.toml:2: input.channel = "": should be a text', ""),
        ("[input]\nchannel = 1", "journey.toml:2: input.channel = 1: should be a text", '"1"'),
        ('[input]\nmax_record_bytes = "2GiB"', "journey.toml:2: input.max_record_bytes", "1073741824"),
        ('[input.fields]\nevent_tim = "a"', "journey.toml:2: input.fields.event_tim", "'event_time'"),
        ('[input.fields]\npage = "a..b"', 'journey.toml:2: input.fields.page = "a..b"', '"a.b"'),
        ('[input.fields]\npage = "a.`b"', "journey.toml:2: input.fields.page", ""),
        ('[input.fields]\npage = ["a",\n3]', "journey.toml:3: input.fields.page[1] = 3", '"3"'),
        ("[input.fields]\npage = []", "journey.toml:2: input.fields.page = []", ""),
        ('[input]\nformat = "fields"', "journey.toml:2: input.format", "event_time ="),
        ('[input]\nformat = "fields"\n[input.fields]\nevent_time = "t"', "journey.toml:3: input.fields", "user_id ="),
        (
            '[input]\nformat = "fields"\n[input.fields]\nevent_time = "t"\nuser_id = "u"',
            "event_name is missing",
            "event_name =",
        ),
        ('[[steps]]\nname = "a"', "journey.toml:1: steps[0]", ""),
        ('[[steps]]\nname = "(start)"\nwhere = "true"', "journey.toml:2: steps[0].name", '"start"'),
        ('[[steps]]\nname = "a"\nwhere = "pgae = 1"', "journey.toml:3: steps[0].where", "'page'"),
        (
            '[[steps]]\nname = "a"\nwhere = "true"\n\n[[steps]]\nname = "b"\nwhere = """\nmax(page) = 1"""',
            "journey.toml:7: steps[1].where",
            "there are: abs",
        ),
        ('[[steps]]\nname = "a"\nwher = "true"', "journey.toml:3: steps[0].wher", "'where'"),
        ('[steps]\nname = "a"', "journey.toml:1: steps", "[[steps]]"),
        ('[stages]\nA = ["x"]\nB = ["y",\n"x"]', 'journey.toml:4: stages.B[1] = "x"', "one stage"),
        ('[stages]\nA = "x, y"', 'journey.toml:2: stages.A = "x, y"', '["x", "y"]'),
        ("[stages]\nA = []", "journey.toml:2: stages.A = []: should be a list of at least 1 text", ""),
        ('[stages]\n"" = ["x"]', 'journey.toml:2: stages."" = ["x"]: has no name', ""),
        ('[funnels.p]\nsteps = ["a"]', "journey.toml:2: funnels.p.steps", ""),
        ('[funnels.p]\nsteps = "a -> b"', "journey.toml:2: funnels.p.steps", '["a", "b"]'),
        ('[funnels.p]\nwithin = "1d"', "journey.toml:1: funnels.p = ", ""),
        ('[funnels.p]\nsteps = ["a", "b"]\nwithin = "0d"', "journey.toml:3: funnels.p.within", ""),
        ('[funnels.p]\nsteps = ["a", "b"]\nscope = "sesion"', "journey.toml:3: funnels.p.scope", '"session"'),
        ('[funnels]\nsteps = ["a", "b"]', "journey.toml:2: funnels.steps", "[funnels.NAME]"),
        ('[[funnels]]\nsteps = ["a", "b"]', "journey.toml:1: funnels", "[funnels.NAME]"),
        ('[funnels.""]\nsteps = ["a", "b"]', "journey.toml:1: funnels", ""),
        ('funnels.p = {steps = ["a", "b"], within = "x"}', 'journey.toml:1: funnels.p.within = "x"', ""),
        ('[dead_letters]\nshare = "5%"', 'journey.toml:2: dead_letters.share = "5%"', "0.05"),
        ("[dead_letters]\nshare = nan", "journey.toml:2: dead_letters.share = nan", ""),
        ("[dead_letters]\ncount = -1", "journey.toml:2: dead_letters.count = -1", "did you mean 0?"),
        ("[job]\nkey_groups = 65", "journey.toml:2: job.key_groups = 65", "did you mean 64?"),
        ('[job]\nkey_groups = "8"', 'journey.toml:2: job.key_groups = "8"', "did you mean 8?"),
        ("[job]\nkey_groups = true", "journey.toml:2: job.key_groups = true", ""),
        ('[job]\nblock = "8 megabytes"', "journey.toml:2: job.block", '"8MB"'),
        ("[job]\nblock = true", "journey.toml:2: job.block = true", ""),
    ],
)
def test_mistake_is_reported_with_file_line_key_value_and_the_nearest_right_one(
    tmp_path: Path, text: str, problem: str, remedy: str
) -> None:
    found, way_out = find_error(tmp_path, text)
    assert problem in found
    assert found.startswith("journey.toml:")
    assert remedy in way_out
    assert way_out


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[sessions]\ngap = 30m", "journey.toml:2:9: not TOML"),
        ("[sessions]\n\n[sessions\n", "journey.toml:3"),
        ('[sessions]\ngap = "1s"\ngap = "2s"', "journey.toml:3"),
        ("a = 1\nb = [1,", "journey.toml:2: not TOML"),
    ],
)
def test_text_that_is_not_toml_is_reported_with_its_line(tmp_path: Path, text: str, place: str) -> None:
    assert find_error(tmp_path, text)[0].startswith(place)


def test_text_without_quotes_is_offered_with_them(tmp_path: Path) -> None:
    assert 'gap = "30m"' in find_error(tmp_path, "[sessions]\ngap = 30m")[1]


@pytest.mark.parametrize("text", ["x = " + "[" * 3000 + "]" * 3000, "x = " + "9" * 5000])
def test_absurd_toml_is_a_config_error(tmp_path: Path, text: str) -> None:
    assert find_error(tmp_path, text)[0].startswith("journey.toml")


def test_absent_file_is_reported_with_the_nearest_one(tmp_path: Path) -> None:
    write(tmp_path, "")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "jorney.toml")
    assert "jorney.toml: there is no such file" in caught.value.problem
    assert "journey.toml" in caught.value.remedy


def test_folder_in_place_of_a_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        load_config(tmp_path)


def test_text_that_is_not_utf8_is_reported_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "journey.toml"
    path.write_bytes(b"[input]\nchannel = 'caf\xe9'\n")
    with pytest.raises(ConfigError, match=r"journey\.toml:2: the text is not UTF-8"):
        load_config(path)
