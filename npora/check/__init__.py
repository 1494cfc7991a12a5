"""Is this gradient right? Central differences, the dot-product test, and a report."""

from npora.check.gradcheck import gradcheck
from npora.check.report import Report, Row

__all__ = ["Report", "Row", "gradcheck"]
