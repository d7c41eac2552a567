"""Builds the page of every committed study: ``python docs/pages.py OUT`` writes OUT/reference.html and so on."""

import sys
from pathlib import Path

from bench.records import files, store
from bench.report.page import page
from bench.report.prepared import prepared

ROOT = Path(__file__).parents[1]


def pages() -> dict[str, str]:
    """Return the page of every study in ``results``, by the name of its folder."""
    found = {}
    for lines in sorted((ROOT / "results").glob(f"**/{store.LINES}")):
        records = store.read(lines.parent, lean=True)
        name = "-".join(lines.parent.relative_to(ROOT / "results").parts)
        table = None if all(record["kind"] == "training" for record in records) else prepared(records)
        found[name] = page(table, records, name)
    return found


def main(out: str) -> None:
    """Write all pages into a folder."""
    for name, text in pages().items():
        files.write(Path(out) / f"{name}.html", text)
        print(Path(out) / f"{name}.html")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("Give the folder for the pages: python docs/pages.py OUT")
    main(sys.argv[1])
