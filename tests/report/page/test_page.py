"""The page of a study: what it says, that nothing in it is foreign code, and that it is used in a browser."""

import json
import re
import shutil
from html.parser import HTMLParser

import pytest

from bench.cli import report as command
from bench.report import study
from bench.report.page import page
from bench.report.prepared import prepared
from tests.report import training_records
from tests.report.records import heavy, line, moments, timing
from tests.report.records import study as records_of_a_study

HOSTILE = "<script>alert(1)</script>|$x_1$ =cmd \u2028 </td>\x07 " + "w" * 200


class Document(HTMLParser):
    """The elements of a page, and the text outside of scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.texts, self.inside = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside not in ("script", "style"):
            self.texts.append(data)


def written(records, **more):
    return page(prepared(records), records, "study", **more)


@pytest.fixture(scope="module")
def text():
    return written(records_of_a_study())


def test_the_command_knows_the_formats_of_the_report():
    assert (study.FORMATS, (*study.FORMATS, *study.OTHERS)) == (command.USUAL, command.ALL)


def test_equal_records_give_equal_pages(text):
    assert written(records_of_a_study()) == text


def test_a_page_loads_nothing_and_is_small(text):
    document = Document(text)
    links = [value for _, name, value in document.attributes if name in ("src", "href", "data", "action")]
    assert all(link.startswith("#") for link in links)
    assert ("meta", "content") in {(tag, name) for tag, name, _ in document.attributes}
    assert "default-src 'none'" in text
    assert len(text.encode()) < 5e6


def test_a_page_says_who_leads_and_what_was_checked(text):
    shown = " ".join(" ".join(Document(text).texts).split())
    assert "gaussian-quadratic" in shown
    assert "lowest variance × evaluations" in shown
    assert "declarations: a bias was found only where one is declared" in shown
    assert "too heavy: only a lower limit of the variance" in shown


def test_a_group_that_ties_is_named_with_its_cheapest():
    records = [moments("a", "o", 1.0, f_evals=4.0), moments("b", "o", 2.0, f_evals=2.0), moments("c", "o", 90.0)]
    shown = " ".join(" ".join(Document(written(records)).texts).split())
    assert "a 4.00 ± 0.12 b 4.00 ± 0.12 lead together: tied for the lowest variance × evaluations" in shown
    assert "cheapest of them: b, 2 evaluations an estimate" in shown


def test_what_is_missing_is_said_in_a_banner(text):
    partial = written(records_of_a_study(), standing="3 of 9 cells are here, 6 to go.")
    assert 'class="banner" role="status">3 of 9 cells are here, 6 to go.' in partial
    assert "cells: none failed" in " ".join(" ".join(Document(written([moments("a", "o", 1.0)])).texts).split())
    assert 'class="banner" role' not in text


def test_a_declared_unbiased_estimator_with_a_bias_is_accused():
    shown = " ".join(Document(written([moments("a", "o", 1.0, bias=0.5), moments("b", "o", 1.0)])).texts)
    assert "a bias was found where none is declared: a" in shown


def test_a_study_of_failures_and_one_of_training_have_pages():
    failed = [line("a", "o", outcome="failed", reason="It broke.")]
    assert "It broke." in written(failed)
    trained = training_records.study()
    assert "Training" in page(None, trained, "study")


def test_hostile_labels_are_text(text):
    harmless, hostile = Document(text), written([moments(HOSTILE, HOSTILE, 1.0), moments("b", HOSTILE, 2.0)])
    document = Document(hostile)
    assert document.tags.count("script") == harmless.tags.count("script")
    assert "alert(1)" in "".join(document.texts)
    data = json.loads(re.search(r'(?s)<script type="application/json" id="data">(.*?)</script>', hostile)[1])
    assert any("<script>" in label for label in data["estimator"])
    assert "<script>alert" not in hostile


def test_bounds_are_no_points():
    records = [moments("a", "o", 1.0), moments("b", "o", 1.0, bias=0.5, unbiased=False)]
    data = json.loads(re.search(r'(?s)id="data">(.*?)</script>', written(records))[1])
    assert data["columns"]["bias"][0] is None
    assert data["columns"]["bias"][1] == pytest.approx(0.5, rel=0.1)


def test_parameters_that_were_swept_are_axes():
    records = [moments(f"gumbel-softmax:temperature={t}", "o", 1.0) for t in (1, 2)]
    data = json.loads(re.search(r'(?s)id="data">(.*?)</script>', written(records))[1])
    assert data["columns"]["estimator.temperature"] == [1.0, 2.0]
    assert data["axes"]["estimator.temperature"] == "temperature"


def test_one_measurement_has_a_chart():
    data = json.loads(re.search(r'(?s)id="data">(.*?)</script>', written([moments("a", "o", 1.0)]))[1])
    assert list(data["axes"]) == ["variance", "evals"]


def test_an_axis_names_the_unit_of_the_cost():
    records = [moments("a", "o", 1.0), moments("b", "o", 2.0)]
    data = json.loads(re.search(r'(?s)id="data">(.*?)</script>', written(records))[1])
    assert data["axes"]["variance_times_cost"] == "variance × evaluations"


def test_the_unit_of_the_report_is_chosen_at_first(text):
    measured = [moments("a", "o", 1.0), moments("b", "o", 2.0)]
    records = measured + [timing(record, 1e-6) for record in measured]
    by_seconds = page(prepared(records, "seconds"), records, "study")
    assert '<body data-unit="seconds">' in by_seconds
    assert "with the cost in seconds." in by_seconds
    noisy = measured + [timing(record, 1e-6, noisy=True) for record in measured]
    assert '<body data-unit="evaluations">' in page(prepared(noisy, "seconds"), noisy, "study")
    assert '<body data-unit="evaluations">' in text


def test_a_large_study_has_a_page_of_its_first_objectives(monkeypatch):
    monkeypatch.setattr("bench.report.page.contents.CELLS", 5)
    records = [moments(e, f"o{i}", 1.0) for i in range(4) for e in ("a", "b")]
    large = written(records, standing="Not done.")
    assert "Not done. This page shows the first 2 of 4 objectives; table.csv has all." in large
    assert [name in Document(large).texts for name in ("o1", "o2")] == [True, False]


# In a browser


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, text, tmp_path):
    """Open the page with the network blocked; afterwards no request left it, and nothing was complained about."""
    path, seen = tmp_path / "report.html", []
    path.write_text(text, encoding="utf-8")
    opened = []

    def go(fragment="", **context):
        window = browser.new_context(offline=True, **context)
        opened.append(window)
        tab = window.new_page()
        tab.on("console", lambda message: seen.append(message.text))
        tab.on("pageerror", lambda error: seen.append(str(error)))
        tab.on("requestfailed", lambda request: seen.append(request.url))
        tab.on(
            "request", lambda request: request.url.startswith(("file:", "blob:", "data:")) or seen.append(request.url)
        )
        tab.goto(f"file://{path}{fragment}")
        tab.wait_for_function("document.body.dataset.ready === '1'")
        return tab

    yield go
    for window in opened:
        window.close()
    assert seen == []


def test_hostile_labels_do_no_harm_in_a_browser(visit, tmp_path):
    hostile = [moments(e, o, 1.0) for e in (HOSTILE, "b") for o in (HOSTILE, "o")]
    hostile.append(line(HOSTILE, "p", outcome="failed", reason=HOSTILE))
    (tmp_path / "report.html").write_text(written(hostile), encoding="utf-8")
    tab = visit(viewport={"width": 800, "height": 600})
    assert tab.locator("#explorer svg").count() == 1
    assert tab.evaluate("document.documentElement.scrollWidth") <= 800


def first_rows(tab, column, count=3):
    cells = tab.locator(f"#cells tbody tr td:nth-child({column})")
    return [cells.nth(i).inner_text() for i in range(count)]


def test_the_table_is_sorted_and_filtered_and_a_link_shows_the_same(visit):
    tab = visit("#sort=99-up&without=99&hide=nobody&at=nowhere&x=nothing&unit=none&find=%5B(")
    assert tab.locator("#cells tbody tr").count() == 1, "nothing is found"
    tab = visit()
    header = [text.strip() for text in tab.locator("#cells thead th").all_inner_texts()]
    place = header.index("variance (95 %)") + 1
    tab.locator(f"#cells thead th:nth-child({place})").click()
    tab.get_by_role("searchbox").fill("reparameterization")
    rows = first_rows(tab, header.index("estimator") + 1)
    assert all("reparameterization" in row for row in rows)
    tab.wait_for_function("location.hash.includes('find=')")
    fragment = "#" + tab.evaluate("location.hash.slice(1)")
    assert first_rows(visit(fragment), place) == first_rows(tab, place)


def test_columns_of_numbers_are_sorted_by_number(visit, tmp_path):
    records = [moments(f"e{k}", "o", 10.0**k) for k in range(-6, 6)]
    records += [heavy("tail", "o", 300.0), moments("off", "o", 5.0, bias=0.5)]
    records += [line("c", "o", outcome="failed", reason="It broke.")]
    (tmp_path / "report.html").write_text(written(records), encoding="utf-8")
    tab = visit()
    header = [text.strip() for text in tab.locator("#cells thead th").all_inner_texts()]
    for name in ("eff.", "variance (95 %)", "rank"):
        place = header.index(name)
        tab.locator("#cells thead th").nth(place).click()
        tab.wait_for_function("i => document.querySelectorAll('#cells th')[i].ariaSort === 'ascending'", arg=place)
        shown = tab.evaluate(
            "i => [...document.querySelectorAll('#cells tbody tr')].map(r => r.cells[i].innerText)", place
        )
        numbers = [float(re.sub(r"^(?:≥ )?\(?([\d.]+)[^e]*(e-?\d+)?$", r"\1\2", text)) for text in shown if text != "–"]
        assert len(numbers) > 9
        assert numbers == sorted(numbers)
        assert shown[0] == "–"


def test_axes_and_units_are_chosen_and_kept_in_the_address(visit):
    tab = visit()
    assert tab.locator("#explorer svg").count() == 1
    before = tab.locator("#explorer").inner_text()
    tab.select_option("#y", "mse")
    tab.wait_for_function("before => document.getElementById('explorer').innerText !== before", arg=before)
    assert "mean squared error" in tab.locator("#explorer").inner_text()
    tab.select_option("#unit", "seconds")
    assert tab.locator('[data-unit="evaluations"]').first.is_hidden()
    again = visit("#" + tab.evaluate("location.hash.slice(1)"))
    assert (again.input_value("#y"), again.input_value("#unit")) == ("mse", "seconds")


def test_names_columns_and_the_section_are_kept_in_the_address(visit):
    tab = visit()
    drawn = tab.locator("#explorer .mark-symbol path")
    before = drawn.count()
    tab.locator("#legend button", has_text="rloo").focus()
    tab.keyboard.press("Enter")
    assert 0 < drawn.count() < before
    tab.get_by_text("Column visibility").click()
    tab.locator(".dt-button-collection").get_by_text("cos", exact=True).click()
    tab.keyboard.press("Escape")
    tab.locator("nav").get_by_text("All numbers").click()
    again = visit("#" + tab.evaluate("location.hash.slice(1)"))
    assert again.locator("#legend [aria-pressed=false]").all_inner_texts() == ["rloo"]
    assert "cos" not in again.locator("#cells thead th").all_inner_texts()
    assert again.evaluate("document.activeElement.id") == "numbers"


def test_swept_parameters_and_names_are_axes_with_markers_on_them(visit, tmp_path):
    records = [moments(f"gumbel-softmax:temperature={t}", "o", 1.0 + t) for t in (1, 2, 3)]
    (tmp_path / "report.html").write_text(written(records), encoding="utf-8")
    tab = visit()
    marks = tab.locator("#explorer .mark-symbol path")
    assert tab.input_value("#x") == "estimator", "all of them cost the same"
    assert marks.count() == 3
    tab.select_option("#x", "estimator.temperature")
    tab.wait_for_function("document.getElementById('explorer').textContent.includes('temperature')")
    places = {tab.evaluate("mark => mark.getAttribute('transform')", mark) for mark in marks.element_handles()}
    assert len(places) == 3


def test_what_is_shown_is_copied(visit):
    tab = visit("#find=rloo")
    tab.evaluate("document.execCommand = () => { window.copied = document.activeElement.value; }")
    tab.get_by_text("Copy CSV").click()
    rows = tab.evaluate("copied").splitlines()
    assert rows[0].startswith("objective,estimator,rank,bias")
    assert len(rows) > 1
    assert all("rloo" in row for row in rows[1:])
    assert tab.locator("#said").inner_text() == f"{len(rows) - 1} rows were copied."
    tab.get_by_text("Copy LaTeX").click()
    assert "$\\leq$" in tab.evaluate("copied")
    assert "\\begin{tabular}{llr" in tab.evaluate("copied")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_fault_of_accessibility(visit, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    found = axe.Axe().run(visit(color_scheme=scheme, viewport={"width": 390, "height": 800})).response["violations"]
    assert [fault["id"] for fault in found if fault["impact"] in ("serious", "critical")] == []
