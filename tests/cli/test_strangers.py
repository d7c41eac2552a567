"""A study or baseline of a stranger: its texts steer no terminal, page, spreadsheet, parser or figure."""

import csv
import io
import json
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt
from matplotlib import rc_context
from rich.text import Text

from bench.cli.terminal import console
from bench.records import store
from bench.report import figures, study
from bench.report.figures.theme import LOOK
from tests.docs.pages import ROOT
from tests.report import records

NASTY = (
    "=cmd|' /C calc'!A0 \x1b[2J\x9b31m\x1b]0;title\x07\u202e\u200b\x7f\ud800\n# head\r\n- item <script>a</script>"
    " [x](javascript:1) ![](http://e.org/i) www.e.org &lt;b&gt; `code` $\\frac{1}{$ [bold]x[/bold] @team"
)
SHOWN = (
    "=cmd|' /C calc'!A0 # head - item <script>a</script>"
    " [x](javascript:1) ![](http://e.org/i) www.e.org &lt;b&gt; `code` $\\frac{1}{$ [bold]x[/bold] @team"
)
"""What is left of it where text is shown: one line, all of its printable characters, and nothing that hides."""

TRAINED = ROOT / "results" / "vae" / store.LINES


def hostile(record):
    """The record with the text in all places that a person gets to see."""
    named = {key: f"{NASTY}{record[key]}" for key in ("estimator", "objective", "estimator_name", "objective_name")}
    texts = dict.fromkeys(("family", "device"), NASTY) | {"shared": [NASTY]}
    return record | named | texts | {"environment": {"torch": NASTY, NASTY: NASTY}}


@pytest.fixture
def strange(tmp_path):
    """A folder with such a study, as a stranger writes it, not as the store does."""
    folder = tmp_path / "strange"
    folder.mkdir()
    lines = [records.moments("rloo:n=2", "o", 2.0), records.moments("rloo:n=4", "o", 1.0)]
    lines += [records.line("arm", "o", outcome="failed", reason=NASTY)]
    lines += [json.loads(line) for line in sorted(TRAINED.read_text().splitlines(), key=len)[:2]]
    (folder / store.LINES).write_text("".join(f"{json.dumps(hostile(line))}\n" for line in lines))
    return folder


def is_harmless(text):
    return text.replace("\n", "").isprintable()


def test_reports_are_harmless(call, strange):
    done = call("report", "strange", "--no-figures")
    assert done.code == 0, done.err
    assert is_harmless(done.out + done.err)
    assert SHOWN in " ".join(done.out.split()), "nothing printable is lost"
    for name in ("table.md", "training.md"):
        page = (strange / name).read_text()
        assert is_harmless(page)
        tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(page)
        inside = {child.type for token in tokens for child in token.children or ()}
        assert inside <= {"text", "strong_open", "strong_close", "softbreak", "code_inline", "text_special"}
        assert {token.type for token in tokens} & {"html_block", "hr", "ordered_list_open"} == set()
        plain = "".join(child.content for token in tokens for child in token.children or ())
        assert SHOWN in plain, "what is escaped is shown as it is"
    for name in ("table.csv", "training.csv"):
        text = (strange / name).read_text()
        assert is_harmless(text)
        cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
        assert any(cell.startswith(f"'{SHOWN}") for cell in cells)
        assert not [cell for cell in cells if cell.startswith(("=", "@", "+"))]


@pytest.mark.parametrize(
    "words", [("compare", "strange", "strange"), ("verify", "strange"), ("report", "strange", "--json", "--no-figures")]
)
def test_other_commands_are_harmless(call, strange, words):
    done = call(*words)
    assert done.code == 0, done.err
    assert is_harmless(done.out + done.err)
    if "--json" in words:
        assert json.loads(done.out)["records"][0]["family"] == SHOWN


def test_figures_show_the_text_as_it_is(strange):
    table = study.prepared([line for line in store.read(strange) if line["kind"] == "moments"])
    with rc_context(LOOK):
        figure = figures.draw("variance-cost", table)
        target = io.BytesIO()
        figure.savefig(target, format="svg")
    tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(target.getvalue()).iter()}
    assert tags & {"script", "a", "image", "foreignObject"} == set()


def test_the_gate_is_harmless_and_a_fault_wins_over_a_report_that_cannot_be_written(call, tmp_path):
    held = json.loads((ROOT / "results" / "baselines" / "ci.json").read_text())
    nasty = NASTY.replace("\ud800", "").replace(":", "")  # otherwise it is refused, as no selector
    held["cells"] = [held["cells"][0] | {"estimator": nasty, "objective": nasty, "status": nasty}]
    held["environment"] = dict.fromkeys(held["environment"], nasty)
    (tmp_path / "b.json").write_text(json.dumps(held))
    check = ("check", "--baseline", "b.json", "--quiet")
    done = call(*check, "--junit", "new/folder/j.xml", "--markdown", "new/m.md")
    assert (done.code, is_harmless(done.out + done.err)) == (3, True)
    suite = ElementTree.parse(tmp_path / "new" / "folder" / "j.xml").getroot()
    assert is_harmless("".join(f"{e.attrib}{e.text or ''}" for e in suite.iter()))
    assert SHOWN.partition(" [x]")[0] in suite.find("testsuite/testcase").get("name")
    page = (tmp_path / "new" / "m.md").read_text()
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(page)
    inside = {child.type for token in tokens for child in token.children or ()}
    assert inside <= {"text", "strong_open", "strong_close", "softbreak", "code_inline", "text_special"}
    for words in (("baseline", "show", "b.json"), ("baseline", "show", "b.json", "--json"), (*check, "--json")):
        done = call(*words)
        assert is_harmless(done.out + done.err)
    (tmp_path / "full.md").symlink_to("/dev/full")
    done = call(*check, "--markdown", "full.md")
    assert (done.code, "missing" in done.out) == (3, True)
    assert "Error: full.md cannot be written: No space left on device." in done.err
    done = call(*check, "--markdown", "new")
    assert (done.code, done.out) == (2, "")
    assert done.err == "Error: new cannot be written: Is a directory. Choose another folder.\n"


def test_a_console_lets_no_control_character_of_a_text_pass():
    target = io.StringIO()
    screen = console(file=target, force_terminal=True, color_system="standard", width=400)
    screen.print(Text(NASTY, style="red"))
    screen.print(NASTY.replace("\ud800", ""), markup=False)
    said = target.getvalue()
    assert "\x1b[31m" in said, "our own colours stay"
    for sign in ("\x1b[2J", "\x9b", "\x1b]", "\x07", "\u202e", "\u200b", "\x7f"):
        assert sign not in said
