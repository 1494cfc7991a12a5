"""Mutants that are said to change no result: on a thousand drawn inputs each, they change none."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.chosen import files_of
from tests.mutations import Mutant, mutants
from tests.survivors import SURVIVORS

Draw = Callable[[np.random.Generator], Callable[[Any], Any]]
CLAIMS: dict[str, Draw] = {}
DRAWS = 1000


def of(*names: str) -> Callable[[Draw], Draw]:
    """What draws an input, and gives the function that takes it to a result by a module's functions."""

    def claim(draw: Draw) -> Draw:
        CLAIMS.update(dict.fromkeys(names, draw))
        return draw

    return claim


def size(rng: np.random.Generator, shape: Any) -> Any:
    """Values of every size, zeros and ties among them."""
    x = rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 3)
    return np.where(rng.random(shape) < 0.1, 0.0, np.where(rng.random(shape) < 0.2, np.rint(x), x))


@of("relative_buckets: r < exact: edge")
def buckets(rng: np.random.Generator) -> Callable[[Any], Any]:
    count = 2 * int(rng.integers(2, 20)) * 2
    distance, most = rng.integers(-300, 300, 20), int(count * rng.integers(1, 9))
    return lambda module: module.relative_buckets(distance, bool(count % 8), count, most)


@of("_MOVED: 1879048193 in -1879048193: plus 1")
def widened(rng: np.random.Generator) -> Callable[[Any], Any]:
    bits = (rng.integers(0, 0x7C00, 20) | rng.choice([0, 0x8000], 20)).astype(np.uint16)
    return lambda module: module.Float16(bits.view(np.float16).copy())[:].view(np.uint32)


@of("sigmoid: 700 in -700: plus 1")
def sigmoids(rng: np.random.Generator) -> Callable[[Any], Any]:
    x = size(rng, 5) * 100 + 1e-20j * rng.standard_normal(5)
    return lambda module: module.sigmoid(x).real + module.sigmoid(x).imag / 1e-20


@of("binary_cross_entropy: logits.real > 0: edge")
def yes_or_no(rng: np.random.Generator) -> Callable[[Any], Any]:
    shape = (int(rng.integers(0, 4)), 2)
    logits, targets = size(rng, shape), rng.integers(0, 2, shape)

    def result(module: Any) -> Any:
        loss, backward = module.binary_cross_entropy(logits, targets)
        return np.append(backward(0.7), loss)

    return result


@of("softmax: 0: plus 1", "softmax: 1: plus 1")
def masked_rows(rng: np.random.Generator) -> Callable[[Any], Any]:
    x, mask, dp = size(rng, (3, 4)), rng.random((3, 4)) < rng.random(), size(rng, (3, 4))

    def result(module: Any) -> Any:
        p, backward = module.softmax(x, mask)
        return np.append(p, backward(dp))

    return result


@of(
    "nn/cross_entropy.py: _softmax: -1: without the sign",
    "nn/cross_entropy.py: cross_entropy: -1: without the sign",
    "nn/cross_entropy.py: cross_entropy: -1: without the sign #2",
    "cross_entropy: z[counted].mean(axis=-1): axis=None",
)
def classes(rng: np.random.Generator) -> Callable[[Any], Any]:
    logits, targets = size(rng, (4, 5)), rng.integers(0, 5, 4)
    smoothing = float(rng.choice([0, 0.1]))

    def result(module: Any) -> Any:
        loss, backward = module.cross_entropy(logits, targets, label_smoothing=smoothing)
        return np.append(backward(0.7), loss)

    return result


@of("last_token_rows: np.arange(ids.shape[1]) * (ids != pad_token_id): times 1.0005")
def last_tokens(rng: np.random.Generator) -> Callable[[Any], Any]:
    ids = rng.integers(0, 4, (3, int(rng.integers(1, 9))))
    ids[:, 0] = 1
    return lambda module: module.last_token_rows(module.Tokens.of(ids), 0)


@of("clip_grad_norm: scale < 1: edge")
def clipped(rng: np.random.Generator) -> Callable[[Any], Any]:
    from npora.nn import Parameter

    parameters = [Parameter(np.zeros(3)), Parameter(np.zeros(2))]
    gradients = [size(rng, 3), size(rng, 2)]
    norm = float(np.sqrt(sum((g * g).sum() for g in gradients)))
    most = norm + 1e-6 if rng.random() < 0.5 else float(rng.random() * 2 * norm + 1e-9)

    def result(module: Any) -> Any:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.copy()
        total = module.clip_grad_norm(parameters, most)
        return np.concatenate([*(p.grad for p in parameters), [total]])

    return result


