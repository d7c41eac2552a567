"""A Dask cluster in place of the worker processes of ``bench.execution.pool``, with the same results.

The coordinator is the process that the user started; it alone writes records. Every worker of the cluster has a process
of its own that measures, so that a crash costs the worker nothing.
"""
