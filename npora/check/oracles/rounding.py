"""How much of a difference is rounding: the numbers of every operation are moved by an ulp, and the result watched."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from npora.check.oracles.complex_step import STEP, Index, slope
from npora.check.oracles.richardson import phi, unit_of
from npora.check.outputs import Outputs
from npora.check.subject import Bench, Subject
from npora.check.verdict.comparison import precision_of
from npora.nn.module import Array

SAMPLES = 4
WIDER = 2.0**8
SLACK = 8  # a difference of so many times the largest move of four may be rounding
FAR = 2.0**14  # no other run moves a tensor so many times as far as the first
EXACT = frozenset((
    "negative", "positive", "absolute", "fabs", "conjugate", "sign", "copysign", "heaviside", "maximum", "minimum",
    "fmax", "fmin", "floor", "ceil", "trunc", "rint", "frexp", "ldexp", "nextafter", "spacing", "sort",
))  # fmt: skip
SUMS = frozenset((
    "average", "convolve", "corrcoef", "correlate", "cov", "cross", "cumprod", "cumsum", "diff", "dot", "einsum",
    "gradient", "inner", "interp", "kron", "matmul", "mean", "nanmean", "nanstd", "nansum", "nanvar", "outer",
    "polyval", "prod", "std", "sum", "tensordot", "trace", "trapezoid", "vander", "var", "vdot",
))  # fmt: skip


class Rounding:
    """A subject at one dy, computed again with other roundings (Monte Carlo arithmetic: Parker, 1997).

    x and dy are moved by an ulp, and so is what every NumPy function makes of them: the result of a single operation;
    the arguments too of a sum, a product of matrices or a decomposition, which are as good as exact for such arguments
    (that is backward stability). How far the gradient moves is what its rounding may come to, whatever constants it
    is computed with. A move depends on the number alone, so that equals stay equal, and symmetric matrices symmetric.
    """

    def __init__(self, subject: Subject, dy: Outputs) -> None:
        self.subject, self.dy = subject, dy
        self.notes: list[str] = []

    @cached_property
    def first(self) -> list[dict[str, Array]]:
        """What the pullback gives the first time; nothing where it does not run on such arrays."""
        return self._pullbacks(1, range(1))

    @cached_property
    def gradients(self) -> list[dict[str, Array]]:
        """What it gives each time."""
        return self.first and [*self.first, *self._pullbacks(1, range(1, SAMPLES))]

    @cached_property
    def wide(self) -> list[dict[str, Array]]:
        """The same for moves WIDER times as wide: rounding follows them, a choice that an ulp turns over does not."""
        return self._pullbacks(WIDER, range(SAMPLES))

    def to(self, dtype: npt.DTypeLike) -> list[dict[str, Array]]:
        """What the pullback gives when numbers are moved as they are by rounding to another precision."""
        return self._pullbacks(precision_of(dtype).u / (2 * precision_of(self.subject.dtype).u), range(SAMPLES))

    @cached_property
    def values(self) -> list[float]:
        """φ = ⟨dy, f⟩ in float64, each time."""
        return self._sampled(lambda bench, _: phi(bench, self.dy), np.float64, 2.0**-52, range(SAMPLES), {})

    def slopes(self, directions: dict[str, Array], seeds: Iterable[int] = range(SAMPLES)) -> list[float]:
        """The complex step along a direction, each time."""
        return self._sampled(lambda bench, _: slope(bench, self.dy), np.complex128, 2.0**-52, seeds, directions)

    def slopes_at(self, name: str, index: Index, seeds: Iterable[int] = range(SAMPLES)) -> list[float]:
        """The complex step at one coordinate, each time."""
        unit = np.zeros(self.subject.point[name].shape)
        unit[index] = size = unit_of(self.subject.point[name])
        return [slope / size for slope in self.slopes({name: unit}, seeds)]

    def far_below(self, difference: float, name: str, analytic: Array) -> bool:
        """Is a difference so far above what one run moves in the tensor that no more of them are needed?"""
        moved = [float(np.abs(g[name] - analytic).max(initial=0.0)) for g in self.first]
        return bool(moved) and 0 < FAR * moved[0] < difference

    def of_gradient(self, name: str, analytic: Array) -> Array:
        """How far each element may be off by its own rounding."""
        moves, wide = (
            np.max([np.abs(g[name] - analytic) for g in found] or [np.zeros(analytic.shape)], axis=0)
            for found in (self.gradients, self.wide)
        )
        return np.asarray(SLACK * np.minimum(moves, wide / WIDER))

    def largest(self, name: str, analytic: Array) -> float:
        """How far any element of a tensor may be off by the tensor's own rounding; infinite where that is not known."""
        moved = max((float(np.abs(g[name] - analytic).max(initial=0.0)) for g in self.first), default=math.inf)
        return 2**7 * moved if math.isfinite(moved) else math.inf

    @staticmethod
    def spread(values: list[float], around: float) -> float:
        """How far a number may be off by rounding, from what came of it each time."""
        return SLACK * max((abs(value - around) for value in values), default=0.0)

    def _sampled(
        self,
        run: Callable[[Bench, _Shaker], Any],
        dtype: Any,
        ulp: float,
        seeds: Iterable[int],
        directions: dict[str, Array] | None = None,
    ) -> list[Any]:
        """What comes of each run; nothing where the subject cannot be run so, as `notes` then say. directions : of the
        oracle's forward, and not of the pullback"""
        subject = self.subject if directions is None else self.subject.exact
        found = []
        for seed in seeds:
            shaker = _Shaker(seed, ulp)
            bench = self._bench(subject.at(dtype), shaker, directions or {})
            try:
                with np.errstate(all="ignore"):
                    found.append(run(bench, shaker))
            except Exception as error:  # whatever a forward makes of a subclass of ndarray, it was right on arrays
                note = f"how much of a difference is rounding could not be measured: {type(error).__name__}: {error}"
                self.notes = list(dict.fromkeys([*self.notes, note]))
                return []
        return found

    def _pullbacks(self, times: float, seeds: Iterable[int]) -> list[dict[str, Array]]:
        dtype = self.subject.dtype

        def one(bench: Bench, shaker: _Shaker) -> dict[str, Array]:
            _, backward = bench.forward()
            dy = tuple(shaker.watched(shaker.moved(w.astype(dtype))) for w in self.dy)
            return {name: np.array(g, np.float64) for name, g in bench.gradients(backward, dy).items()}

        return self._sampled(one, dtype, times * 2.0 * precision_of(dtype).u, seeds)

    def _bench(self, bench: Bench, shaker: _Shaker, directions: dict[str, Array]) -> Bench:
        for name, x in bench.arrays.items():
            moved = shaker.moved(x)
            if name in directions:
                moved = moved + 1j * STEP * directions[name]
            if name in self.subject.places:
                bench.put(name, shaker.watched(moved))
            else:
                bench.parameters[name].data = shaker.watched(moved)
        return bench


