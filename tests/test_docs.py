"""What the documentation shows is run, and what can drift is generated."""

import ast
import csv
import functools
import importlib.util
import inspect
import re
import struct
from pathlib import Path

import pytest

import bench
import estimators
from bench import conformance
from bench.gate.findings import Verdict
from bench.records.lines import LineKind, Outcome
from bench.report import by_objective, compare
from bench.report.curves import problems
from bench.report.training import sections
from bench.report.words import STATUSES
from bench.stats import printing
from bench.stats.summary import BiasVerdict, Direction, Flag, Status
from tests.report.training_records import study

ROOT = Path(__file__).parent.parent
README, CONTRIBUTING = ROOT / "README.md", ROOT / "CONTRIBUTING.md"

LEANING = re.compile(
    r"\b(the same as above|likewise|as above|see above|of those that|the others as for"
    r"|respectively|the former|the latter|vice versa)\b",
    re.IGNORECASE,
)
"""Phrases that send the reader to another docstring, or back in this one."""
LEANING_START = re.compile(r"\A(The same|Return the same|As above|(It|Its|They|This|That|These|Those|Such|Both)\b)")
PROSE = re.compile(r"\b(and|are|at|by|for|if|in|is|of|on|or|the|to|where|with)\b")
"""Words that tell a clause before an equals sign from the left-hand side of a formula."""
NAME_BEHIND_FACTOR = re.compile(r"[^\s+\-−*/·^<>≤≥±] [^\W\d]\w*$")
DISPLAYED = re.compile(r"``[^`]* = [^`]*(``(,?  .*)?)?$")
"""The first line of a paragraph of formulas, one a line; a note may follow a formula after two spaces."""
BEHIND_A_NOTE = re.compile(r"[^,\s`] ``[^`]* = ")
SECTION = re.compile(r"(Args|Raises|Returns):$")
RELATIVE = re.compile(r"\b(which|that|who|whose|whom|where)\b", re.IGNORECASE)
MOST_WORDS, MOST_RELATIVES = 28, 2
"""Limits for a sentence of a docstring: words between two stops, and relative pronouns."""
DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def script(name):
    """Return a script of the folder docs as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(path, language):
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"))


def test_the_training_step_reaches_encoder_and_decoder_and_one_line_changes_it():
    step, change = blocks(README, "python")[:2]
    assert len(step.strip().splitlines()) <= 12
    assert len(change.strip().splitlines()) == 1
    (before,) = [line for line in step.splitlines() if line.startswith("latent, estimator =")]
    for text in (step, step.replace(before, change.strip())):
        names = {}
        exec(text, names)
        for part in ("encoder", "decoder"):
            gradient = names[part].weight.grad
            assert gradient is not None
            assert gradient.abs().sum() > 0


def test_the_same_step_trains_two_layers():
    step, change, two = blocks(README, "python")[:3]
    (before,) = [line for line in step.splitlines() if line.startswith("latent, estimator =")]
    names = {}
    exec(step.replace(before, change.strip()), names)
    for part in ("encoder", "decoder"):
        names[part].zero_grad()
    exec(two, names)
    for part in ("encoder", "decoder", "up", "down"):
        assert names[part].weight.grad.abs().sum() > 0


def test_quick_start_is_two_blocks_of_one_command():
    section = README.read_text(encoding="utf-8").split("## Quick start")[1].split("\n## ")[0]
    found = re.findall(r"(?ms)^```bash\n(.*?)^```", section)
    assert len(found) == 2
    assert all(len(block.strip().splitlines()) == 1 for block in found)
    assert "bench run" in found[0]
    assert "pytest" in found[1]


def test_contributing_is_short():
    assert len(CONTRIBUTING.read_text(encoding="utf-8").splitlines()) < 60


def test_the_glossary_has_every_word_of_the_records_and_no_other():
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    for title, words in (
        ("Status of a variance", Status),
        ("Verdict on the bias", BiasVerdict),
        ("Scale and direction", Direction),
        ("Flags", Flag),
        ("Records", [*LineKind, *Outcome]),
        ("Verdicts of a check", Verdict),
    ):
        section = text.split(f"## {title}\n")[1].partition("\n## ")[0]
        rows = re.findall(r"(?m)^\| ([^|]+) \| [^|]{10,} \|$", section)
        assert sorted(rows) == sorted(map(str, words)), title
    for word in ("cell", "replicate", "draw", "block", "evaluation", "margin", "cv²", "eff.", "khat", "reference"):
        assert f"| {word}" in text


def test_the_glossary_has_every_word_that_tables_and_measurements_print():
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    entries = {word.strip() for row in re.findall(r"(?m)^\| ([^|]+) \|", text) for word in row.split(",")}
    training = sections(problems(study()))[0].header
    said = re.findall(r"(rel\. bias|bias/sd|P\(other\))", inspect.getsource(printing))
    assert set(said) == {"rel. bias", "bias/sd", "P(other)"}
    remarks = ("learned and frozen at this point", "still learning", "float resolution", "not within ±5 %")
    words = [*by_objective.HEADER, *training, *compare.HEADER, *filter(None, STATUSES.values()), *said, *remarks]
    words += ["same samples", "paired", "independent", "B lower", "B higher", "no difference seen"]
    plain = {re.sub(r" \(95 %\)$", "", word) for word in words} - {
        "estimator",
        "cell",
        "noise",
        "remarks",
        "diverged",
        "",
    }
    assert {re.sub(r"^at \d+ f$", "at N f", word) for word in plain} - {"level"} <= entries


def test_the_readme_shows_eight_lines_of_the_first_table():
    (screen,) = blocks(README, "text")
    lines = screen.splitlines()
    assert len(lines) == 8
    assert lines[0].split()[:3] == ["objective", "best", "unbiased"]
    assert max(map(len, lines)) <= 114


def test_the_picture_of_the_readme_is_drawn_from_the_reference_study_and_fits_a_phone():
    picture = script("picture")
    content = picture.PICTURE.read_bytes()
    assert picture.digest(picture.runs()).encode() in content[:500], "it is old: run python docs/picture.py"
    width, _ = struct.unpack(">2I", content[16:24])
    assert width == round(picture.WIDTH * picture.PIXELS)
    assert f'<img src="docs/{picture.PICTURE.name}" width="390"' in README.read_text(encoding="utf-8")


def test_the_first_example_of_measuring_ends_in_a_clear_answer(capsys):
    (block,) = [text for text in blocks(README, "python") if "import measure" in text]
    exec(block, {})
    assert re.fullmatch(r"UNBIASED_WITHIN_TOL [\d.]+ \([\d., ]+\)\nBIASED\n", capsys.readouterr().out)


def test_links_lead_somewhere():
    for page in [README, CONTRIBUTING, *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links {target}"


def test_every_public_name_is_in_the_python_reference_once():
    pages = [(ROOT / "docs" / f"api-{name}.md").read_text(encoding="utf-8") for name in ("bench", "estimators")]
    found = re.findall(r"(?m)^\.\. auto\w+:: (\S+)$", "".join(pages))
    packages = (bench, estimators, bench.objectives, conformance)
    names = {f"{package.__name__}.{name}" for package in packages for name in package.__all__}
    assert not names - {"bench.objectives", "bench.objectives.Theta", *found}
    assert len(found) == len(set(found))


def test_every_page_is_in_the_table_of_contents():
    text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    listed = re.findall(r"(?m)^([\w-]+)$", "".join(re.findall(r"(?ms)^```{toctree}\n(.*?)^```", text)))
    assert sorted(["index", *listed]) == sorted(path.stem for path in (ROOT / "docs").glob("*.md"))


def test_catalogue_pages_are_current():
    for page, make in script("generate").PAGES.items():
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        assert text == make(), f"docs/{page} is old: run python docs/generate.py"


def test_the_figures_that_the_tutorial_on_reports_explains_are_in_its_table():
    text = (ROOT / "docs" / "read-a-report.md").read_text(encoding="utf-8")
    table = re.search(r"(?ms)^```text\n(.*?)^```", text)[1]
    quoted = re.findall(r"`([^`\n]*\d[^`\n]*)`", text.partition("<!-- end -->")[2])
    assert len(quoted) > 8
    assert not [figure for figure in quoted if figure not in table and not figure.startswith("bench ")]


def test_ranks_of_the_estimators_equal_the_ranks_in_the_reference_studys_table():
    sections = re.split(r"(?m)^## ", (ROOT / "docs" / "estimators.md").read_text(encoding="utf-8"))[1:]
    page = {found[1]: text for text in sections if (found := re.search(r"Selector: `([^`]+)`", text))}
    with (ROOT / "results" / "reference" / "table.csv").open(encoding="utf-8", newline="") as file:
        ranked = [row for row in csv.DictReader(file) if row["rank_low"]]
    assert len(ranked) > 50
    for row in ranked:
        lines = page[row["estimator"].partition(":")[0]].splitlines()
        head = next(line for line in lines if line.startswith("| rank by variance"))
        (line,) = [line for line in lines if line.startswith(f"| `{row['problem']}` |")]
        cell = line.split(" | ")[[word.strip(" |") for word in head.split(" | ")].index(f"`{row['estimator']}`")].strip(
            " |"
        )
        low, high = (int(float(row[f"rank_{end}"])) for end in ("low", "high"))
        assert cell.startswith(f"{low} of " if low == high else f"{low}–{high} of ")


def test_every_command_is_documented():
    from bench.cli import cli

    text = "".join(p.read_text(encoding="utf-8") for p in [README, *(ROOT / "docs").glob("*.md")])
    for name in cli.list_commands(None):
        assert f"bench {name}" in text, f"bench {name} is not in the documentation"


def public_definitions(body):
    """Yield the classes and functions of a module or a class that have no leading underscore."""
    return (node for node in body if isinstance(node, DEFINITIONS) and not node.name.startswith("_"))


def parsed(module):
    path = ROOT.joinpath(*module.split("."))
    return ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8"))


def imports(tree):
    """Yield the modules of this project that a module imports names from, and the names."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("bench", "estimators"):
            yield from ((node.module, alias.name) for alias in node.names)


