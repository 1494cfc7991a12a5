"""Is this gradient right? Oracles, verdicts, a report, and what is wrong."""

from npora.check.diagnosis import Context, diagnose
from npora.check.gradcheck import gradcheck
from npora.check.report import Element, Report, Row
from npora.check.taylor import TaylorResult, taylor_test
from npora.check.vcurve import VCurve, v_curve

__all__ = [
    "Context", "Element", "Report", "Row", "TaylorResult", "VCurve", "diagnose", "gradcheck", "taylor_test", "v_curve",
]  # fmt: skip
