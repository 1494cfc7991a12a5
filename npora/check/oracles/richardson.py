"""Central differences with an honest error bar: the second oracle, which asks nothing of the forward."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np

from npora.check.oracles.complex_step import Index
from npora.check.outputs import Outputs
from npora.check.subject import Bench
from npora.nn.module import Array

STEPS = tuple(2.0 ** -(4 + 2 * level) for level in range(7))  # 2⁻⁴, 2⁻⁶, …, 2⁻¹⁶
FINER = (2.0**-32, 2.0**-24, 2.0**-14, 2.0**-8, 1.0)
U = 2.0**-53
HOPELESS = 2.0**-7  # noise of that share of φ: what looks like it may as well be all that the function does


def phi(bench: Bench, dy: Outputs) -> float:
    """φ = ⟨dy, f⟩."""
    return inner(dy, bench.outputs())


def inner(dy: Outputs, y: Outputs) -> float:
    """⟨dy, y⟩"""
    return sum(float(np.sum(w * part)) for w, part in zip(dy, y, strict=True))


def phi_or_nan(bench: Bench, dy: Outputs) -> float:
    """φ, or nan where the arrays have been moved out of the function's domain."""
    try:
        return phi(bench, dy)
    except (ValueError, ArithmeticError, LookupError):
        return math.nan


class Along:
    """φ along a line, t ↦ φ(x + t v), computed once for each t: tables and kinks ask for many of them again.

    here : φ(x), where that is known
    """

    def __init__(self, function: Callable[[float], float], here: float | None = None) -> None:
        self.function = function
        self.known = {} if here is None else {0.0: here}

    def __call__(self, t: float) -> float:
        if t not in self.known:
            self.known[t] = self.function(t)
        return self.known[t]


def coordinate(bench: Bench, dy: Outputs, name: str, index: Index, here: float | None = None) -> Along:
    """t ↦ φ(x + t e_i)"""
    x = bench.arrays[name]
    value = x[index]

    def moved_there(t: float) -> float:
        x[index] = value + t
        found = phi_or_nan(bench, dy)
        x[index] = value
        return found

    return Along(moved_there, here)


def direction(bench: Bench, dy: Outputs, v: dict[str, Array], here: float | None = None) -> Along:
    """t ↦ φ(x + t v)"""
    return Along(partial(moved, bench, dy, v), here)


def unit_of(x: Array) -> float:
    """What a step is measured by: 1, but for arrays of another order of magnitude."""
    largest = float(np.abs(x).max(initial=0.0))
    return 1.0 if 2.0**-30 <= largest <= 2.0**30 or not largest else largest


def reach_of(x: Array, index: Index) -> float:
    """The same for one coordinate, which may be larger than 1 too."""
    unit = unit_of(x)
    return max(min(unit, 1.0), abs(float(x[index])))


def noise_level(values: list[float], size: float, of_levels: Callable[[list[float]], float] = max) -> float:
    """The rounding noise of φ from its values at 7 neighbouring points, and never below 4 u of the terms' size.

    In a table of k-th differences noise of variance σ² has the mean square (2k)!/(k!)² σ², while the smooth part has
    died out (ECnoise: Moré and Wild, 2011). Of the levels 3 to 6 the largest is taken, or the least.
    """
    table, levels = np.array(values), [0.0]
    for k in range(1, len(values)):
        table = np.diff(table)
        if k >= 3:
            levels.append(math.factorial(k) / math.sqrt(math.factorial(2 * k) * len(table)) * norm(table))
    return max(of_levels(levels[1:] or levels), 4 * U * size)


