"""Is this gradient right? Oracles, verdicts, a report, and what is wrong."""

from npora.check.diagnosis import Context, diagnose
from npora.check.gradcheck import gradcheck
from npora.check.report import Element, Report, Row

__all__ = ["Context", "Element", "Report", "Row", "diagnose", "gradcheck"]