@of("matthews: p @ t: operands swapped", "f1: 1 in np.maximum(p + t, 1): plus 1")
def classes_apart(rng: np.random.Generator) -> Callable[[Any], Any]:
    found, wanted = rng.integers(0, 4, (2, int(rng.integers(1, 9))))
    return lambda module: [module.matthews(found, wanted), *(
        module.f1(found, wanted, average) for average in ("macro", "micro", "weighted")
    )]  # fmt: skip


@of(
    "pearson: a @ b: operands swapped",
    "_ranks: return (np.cumsum(counts) - counts / 2)[places]: negated",
    "metrics/numbers.py: _pair: return (found, wanted): first two swapped",
)
def measures(rng: np.random.Generator) -> Callable[[Any], Any]:
    x, y = size(rng, (2, 7))
    return lambda module: [module.pearson(x, y), module.spearman(x, y), module.rmse(x, y)]


@of(
    "Unset.zeros: return np.zeros(shape, dtype=dtype): negated",
    "kaiming_uniform: return rng.zeros(shape, dtype): negated",
    "normal: return rng.zeros(shape, dtype): negated",
    "kaiming_uniform: 0.0 in 1 / math.sqrt(shape[1]) if shape[1] else 0.0: plus 1",
)
def first_values(rng: np.random.Generator) -> Callable[[Any], Any]:
    shape, seed = (int(rng.integers(0, 4)), int(rng.integers(0, 3))), int(rng.integers(99))

    def result(module: Any) -> Any:
        made = [
            make(source, shape, *rest)
            for source in (module.Unset(), np.random.default_rng(seed))
            for make, *rest in ((module.normal, 0.5), (module.kaiming_uniform,))
        ]
        return np.concatenate([x.ravel() for x in made])

    return result


@of("check_targets: 2 in logits.ndim < 2: plus 1", "check_targets: logits.ndim < 2: edge")
def shapes_of_logits(rng: np.random.Generator) -> Callable[[Any], Any]:
    logits, targets = np.zeros(rng.integers(1, 4, rng.integers(0, 5))), np.zeros(rng.integers(1, 4, rng.integers(0, 3)))

    def result(module: Any) -> Any:
        try:
            module.check_targets(logits, targets.astype(int), -100)
        except ValueError as error:
            return [ord(letter) for letter in str(error)]
        return []

    return result


@of("nibbles: 1 in :1: plus 1")
def halves_of_bytes(rng: np.random.Generator) -> Callable[[Any], Any]:
    packed = rng.integers(0, 256, (*rng.integers(1, 4, rng.integers(0, 3)), int(rng.integers(1, 9))), dtype=np.uint8)
    return lambda module: module.nibbles(packed)


@of("Q8_0.pack: step > 0: edge")
def blocks_of_bytes(rng: np.random.Generator) -> Callable[[Any], Any]:
    blocks = (size(rng, (3, 32)) * rng.integers(0, 2, (3, 1))).astype(np.float32)
    return lambda module: module.Q8_0.pack(blocks)


@of(
    "NF4.narrowed: -1: without the sign #2",
    "NF4.narrowed: -1: without the sign #3",
    "NF4.narrowed: -1: without the sign #4",
    "NF4.narrowed: -1: without the sign #5",
    "NF4.narrowed: 1 in -1: plus 1 #5",
    "_PAIRS: 1 in -1: plus 1",
    "_nearest_constants: 0 in span < 0: plus 1",
    "_nearest_constants: span < 0: edge",
)
def rows_to_quantise(rng: np.random.Generator) -> Callable[[Any], Any]:
    rows = size(rng, (*rng.integers(1, 4, 2), 64)).astype(np.float32)
    return lambda module: module.NF4.narrowed(rows)


@of("NF4.terms_in: rows.shape[-1] - 8: left alone", "NF4.terms_in: rows.shape[-1] - 8: sign")
def rows_of_blocks(rng: np.random.Generator) -> Callable[[Any], Any]:
    blocks = int(rng.integers(1, 40))
    rows = rng.integers(0, 128, (2, 33 * blocks + 8), dtype=np.uint8)  # floats that are finite
    some = slice(int(rng.integers(0, blocks)), blocks)

    def result(module: Any) -> Any:
        terms = module.NF4.terms_in(rows, some)
        return np.concatenate([np.ravel(part) for part in terms if part is not None])

    return result


