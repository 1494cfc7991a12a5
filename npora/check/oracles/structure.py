"""What holds of any pullback, whatever its formula. Exact, and free of oracles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from npora.check.inputs import WrittenTo
from npora.check.oracles.rounding import Rounding
from npora.check.outputs import Outputs
from npora.check.subject import Bench, Subject
from npora.check.verdict.comparison import FAIL, HALVES, PASS, UNRESOLVED, is_rounding, other_precision, precision_of
from npora.check.verdict.report import Row
from npora.nn.module import Array

FAR = "backward(2ᵏ dy) = 2ᵏ backward(dy)"
POWERS = (-200, -40, 40, 200)  # of two, by which dy is scaled


def structure(
    bench: Bench, dy: Outputs, gradients: dict[str, Array], other: Outputs, rounding: Rounding
) -> Iterator[Row]:
    """One row for each property: see the names below. `gradients` are those for dy; `other` is a second dy."""
    subject = bench.subject

    def row(name: str, wrong: str) -> Row:
        return Row(name, "structure", FAIL if wrong else PASS, wrong)

    before = _bytes(bench)
    outputs, backward = bench.forward()
    held = [y.tobytes() for y in outputs]
    upstream = [w.tobytes() for w in dy]

    kept = {bench.dtype} | ({np.dtype(np.float32)} if bench.dtype.name in HALVES else set())  # a sum, a loss
    dtypes = [name for name, g in gradients.items() if g.dtype not in kept]
    dtypes += [f"output {k}" for k, y in enumerate(outputs) if y.dtype not in kept]
    yield row("dtypes are kept", f"expected {bench.dtype} of {', '.join(dtypes)}" if dtypes else "")

    again = _copies(bench.gradients(backward, dy))
    differ = _differ(gradients, again)
    if any(y.tobytes() != z.tobytes() for y, z in zip(outputs, bench.outputs(), strict=True)):
        differ = "the output"
    yield row(
        "two forwards give the same bits",
        f"{differ} differs from call to call: is randomness drawn that was not passed in?" if differ else "",
    )
    twice = "backward twice gives the same bits"
    try:
        differ = _differ(again, bench.gradients(backward, dy))
    except Exception as error:  # whatever a pullback that can be called but once makes of a second call
        yield row(twice, f"the second time it raised {type(error).__name__}: {error}")
        return
    yield row(
        twice, f"{differ} differs the second time: backward consumes or overwrites what it kept" if differ else ""
    )
    changed = [name for name, value in _bytes(bench).items() if value != before[name]]
    changed += [f"output {k}" for k, y in enumerate(outputs) if y.tobytes() != held[k]]
    changed += ["dy"] * ([w.tobytes() for w in dy] != upstream)
    yield row("nothing given is changed", f"{', '.join(changed)} changed in place" if changed else "")

    frozen = [name for name in subject.frozen if bench.parameters[name].grad is not None]
    yield row("frozen parameters get no gradient", f"{', '.join(frozen)} got one" if frozen else "")

    yield row("gradients add", _accumulation(bench, backward, dy))
    yield row("no aliasing", _aliasing(bench, backward, dy, outputs))

    zeros = bench.gradients(backward, _times(0, dy))
    left = [name for name, g in zeros.items() if g.any()]
    yield row("backward(0) = 0", f"{', '.join(left)} is not zero: a term lacks dy" if left else "")
    doubled = bench.gradients(backward, _times(-2, dy))  # of a number dy the sign is half of what there is
    # This is exact but for underflow, which adds some 2⁻¹⁵⁰ in float32: nothing beside u² of the largest gradient. In
    # half precision it is common, and what it loses may be multiplied.
    p = precision_of(subject.dtype)
    size = p.slack * p.u if subject.dtype.name in HALVES else p.u**2
    beside = size * max(float(np.abs(g).max()) for g in again.values()) + 4 * p.least
    differ = _differ({name: -2 * g for name, g in again.items()}, doubled, beside)
    yield row("backward(−2 dy) = −2 backward(dy)", f"{differ} is not linear in dy" if differ else "")
    nonlinear = _nonlinear_far_from_one(subject, dy)
    yield row(FAR, f"{nonlinear} is not linear in dy" if nonlinear else "")
    yield _additivity(subject, dy, other, rounding)

    yield row("a call in between changes nothing", _stale(bench, dy, again))


def written_to(error: BaseException) -> Row:
    """The row for code that wrote to an array it was given, all of which are read-only, with the line that did it."""
    if isinstance(error, WrittenTo):
        return Row("nothing given is changed", "structure", FAIL, str(error))
    trace, place = error.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code
        place, trace = f"{code.co_name}, line {trace.tb_lineno} of {code.co_filename.rsplit('/', 1)[-1]}", trace.tb_next
    return Row("nothing given is changed", "structure", FAIL, f"{place} mutates an array that it was given ({error})")


def _bytes(bench: Bench) -> dict[str, bytes]:
    held = {name: parameter.data.tobytes() for name, parameter in bench.parameters.items()}
    held |= {name: bench.arrays[name].tobytes() for name in bench.subject.places}
    return held | {f"the constant {k}": v.tobytes() for k, v in bench.keywords.items() if isinstance(v, np.ndarray)}


def _times(c: float, dy: Outputs) -> Outputs:
    return tuple(np.asarray(c * w).astype(w.dtype) for w in dy)


def _copies(gradients: dict[str, Array]) -> dict[str, Array]:
    return {name: np.array(g) for name, g in gradients.items()}


def _differ(left: dict[str, Array], right: dict[str, Array], beyond: float = 0.0) -> str:
    """The names whose bits differ, by more than `beyond`. Zeros of either sign are the same number."""
    differ = (name for name in left if not np.array_equal(left[name], right[name], equal_nan=True))
    return ", ".join(name for name in differ if not (np.abs(left[name] - right[name]) <= beyond).all())


def _accumulation(bench: Bench, backward: Callable[..., object], dy: Outputs) -> str:
    """Twice the gradient, up to the roundings of a parameter that several places of the layer add to."""
    once = _copies(bench.gradients(backward, dy))
    p = precision_of(bench.dtype)
    # A parameter that is used twice adds up (a + b) + (a + b) in another order.
    rounding = p.slack * p.u * max(float(np.abs(g).max()) for g in once.values())
    backward(*dy)
    for name in bench.subject.trainable:
        grad = bench.parameters[name].grad
        if grad is None or np.array_equal(grad, 2 * once[name], equal_nan=True):
            continue
        if np.array_equal(grad, once[name]):
            return f"{name}.grad is overwritten instead of added to"
        if not (np.abs(grad - 2 * once[name]) <= rounding).all():
            return f"{name}.grad is not twice itself after two backwards"
    return ""


def _aliasing(bench: Bench, backward: Callable[..., object], dy: Outputs, outputs: Outputs) -> str:
    """A parameter's grad must be an array of its own: it is added to in place."""
    bench.gradients(backward, dy)
    theirs = [*dy, *outputs, *bench.arrays.values(), *(p.data for p in bench.parameters.values())]
    for name in bench.subject.trainable:
        grad = bench.parameters[name].grad
        if grad is not None and any(np.may_share_memory(grad, other) for other in theirs):
            return f"{name}.grad shares its memory with an input, an output, a parameter or dy"
    return ""