def definition(module, name):
    """Return the class or function that a module defines or re-exports under a name; None for any other object."""
    tree = parsed(module)
    own = [node for node in tree.body if isinstance(node, DEFINITIONS) and node.name == name]
    return own[0] if own else next((definition(*found) for found in imports(tree) if found[1] == name), None)


def nodes_inside(name, node):
    """Yield a definition with its dotted name, and the public definitions inside if it is a class."""
    yield name, node
    if isinstance(node, ast.ClassDef):
        for inner in public_definitions(node.body):
            yield from nodes_inside(f"{name}.{inner.name}", inner)


@functools.cache
def public_nodes():
    """Return every public module, class, function, method and property with its dotted name.

    A module is public if no part of its name has a leading underscore. What a package re-exports from its private
    modules is public under the name of the package.
    """
    nodes = []
    for path in sorted(p for package in ("bench", "estimators") for p in (ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        parts = parts[:-1] if is_package else parts
        if any(part.startswith("_") for part in parts):
            continue
        module, tree = ".".join(parts), parsed(".".join(parts))
        nodes.append((module, tree))
        for node in public_definitions(tree.body):
            nodes.extend(nodes_inside(f"{module}.{node.name}", node))
        for source, name in imports(tree) if is_package else ():
            if "._" in source and not name.startswith("_") and (node := definition(source, name)) is not None:
                nodes.extend(nodes_inside(f"{module}.{name}", node))
    return nodes


@functools.cache
def public_docstrings():
    return {name: text for name, node in public_nodes() if (text := ast.get_docstring(node))}


def leaning(text):
    """Return the phrase that makes a docstring depend on another one, or an empty string."""
    flat = " ".join(text.split())
    found = LEANING_START.search(flat) or LEANING.search(flat)
    return found[0] if found else ""


def lines_of_two_formulas(text):
    """Return the lines of a docstring in which one formula follows another, as in ``a = b, c = d``.

    A comma, a semicolon or two spaces end a formula. So does a name behind a factor if the line begins with a formula,
    as in ``a = b c = d``. Code spans and brackets count as one symbol, and ``a = b = c`` is one formula.
    """
    plain = re.sub(r"``.*?``|`[^`]*`", lambda span: "□" + "\n" * span[0].count("\n"), text, flags=re.DOTALL)
    return [line for line, bare in zip(text.splitlines(), plain.splitlines(), strict=True) if has_two_formulas(bare)]


def has_two_formulas(line):
    while (shorter := re.sub(r"[(\[{][^()\[\]{}]*[)\]}]", "□", line)) != line:
        line = shorter
    left, *middle = line.strip().split(" = ")[:-1] or [""]
    for part in middle:
        *ended, following = re.split(r"[,;]\s+|\s{2,}", part)
        if (ended or (" " not in left and NAME_BEHIND_FACTOR.search(part))) and not PROSE.search(following):
            return True
    return False


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = b, c = d", 1),
        ("a = f(x, y);  c = d", 1),
        ("``code``\n    z = (x − y)/se,   p = T sf(z),   v = clip(n, 1, 2)", 1),
        ("    mean = mean_a + n_b/n M2 = M2a + M2b", 1),
        ("a = b\nc = d", 0),
        ("H(s, t) = P(u < s, v < t) = max(s + t - 1, 0)", 0),
        ("the chain a = b + c = d, at most 1", 0),
        ("``a = b``,  ``c = d``,  e = f", 0),
        ("With d = x − y and n = k + m::", 0),
        ("At p = 1 only the left one exists, at p = 0 only the right one.", 0),
        ("Call with n=4, dim=10 where a = b.", 0),
        ("no formula, none at all", 0),
    ],
)
def test_two_formulas_on_a_line_are_found_and_a_chain_is_one(text, expected):
    assert len(lines_of_two_formulas(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Return the same of any other estimator.", "Return the same"),
        ("Those of\nthe runs.", "Those"),
        ("Return a and b.\n\nThe latter is 0.", "The latter"),
        ("They are all equal.", "They"),
        ("Return b.\n\nArgs:\n    b: likewise.", "likewise"),
        ("Return the rows, of those\n    that begin early.", "of those that"),
        ("Return the rows of a draw; the same seed gives the same rows. No value was above 1.", ""),
    ],
)
def test_a_docstring_that_leans_on_another_is_found(text, expected):
    assert leaning(text) == expected