@of("LoraFAOptimizer.update: g @ np.linalg.pinv(square): right transposed")
def steps_of_b(rng: np.random.Generator) -> Callable[[Any], Any]:
    from npora.nn import Parameter

    A, B, g = np.eye(2, 5) + 0.2 * rng.standard_normal((2, 5)), rng.standard_normal((3, 2)), size(rng, (3, 2))

    def result(module: Any) -> Any:
        parameter = Parameter(B.copy())
        parameter.grad = g.copy()
        module.LoraFAOptimizer([{"params": [parameter], "A": Parameter(A), "scaling": 2.0}]).step()
        return parameter.data + 10  # as exact as the sums of pinv

    return result


@of(
    "RoAd.gathered: 1 in -1: plus 1",
    "RoAd.gathered: 1 in -1: plus 1 #2",
    "RoAd.gathered: 1 in -1: plus 1 #3",
    "RoAd.gathered: 1 in -1: plus 1 #4",
    "RoAd.spread: 1 in -1: plus 1",
    "RoAd.spread: 1 in -1: plus 1 #2",
    "RoAd.spread: 1 in -1: plus 1 #3",
    "RoAd.spread: 1 in -1: plus 1 #4",
    "RoAd.spread: 1 in -1: plus 1 #5",
    "RoAd.spread: np.repeat(values.reshape(-1, 1, self.half), 2, axis=1): axis=0",
    "RoAd.spread: return (both, both): first two swapped",
    "RoAd.spread: return (values, values): first two swapped",
)
def pairs_of_outputs(rng: np.random.Generator) -> Callable[[Any], Any]:
    half, groups = rng.integers(1, 4, 2).tolist()
    variant, o = str(rng.choice(["road_1", "road_2", "road_4"])), 2 * half * groups
    layer: Any = SimpleNamespace(variant=variant, half=half)
    values, (dc, ds) = size(rng, {"road_1": o // 2, "road_2": o, "road_4": 2 * o}[variant]), size(rng, (2, o))
    return lambda module: np.concatenate([*module.RoAd.spread(layer, values), module.RoAd.gathered(layer, dc, ds)])


@of(
    "cosent_loss: 0.0 in max(float(z.real[counted].max(initial=0)), 0.0): plus 1",
    "cosent_loss: 0: plus 1",
    "cosent_loss: 0 in np.where(counted, z - top, 0): plus 1",
    "_distance: 1 in np.where(length == 0, 1, length): plus 1",
    "_distance: -1: without the sign",
    "nn/similarity.py: cosine_similarity: -1: without the sign",
)
def embeddings(rng: np.random.Generator) -> Callable[[Any], Any]:
    n = int(rng.integers(1, 6))
    u, v, w = rng.standard_normal((3, n, 4))
    w[0], scores = u[0], rng.integers(0, 3, n)  # a distance of 0

    def result(module: Any) -> Any:
        cosines, back = module.cosine_similarity(u, v)
        loss, back_loss = module.cosent_loss(cosines, scores)
        apart, back_apart = module.triplet_loss(u, v, w)
        made = [cosines, [loss, apart], back_loss(0.7), *back(cosines), *back_apart(0.7)]
        return np.concatenate([np.ravel(x) for x in made]) + 100  # as exact as what is summed

    return result


@of("in_blocks: 1 in R.shape[1]: plus 1")
def turned_blocks(rng: np.random.Generator) -> Callable[[Any], Any]:
    n, k, width = rng.integers(1, 4, 3).tolist()
    x, R = size(rng, (n, 2, k * width)), size(rng, (k, width, width))
    return lambda module: module.in_blocks(x, R)


@of("nearest_divisor: 1 in i + 1: plus 1")
def divisors(rng: np.random.Generator) -> Callable[[Any], Any]:
    i, wanted = rng.integers(1, 200, 2).tolist()
    return lambda module: module.nearest_divisor(i, wanted)


def mutant_of(name: str) -> Mutant:
    found = [m for path in files_of([], False) for m in mutants(path) if name in (m.name, m.identity)]
    assert len(found) == 1, name
    return found[0]


@pytest.mark.parametrize("name", CLAIMS)
def test_what_is_said_to_change_nothing_changes_nothing(name: str) -> None:
    assert name in SURVIVORS
    mutant = mutant_of(name)
    module = ModuleType(mutant.path.removesuffix(".py").replace("/", "."))
    original = __import__(module.__name__, fromlist=["_"])
    exec(compile(mutant.tree(), mutant.path, "exec"), module.__dict__)
    for seed in range(DRAWS):
        result = CLAIMS[name](np.random.default_rng(seed))
        with np.errstate(all="ignore"):
            # To the rounding of a few sums: a mean over rows may be taken in another order.
            np.testing.assert_allclose(result(module), result(original), rtol=2.0**-48, atol=1e-300)
