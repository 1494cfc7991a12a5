"""Which operation of a forward loses the imaginary part."""

from __future__ import annotations

import math
import sys
import warnings
from typing import Any

import numpy as np

from npora.check.oracles.richardson import unit_of
from npora.check.outputs import Outputs
from npora.check.subject import Subject
from npora.nn.module import Array

_STEP = 1e-20
_STEPS = (2.0**-20, 2.0**-28, 2.0**-36)  # of the differences: one of them must agree
ANALYTIC = frozenset((
    "add", "subtract", "multiply", "divide", "negative", "positive", "square", "reciprocal", "exp", "exp2", "expm1",
    "log", "log2", "log10", "log1p", "sin", "cos", "tan", "sinh", "cosh", "tanh", "matmul", "add.reduce",
))  # fmt: skip


def unsafe_operation(subject: Subject) -> str:
    """The first NumPy operation whose complex result is not its derivative, with its file and line; "" if none is.

    The forward is run once on arrays that watch every NumPy function applied to them. For each, the imaginary part
    that comes out is compared with a central difference of the same function along the imaginary part that went in.
    """
    rng = np.random.default_rng(0)
    watch = _Watch()
    try:
        _run(subject, {name: unit_of(x) * rng.standard_normal(x.shape) for name, x in subject.point.items()}, watch)
    except Exception as error:  # a forward may raise anything on complex numbers; what it was, and where, is the answer
        return watch.found or f"{type(error).__name__} {_where(error)}".strip()
    return watch.found


def lost_slope(subject: Subject, dy: Outputs, v: dict[str, Array]) -> float:
    """How much of ⟨dy, J v⟩ is lost in operations that are not complex-safe, relative to it: nothing where what they
    feed has no effect on it (a scale that cancels). Each is given the imaginary part that its differences say."""
    slopes = []
    for watch in (_Watch(), _Watch(mends=True)):
        try:
            outputs = _run(subject, v, watch)
        except Exception:  # a forward may raise anything on arrays that it does not expect; then nothing is known
            return math.inf
        slopes.append(sum(float(np.sum(w * _bare(y).imag)) for w, y in zip(dy, outputs, strict=True)))
    came, mended = slopes
    if came == mended:
        return 0.0
    lost = abs(came - mended) / abs(came) if came else math.inf
    return lost if math.isfinite(lost) else math.inf


def _run(subject: Subject, v: dict[str, Array], watch: _Watch) -> Outputs:
    bench = subject.at(np.complex128)
    for name, along in v.items():
        x = _watched(subject.point[name] + 1j * _STEP * along, watch)
        if name in subject.places:
            bench.put(name, x)
        else:
            bench.parameters[name].data = x
    with warnings.catch_warnings():
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        return bench.forward()[0]


class _Watch:
    """mends : what an operation loses is put back."""

    def __init__(self, mends: bool = False) -> None:
        self.found, self.mends = "", mends


class _Watched(np.ndarray):
    """An array that hands every function applied to it to its watch."""

    watch: _Watch

    def __array_finalize__(self, source: Any) -> None:
        self.watch = getattr(source, "watch", None) or _Watch()

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
        return self._applied(name, getattr(ufunc, method), inputs, keywords)

    def __array_function__(self, function: Any, types: Any, inputs: Any, keywords: Any) -> Any:
        return self._applied(f"np.{function.__name__}", function, inputs, keywords)

    def var(self, *args: Any, **keywords: Any) -> Any:
        return np.var(self, *args, **keywords)

    def std(self, *args: Any, **keywords: Any) -> Any:
        return np.std(self, *args, **keywords)

    def astype(self, dtype: Any, *args: Any, **keywords: Any) -> Any:
        if self.dtype.kind == "c" and np.dtype(dtype).kind == "f":
            self.watch.found = self.watch.found or f"astype({np.dtype(dtype)}){_caller()}"
            if self.watch.mends:
                return self.copy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
            return super().astype(dtype, *args, **keywords)

    def _applied(self, name: str, function: Any, inputs: Any, keywords: Any) -> Any:
        bare = _bare(inputs)
        out = keywords.get("out")
        keywords = {key: _bare(value) for key, value in keywords.items()}
        before = _copied(bare)
        result = function(*bare, **keywords)
        if (self.watch.mends or not self.watch.found) and not _is_analytic(name, before):
            result = self._judged(name, function, before, keywords, result)
        if out is not None:
            return out[0] if isinstance(out, tuple) else out
        return _with_members(result, [_watched(one, self.watch) for one in _members(result)])

    def _judged(self, name: str, function: Any, inputs: Any, keywords: Any, result: Any) -> Any:
        """The result, with what it lost where that is put back."""
        members = _members(result)
        for k, member in enumerate(members):
            lost = _lost(function if member is result else _member(function, k), inputs, keywords, member)
            if lost is None:
                continue
            self.watch.found = self.watch.found or f"{name}{_caller()}"
            if self.watch.mends and "out" in keywords:
                member += 1j * lost
            elif self.watch.mends:
                members[k] = member + 1j * lost
        return _with_members(result, members)


def _is_analytic(name: str, inputs: Any) -> bool:
    """Is it known to be, of numbers whose imaginary parts are steps?"""
    return name in ANALYTIC and not any(
        np.abs(np.imag(x)).max(initial=0.0) > 1e-4 * np.abs(np.real(x)).max(initial=0.0)
        for x in inputs
        if isinstance(x, np.ndarray | np.generic | complex)
    )


