"""What is wrong with a gradient, by trying the usual causes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from npora.check.verdict import causes, shares
from npora.check.verdict.evidence import Evidence
from npora.nn.module import Array
from npora.nn.readable import Readable


@dataclass(frozen=True)
class Context(Readable):
    """What a cause may be named after. factors : numbers by name (α/r, N, …); arrays : the inputs, parameters, output
    and dy; others : the other tensors' right gradients, nan where they are not known; heads : into how many blocks the
    last axis may fall; hidden : named masks, True where a position takes no part; returned : what came for the others;
    told : shares of the right gradient, and whole wrong ones, by name.
    """

    factors: Mapping[str, float] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)
    others: Mapping[str, Array] = field(default_factory=dict)
    heads: int = 1
    hidden: Mapping[str, Array] = field(default_factory=dict)
    returned: Mapping[str, Array] = field(default_factory=dict)
    told: Mapping[str, Array] = field(default_factory=dict)


def diagnose(a: Array, n: Array, context: Context | None = None, tolerance: float = 1e-9) -> str:
    """The likely cause of a ≠ n, in words: a, the gradient that came; n, the right one, of the same shape, nan where it
    is not known.

    tolerance : relative to the largest |n|, how well n is known. The causes are tried from the plainest, which have
    nothing to fit or one number, to those with a number for each slice; the first that explains the whole difference is
    named. Where none does, that is what is said.
    """
    context = context or Context()
    a, n = np.asarray(a, np.float64), np.asarray(n, np.float64)
    if not np.isfinite(a).all():
        bad = np.argwhere(~np.isfinite(a))
        first = f", the first at [{', '.join(map(str, bad[0]))}]" if a.ndim else ""
        return f"nan or inf at {len(bad)} of {a.size} elements{first}"
    if not a.any():
        return "all zero: detached, dropped, or never returned or accumulated"
    with np.errstate(all="ignore"):  # squares of tiny or huge gradients: a cause that cannot be tried is none
        evidence = Evidence(a, n, tolerance)
        return next(_found(evidence, context, tolerance), None) or _resemblance(evidence)


def _found(e: Evidence, context: Context, tolerance: float) -> Iterator[str]:
    """The causes that explain the difference, plainest first."""
    if not e.difference:
        return
    yield from causes.constant_factor(e, context.factors, tolerance)
    yield from shares.told(e, context.told, context.factors)
    yield from causes.rearranged(e)
    yield from causes.swapped(e, context.others, context.returned)
    yield from causes.disordered(e)
    yield from causes.confined(e, context.hidden, context.heads, context.factors)
    yield from causes.rounded(e)
    yield from causes.reduced(e)
    yield from causes.itself(e, {name: x for name, x in context.arrays.items() if name == "dy"})
    yield from causes.of_another(e, context.others)
    yield from causes.itself(e, context.arrays)
    yield from causes.known_factor(e, context.arrays)
    yield from causes.constant(e)
    yield from causes.known_term(e, context.arrays, context.others)
    yield from causes.of_slices(e, context.arrays)
    yield from causes.times_dy(e, context.arrays)
    yield from causes.low_rank(e)
    yield from causes.in_part(e)


def _resemblance(e: Evidence) -> str:
    norms = float(np.linalg.norm(e.came) * np.linalg.norm(e.right))
    cosine = float(np.sum(e.came * e.right)) / norms if norms else 0.0
    if not e.right.any():
        return f"no known error explains it: the right gradient is zero, and {e.difference:.2g} came"
    if len(e.came) == 1:
        return f"no known error explains it: {e.came[0] / e.right[0]:.10g} times the right one"
    if abs(cosine) < 0.5:
        return f"unlike the right gradient (cosine {cosine:.3g}): no known error explains it"
    relative = float(np.linalg.norm(e.error) / np.linalg.norm(e.right))
    return f"no known error explains it: the difference is {relative:.2g} of the gradient's norm, cosine {cosine:.3g}"
