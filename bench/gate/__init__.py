"""The gate: has the variance of a cell grown, or has it become biased, since its baseline was accepted?"""

from bench.gate.check import Options, Report, check
from bench.gate.decide import Finding, Verdict
from bench.gate.measure import accept
from bench.gate.select import Picked, Selection, pick, select

__all__ = ["Finding", "Options", "Picked", "Report", "Selection", "Verdict", "accept", "check", "pick", "select"]
