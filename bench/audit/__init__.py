"""The audit of a policy-gradient loss: its expected gradient, compared with those that it may be meant to have."""

from bench.audit.api import audit
from bench.audit.result import Audit

__all__ = ["Audit", "audit"]