def _nonlinear_far_from_one(subject: Subject, dy: Outputs) -> str:
    """The gradients that do not scale with dy where it is huge or tiny, and by which factor; "" where all do.

    In float64 wherever it runs in that, since there a power of two has room: the bits stay, unless a number leaves the
    range. Where one does, as NumPy says, nothing is held against the pullback; nor where it runs in half precision
    alone, which has no room.
    """
    bench = subject.at(np.float64 if subject.runs_in(np.float64) else subject.dtype)
    if bench.dtype.name in HALVES:
        return ""
    _, backward = bench.forward()
    dy = tuple(w.astype(bench.dtype) for w in dy)
    once = _copies(bench.gradients(backward, dy))
    p = precision_of(bench.dtype)
    beside = p.u**2 * max(float(np.abs(g).max()) for g in once.values()) + (bench.dtype != np.float64) * 4 * p.least
    for power in POWERS:
        left: list[str] = []
        with np.errstate(all="ignore", over="call", under="call", call=lambda kind, _, left=left: left.append(kind)):
            scaled = bench.gradients(backward, tuple(np.ldexp(w, power) for w in dy))
            back = {name: np.ldexp(g, -power) for name, g in scaled.items()}
            differ = _differ(once, back, beside)
        if differ and not left and all(np.isfinite(g).all() for g in back.values()):
            return f"{differ}, at dy times 2^{power},"
    return ""


