"""Which operation of a forward loses the imaginary part."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np

from npora.check.subject import Subject
from npora.nn.module import Array

_STEP = 1e-20
_STEPS = (2.0**-20, 2.0**-28, 2.0**-36)  # of the differences: one of them must agree


def unsafe_operation(subject: Subject) -> str:
    """The first NumPy operation whose complex result is not its derivative, with its file and line; "" if none is.

    The forward is run once on arrays that watch every NumPy function applied to them. For each, the imaginary part
    that comes out is compared with a central difference of the same function along the imaginary part that went in.
    """
    rng = np.random.default_rng(0)
    bench = subject.at(np.complex128)
    watch = _Watch()
    for name in subject.places:
        x = subject.point[name] + 1j * _STEP * rng.standard_normal(subject.point[name].shape)
        bench.put(name, _watched(x, watch))
    for name in subject.trainable:
        x = subject.point[name] + 1j * _STEP * rng.standard_normal(subject.point[name].shape)
        bench.parameters[name].data = _watched(x, watch)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            bench.forward()
    except Exception as error:  # whatever a forward raises on complex numbers, it is where it raised that matters
        return watch.found or f"{type(error).__name__} {_where(error)}".strip()
    return watch.found


class _Watch:
    found = ""


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
        if self.dtype.kind == "c" and np.dtype(dtype).kind == "f" and not self.watch.found:
            self.watch.found = f"astype({np.dtype(dtype)}){_caller()}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
            return super().astype(dtype, *args, **keywords)

    def _applied(self, name: str, function: Any, inputs: Any, keywords: Any) -> Any:
        bare = _bare(inputs)
        out = keywords.get("out")
        keywords = {key: _bare(value) for key, value in keywords.items()}
        before = _copied(bare)
        result = function(*bare, **keywords)
        if not self.watch.found and not _is_derivative(function, before, keywords, result):
            self.watch.found = f"{name}{_caller()}"
        if out is not None:
            return out[0] if isinstance(out, tuple) else out
        return _watched(result, self.watch) if isinstance(result, np.ndarray | np.generic) else result


def _is_derivative(function: Any, inputs: Any, keywords: Any, result: Any) -> bool:
    if not isinstance(result, np.ndarray | np.generic | float | complex) or np.asarray(result).dtype.kind not in "fc":
        return True  # comparisons, indices
    if function is np.empty_like:
        return True  # whatever is in it
    keywords = {key: value for key, value in keywords.items() if key != "out"}
    speed = _speed(inputs)  # by how much the inputs move, for a step of 1 of what the forward was given
    if not speed:
        return True
    came = np.asarray(result).imag / (_STEP * speed)
    agrees = np.zeros(came.shape, bool)
    for h in _STEPS:
        try:
            up = np.asarray(function(*_moved(inputs, h / speed), **keywords))
            down = np.asarray(function(*_moved(inputs, -h / speed), **keywords))
        except Exception:
            return True  # cannot be judged alone; the forward as a whole was
        with np.errstate(invalid="ignore"):
            expected = (up.real - down.real) / (2 * h)
            close = 1e-4 * (1 + np.abs(expected)) + 2.0**-50 * np.abs(up) / h
            agrees |= ~np.isfinite(expected) | (np.abs(came - expected) <= close)
        if agrees.all():
            return True
    try:
        return _is_ill_conditioned(function, inputs, keywords, came, speed)
    except Exception:
        return True


def _is_ill_conditioned(function: Any, inputs: Any, keywords: Any, came: Array, speed: float) -> bool:
    """Is it the differences that are wrong? In steps finer still the two agree, to what an ulp in the inputs makes."""
    here = np.asarray(function(*_moved(inputs, 0.0), **keywords)).real
    there = np.asarray(function(*_by_an_ulp(inputs), **keywords)).real
    size = np.abs(came).max(initial=0.0)
    for h in (*_STEPS, 2.0**-40, 2.0**-44):
        up = np.asarray(function(*_moved(inputs, h / speed), **keywords)).real
        down = np.asarray(function(*_moved(inputs, -h / speed), **keywords)).real
        with np.errstate(invalid="ignore"):
            known = 8 * float(np.abs(there - here).max(initial=0.0)) / h
            if known <= size / 16 and (np.abs(came - (up - down) / (2 * h)) <= known + size / 2**12).all():
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


def _watched(x: Any, watch: _Watch) -> Array:
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