def extrapolate(function: Callable[[float], float], noise: float, scale: float = 1.0) -> tuple[float, float]:
    """(φ′(0), its error bar) from a Richardson table of central differences (Ridders, 1982).

    D_j = (φ(h_j) − φ(−h_j)) / 2h_j has an error in even powers of h, so that with h_j = h₀ 4⁻ʲ

        A_j0 = D_j,    A_jk = A_j,k−1 + (A_j,k−1 − A_j−1,k−1) / (16ᵏ − 1)

    removes one power a column. e, the largest of the differences to A_j,k−1, A_j−1,k−1, A_j−1,k and A_j+1,k, bounds
    the truncation that is left, and 2 noise/h_j the rounding: E = 2 (e + 2 noise/h_j). The entry with the least E is
    taken. Ridders has the first two alone; where h is wider than what φ does, these may agree on a wrong slope by luck.
    D_j is there about C/h_j: it changes more from step to step, not less, and rows up to where it does are left out,
    as are those up to a step at which φ is not finite (out of a domain), or φ(h) + φ(−h) − 2φ(0), of order h², shrinks
    no faster than h: then the point is the tip of something that the steps skip. With no row left the bar is infinite.
    Of a tip beside other curvature the same difference over h, which has odd powers of h alone, says by a table of its
    own what is left at h = 0, and the bar is wider by that.
    """
    steps: list[float] = []
    table: list[list[float]] = []
    jumps: list[list[float]] = []
    here, bend = function(0.0), math.inf
    for h in (step * scale for step in STEPS):
        up, down = function(h), function(-h)
        if not (math.isfinite(up) and math.isfinite(down)):
            steps, table, jumps = [], [], []
            continue
        bend, before = abs(up + down - 2 * here), bend
        if bend > before / 8 + 8 * noise:
            steps, table, jumps = [], [], []
        row, bent = [(up - down) / (2 * h)], [(up + down - 2 * here) / h]
        for k, above in enumerate(table[-1] if table else (), start=1):
            row.append(row[-1] + (row[-1] - above) / (16**k - 1))
            bent.append(bent[-1] + (bent[-1] - jumps[-1][k - 1]) / (4 ** (2 * k - 1) - 1))
        steps.append(h)
        table.append(row)
        jumps.append(bent)
    best, bar = table[-1][0] if table else math.nan, math.inf
    for j in range(_first_believed(steps, [row[0] for row in table], noise), len(table) - 1):
        wider, row, finer = table[j - 1 : j + 2]
        for k in range(1, j):
            truncation = max(abs(row[k] - other) for other in (row[k - 1], wider[k - 1], wider[k], finer[k]))
            hidden = max(abs(jumps[j][k]) - 16 * noise / steps[j], 0.0)
            error = 2 * (truncation + 2 * noise / steps[j]) + hidden
            if error < bar:
                best, bar = row[k], error
    return best, bar


def _first_believed(steps: list[float], differences: list[float], noise: float) -> int:
    """The first row after the last at which D changes more to the next than it did from the one before."""
    change = [abs(finer - wider) for wider, finer in pairwise(differences)]
    grows = [j for j in range(1, len(change)) if change[j] > change[j - 1] + 4 * noise / steps[j + 1]]
    return max(grows, default=0) + 1


def noise_of(bench: Bench, dy: Outputs, directions: dict[str, Array], steps: float | None = None) -> float:
    """The noise of φ near the point, along a direction: to one side of it, since the point may itself be a kink.

    steps : how high those of a staircase are, which points 1e-13 apart do not see. Then it is no less than that, and
    from points 1e-7 apart; there the smooth part dies out in the higher levels only, so that the least is taken.
    """
    outputs, spacing, of_levels = bench.outputs(), *((1e-13, max) if steps is None else (1e-7, min))
    here = inner(dy, outputs)
    values = [moved(bench, dy, directions, spacing * step) for step in range(1, 8)]
    size = max(abs(here), *(norm(w * y) for w, y in zip(dy, outputs, strict=True)))
    if len({here, *values}) == 1:  # rounded to a plateau, like the loss of a certain answer: its terms were of size 1
        size = max(size, *(float(np.abs(w).max(initial=0.0)) for w in dy))
    noise = noise_level([value if math.isfinite(value) else here for value in values], size, of_levels)
    noise = max(noise, steps or 0.0)
    return noise if noise < HOPELESS * size else math.inf


def consistent(function: Callable[[float], float], noise: float, scale: float = 1.0) -> tuple[float, float]:
    """(φ′(0), its error bar) from tables of finer and finer steps, the finest first.

    A bar is honest only where the steps are finer than what φ does: kinks, poles and saturation beside the point let
    wide steps agree with each other on a wrong slope. So a table is believed only while it lies within the bars of the
    finer ones, which noise makes wide.
    """
    best, bar = math.nan, math.inf
    for finer in FINER:
        slope, error = extrapolate(function, noise, finer * scale)
        if abs(slope - best) > bar + error:
            break
        if error < bar:
            best, bar = slope, error
    return best, bar


def norm(x: Array) -> float:
    """‖x‖₂, without the squares that overflow or vanish."""
    largest = float(np.abs(x).max(initial=0.0))
    return largest * float(np.linalg.norm(x / largest)) if largest else 0.0


def moved(bench: Bench, dy: Outputs, directions: dict[str, Array], t: float) -> float:
    """φ(x + t v), and back."""
    before = {name: bench.arrays[name].copy() for name in directions}
    for name, v in directions.items():
        bench.arrays[name] += t * v
    value = phi_or_nan(bench, dy)
    for name, old in before.items():
        bench.arrays[name][...] = old
    return value
