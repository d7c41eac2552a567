"""The page of a study: one HTML file that needs no network and holds tables, charts and provenance."""

from bench.report.page.build import page

__all__ = ["page"]