def test_public_docstrings_include_methods_properties_and_what_packages_re_export():
    names = public_docstrings().keys()
    assert {"bench", "estimators.rloo.RLOO", "bench.api.Measurement.variance", "bench.api.Measurement.frame"} <= names
    assert {"estimators.Estimator", "estimators.Estimator.refuses", "bench.objectives.Objective.build"} <= names
    assert not [name for name in names if "._" in name]


def test_every_docstring_stands_alone():
    found = {name: phrase for name, text in public_docstrings().items() if (phrase := leaning(text))}
    assert not found, "\n".join(f"{name}: {phrase!r}" for name, phrase in found.items())


def test_a_line_of_a_docstring_holds_one_formula():
    found = {name: lines for name, text in public_docstrings().items() if (lines := lines_of_two_formulas(text))}
    assert not found, "\n".join(f"{name}: {line.strip()}" for name, lines in found.items() for line in lines)


def formulas_joined(text):
    """Return the lines of displayed formulas, or of a table, that begin or end in the middle of another one.

    A formula of two lines is broken before an operator.
    """
    found = []
    for lines in (paragraph.splitlines() for paragraph in text.split("\n\n")):
        is_open = False
        for line in lines if lines and DISPLAYED.match(lines[0]) else ():
            if not line.strip().startswith(("=", "+", "-") if is_open else "``") or BEHIND_A_NOTE.search(line):
                found.append(line)
            is_open ^= line.count("``") % 2 == 1
        found += [line for line in lines if "| |" in line]
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("``a = b``,  b a bit ``c = d``,  d a bit", 1),
        ("``a = b``,  b a bit\nor a number", 1),
        ("``a = b\nc``", 1),
        ("| a | b | | --- | --- |\n| 1 | 2 |", 1),
        ("``a = b``,  b a bit\n``c = d``", 0),
        ("``a = b\n   + c``,  c a bit", 0),
        ("``a = b`` is a choice\nof the user.", 0),
        ("| a | b |\n| --- | --- |\n| 1 | 2 |", 0),
    ],
)
def test_displayed_formulas_that_were_joined_are_found(text, expected):
    assert len(formulas_joined(text)) == expected


