"""The usual errors in a gradient, each tried on the evidence. A claim is yielded only where it fits to rounding."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import combinations

import numpy as np

from npora.check.verdict.evidence import Evidence, factor
from npora.nn.module import Array

SINGLE = 2.0**-23  # twice float32's unit roundoff: a relative error of two roundings
Named = Mapping[str, Array]


def constant_factor(e: Evidence, factors: Mapping[str, float], tolerance: float) -> Iterator[str]:
    c = factor(e.came, e.right)
    if not c or not e.fits(e.came - c * e.right, c):
        return
    named = named_factor(c, e.shape, factors, max(1e-6, tolerance))
    if np.count_nonzero(e.right) == 1 and not named:  # any one number is some factor of another
        return
    yield f"a constant factor {c:.{e.digits}g}{named or _near_one(c)}"


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
    for name, value in basic.items() if not names else ():
        for word, multiple in (("half", 0.5), ("twice", 2.0), ("half of 1 over", 0.5), ("twice 1 over", 2.0)):
            one = multiple / value if word.endswith("over") else multiple * value
            names += [f"{word} {name.split(':')[0]}"] * (abs(c - one) <= close * one)
    apart = {value: name for name, value in reversed(basic.items())}  # of several names of a number the first
    for (value, name), (second, other) in combinations(list(reversed(apart.items())), 2) if not names else ():
        for words, product in (
            (f"{name.split(':')[0]} times {other.split(':')[0]}", value * second),
            (f"1/({name.split(':')[0]} times {other.split(':')[0]})", 1 / (value * second)),
            (f"{name.split(':')[0]} over {other.split(':')[0]}", value / second),
            (f"{other.split(':')[0]} over {name.split(':')[0]}", second / value),
        ):
            names += [words] * (value != second and abs(c - product) <= close * product)
    return f" ({', or '.join(names)})" if names else ""


def _near_one(c: float) -> str:
    if abs(c - 1) <= SINGLE / 2:
        return f" (off by {c - 1:.3g}, as a constant is that was rounded to float32)"
    return f" (off by {c - 1:.3g}: a constant with too few digits?)" if abs(c - 1) < 0.1 else ""


def rounded(e: Evidence) -> Iterator[str]:
    """Off at most elements, by no more than a few roundings to float32 of each or of the largest."""
    if e.difference > 4 * SINGLE * e.size or 2 * np.count_nonzero(e.wrong) < np.count_nonzero(e.right):
        return
    relative = f"a relative error of {e.difference / e.size:.1e}"
    if np.array_equal(e.came, e.came.astype(np.float32)):
        yield f"rounded to float32: something on the way was computed in single precision ({relative})"
    else:
        yield f"as far off as rounding to float32 makes it ({relative}): is something on the way in single precision?"


def rearranged(e: Evidence) -> Iterator[str]:
    if len(e.shape) >= 2 and e.shape[-1] == e.shape[-2] and e.fits(e.at(e.a.swapaxes(-1, -2)) - e.right):
        yield "the transpose"
    for axis, size in enumerate(e.shape):
        place = e.places[axis]
        if size < 2:
            continue
        if e.fits(e.moved(axis, size - 1 - place) - e.right):
            yield f"reversed along axis {axis}"
        inner = (place > 0) & (place < size - 1)  # a shift may have moved what is at an end out of the array
        largest = int(np.where(inner if inner.any() else True, np.abs(e.right), 0).argmax())
        line = e.a[tuple(slice(None) if k == axis else p[largest] for k, p in enumerate(e.places))]
        for to in np.flatnonzero(np.abs(line - e.right[largest]) <= e.close) if size > 2 else ():
            shift = int(to) - int(place[largest])
            if e.fits(e.moved(axis, (place + shift) % size) - e.right):
                shift = min(shift, shift - size, shift + size, key=lambda s: (abs(s), s < 0))
                off = "one" if abs(shift) == 1 else abs(shift)
                yield f"shifted by {shift} along axis {axis}: an index off by {off}"
            inside = (place + shift >= 0) & (place + shift < size)
            kept = e.right[inside]
            if 2 * len(kept) >= len(place) and e.fits(
                e.moved(axis, np.clip(place + shift, 0, size - 1))[inside] - kept
            ):
                edge = np.take(e.a, range(shift) if shift > 0 else range(size + shift, size), axis)
                if shift and not edge.any():
                    yield f"shifted by {shift} along axis {axis}, with zeros at its end: an index off by {abs(shift)}"


def disordered(e: Evidence) -> Iterator[str]:
    if np.unique(e.right).size > 3 and np.abs(np.sort(e.came) - np.sort(e.right)).max() <= e.close:
        yield "the right numbers in another order"


def swapped(e: Evidence, others: Named, returned: Named) -> Iterator[str]:
    """Another tensor's right gradient came here; and this one's there, as far as that is known."""
    for name in _alike(e, others):
        if name not in returned or e.fits(e.at(returned[name]) - e.right):
            yield f"this is the gradient of {name}: two returns are swapped"


def of_another(e: Evidence, others: Named) -> Iterator[str]:
    for name in _alike(e, others):
        yield f"this is the gradient of {name}: returned in two places, or in the wrong one"


def _alike(e: Evidence, others: Named) -> Iterator[str]:
    """The tensors whose right gradient is what came here."""
    for name, other in others.items():
        known = ~np.isnan(other) if other.shape == e.shape else np.array(False)
        if known.any() and other[known].any() and np.abs(e.a[known] - other[known]).max() <= e.close:
            yield name


def confined(e: Evidence, hidden: Named, heads: int, factors: Mapping[str, float]) -> Iterator[str]:
    """An error in a small part of the tensor only."""
    wrong, there = e.wrong, _there(e, factors)
    count, everywhere = int(wrong.sum()), int(((e.came != 0) | (e.right != 0)).sum())
    if not e.clear or not count or 2 * count > everywhere + 1 or everywhere < 3:
        return
    for name, mask in hidden.items():
        over = _over(mask, e)
        if over is not None and over.any() and not (wrong & ~over).any():
            yield f"wrong only where {name} hides a position{there}"
    first = e.index(int(wrong.argmax()))
    if count == 1:
        yield f"wrong at {'one element' if e.whole else f'one of {e.among}'}, {first}{there}"
    for axis in (len(e.shape) - 1, 0) if heads > 1 and e.shape[-1] % heads == 0 else ():
        if e.shape[axis] % heads == 0:
            head = np.unique(e.places[axis][wrong] // (e.shape[axis] // heads))
            if len(head) == 1 and len(np.unique(e.places[axis][wrong])) > 1:
                yield f"wrong in head {head[0]} alone, along axis {axis}{there}"
    yield from _in_slices(e, there)
    yield f"wrong at {count} of {e.among}, the first at {first}{there}"


def _in_slices(e: Evidence, there: str) -> Iterator[str]:
    """Along some axis at few indices, and there at most of the elements."""
    for axis, place in enumerate(e.places):
        indices, seen = np.unique(place[e.wrong]), len(np.unique(place))
        inside = np.isin(place, indices) & ((e.came != 0) | (e.right != 0))
        if seen > 1 and len(indices) <= max(1, seen // 2) and 2 * e.wrong.sum() >= inside.sum():
            listed = ", ".join(map(str, indices[:6])) + (", …" if len(indices) > 6 else "")
            yield f"wrong at index {listed} of axis {axis} alone{there}"


def in_part(e: Evidence) -> Iterator[str]:
    """At most elements, but right at so many others that this is no chance."""
    wrong, right = e.wrong, ~e.wrong & (e.right != 0)
    if e.clear and right.sum() >= 3:
        yield f"wrong at {int(wrong.sum())} of {e.among}, the first at {e.index(int(wrong.argmax()))}{_there(e, {})}"


def _there(e: Evidence, factors: Mapping[str, float]) -> str:
    left, right = e.came[e.wrong], e.right[e.wrong]
    if not left.any():
        return ": there it is zero"
    if not right.any():
        return ": there it should be zero"
    c = factor(left, right)
    if not c or not e.fits(left - c * right, c):
        return ""
    named = named_factor(c, (), factors)
    if len(left) == 1 and not named:
        return f": there {c:.{e.digits}g} times what is right"
    return f": there a factor {c:.{e.digits}g}{named or _near_one(c)}"


def _over(hidden: Array, e: Evidence) -> Array | None:
    """A mask over positions, over the tensor's leading axes: [b,t] over [b,t,d], or over rows [b·t,d]."""
    if hidden.shape == e.shape[: hidden.ndim]:
        return e.spread(hidden.reshape(hidden.shape + (1,) * (len(e.shape) - hidden.ndim)))
    if e.shape and hidden.size == e.shape[0]:
        return e.spread(hidden.reshape(-1, *(1,) * (len(e.shape) - 1)))
    return None


