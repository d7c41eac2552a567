"""The gate: tells whether a variance has grown, or a bias has appeared, since a baseline was accepted."""

from bench.gate.decide import Finding, Verdict
from bench.gate.measure import accept
from bench.gate.select import Picked, Selection, pick, select
from bench.gate.stages import Options, Report, check

__all__ = ["Finding", "Options", "Picked", "Report", "Selection", "Verdict", "accept", "check", "pick", "select"]
