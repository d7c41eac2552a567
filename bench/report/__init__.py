"""Tables and figures of a study from its records alone, without torch; only a figure imports a plotting library."""

from bench.report.study import Report, is_one_table

__all__ = ["Report", "is_one_table"]