def reduced(e: Evidence) -> Iterator[str]:
    """A sum or mean over an axis in place of each element."""
    for axis, size in enumerate(e.shape):
        if size == 1 or not np.ptp(e.a, axis=axis).max() <= e.close:
            continue
        total = e.by_slice(e.right, axis)
        for word, value in (("mean", total / size), ("sum", total)) if e.whole else ():
            if e.fits(e.came - value):
                yield f"the {word} over axis {axis} in place of each element"


def constant(e: Evidence) -> Iterator[str]:
    """Of one value all along an axis."""
    for axis, size in enumerate(e.shape):
        if size > 1 and np.ptp(e.a, axis=axis).max() <= e.close:
            yield f"the same all along axis {axis}, which the right gradient is not"


def itself(e: Evidence, arrays: Named) -> Iterator[str]:
    """What came is dy, or another array, up to a number."""
    for name, known in arrays.items():
        x = e.spread(known)
        if x is not None and not _is_constant(x) and (c := factor(e.came, x)) and e.fits(e.came - c * x, c):
            what = f"{name} itself" if abs(c - 1) < 1e-9 else f"{c:.6g} times {name}, and no more"
            yield what + (": the layer's own derivative is missing" if name == "dy" else "")


def times_dy(e: Evidence, arrays: Named) -> Iterator[str]:
    """What came is dy times another array, up to a number."""
    for name, known in arrays.items():
        x, w = e.spread(known), e.spread(arrays["dy"]) if "dy" in arrays else None
        if x is None or w is None or name == "dy" or _is_constant(x):
            continue
        if (c := factor(e.came, x * w)) and e.fits(e.came - c * x * w, c):
            yield f"dy times {name}{_times(c)}, and no more"


