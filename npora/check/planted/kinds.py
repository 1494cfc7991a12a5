"""The errors that people make in backward passes: a table, with s the scene of an error and s.g a right gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from npora.check.planted import changes as to
from npora.check.planted.changes import largest, put
from npora.check.planted.scene import WHERE, Scene
from npora.nn.module import Array

Change = Callable[[Scene], Array | None]


@dataclass(frozen=True)
class Kind:
    """An error.

    says : what is wrong
    where : in which scenes it can be planted, of WHERE
    change : gives the changed gradient, or None where it has done what there was to do
    words : what the diagnosis must say, or one of these, to have named it
    """

    says: str
    where: str
    change: Change
    words: tuple[str, ...]

    def plant(self, scene: Scene) -> bool:
        """Do it; False where that cannot be, or would change nothing."""
        if not WHERE[self.where](scene):
            return False
        changed = self.change(scene)
        if changed is None:
            return True
        before, scene.gradients[scene.name] = scene.g, np.array(changed, scene.g.dtype)
        return not np.array_equal(changed, before)


def kind(says: str, where: str, change: Change, *words: str) -> Kind:
    return Kind(says, where, change, words)


KINDS = {
    # what is wrong, where it can be planted, what is done to s.g, what the diagnosis must say, or one of these
    "sign": kind("the sign is wrong", "anywhere", lambda s: -s.g, "the sign"),
    "twice": kind("a factor 2", "anywhere", lambda s: 2 * s.g, "factor 2 "),
    "half": kind("a factor 1/2", "anywhere", lambda s: s.g / 2, "1/2"),
    "1.0005": kind("a factor 1.0005", "anywhere", lambda s: 1.0005 * s.g, "1.0005"),
    "1e-8": kind("a factor 1 + 1e-8", "anywhere", lambda s: (1 + 1e-8) * s.g, "1.00000001"),
    "alpha/r missing": kind("LoRA's s = α/r is missing", "LoRA", lambda s: s.g / s.factor("α/r"), "1/(α/r)"),
    "alpha/r twice": kind("LoRA's s = α/r counts twice", "LoRA", lambda s: s.g * s.factor("α/r"), "α/r"),
    "sum for mean": kind(
        "times N, the number of rows", "N rows",
        lambda s: s.g * s.factor("N"), "number of rows", "a sum where",
    ),
    "mean for sum": kind("divided by N", "N rows", lambda s: s.g / s.factor("N"), "1/(N", "a mean where"),
    "sqrt d missing": kind(
        "attention's 1/√d is missing", "heads",
        lambda s: s.g * math.sqrt(s.factor("d, the width")), "√(d, the width",
    ),
    "detached": kind("all zero", "anywhere", lambda s: 0 * s.g, "all zero"),
    "nan": kind("one nan", "anywhere", lambda s: put(s.g, largest(s.g), np.nan), "nan"),
    "weight decay": kind(
        "plus 0.01 of the value itself", "anywhere",
        lambda s: s.g + 0.01 * s.arrays[s.name], "off by 0.01 times",
    ),
    "single precision": kind("rounded on the way", "anywhere", lambda s: s.g.astype(np.float32), "rounded to float32"),
    "transposed": kind("the transpose, of a square", "a square", lambda s: s.g.swapaxes(-1, -2), "the transpose"),
    "one element": kind(
        "one element of many is off by 1 %", "elements",
        lambda s: put(s.g, largest(s.g), 1.01 * s.g[largest(s.g)]), "at one element",
    ),
    "one row": kind("a row is missing", "a matrix", lambda s: put(s.g, largest(s.g)[0], 0), "of axis 0 alone"),
    "one head": kind("the first head is missing", "heads in a row", to.headless, "in head 0"),
    "masked position": kind(
        "masked positions get a gradient", "a mask",
        lambda s: np.where(s.hidden, s.g + 0.25, s.g), "hides a position",
    ),
    "off by one": kind(
        "shifted by one along the first axis", "a first axis",
        lambda s: np.roll(s.g, 1, 0), "shifted by 1 along axis 0",
    ),
    "reversed": kind("the first axis is reversed", "a first axis", lambda s: s.g[::-1], "reversed along axis 0"),
    "summed axis": kind(
        "the sum over the first axis stands for each element", "rows",
        lambda s: s.g.sum(axis=0, keepdims=True) + 0 * s.g, "the sum over axis 0",
    ),
    "mean dropped": kind(
        "a mean over the last axis is missing", "a last axis",
        lambda s: s.g - (s.g + 1).mean(axis=-1, keepdims=True), "all along axis", "times a constant",
    ),
    "second mean dropped": kind(
        "a term x̂ mean(dx̂ ⊙ x̂) too many", "long rows",
        to.with_second_mean, "of the centred", "a multiple of the",
    ),
    "rank one missing": kind("a term of rank 1 is missing", "a large matrix", to.without_rank_one, "of rank 1"),
    "scale by row": kind("each row has a factor of its own", "rows", to.scaled_by_row, "a factor of its own"),
    "swapped": kind("two gradients of one shape are swapped", "a twin", to.swap, "two returns are swapped"),
    "ignores dy": kind("a term does not carry dy", "anywhere", to.hold_the_first, "a term lacks dy"),
    "quadratic in dy": kind(
        "dy enters twice", "anywhere",
        lambda s: s.g * sum(float(np.abs(w).sum()) for w in s.dy), "not linear in dy",
    ),
    "overwritten": kind("grad is set instead of added to", "a parameter", to.overwrite, "overwritten"),
    "stale": kind(
        "the gradient of the latest forward instead of its own", "anywhere",
        to.follow_the_latest, "of a later call",
    ),
    "random": kind("something random that was not passed in", "anywhere", to.noisy, "randomness"),
    "mutates dy": kind("writes into dy", "anywhere", to.double_dy, "mutates"),
}  # fmt: skip
