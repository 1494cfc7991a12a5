"""The errors that people make in backward passes, each as a change of a right gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from npora.check.verdict.diagnosis import Context
from npora.nn.module import Array


@dataclass
class Scene:
    """One backward in which an error is planted: whose gradient, and what is around it."""

    name: str
    gradients: dict[str, Array]
    arrays: dict[str, Array]  # the inputs' and parameters' values
    dy: tuple[Array, ...]
    context: Context
    state: dict[str, Any]  # outlives the call
    overwrite: bool = False

    def factor(self, name: str) -> float | None:
        """The factor whose name begins so, where there is one that is not 1."""
        found = (value for key, value in self.context.factors.items() if key.startswith(name))
        return next((value for value in found if value != 1), None)


@dataclass(frozen=True)
class Kind:
    """plant : changes a Scene; False where that cannot be done here. words : one of them must be in the diagnosis."""

    says: str
    plant: Callable[[Scene], Any]
    words: tuple[str, ...]


KINDS: dict[str, Kind] = {}
Change = Callable[[Scene, Array], Any]


def _in_backward(name: str, says: str, *words: str) -> Callable[[Callable[[Scene], Any]], None]:
    """Register an error of the whole backward."""

    def register(plant: Callable[[Scene], Any]) -> None:
        KINDS[name] = Kind(says, plant, words)

    return register


def _of_gradient(name: str, says: str, *words: str) -> Callable[[Change], None]:
    """Register an error that maps the gradient to another array, or to None where it does not apply."""

    def register(change: Change) -> None:
        def plant(scene: Scene) -> bool:
            g = scene.gradients[scene.name]
            changed = change(scene, g)
            if changed is None or np.array_equal(changed, g):
                return False
            scene.gradients[scene.name] = np.array(changed, g.dtype)
            return True

        KINDS[name] = Kind(says, plant, words)

    return register


def _times(name: str, power: float) -> Change:
    def change(scene: Scene, g: Array) -> Any:
        value = scene.factor(name)
        return None if value is None else g * value**power

    return change


def _put(g: Array, index: Any, value: Any) -> Array:
    changed: Array = g.copy()
    changed[index] = value
    return changed


def _largest(g: Array) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(np.abs(g).argmax()), g.shape))


def _is_matrix(g: Array) -> bool:
    return g.ndim > 1 and len(g) > 2 and g.shape[-1] > 1


_of_gradient("sign", "the sign is wrong", "the sign")(lambda s, g: -g)
_of_gradient("twice", "a factor 2", "factor 2 ")(lambda s, g: 2 * g)
_of_gradient("half", "a factor 1/2", "1/2")(lambda s, g: g / 2)
_of_gradient("1.0005", "a factor 1.0005", "1.0005")(lambda s, g: 1.0005 * g)
_of_gradient("1e-8", "a factor 1 + 1e-8", "1.00000001")(lambda s, g: (1 + 1e-8) * g)
_of_gradient("alpha/r missing", "LoRA's s = α/r is missing", "1/(α/r)")(_times("α/r", -1))
_of_gradient("alpha/r twice", "LoRA's s = α/r counts twice", "α/r")(_times("α/r", 1))
_of_gradient("sum for mean", "times N, the number of rows", "number of rows", "a sum where")(_times("N", 1))
_of_gradient("mean for sum", "divided by N", "1/(N", "a mean where")(_times("N", -1))
_of_gradient("sqrt d missing", "attention's 1/√d is missing", "√(d, the width")(_times("d, the width", 0.5))
_of_gradient("detached", "all zero", "all zero")(lambda s, g: 0 * g)
_of_gradient("nan", "one nan", "nan")(lambda s, g: _put(g, _largest(g), np.nan))
_of_gradient("weight decay", "plus 0.01 of the value itself", "off by 0.01 times")(
    lambda s, g: g + 0.01 * s.arrays[s.name]
)
_of_gradient("single precision", "rounded on the way", "rounded to float32")(lambda s, g: g.astype(np.float32))


@_of_gradient("transposed", "the transpose, of a square", "the transpose")
def _transposed(scene: Scene, g: Array) -> Any:
    return g.swapaxes(-1, -2) if g.ndim > 1 and g.shape[-1] == g.shape[-2] else None


@_of_gradient("one element", "one element of many is off by 1 %", "at one element")
def _one_element(scene: Scene, g: Array) -> Any:
    return _put(g, _largest(g), 1.01 * g[_largest(g)]) if g.size > 2 else None


@_of_gradient("one row", "a row is missing", "of axis 0 alone")
def _one_row(scene: Scene, g: Array) -> Any:
    return _put(g, _largest(g)[0], 0) if _is_matrix(g) and g.ndim == 2 else None


@_of_gradient("one head", "the first head is missing", "in head 0")
def _one_head(scene: Scene, g: Array) -> Any:
    heads = scene.context.heads
    if heads < 2 or g.ndim < 2 or g.shape[-1] % heads or g.shape[-1] == heads:
        return None
    return _put(g, (..., slice(0, g.shape[-1] // heads)), 0)


@_of_gradient("masked position", "masked positions get a gradient", "hides a position")
def _masked_position(scene: Scene, g: Array) -> Any:
    for hidden in scene.context.hidden.values():
        if hidden.shape == g.shape[: hidden.ndim] and hidden.any() and 2 * hidden.sum() < hidden.size:
            return np.where(hidden.reshape(hidden.shape + (1,) * (g.ndim - hidden.ndim)), g + 0.25, g)
    return None


@_of_gradient("off by one", "shifted by one along the first axis", "shifted by 1 along axis 0")
def _off_by_one(scene: Scene, g: Array) -> Any:
    return np.roll(g, 1, 0) if g.ndim and len(g) > 2 else None


@_of_gradient("reversed", "the first axis is reversed", "reversed along axis 0")
def _reversed(scene: Scene, g: Array) -> Any:
    return g[::-1] if g.ndim and len(g) > 2 else None


@_of_gradient("summed axis", "the sum over the first axis stands for each element", "the sum over axis 0")
def _summed_axis(scene: Scene, g: Array) -> Any:
    return g.sum(axis=0, keepdims=True) + 0 * g if _is_matrix(g) else None


@_of_gradient("mean dropped", "a mean over the last axis is missing", "all along axis", "times a constant")
def _mean_dropped(scene: Scene, g: Array) -> Any:
    return g - (g + 1).mean(axis=-1, keepdims=True) if g.ndim and g.shape[-1] > 2 else None


@_of_gradient("second mean dropped", "a term x̂ mean(dx̂ ⊙ x̂) too many", "of the centred", "a multiple of the")
def _second_mean_dropped(scene: Scene, g: Array) -> Any:
    if not _is_matrix(g) or g.shape[-1] < 3:
        return None
    x = scene.arrays[scene.name]
    centred = x - x.mean(axis=-1, keepdims=True)
    return g + centred * (g * centred).mean(axis=-1, keepdims=True)


@_of_gradient("rank one missing", "a term of rank 1 is missing", "of rank 1")
def _rank_one_missing(scene: Scene, g: Array) -> Any:
    if g.ndim != 2 or min(g.shape) < 3:
        return None
    u, s, v = np.linalg.svd(g, full_matrices=False)
    return g - s[1] * np.outer(u[:, 1], v[1]) if s[1] > 1e-3 * s[0] else None


@_of_gradient("scale by row", "each row has a factor of its own", "a factor of its own")
def _scale_by_row(scene: Scene, g: Array) -> Any:
    return g * np.linspace(0.5, 1.5, len(g)).reshape(-1, *(1,) * (g.ndim - 1)) if _is_matrix(g) else None


@_in_backward("swapped", "two gradients of one shape are swapped", "two returns are swapped")
def _swapped(scene: Scene) -> Any:
    own = scene.gradients[scene.name]
    for name, other in scene.gradients.items():
        if name != scene.name and other.shape == own.shape and other.any() and not np.array_equal(other, own):
            scene.gradients[name], scene.gradients[scene.name] = own, other
            return True
    return False


@_in_backward("ignores dy", "a term does not carry dy", "a term lacks dy")
def _ignores_dy(scene: Scene) -> None:
    scene.gradients[scene.name] = scene.state.setdefault("held", scene.gradients[scene.name].copy())


@_in_backward("quadratic in dy", "dy enters twice", "not linear in dy")
def _quadratic_in_dy(scene: Scene) -> None:
    scene.gradients[scene.name] = scene.gradients[scene.name] * sum(float(np.abs(w).sum()) for w in scene.dy)


@_in_backward("overwritten", "grad is set instead of added to", "overwritten")
def _overwritten(scene: Scene) -> bool:
    scene.overwrite = True
    return scene.name not in scene.state["inputs"]


@_in_backward("stale", "the gradient of the latest forward instead of its own", "of a later call")
def _stale(scene: Scene) -> None:
    if scene.state["forwards"] > scene.state["own"]:
        scene.gradients[scene.name] = 0.75 * scene.gradients[scene.name]


@_in_backward("random", "something random that was not passed in", "randomness")
def _random(scene: Scene) -> None:
    rng = scene.state.setdefault("rng", np.random.default_rng(3))
    g = scene.gradients[scene.name]
    scene.gradients[scene.name] = g * (1 + 1e-3 * rng.standard_normal(g.shape))


@_in_backward("mutates dy", "writes into dy", "mutates")
def _mutates_dy(scene: Scene) -> None:
    np.multiply(scene.dy[0], 2, out=scene.dy[0])
