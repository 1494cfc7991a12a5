"""What is wrong with a gradient, by trying the usual causes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from npora.nn.module import Array
from npora.nn.readable import Readable


@dataclass(frozen=True)
class Context(Readable):
    """What a cause may be named after. factors : numbers by name (α/r, N, …); arrays : the inputs, parameters and dy;
    others : the other tensors' right gradients; heads : into how many blocks the last axis may fall; hidden : named
    masks, True where a position takes no part."""

    factors: Mapping[str, float] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)
    others: Mapping[str, Array] = field(default_factory=dict)
    heads: int = 1
    hidden: Mapping[str, Array] = field(default_factory=dict)


def diagnose(a: Array, n: Array, context: Context | None = None, tolerance: float = 1e-9) -> str:
    """The likely cause of a ≠ n, in words: a, the gradient that came; n, the right one, of the same shape.

    tolerance : relative to the largest |n|, how well n is known. The causes are tried from the plainest to the least
    plain, and the first that explains the whole difference is named.
    """
    context = context or Context()
    if not np.isfinite(a).all():
        bad = np.argwhere(~np.isfinite(a))
        return f"nan or inf at {len(bad)} of {a.size} elements, the first at {_at(bad[0])}"
    if not a.any():
        return "all zero: detached, dropped, or never returned or accumulated"
    close = tolerance * float(max(np.abs(n).max(initial=0.0), np.abs(a).max(initial=0.0)))
    with np.errstate(all="ignore"):  # squares of tiny or huge gradients: a cause that cannot be tried is none
        return next(_causes(a, n, context, close), None) or _resemblance(a, n)


def _causes(a: Array, n: Array, context: Context, close: float) -> Iterator[str]:
    """The causes that explain the difference to within `close`, plainest first."""
    yield from _factor(a, n, context, close)
    yield from _rounded(a, n)
    yield from _rearranged(a, n, context, close)
    yield from _confined(a, n, context, close)
    yield from _reduced(a, n, close)
    yield from _factor_by_axis(a, n, close)
    yield from _term(a, n, context, close)


def _factor(a: Array, n: Array, context: Context, close: float) -> Iterator[str]:
    size = float(np.abs(n).max(initial=0.0))
    if not size:
        return
    c = float(np.sum(a / size * (n / size))) / float(np.sum((n / size) ** 2))
    if c and np.abs(a - c * n).max() <= close * max(1.0, abs(c)):
        yield f"a constant factor {c:.10g}{named_factor(c, n.shape, context.factors)}"


def named_factor(c: float, shape: tuple[int, ...], factors: Mapping[str, float], close: float = 1e-6) -> str:
    """The names that a factor c goes by: ' (the sign)', ' (α/r, or the size of axis 1)', or ''."""
    candidates = {"the sign": -1.0, "2": 2.0, "1/2": 0.5}
    sizes = {f"the size of axis {k}: a sum where a mean was meant": float(s) for k, s in enumerate(shape) if s > 1}
    basic = {**{name: v for name, v in factors.items() if v > 0}, **sizes}
    for name, value in basic.items():
        candidates[name] = value
        candidates[f"1/({name.split(':')[0]})" + (": a mean where a sum was meant" if ":" in name else "")] = 1 / value
        candidates[f"√({name.split(':')[0]})"] = math.sqrt(value)
        candidates[f"1/√({name.split(':')[0]})"] = 1 / math.sqrt(value)
        candidates[f"({name.split(':')[0]})²"] = value * value
    names = [name for name, value in candidates.items() if value != 1 and abs(c - value) <= close * abs(value)]
    if not names and abs(c - 1) < 0.1:
        return f" (off by {c - 1:.3g}: a constant with too few digits?)"
    return f" ({', or '.join(names)})" if names else ""


def _rearranged(a: Array, n: Array, context: Context, close: float) -> Iterator[str]:
    if n.ndim >= 2 and n.shape[-1] == n.shape[-2] and np.abs(a - n.swapaxes(-1, -2)).max() <= close:
        yield "the transpose"
    for name, other in context.others.items():
        if other.shape == n.shape and other.any() and min(np.abs(a - other).max(), np.abs(n - other).max()) <= close:
            yield f"this and the gradient of {name} are the same, or changed places: two returns are swapped"
    for axis in range(n.ndim):
        for shift in (1, -1) if n.shape[axis] > 2 else ():
            if np.abs(a - np.roll(n, shift, axis)).max() <= close:
                yield f"shifted by {shift} along axis {axis}: an index off by one"
        if n.shape[axis] > 1 and np.abs(a - np.flip(n, axis)).max() <= close:
            yield f"reversed along axis {axis}"


def _confined(a: Array, n: Array, context: Context, close: float) -> Iterator[str]:
    """An error in a small part of the tensor only."""
    wrong = np.abs(a - n) > close
    count, everywhere = int(wrong.sum()), int(((a != 0) | (n != 0)).sum())
    if not count or 2 * count > everywhere + 1 or everywhere < 3:
        return
    for name, hidden in context.hidden.items():
        mask = _spread(hidden, wrong.shape)
        if mask is not None and mask.any() and not (wrong & ~mask).any():
            yield f"wrong only where {name} hides a position{_there(a, n, wrong, context)}"
    if count == 1:
        yield f"wrong at one element, {_at(np.argwhere(wrong)[0])}{_there(a, n, wrong, context)}"
    width, heads = wrong.shape[-1] if wrong.ndim else 1, context.heads
    if heads > 1 and width % heads == 0:
        for axis in (-1, 0):
            if wrong.shape[axis] % heads == 0:
                blocks = np.moveaxis(wrong, axis, -1).reshape(-1, heads, wrong.shape[axis] // heads).any(axis=(0, 2))
                if blocks.sum() == 1 and np.moveaxis(wrong, axis, 0).any(axis=tuple(range(1, wrong.ndim))).sum() > 1:
                    where = f"wrong in head {int(blocks.argmax())} alone, along axis {axis % wrong.ndim}"
                    yield where + _there(a, n, wrong, context)
    for axis in range(wrong.ndim):
        along = np.moveaxis(wrong, axis, 0).reshape(wrong.shape[axis], -1).any(axis=1)
        places = np.flatnonzero(along)
        if len(places) <= max(1, len(along) // 2) and len(along) > 1:
            listed = ", ".join(map(str, places[:6])) + (", …" if len(places) > 6 else "")
            yield f"wrong at index {listed} of axis {axis} alone{_there(a, n, wrong, context)}"
    yield f"wrong at {count} of {wrong.size} elements, the first at {_at(np.argwhere(wrong)[0])}"


def _there(a: Array, n: Array, wrong: Array, context: Context) -> str:
    left, right = a[wrong], n[wrong]
    if not left.any():
        return ": there it is zero"
    if not right.any():
        return ": there it should be zero"
    c = float(np.sum(left * right) / np.sum(right * right))
    if c and np.abs(left - c * right).max() <= 1e-9 * np.abs(right).max():
        return f": there a factor {c:.10g}{named_factor(c, (), context.factors)}"
    return ""


def _spread(hidden: Array, shape: tuple[int, ...]) -> Array | None:
    """A mask over positions as a mask over the tensor's leading axes: [b,t] over [b,t,d], or over rows [b·t,d]."""
    if hidden.shape == shape[: hidden.ndim]:
        return np.broadcast_to(hidden.reshape(hidden.shape + (1,) * (len(shape) - hidden.ndim)), shape)
    if shape and hidden.size == shape[0]:
        return np.broadcast_to(hidden.reshape(-1, *(1,) * (len(shape) - 1)), shape)
    return None