def test_displayed_formulas_and_tables_keep_their_lines():
    found = {name: lines for name, text in public_docstrings().items() if (lines := formulas_joined(text))}
    assert not found, "\n".join(f"{name}: {line.strip()}" for name, lines in found.items() for line in lines)


def sentences(text):
    """Yield the sentences of a docstring, without displayed formulas, tables and references; code counts as a word."""
    paragraphs, listed = [""], False
    for line in text.splitlines():
        bare = line.strip()
        listed = bool(SECTION.match(bare)) or (listed and (not bare or line.startswith("    ")))
        if not bare or (line.startswith("    ") and not listed) or DISPLAYED.match(line) or bare.startswith("|"):
            paragraphs.append("")
        elif bare.startswith("- ") or (listed and re.match(r"    \S", line)) or SECTION.match(bare):
            paragraphs.append(bare)
        else:
            paragraphs[-1] += f" {bare}"
    for paragraph in paragraphs:
        plain = re.sub(r"``[^`]*``|`[^`]*`|\[[^\]]*\]|\"[^\"]*\"", "x", paragraph.strip(" -"))
        if not plain.startswith(("Reference", "Source")):
            yield from re.split(r"(?<=[.!?])\s+", plain)


def crowded(text):
    """Return the sentences of a docstring that nobody can read once: too many words, or clauses inside clauses."""
    return [
        sentence
        for sentence in sentences(text)
        if max(len(re.findall(r"\S*\w\S*", part)) for part in re.split(r"[;:](?=\s)", sentence)) > MOST_WORDS
        or len(RELATIVE.findall(sentence)) > MOST_RELATIVES
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Return a.\n\n" + "word " * 29, 1),
        ("Args:\n    a: " + "word " * 20 + "\n        " + "word " * 10, 1),
        ("Return the file that a user whose study has failed may read which ends in a line.", 1),
        ("Return a.\n\n" + "word " * 20 + "end. " + "word " * 20, 0),
        ("Args:\n    a: " + "word " * 20 + "\n    b: " + "word " * 20, 0),
        ("``a = b``,  " + "word " * 30, 0),
        ("Return a.\n\nReference: " + "word " * 40, 0),
        ("Return the file that a user may read, which ends in a line.", 0),
    ],
)
def test_a_sentence_that_cannot_be_read_once_is_found(text, expected):
    assert len(crowded(text)) == expected


