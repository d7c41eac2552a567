"""Tables and figures of a study from its records alone, without torch; only a figure imports a plotting library."""

from bench.report.study import print_table, write

__all__ = ["print_table", "write"]