def known_factor(e: Evidence, arrays: Named) -> Iterator[str]:
    """A factor that is an array, missing or one too many."""
    for name, known in arrays.items():
        x = e.spread(known)
        if x is None or _is_constant(x):
            continue
        if e.fits(e.right - (c := factor(e.right, e.came * x)) * e.came * x, c) and c:
            yield f"a factor {name} is missing{_times(c)}"
        if e.fits(e.came - (c := factor(e.came, e.right * x)) * e.right * x, c) and c:
            yield f"a factor {name} too many{_times(c)}"


def known_term(e: Evidence, arrays: Named, others: Named) -> Iterator[str]:
    """The difference is a multiple of something known, or of its product with dy."""
    products = {f"{name} ⊙ dy": (known, arrays["dy"]) for name, known in arrays.items() if "dy" in arrays}
    products.pop("a constant ⊙ dy", None)
    gradients = {f"the gradient of {name}": (other,) for name, other in others.items() if other.shape == e.shape}
    for name, parts in {**{name: (known,) for name, known in arrays.items()}, **products, **gradients}.items():
        spread = [e.spread(part) for part in parts]
        if any(x is None or np.isnan(x).any() for x in spread):
            continue
        x = np.prod(np.array(spread), axis=0)
        c = factor(e.error, x)
        if c and e.fits(e.error - c * x, 10) and np.count_nonzero(x) > 1:
            small = ", as small as rounding to float32" if e.difference <= SINGLE * e.size else ""
            yield f"off by {c:.6g} times {name}{small}: a term of {name} is missing, or one too many"


def of_slices(e: Evidence, arrays: Named) -> Iterator[str]:
    """With a number of its own for each slice: an amount, a factor, or a multiple of an array (σ's share in a norm)."""
    for axis, size in enumerate(e.shape):
        if size < 2:
            continue
        ones = np.ones(len(e.came))
        count = e.by_slice(ones, axis)
        if _outnumber(e, ones, axis) and e.fits(e.error - e.by_slice(e.error, axis) / count):
            yield f"off by the same amount all along axis {axis}: a sum or mean over it is missing, or one too many"
    for axis, size in enumerate(e.shape):
        c = _by_slice(e, e.came, e.right, axis)
        if size > 1 and _outnumber(e, e.right, axis) and e.fits(e.came - c * e.right, float(np.abs(c).max())):
            if (np.isclose(c, 0) | np.isclose(c, 1)).all():
                yield f"zero in some slices along axis {axis}, and right in the others"
            yield f"a factor of its own for each slice along axis {axis}: a scale is missing, or on the wrong axis"
    for axis, size in enumerate(e.shape):
        for name, known in arrays.items():
            if known.shape != e.shape or size < 3 or _is_constant(known):
                continue
            for word, x in (("", known), ("centred ", known - known.mean(axis=axis, keepdims=True))):
                along = e.at(x)
                rest = e.error - _by_slice(e, e.error, along, axis) * along
                if _outnumber(e, along, axis) and e.fits(rest, 10):
                    yield (
                        f"off by a multiple of the {word}{name} of its own for each slice along axis {axis}: a term "
                        f"like x̂ mean(dx̂ ⊙ x̂) is missing or wrong"
                    )


def low_rank(e: Evidence) -> Iterator[str]:
    if e.whole and len(e.shape) == 2 and min(e.shape) > 1:
        values = np.linalg.svd(e.error.reshape(e.shape), compute_uv=False)
        rank = int((values > max(1e-8 * values[0], e.close)).sum())
        if 2 * rank <= min(e.shape):
            yield f"a missing or extra term of rank {rank} (of {min(e.shape)})"


def _by_slice(e: Evidence, x: Array, y: Array, axis: int) -> Array:
    """The factor c of each slice that brings c y nearest to x, at every place."""
    square = e.by_slice(y * y, axis)
    c: Array = e.by_slice(x * y, axis) / np.where(square > 0, square, 1)
    return c


def _outnumber(e: Evidence, y: Array, axis: int) -> bool:
    """Do the elements that tell outnumber what is fitted to them?"""
    return bool(np.count_nonzero(y) >= e.slices(axis)[1] + 2)


def _is_constant(x: Array) -> bool:
    return x.size == 0 or bool((x == x.flat[0]).all())


def _times(c: float) -> str:
    return "" if abs(c - 1) < 1e-9 else f", and one of {c:.6g}"