def test_sentences_of_docstrings_can_be_read_once():
    found = {name: texts for name, text in public_docstrings().items() if (texts := crowded(text))}
    assert not found, "\n".join(f"{name}: {sentence}" for name, texts in found.items() for sentence in texts)


def arguments(node):
    """Return the names of a function's arguments, or of the fields of a dataclass or named tuple."""
    if isinstance(node, ast.ClassDef):
        made = " ".join(map(ast.dump, [*node.decorator_list, *node.bases]))
        fields = [each for each in node.body if isinstance(each, ast.AnnAssign) and "ClassVar" not in ast.dump(each)]
        is_data = "dataclass" in made or "NamedTuple" in made
        return [field.target.id for field in fields if is_data and not field.target.id.startswith("_")]
    every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
    return [arg.arg for arg in every if arg is not None and arg.arg not in ("self", "cls") and arg.arg[0] != "_"]


def unexplained(node):
    """Return the arguments that a docstring with a list of arguments leaves out; limits of intervals may be missing."""
    text = ast.get_docstring(node) or ""
    return [
        name
        for name in (arguments(node) if "\nArgs:\n" in text else ())
        if not re.search(rf"\b{name}\b", text) and not name.endswith(("_low", "_high", "_iqr"))
    ]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ('def f(a, *, b):\n    """Return c.\n\n    Args:\n        a: a number.\n    """', ["b"]),
        ('def f(a, **b):\n    """Return c.\n\n    Args:\n        a: a number.\n        b: more.\n    """', []),
        ('def f(a, b):\n    """Return the sum."""', []),
        (
            '@dataclass\nclass F:\n    """Two.\n\n    Args:\n        a: a number.\n    """\n\n    a: int\n    b: int',
            ["b"],
        ),
    ],
)
def test_an_argument_that_a_list_leaves_out_is_found(code, expected):
    assert unexplained(ast.parse(code).body[0]) == expected


def test_lists_of_arguments_are_complete():
    nodes = ((name, node) for name, node in public_nodes() if not isinstance(node, ast.Module))
    found = {name: missing for name, node in nodes if (missing := unexplained(node))}
    assert not found, "\n".join(f"{name}: {', '.join(missing)}" for name, missing in found.items())
