"""Text of others: one printable line, and in Markdown as it is."""

import json
import sys
from xml.etree import ElementTree

import pytest
import torch

from bench.records import text

NASTY = {
    "colour": ("bad \x1b[31;1mred\x1b[0m", "bad red"),
    "colour of 8 bits": ("bad \x9b31mred", "bad red"),
    "title of the window": ("a\x1b]0;mine\x07b", "ab"),
    "link": ("\x1b]8;;http://x\x1b\\word\x1b]8;;\x1b\\", "word"),
    "half a sequence": ("end\x1b", "end"),
    "null, bell, backspace": ("a\x00b\x07c\x08d", "a b c d"),
    "lines": ("one\n  two\r\nthree\tfour\u2028five", "one two three four five"),
    "reversed writing": ("a\u202eb", "a b"),
    "half a surrogate": ("a\ud800b", "a b"),
    "no character": ("a\ufffeb\uffffc", "a b c"),
    "plain": ("‖b‖ ≤ 3 % of é", "‖b‖ ≤ 3 % of é"),
}


@pytest.mark.parametrize(("given", "shown"), NASTY.values(), ids=NASTY)
def test_a_message_is_one_line_that_every_format_can_hold(given, shown):
    assert text.printable(given) == text.message(given) == shown
    ElementTree.fromstring(f"<a>{shown}</a>")
    shown.encode()


@pytest.mark.parametrize("code", [c for c in range(0x250) if not chr(c).isprintable()])
def test_no_control_character_is_left(code):
    assert text.printable(f"a{chr(code)} b").isprintable()


def test_the_frames_of_torch_are_cut_off():
    with pytest.raises(TypeError) as raised:
        torch.randn(99999999999999999999)
    assert "frame #" in str(raised.value)
    assert len(text.message(str(raised.value))) < 200
    assert "Overflow when unpacking long" in text.message(str(raised.value))
    assert "frame" not in text.message(str(raised.value))


def test_a_long_message_is_cut():
    assert text.message("x" * 501) == "x" * 499 + "…"
    assert text.message("x" * 500) == "x" * 500


def test_an_exception_names_the_line_of_the_users_own_code():
    with pytest.raises(RuntimeError) as raised:
        torch.zeros(2) + torch.zeros(3)
    line = raised.value.__traceback__.tb_lineno
    said = text.described(raised.value)
    assert said.startswith("RuntimeError: The size of tensor a (2) must match")
    assert said.endswith(f"(test_text.py, line {line})")


@pytest.mark.parametrize("status", [0, 2, "bye"])
def test_an_exit_is_described_as_one(status):
    with pytest.raises(SystemExit) as raised:
        sys.exit(status)
    assert f"SystemExit({status}), which would end the program (test_text.py, line" in text.described(raised.value)


def test_markdown_shows_a_text_as_it_is():
    said = text.in_markdown("Put @dataclass(frozen=True) | `x` <img> [a](b) *c* __init__ has_rsample \\")
    assert said == (r"Put `@dataclass`(frozen=True) \| \`x\` \<img\> \[a\](b) \*c\* \_\_init\_\_ has_rsample " + "\\\\")
    assert text.in_code("mine.py::Mine") == "`mine.py::Mine`"
    assert text.in_code("a`b|c``") == "``` a`b|c`` ```"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("# a", r"\# a"),
        ("- a", r"\- a"),
        ("12. a", r"12\. a"),
        ("1) a", r"1\) a"),
        ("=", r"\="),
        ("a # b", "a # b"),
        ("$x$ &lt;", r"\$x\$ \&lt;"),
        ("see https://e.org/a/b or www.e.org", r"see https:\//e.org/a/b or www\.e.org"),
        ("rloo:n=4,dim=2 (seed 3)", "rloo:n=4,dim=2 (seed 3)"),
    ],
)
def test_no_text_makes_a_heading_a_list_a_formula_or_a_link(given, shown):
    assert text.in_markdown(given) == shown


def test_spreadsheets_see_no_formula_and_numbers_stay():
    cells = ["=1+1", "+1", "-1", "@SUM(A1)", "rloo", "", "a=1", -1.5, None]
    assert [text.in_csv(cell) for cell in cells] == ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "rloo", "", "a=1", -1.5, None]


@pytest.mark.parametrize("value", ["\x7f\x9b2J\u202e\u200b\U000e0041", "plain é", "a\nb"])
def test_a_document_that_a_terminal_cannot_obey_has_the_same_value(value):
    document = text.in_json(json.dumps({"a": value}, ensure_ascii=False, indent=1))
    assert document.replace("\n", "").isprintable()
    assert json.loads(document) == {"a": value}


def test_every_text_of_a_value_is_cleaned():
    value = {"a\x1b[2J": ["b\n", {"c": "\u202ed"}, 1, None, True, 0.5], "e": "as it is"}
    assert text.cleaned(value) == {"a": ["b", {"c": "d"}, 1, None, True, 0.5], "e": "as it is"}
    assert text.on_terminals("a\x1b[2J\n  b\tc\x9d0;t\x9c\n") == "a\n  b c\n"
