"""Tables and figures of a study, from its records alone: no torch, no plotting library before a figure."""

from bench.report.study import print_table, write

__all__ = ["print_table", "write"]
