"""Is this gradient right? Oracles, verdicts, a report, and what is wrong. Which file answers which question:

gradcheck.py      Is this gradient right? Everything put together: read it first.
examination.py    Is it right at every element of every input and parameter?
half.py           Is it right that is computed in float16 or bfloat16?
subject.py        How is the code a function of named arrays, in any precision? With inputs.py, what it is called with;
                  outputs.py, what it returns; returned.py, which gradient is whose; trees.py, arrays in tuples, dicts,
                  and dataclasses.
pytest_plugin.py  How does a failed test show the whole report?

oracles/     What is a derivative measured by?
    complex_step.py, complex_safe.py    Im f(x + ih)/h, and where a forward loses it
    richardson.py, staircase.py         central differences with an error bar, and what rounding hides of it
    derivatives.py, signs.py            Which of the two is to be believed here? What do all elements say together?
    dot_product.py, large.py            ⟨dy, Jv⟩ = ⟨Jᵀdy, v⟩: for a model of any size
    second.py                           Is the Hessian symmetric, and a backward's own backward right?
    taylor.py, vcurve.py                How fast does the remainder fall, and how well can a step be chosen?
    rounding.py                         How much of a difference is rounding?
    identities.py, structure.py         What holds exactly, of a layer and of any pullback?
verdict/     What follows from the evidence?
    comparison.py, kinks.py             PASS, FAIL, DETACHED, UNRESOLVED, VACUOUS; KINK
    diagnosis.py, causes.py, shares.py  What is wrong? By evidence.py and context.py, what it may be explained by
    blame.py                            In which module?
    report.py, printed.py, plots.py     How is it told? With replay.py, the line that runs it again
bridges/     Is the gradient right that torch, JAX or autograd makes?
planted/     Would it have been caught, and named? kinds.py has the errors that people make
"""

from npora.check.gradcheck import gradcheck
from npora.check.oracles.taylor import TaylorResult, taylor_test
from npora.check.oracles.vcurve import VCurve, v_curve
from npora.check.verdict.diagnosis import Context, diagnose
from npora.check.verdict.report import Element, Report, Row

__all__ = [
    "Context", "Element", "Report", "Row", "TaylorResult", "VCurve", "diagnose", "gradcheck", "taylor_test", "v_curve",
]  # fmt: skip