def _members(result: Any) -> list[Any]:
    return list(result) if isinstance(result, tuple | list) else [result]


def _with_members(result: Any, members: list[Any]) -> Any:
    if hasattr(result, "_make"):
        return result._make(members)
    return type(result)(members) if isinstance(result, tuple | list) else members[0]


def _member(function: Any, k: int) -> Any:
    return lambda *inputs, **keywords: function(*inputs, **keywords)[k]


def _lost(function: Any, inputs: Any, keywords: Any, result: Any) -> Array | None:
    """The imaginary part that the result lacks; None of one that is the function's derivative."""
    if not isinstance(result, np.ndarray | np.generic | float | complex) or np.asarray(result).dtype.kind not in "fc":
        return None  # comparisons, indices
    if function is np.empty_like:
        return None  # whatever is in it
    keywords = {key: value for key, value in keywords.items() if key != "out"}
    speed = _speed(inputs)  # by how much the inputs move, for a step of 1 of what the forward was given
    if not speed:
        return None
    came = np.asarray(result).imag / (_STEP * speed)
    expected, agrees = None, np.zeros(came.shape, bool)
    for h in _STEPS:
        up, down = (_tried(function, _moved(inputs, t), keywords) for t in (h / speed, -h / speed))
        if up is None or down is None:
            continue
        with np.errstate(invalid="ignore"):
            slope = (up.real - down.real) / (2 * h)
            close = 1e-4 * (1 + np.abs(slope)) + 2.0**-50 * np.abs(up) / h
            agrees |= ~np.isfinite(slope) | (np.abs(came - slope) <= close)
        expected = np.where(agrees, came, slope if expected is None else expected)
        if agrees.all():
            return None
    if expected is None:
        return None  # the forward as a whole was judged
    if _is_ill_conditioned(function, inputs, keywords, came, speed):
        return None
    return np.asarray((expected - came) * _STEP * speed)


def _tried(function: Any, inputs: Any, keywords: Any) -> Array | None:
    """The function at other inputs; None where it cannot be called there."""
    try:
        return np.asarray(function(*inputs, **keywords))
    except Exception:  # out of its domain a function of the user's, which np.piecewise calls, may raise anything
        return None


def _is_ill_conditioned(function: Any, inputs: Any, keywords: Any, came: Array, speed: float) -> bool:
    """Is it the differences that are wrong? In steps finer still the two agree, to what an ulp in the inputs makes.
    Where such a step is out of the function's domain nothing speaks for the imaginary part that came."""
    here, there = (_tried(function, at, keywords) for at in (_moved(inputs, 0.0), _by_an_ulp(inputs)))
    size = np.abs(came).max(initial=0.0)
    for h in (*_STEPS, 2.0**-40, 2.0**-44):
        up, down = (_tried(function, _moved(inputs, t), keywords) for t in (h / speed, -h / speed))
        if here is None or there is None or up is None or down is None:
            return False
        with np.errstate(invalid="ignore"):
            known = 8 * float(np.abs(there.real - here.real).max(initial=0.0)) / h
            if known <= size / 16 and (np.abs(came - (up.real - down.real) / (2 * h)) <= known + size / 2**12).all():
                return True
    return False


def _by_an_ulp(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind in "fc":
        sign = np.sign(np.sin(np.arange(value.size) * 12.9898)).reshape(value.shape)
        return value.real * (1 + 2.0**-52 * sign) + (0j if value.dtype.kind == "c" else 0.0)
    if isinstance(value, tuple | list):
        return type(value)(_by_an_ulp(item) for item in value)
    return value


def _speed(value: Any) -> float:
    if isinstance(value, np.ndarray) and value.dtype.kind == "c":
        return float(np.abs(value.imag).max(initial=0.0)) / _STEP
    return max((_speed(item) for item in value), default=0.0) if isinstance(value, tuple | list) else 0.0


def _moved(value: Any, h: float) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind == "c":
        return value.real + h * value.imag / _STEP + 0j
    if isinstance(value, tuple | list):
        return type(value)(_moved(item, h) for item in value)
    return value


def _copied(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.copy()
    return type(value)(_copied(item) for item in value) if isinstance(value, tuple | list) else value


def _bare(value: Any) -> Any:
    if isinstance(value, _Watched):
        return value.view(np.ndarray)
    return type(value)(_bare(item) for item in value) if isinstance(value, tuple | list) else value


def _watched(x: Any, watch: _Watch) -> Any:
    if not isinstance(x, np.ndarray | np.generic):
        return x
    view = np.asarray(x).view(_Watched)
    view.watch = watch
    return view


def _caller() -> str:
    """The file and line of the first frame outside this file and NumPy."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        path = frame.f_code.co_filename
        if path != __file__ and "numpy" not in path.split("/") and not path.startswith("<"):
            return f" in {frame.f_code.co_name}, line {frame.f_lineno} of {path.rsplit('/', 1)[-1]}"
        frame = frame.f_back
    return ""


def _where(error: BaseException) -> str:
    trace, place = error.__traceback__, ""
    while trace is not None:
        path = trace.tb_frame.f_code.co_filename
        if path != __file__ and "numpy" not in path.split("/"):
            place = f"in {trace.tb_frame.f_code.co_name}, line {trace.tb_lineno} of {path.rsplit('/', 1)[-1]}"
        trace = trace.tb_next
    return place
