"""Gradients that were wrong in public: what a thread tells of, remade in a few lines of NumPy, and what gradcheck says.

    python examples/checking/museum.py

Each exhibit has the forward that was meant and the pullback as it was; the code is this file's own. Some threads tell
of a kernel, of which the arithmetic alone is here. `owner/name#7` is https://github.com/owner/name/issues/7.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from npora import gradcheck

rng = np.random.default_rng(7)


@dataclass(frozen=True)
class Exhibit:
    """says : words of the report that name the error; "" where it names but the tensor that is wrong
    constants : what is passed by keyword; named : shares of the right gradient, by which gradcheck may tell the error
    """

    source: str
    what: str
    forward: Callable[..., Any]
    pullback: Callable[..., Any]
    inputs: tuple[Any, ...]
    says: str
    constants: dict[str, Any] = field(default_factory=dict)
    named: Callable[..., Any] | None = None


def n(*shape: int) -> Any:
    return np.asarray(rng.standard_normal(shape))


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def log_softmax(x):
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def mean(x):
    return x.mean(axis=-1, keepdims=True)


def xhat(x):
    centred = x - mean(x)
    return centred / np.sqrt(mean(centred**2) + 1e-5)


def layer_norm(x, gamma, beta):
    return gamma * xhat(x) + beta


def back_norm(d, x, times=1.0):
    h, sigma = xhat(x), np.sqrt(mean((x - mean(x)) ** 2) + 1e-5)
    return (d - times * mean(d) - h * mean(d * h)) / sigma


def rms_norm(x, w):
    return w * x / np.sqrt(mean(x**2) + 1e-6)


def back_rms(dy, x, w, first=None, second=None):
    r = 1 / np.sqrt(mean(x**2) + 1e-6)
    d = w * dy if first is None else first
    return d * r - (1 if second is None else second) * x * r**3 * mean(w * dy * x), (dy * x * r).sum(axis=0)


def nll(z, *, targets):
    """The loss of each row."""
    return -log_softmax(z)[np.arange(len(z)), targets]


def p_less_one(z, targets):
    dz = softmax(z)
    dz[np.arange(len(z)), targets] -= 1
    return dz


def scattered(E, ids, dy):
    dE = np.zeros_like(E)
    dE[ids] = dy
    return dE


def swiglu(x, G, U):
    return (x @ G) * sigmoid(x @ G) * (x @ U)


def back_swiglu(dy, x, G, U):
    g, u, s = x @ G, x @ U, sigmoid(x @ G)
    dg, du = dy * u * (s + g * s * (1 - s)), dy * g * s
    return dg @ G.T, x.T @ dg, x.T @ du  # … + du @ U.T


def turned(x, angle):
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], axis=-1)


def written(dy, x, *, angle):
    x[...] = turned(x, angle)  # the rotated rows go where the rows were
    return turned(dy, -angle)


def logits_written(dloss, z, *, targets):
    z[...] = p_less_one(z, targets)
    return dloss[:, None] * z


def attended(q, k, v, heads):
    each = heads // len(k)
    p = softmax(q @ k.repeat(each, axis=0).swapaxes(1, 2))
    return p, p @ v.repeat(each, axis=0)


def grouped(q, k, v):
    return attended(q, k, v, len(q))[1]


def back_grouped(dy, q, k, v, collect):
    each = len(q) // len(k)
    p, _ = attended(q, k, v, len(q))
    dp = dy @ v.repeat(each, axis=0).swapaxes(1, 2)
    dz = p * (dp - (dp * p).sum(axis=-1, keepdims=True))
    dq = dz @ k.repeat(each, axis=0)
    return dq, collect(dz.swapaxes(1, 2) @ q, len(k)), collect(p.swapaxes(1, 2) @ dy, len(k))


def by_turns(d, groups):
    return d.reshape(-1, groups, *d.shape[1:]).sum(axis=0)


def reused(x, w):
    h = np.tanh(x)
    return h * w + h


def visited_twice(dy, x, w):
    h = np.tanh(x)
    first, second = dy * w, dy
    return (first + (first + second)) * (1 - h**2), dy * h


def prenorm(x, residual, w):
    return rms_norm(x + residual, w), x + residual


def back_prenorm(dy, dsum, x, residual, w):
    dx, dw = back_rms(dy, x + residual, w)
    wrong = back_rms(dy + dsum / w, x + residual, w)[0]  # both go back through the norm
    return wrong, dx + dsum, dw


def focal(z):
    """−(1 − p)² log p with p = σ(z)"""
    return -((1 - sigmoid(z)) ** 2) * np.log(sigmoid(z))


X, Z, T = n(4, 6), n(4, 6), np.array([2, 0, 5, 1])
E3, IDS = n(5, 3), np.array([1, 3, 1, 4])
NORM = (n(4, 6), n(6), n(6))
BTM = (n(2, 3, 5), n(5), n(5))
QKV = (n(6, 3, 4), n(2, 5, 4), n(2, 5, 4))

MUSEUM = (
    # softmax and its kin
    Exhibit("deeplearning4j/libnd4j#440", "softmax: the diagonal of its Jacobian alone", softmax,
            lambda dy, x: dy * softmax(x) * (1 - softmax(x)), (X,), ""),
    Exhibit("HomericIntelligence/Odyssey#2134", "softmax: the sum of dy ⊙ p is missing", softmax,
            lambda dy, x: dy * softmax(x), (X,), "off by a multiple of the output"),
    Exhibit("pocketpy/cTensor#31", "softmax: the pullback is multiplied by dy again", softmax,
            lambda dy, x: dy * softmax(x) * (dy - (dy * softmax(x)).sum(axis=-1, keepdims=True)), (X,),
            "not linear in dy"),
    Exhibit("mlpack/mlpack#2360", "log-softmax: p + dy", log_softmax,
            lambda dy, x: softmax(x) + dy, (X,), "a term lacks dy"),
    Exhibit("kyle8998/Sudo-Productivity#3", "sigmoid: x (1 − x) of x, which is not yet σ(x)", sigmoid,
            lambda dy, x: dy * x * (1 - x), (X,), ""),
    Exhibit("autumnai/collenchyma-nn#13", "sigmoid: x stands where dy should", sigmoid,
            lambda dy, x: x * sigmoid(x) * (1 - sigmoid(x)), (X,), "a term lacks dy"),
    Exhibit("Bot-Academy/NeuralNetworkFromScratch#3", "sigmoid of the last layer: its derivative is missing", sigmoid,
            lambda dy, x: dy, (X,), "dy itself: the layer's own derivative is missing"),
    Exhibit("jax-ml/jax#2107", "softplus at 0: max and abs have slope 0 there, and their sum had", lambda x: np.where(
        x > 0, x, 0) + np.log1p(np.exp(-np.where(x > 0, x, -x))), lambda dy, x: dy * np.where(x == 0, 0, sigmoid(x)),
            (np.array([-1.5, 0.0, 0.7, 2.0, -0.3]),), "at one element, [1]: there it is zero"),
    # what comes from above
    Exhibit("k2-fsa/k2#341", "a total score: backward leaves out the gradient that it is given", lambda x: np.log(
        np.exp(x).sum(axis=-1)), lambda dy, x: softmax(x), (X,), "a term lacks dy"),
    Exhibit("tensorflow/tensorflow#1847", "log1p: the upstream gradient is not multiplied in", np.log1p,
            lambda dy, x: 1 / (1 + x), (np.abs(X),), "a term lacks dy"),
    Exhibit("SciSharp/TensorFlow.NET#787", "squared difference: the inputs are returned as their gradients",
            lambda x, y: (x - y) ** 2, lambda dy, x, y: (x.copy(), y.copy()), (n(4, 3), n(4, 3)), "a term lacks dy"),
    Exhibit("NVIDIA/TransformerEngine#2139", "cross-entropy: the first row's dy for every row", nll,
            lambda dy, z, *, targets: dy[0] * p_less_one(z, targets), (Z,), "a factor of its own for each slice",
            {"targets": T}),
    Exhibit("linkedin/Liger-Kernel#1298", "a fused head: dW is scaled by one token's dy", lambda h, W, *, targets: nll(
        h @ W.T, targets=targets), lambda dy, h, W, *, targets: (
            dy[:, None] * p_less_one(h @ W.T, targets) @ W, dy[0] * p_less_one(h @ W.T, targets).T @ h),
            (n(4, 3), n(6, 3)), "", {"targets": T}),
    Exhibit("microsoft/DirectML#740", "cross-entropy of each row: the gradient is zero", nll,
            lambda dy, z, *, targets: np.zeros_like(z), (Z,), "all zero", {"targets": T}),
    # sums and means
    Exhibit("paiml/aprender#2182", "cross-entropy, summed: divided by the batch", lambda z, *, targets: nll(
        z, targets=targets).sum(), lambda dy, z, *, targets: dy * p_less_one(z, targets) / len(z), (Z,), "1/(",
            {"targets": T}),
    Exhibit("OpenNMT/OpenNMT-py#526", "a mean over tokens: divided by the sentences", lambda z, *, targets: nll(
        z, targets=targets).mean(), lambda dy, z, *, targets: dy * p_less_one(z, targets) / 2, (Z,), "factor 2",
            {"targets": T}),
    Exhibit("unslothai/unsloth-zoo#6", "micro-batches of unequal length: the mean of their means", lambda z, *, targets:
            nll(z, targets=targets).mean(), lambda dy, z, *, targets: dy * p_less_one(z, targets) / (
                2 * np.array([1, 3, 3, 3]))[:, None], (Z,), "a factor of its own for each slice along axis 1",
            {"targets": T}),
    Exhibit("tracel-ai/burn#181", "a bias that was broadcast: its gradient is not summed", lambda x, b: x + b,
            lambda dy, x, b: (dy, dy), (n(4, 3), n(3)), "the gradient of b has shape (4, 3), expected (3,)"),
    Exhibit("marin-community/levanter#449", "grouped keys: the query heads of a group are not summed", grouped,
            lambda dy, q, k, v: back_grouped(dy, q, k, v, lambda d, groups: d), QKV, "expected (2, 5, 4)"),
    Exhibit("XunhaoLai/native-sparse-attention-triton#27", "grouped keys: heads are dealt out by the other count",
            grouped, lambda dy, q, k, v: back_grouped(dy, q, k, v, by_turns), QKV, ""),
    Exhibit("huawei-noah/AdderNet#21", "an adder layer: one gradient of two is returned", lambda x, w: -((
        x[:, None] - w) ** 2).sum(axis=-1), lambda dy, x, w: -2 * (dy[..., None] * (x[:, None] - w)).sum(axis=1),
            (n(4, 3), n(2, 3)), "1 gradients, expected 2"),
    # rows that are used several times, or not at all
    Exhibit("pytorch/pytorch#1528", "indexing: of an index that stands twice, the last copy counts", lambda E, *, ids:
            E[ids], lambda dy, E, *, ids: scattered(E, ids, dy), (E3,), "at index 1 of axis 0 alone", {"ids": IDS}),
    Exhibit("ooples/AiDotNet.Tensors#894", "gather: its backward gathers again", lambda E, *, ids: E[ids],
            lambda dy, E, *, ids: dy[ids % len(dy)], (n(4, 3),), "", {"ids": np.array([1, 3, 1, 0])}),
    Exhibit("karpathy/micrograd#2", "a value used twice: what came first is passed on twice", reused,
            visited_twice, (n(4, 3), n(4, 3)), "the way by w is there once too often", named=lambda dy, x, w: {
                "the way by w": dy * w * (1 - np.tanh(x) ** 2), "the way around it": dy * (1 - np.tanh(x) ** 2)}),
    # norms
    Exhibit("tenstorrent/tt-metal#53204", "LayerNorm: the mean is subtracted twice", layer_norm,
            lambda dy, x, g, b: (back_norm(dy * g, x, 2), (dy * xhat(x)).sum(0), dy.sum(0)), NORM,
            "the same amount all along axis 1"),
    Exhibit("Oneflow-Inc/oneflow#6149", "LayerNorm: dγ and dβ are swapped", layer_norm,
            lambda dy, x, g, b: (back_norm(dy * g, x), dy.sum(0), (dy * xhat(x)).sum(0)), NORM,
            "two returns are swapped"),
    Exhibit("flagos-ai/FlagGems#5392", "LayerNorm of [b,t,m]: backward takes t and m for one axis", layer_norm,
            lambda dy, x, g, b: (back_norm((dy * g).reshape(2, 15), x.reshape(2, 15)).reshape(x.shape),
                                 (dy * xhat(x)).sum((0, 1)), dy.sum((0, 1))), BTM, ""),
    Exhibit("deepspeedai/DeepSpeed#692", "LayerNorm: x̂ from y by the γ and β of another feature", layer_norm,
            lambda dy, x, g, b: (back_norm(dy * g, x), (dy * (layer_norm(x, g, b) - np.roll(b, 1)) / np.roll(g, 1)).sum(
                0), dy.sum(0)), NORM, ""),
    Exhibit("karpathy/llm.c#763", "RMSNorm: the weight is forgotten", rms_norm,
            lambda dy, x, w: back_rms(dy, x, w, first=dy), (X, n(6)), ""),
    Exhibit("NVIDIA/Megatron-LM#6859", "RMSNorm: the weight twice in the second term", rms_norm,
            lambda dy, x, w: back_rms(dy, x, w, second=w), (X, n(6)), ""),
    Exhibit("unslothai/unsloth#832", "RMSNorm: no gradient for the weight", rms_norm,
            lambda dy, x, w: (back_rms(dy, x, w)[0], None), (X, n(6)), "no gradient was returned for w"),
    Exhibit("Dao-AILab/quack#53", "norm of a sum: the residual's gradient goes through the norm", prenorm,
            back_prenorm, (X, n(4, 6), n(6)), ""),
    # writing where one should not, and what is left out
    Exhibit("unslothai/unsloth#5001", "rotary: the rows are overwritten", lambda x, *, angle: turned(x, angle), written,
            (n(4, 6),), "mutates an array that it was given", {"angle": n(4, 3)}),
    Exhibit("linkedin/Liger-Kernel#1251", "cross-entropy: the gradient is written into the logits", nll,
            logits_written, (Z,), "mutates an array that it was given", {"targets": T}),
    Exhibit("huggingface/candle#3612", "rotary: no gradient, and no word of it", lambda x, *, angle: turned(x, angle),
            lambda dy, x, *, angle: None, (n(4, 6),), "no gradient was returned for x", {"angle": n(4, 3)}),
    Exhibit("linkedin/Liger-Kernel#1413", "SwiGLU: one of the two ways to x is lost", swiglu, back_swiglu,
            (n(7, 6), n(6, 3), n(6, 3)), "a missing or extra term of rank 3"),
    Exhibit("GuoxiaWang/DOOBNet#6", "a focal loss: its weight is held constant", focal,
            lambda dy, z: -dy * (1 - sigmoid(z)) ** 3, (X,), "the share of the weight is missing", named=lambda dy, z: {
                "the share of the weight": 2 * dy * (1 - sigmoid(z)) ** 2 * sigmoid(z) * np.log(sigmoid(z))}),
    Exhibit("linkedin/Liger-Kernel#1373", "|p − q| where p is q: a slope of one side", lambda p, *, q: (
        lambda d: np.where(d > 0, d, -d) / 2)(p - q), lambda dy, p, *, q: dy * np.where(p > q, 0.5, -0.5),
            (np.array([0.2, 0.5, 0.3]),), "the slopes are", {"q": np.array([0.3, 0.5, 0.2])}),
)  # fmt: skip


def seen(exhibit: Exhibit) -> tuple[str, str]:
    """The verdict, and what is said of it."""
    try:
        report = gradcheck(
            exhibit.forward, *exhibit.inputs, vjp=exhibit.pullback, named=exhibit.named, **exhibit.constants
        )
    except (TypeError, ValueError) as error:
        return "FAIL", str(error)
    wrong = [row for row in report.rows if row.verdict != "PASS"]
    return report.verdict, "; ".join(f"{row.name}: {row.note or row.verdict}" for row in wrong)


def main() -> None:
    found = [(exhibit, *seen(exhibit)) for exhibit in MUSEUM]
    for exhibit, verdict, words in found:
        print(f"{exhibit.source}\n    {exhibit.what}\n    {verdict}  {words[:150]}")
    caught = sum(verdict != "PASS" for _, verdict, _ in found)
    named = sum(exhibit.says != "" and exhibit.says in words for exhibit, _, words in found)
    print(f"{len(MUSEUM)} exhibits: {caught} are caught; of {named} it says what is wrong, of the others, where")


if __name__ == "__main__":
    main()