def _reduced(a: Array, n: Array, close: float) -> Iterator[str]:
    """Summed or averaged over an axis, or lacking such a sum."""
    for axis in range(n.ndim):
        if n.shape[axis] == 1:
            continue
        for word, value in (("mean", n.mean(axis=axis, keepdims=True)), ("sum", n.sum(axis=axis, keepdims=True))):
            if np.abs(a - value).max() <= close:
                yield f"the {word} over axis {axis} in place of each element"
        error = a - n
        if np.ptp(error, axis=axis).max() <= close:
            yield f"off by the same amount all along axis {axis}: a sum or mean over it is missing, or one too many"


def _term(a: Array, n: Array, context: Context, close: float) -> Iterator[str]:
    """The difference is a multiple of something known, or of low rank."""
    error = a - n
    for name, known in context.arrays.items():
        try:
            shaped = np.broadcast_to(known, n.shape)
        except ValueError:
            continue
        square = float(np.sum(shaped * shaped))
        c = float(np.sum(error * shaped)) / square if square else 0.0
        if c and np.abs(error - c * shaped).max() <= close * 10:
            yield f"off by {c:.6g} times {name}: a term of {name} is missing, or one too many"
    for axis in range(n.ndim):  # x̂ times a number of its own in each row: σ's share in a norm's gradient
        for name, known in context.arrays.items():
            if known.shape != n.shape or n.shape[axis] < 3:
                continue
            for word, x in (("", known), ("centred ", known - known.mean(axis=axis, keepdims=True))):
                square = (x * x).sum(axis=axis, keepdims=True)
                c = (error * x).sum(axis=axis, keepdims=True) / np.where(square > 0, square, 1)
                if np.abs(error - c * x).max() <= close * 10:
                    yield (
                        f"off by a multiple of the {word}{name} of its own for each slice along axis {axis}: a term "
                        f"like x̂ mean(dx̂ ⊙ x̂) is missing or wrong"
                    )
    if n.ndim == 2 and min(n.shape) > 1:
        values = np.linalg.svd(error, compute_uv=False)
        rank = int((values > 1e-8 * values[0]).sum())
        if rank < min(n.shape):
            yield f"a missing or extra term of rank {rank} (of {min(n.shape)})"


def _factor_by_axis(a: Array, n: Array, close: float) -> Iterator[str]:
    for axis in range(n.ndim):
        if n.shape[axis] < 2:
            continue
        square = (n * n).sum(axis=axis, keepdims=True)
        c = (a * n).sum(axis=axis, keepdims=True) / np.where(square > 0, square, 1)
        if np.abs(a - c * n).max() <= close * max(1.0, float(np.abs(c).max())):
            yield f"a factor of its own for each slice along axis {axis}: a scale is missing, or on the wrong axis"


def _rounded(a: Array, n: Array) -> Iterator[str]:
    relative = float(np.abs(a - n).max() / np.abs(n).max()) if n.any() else math.inf
    if relative < 1e-6 and np.array_equal(a, a.astype(np.float32)):
        yield "rounded to float32: something on the way was computed in single precision"


def _resemblance(a: Array, n: Array) -> str:
    norms = float(np.linalg.norm(a) * np.linalg.norm(n))
    cosine = float(np.sum(a * n)) / norms if norms else 0.0
    relative = float(np.linalg.norm(a - n) / np.linalg.norm(n)) if n.any() else math.inf
    if abs(cosine) < 0.5:
        return f"unlike the right gradient (cosine {cosine:.3g}): another formula, or a gradient of something else"
    return f"a term is missing or wrong: the difference is {relative:.2g} of the gradient's norm, cosine {cosine:.3g}"


def _at(index: Array) -> str:
    return f"[{', '.join(str(int(i)) for i in index)}]"
