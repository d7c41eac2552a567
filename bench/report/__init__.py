"""Tables and figures of a study, made from its records alone: no torch, and no plotting library before a figure is drawn."""

from bench.report.study import print_table, write

__all__ = ["print_table", "write"]