class _Shaker:
    """Moves numbers by up to `ulp` of themselves."""

    def __init__(self, seed: int, ulp: float) -> None:
        self.seed, self.ulp, self.calls = seed, ulp, 0

    def moved(self, x: Any) -> Any:
        """x (1 + ulp ξ), ξ between −1 and 1 and drawn by |x|'s bits, in each of real and imaginary part."""
        x = np.asarray(x)
        if x.dtype.kind == "c":
            parts = np.ascontiguousarray(x).view(x.real.dtype).reshape(*x.shape, 2)
            return self.moved(parts).view(x.dtype).reshape(x.shape)
        if x.dtype not in (np.float64, np.float32):
            return x
        with np.errstate(all="ignore"):
            bits = np.abs(x).view(np.uint64 if x.dtype == np.float64 else np.uint32).astype(np.uint64)
            bits += np.uint64((0x9E3779B97F4A7C15 * (1 + self.seed + 64 * self.calls)) % 2**64)
            for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64
                bits ^= bits >> np.uint64(shift)
                bits *= np.uint64(factor)
            draw = bits.astype(np.float64) * 2.0**-63 - 1
            return x * (1 + self.ulp * draw).astype(x.dtype)

    def watched(self, x: Any) -> Any:
        """Arrays that no one may write to, as those which a layer is given are."""
        view = self.kept(x)
        view.flags.writeable = False
        return view

    def kept(self, x: Any) -> Any:
        view = np.asarray(x).view(_Shaken)
        view.shaker = self
        return view


class _Shaken(np.ndarray):
    """An array on which operations round otherwise."""

    shaker: _Shaker | None

    def __array_finalize__(self, source: Any) -> None:
        self.shaker = getattr(source, "shaker", None)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        rounds = ufunc.__name__ not in EXACT
        if method == "at":  # into its first argument
            return ufunc.at(*_each(inputs, _bare), **keywords)
        sums = rounds and (method != "__call__" or ufunc.signature is not None)
        return self._applied(getattr(ufunc, method), inputs, keywords, rounds, sums)

    def __array_function__(self, function: Any, types: Any, inputs: Any, keywords: Any) -> Any:
        sums = function.__module__ in ("numpy.linalg", "numpy.fft") or function.__name__ in SUMS
        return self._applied(function, inputs, keywords, sums, sums)

    def _applied(self, function: Any, inputs: Any, keywords: Any, rounds: bool, sums: bool) -> Any:
        shaker = self.shaker
        out = keywords.get("out")
        if shaker is None:
            shaker = next(
                (a.shaker for a in _arrays((inputs, keywords)) if getattr(a, "shaker", None)), _Shaker(0, 0.0)
            )
        assert shaker is not None
        shaker.calls += 1
        inputs = _each(inputs, lambda x: shaker.moved(_bare(x)) if sums else _bare(x))
        keywords = {key: _each(value, _bare) for key, value in keywords.items()}
        result = function(*inputs, **keywords)
        if out is not None:
            target = out[0] if isinstance(out, tuple) else out
            if rounds and isinstance(target, np.ndarray):
                bare = target.view(np.ndarray)
                bare[...] = shaker.moved(bare)
            return target
        return _each(result, lambda x: shaker.kept(shaker.moved(x) if rounds else x))


def _bare(x: Any) -> Any:
    return x.view(np.ndarray) if isinstance(x, _Shaken) else x


def _arrays(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, tuple | list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _arrays(item)


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    """With every floating-point array in it changed."""
    if isinstance(value, np.ndarray | np.generic):
        return change(value) if value.dtype.kind in "fc" else _bare(value)
    if isinstance(value, tuple) and hasattr(value, "_make"):
        return value._make(_each(item, change) for item in value)
    if isinstance(value, tuple | list):
        return type(value)(_each(item, change) for item in value)
    return value