def _additivity(subject: Subject, dy: Outputs, other: Outputs, rounding: Rounding) -> Row:
    """Up to the roundings of sums whose terms are no larger than the largest gradient."""
    name = "backward(dy + dy′) = their sum"
    p = precision_of(subject.dtype)
    worst, error, size = _nonadditive(subject, subject.dtype, dy, other)
    if error <= p.slack * p.u * size:
        return Row(name, "structure", PASS)
    if not np.isfinite(error):
        return Row(name, "structure", FAIL, f"{worst} is not finite")
    elsewhere = other_precision(subject.dtype)
    _, again, there = (
        _nonadditive(subject, elsewhere, dy, other) if subject.runs_in(elsewhere) else (worst, error, size)
    )
    moves = max((float(rounding.of_gradient(key, g).max()) for key, g in _at(subject, dy).items()), default=0.0)
    if is_rounding(subject.dtype, error / size, again / there if there else 0.0) or error <= 4 * moves:
        return Row(name, "structure", UNRESOLVED, f"{worst} is ill-conditioned: {error / size:.1e} off, as rounding is")
    return Row(name, "structure", FAIL, f"{worst} is not linear in dy")


def _at(subject: Subject, dy: Outputs) -> dict[str, Array]:
    bench = subject.at(subject.dtype)
    return _copies(bench.gradients(bench.forward()[1], dy))


def _nonadditive(subject: Subject, dtype: np.dtype[Any], dy: Outputs, other: Outputs) -> tuple[str, float, float]:
    """The gradient that is least additive, by how much, and the largest of all gradients."""
    bench = subject.at(dtype)
    _, backward = bench.forward()
    dy, other = (tuple(w.astype(dtype) for w in given) for given in (dy, other))
    first, second = _copies(bench.gradients(backward, dy)), _copies(bench.gradients(backward, other))
    both = bench.gradients(backward, tuple(v + w for v, w in zip(dy, other, strict=True)))
    size = max(float(np.abs(g).max()) for g in (*first.values(), *second.values()))
    with np.errstate(invalid="ignore"):  # ∞ − ∞
        errors = {name: float(np.abs(first[name] + second[name] - total).max()) for name, total in both.items()}
    worst = max(errors, key=lambda name: errors[name])
    return worst, errors[worst], size


def _stale(bench: Bench, dy: Outputs, expected: dict[str, Array]) -> str:
    """One forward, another of moved inputs, then the first backward: it must know only its own forward."""
    moved = [name for name in bench.arrays if name in bench.subject.places]
    before = {name: bench.arrays[name].copy() for name in moved}
    _, backward = bench.forward()
    inputs = bench.inputs
    for name in moved:  # arrays of their own, since the first forward may rightly hold on to its inputs
        bench.put(name, np.asarray(1.5 * before[name] + 0.25).astype(bench.dtype))
    try:
        bench.forward()
    except (ValueError, ArithmeticError, LookupError):  # the moved point is out of the function's domain
        return ""
    finally:
        bench.inputs = inputs
    differ = _differ(expected, bench.gradients(backward, dy))
    return (
        f"{differ} is that of a later call: something is kept on the layer instead of in the closure" if differ else ""
    )
