"""Tables and figures of a study from its records alone, without torch; only a figure imports a plotting library."""

from bench.report.study import is_one_table, print_table, write

__all__ = ["is_one_table", "print_table", "write"]
