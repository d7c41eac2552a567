"""The papers of the estimators: every estimator has one, and what is written is BibTeX."""

import re
import tomllib
from pathlib import Path

import yaml

from bench.planning.catalogue import catalogue
from bench.report.references import bibtex, entries

FIELD = re.compile(r"^  ([a-z]+) = \{(.+)\},?$")
"""A field of an entry, on a line of its own."""
WANTED = {"article": "journal", "inproceedings": "booktitle", "book": "publisher"}


def test_every_estimator_has_a_paper_and_every_paper_an_estimator():
    assert {method for methods in entries().values() for method in methods} == set(catalogue("estimator"))


def test_the_year_and_an_author_are_those_of_the_catalogue():
    for name, facts in catalogue("estimator").items():
        mine = [entry for entry, methods in entries().items() if name in methods]
        for part in facts["reference"].split("; "):
            who, year = part.rpartition(" ")[::2]
            if part == "definition":  # whose entry is the paper that takes it for an estimator
                continue
            first = re.split(r" et al\.| & ", who)[0].split("-")[0].replace("á", "{\\'a}")
            assert [e for e in mine if f"year = {{{year}}}" in e and first in e], f"{name}: {part}"


def test_every_entry_is_bibtex():
    keys = []
    for entry in entries():
        head, *lines, end = entry.splitlines()
        kind, key = re.fullmatch(r"@([a-z]+)\{([a-z0-9]+),", head).groups()
        found = dict(FIELD.fullmatch(line).groups() for line in lines)
        assert end == "}"
        assert {"author", "title", "year", WANTED[kind]} <= found.keys(), key
        assert re.fullmatch(r"\d{4}", found["year"])
        assert key.endswith(found["year"]) or found["year"] in key, key
        assert all(line.endswith(",") for line in lines[:-1])
        assert not lines[-1].endswith(",")
        for value in found.values():
            assert value.count("{") == value.count("}")
            assert value.isascii()
            assert not re.search(r"(?<!\\)[&%#_]", value), value
        keys.append(key)
    assert keys == sorted(set(keys))


def test_only_what_was_measured_is_cited():
    assert re.findall(r"(?m)^@[a-z]+\{(.*),$", bibtex(["rloo", "mine"])) == ["kool2019buy"]
    assert bibtex(["mine"]) == "% The papers of the estimators of a study.\n"


def test_the_citation_of_the_software_agrees_with_its_package():
    root = Path(__file__).parents[2]
    cited = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"cff-version", "message", "title", "abstract", "type", "keywords"} <= cited.keys()
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])
    assert cited["authors"] == project["authors"]
    assert {*project["keywords"]} <= {*cited["keywords"]}
