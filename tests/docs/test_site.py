"""The documentation site builds without a warning, and has every page, command and option."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli import cli

ROOT = Path(__file__).parents[2]
COMMAND = "python3 -m sphinx -W -c docs . build/docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("sphinx", reason="the site is built with the extra docs")
    folder = tmp_path_factory.mktemp("site")
    words = COMMAND.split()[1:-1]
    done = subprocess.run(
        [sys.executable, *words, "-q", "--keep-going", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def page(site, name):
    return (site / "docs" / f"{name}.html").read_text(encoding="utf-8")


def test_the_first_page_leads_to_the_landing_page_whose_sidebar_has_every_page(site):
    assert 'url=docs/index.html"' in (site / "index.html").read_text(encoding="utf-8")
    text = page(site, "index")
    for source in (ROOT / "docs").glob("*.md"):
        assert f'href="{source.stem}.html"' in text or source.stem == "index", source.name


def test_the_python_reference_is_made_from_docstrings(site):
    text = page(site, "api-bench") + page(site, "api-estimators")
    found = set(re.findall(r'<dt class="[^"]*" id="([^"]+)"', text))
    assert {"bench.measure", "estimators.RLOO", "bench.objectives.Problem", "bench.conformance.Conformance"} <= found


def test_every_command_and_option_is_in_the_command_reference(site):
    text = page(site, "commands")
    found = 0
    for name, command in [*cli.commands.items(), *cli.commands["baseline"].commands.items()]:
        if not command.hidden:
            assert f'id="bench-{"baseline-" * (name not in cli.commands)}{name}"' in text
            options = {option for param in command.params for option in param.opts if option.startswith("-")}
            assert all(f">{option}<" in text for option in options), name
            found += len(options)
    assert found > 50


def test_formulas_stand_on_lines_of_their_own_and_the_search_works_without_a_server(site):
    rloo = page(site, "api-estimators").split('id="estimators.RLOO"')[1].split("<dt class=")[0]
    assert re.search(r'<div class="line"><code [^>]*><span class="pre">g</span>', rloo)
    assert "reparameterization" in (site / "searchindex.js").read_text(encoding="utf-8")


def test_every_picture_is_there(site):
    pages = [*site.glob("*.html"), *site.glob("docs/*.html"), *site.glob("results/*/*.html")]
    found = [
        (path, source) for path in pages for source in re.findall(r'<img [^>]*src="([^"]+)"', path.read_text("utf-8"))
    ]
    assert len(found) > 5
    assert not [(path, source) for path, source in found if not (path.parent / source).exists()]


def test_the_command_that_builds_the_site_is_documented():
    assert all(COMMAND in (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md"))
