"""Line numbers of the keys of a TOML text."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from flows.settings_lines import KeyPath, locate_keys

TRICKY = """\
# a = "comment"
top = 1
"quoted # key" = '[not.a.table]'
[a]
text = \"\"\"
[b]
c = "1"
\"\"\"
quotes = \"\"\"two: \"\"\"\"\"
raw = '''
[x] '''
dotted.key = 1979-05-27 07:32:00
list = [ # [
  "]", # one
  [1, 2],
  { k = 3,
    m = "}" },
]
[[t]]
x = 1
[t.sub]
y = 2
[[t]] # again
x = 3
[[t.inner]]
z = 4
['it''s'] # two strings are no key
"""


def test_lines_are_found_through_strings_comments_and_nesting() -> None:
    lines = locate_keys(TRICKY)
    expected: dict[KeyPath, int] = {
        ("top",): 2,
        ("quoted # key",): 3,
        ("a",): 4,
        ("a", "text"): 5,
        ("a", "quotes"): 9,
        ("a", "raw"): 10,
        ("a", "dotted"): 12,
        ("a", "dotted", "key"): 12,
        ("a", "list"): 13,
        ("a", "list", 0): 14,
        ("a", "list", 1): 15,
        ("a", "list", 1, 1): 15,
        ("a", "list", 2): 16,
        ("a", "list", 2, "k"): 16,
        ("a", "list", 2, "m"): 17,
        ("t",): 19,
        ("t", 0): 19,
        ("t", 0, "x"): 20,
        ("t", 0, "sub"): 21,
        ("t", 0, "sub", "y"): 22,
        ("t", 1): 23,
        ("t", 1, "x"): 24,
        ("t", 1, "inner", 0): 25,
        ("t", 1, "inner", 0, "z"): 26,
    }
    assert {path: lines.get(path) for path in expected} == expected
    assert ("b",) not in lines


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="[]{}=.,\"'#\\\n ab1", max_size=60))
def test_any_text_ends_the_search_for_lines_quietly(text: str) -> None:
    assert all(1 <= line <= text.count("\n") + 1 for line in locate_keys(text).values())
