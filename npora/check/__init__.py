"""Is this gradient right? Oracles, verdicts, a report, and what is wrong."""

from npora.check.gradcheck import gradcheck
from npora.check.oracles.taylor import TaylorResult, taylor_test
from npora.check.oracles.vcurve import VCurve, v_curve
from npora.check.verdict.diagnosis import Context, diagnose
from npora.check.verdict.report import Element, Report, Row

__all__ = [
    "Context", "Element", "Report", "Row", "TaylorResult", "VCurve", "diagnose", "gradcheck", "taylor_test", "v_curve",
]  # fmt: skip
