"""The audit of a policy-gradient loss: which gradient it has on average, by which factor and angle it is off."""

from bench.audit.api import audit
from bench.audit.result import Audit

__all__ = ["Audit", "audit"]
