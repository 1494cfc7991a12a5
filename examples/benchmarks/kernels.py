"""Right kernels by the hundred, in four precisions, and the same with a gradient that is too large by a hundredth.

    python examples/benchmarks/kernels.py [--count 500] [--wrong 96] [--jobs 2]

The kernels are torch's own and others written with torch's operations, on shapes, values and scales that are drawn.
npora checks them by `torch_function`; below float64 torch's gradcheck is asked beside it. Prints the verdicts in each
precision; exits with 1 on a false alarm, or where an error passed. The error is in the low precision alone: what npora
evaluates in float64 beside it is right.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import torch
from torch.nn import functional as T

from npora import gradcheck
from npora.check.bridges import torch_function

Array = Any
Kernel = Callable[..., Any]
DTYPES = ("float64", "float32", "float16", "bfloat16")


def softmax(x):
    e = torch.exp(x - x.amax(-1, keepdim=True))
    return e / e.sum(-1, keepdim=True)


def layer_norm(x, gamma, beta):
    centred = x - x.mean(-1, keepdim=True)
    return centred * torch.rsqrt((centred**2).mean(-1, keepdim=True) + 1e-5) * gamma + beta


def rms_norm(x, w):
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6) * w


def attention(q, k, v):
    return softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5) @ v


def gelu_tanh(x):
    return 0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * x**3)))


def widened(kernel: Kernel) -> Kernel:
    """Half precision outside, float32 inside, as fused kernels have it."""

    def inside(*inputs: Any) -> Any:
        half = inputs[0].dtype in (torch.float16, torch.bfloat16)
        return kernel(*(x.float() for x in inputs)).to(inputs[0].dtype) if half else kernel(*inputs)

    inside.__name__ = f"{kernel.__name__}, float32 inside"
    return inside


def cross_entropy(z):
    return T.cross_entropy(z, torch.arange(z.shape[0]) % z.shape[1])


def named(name: str, kernel: Kernel) -> Kernel:
    kernel.__name__ = name
    return kernel


# What each is called with: x [b,d], or more of its shape; weights [d]; a matrix and a bias.
KERNELS: list[tuple[Kernel, str]] = [
    (T.gelu, "x"), (gelu_tanh, "x"), (widened(gelu_tanh), "x"), (T.silu, "x"), (torch.tanh, "x"), (torch.sigmoid, "x"),
    (T.softplus, "x"), (T.relu, "x"), (softmax, "x"), (named("T.softmax", lambda x: T.softmax(x, -1)), "x"),
    (named("T.log_softmax", lambda x: T.log_softmax(x, -1)), "x"), (cross_entropy, "x"),
    (named("logsumexp", lambda x: torch.logsumexp(x, -1)), "x"), (T.mse_loss, "xx"),
    (named("swiglu", lambda g, u: T.silu(g) * u), "xx"), (layer_norm, "xww"), (widened(layer_norm), "xww"),
    (named("T.layer_norm", lambda x, g, b: T.layer_norm(x, x.shape[-1:], g, b)), "xww"), (rms_norm, "xw"),
    (widened(rms_norm), "xw"), (attention, "xkv"), (widened(attention), "xkv"),
    (named("T.attention", lambda q, k, v: T.scaled_dot_product_attention(q, k, v)), "xkv"),
    (named("linear", lambda x, W, b: x @ W.T + b), "xWb"),
]  # fmt: skip


def drawn(seed: int) -> tuple[Kernel, tuple[Array, ...]]:
    kernel, given = KERNELS[seed % len(KERNELS)]
    rng = np.random.default_rng(seed)
    b, d, scale = int(rng.integers(2, 6)), int(rng.integers(3, 9)), float(10 ** rng.uniform(-0.7, 0.4))
    shapes = {"x": (b, d), "k": (b + 1, d), "v": (b + 1, d), "w": (d,), "W": (d + 1, d), "b": (d + 1,)}
    inputs = [rng.standard_normal(shapes[letter]) * (scale if letter in "xk" else 1) for letter in given]
    return kernel, tuple(x + (letter == "w") for x, letter in zip(inputs, given, strict=True))


def too_large(kernel: Kernel, dtype: str) -> Kernel:
    """Its gradients times 1.01, where it computes in dtype."""
    right = torch_function(kernel)

    def wrong(*inputs: Array) -> Any:
        y, backward = right(*inputs)

        def pull(*dy: Array) -> Any:
            return tuple((1.01 * g.astype(np.float64)).astype(g.dtype) for g in backward(*dy))

        return y, pull if inputs[0].dtype.name == dtype else backward

    return wrong


def by_torch(kernel: Kernel, inputs: tuple[Array, ...], dtype: str) -> str:
    given = tuple(torch.tensor(x).to(getattr(torch, dtype)).requires_grad_() for x in inputs)
    try:
        return "PASS" if torch.autograd.gradcheck(kernel, given, raise_exception=False) else "FAIL"
    except (RuntimeError, ValueError) as error:
        return type(error).__name__


def run(dtype: str, seeds: range, wrong: int) -> tuple[list[Counter[str]], list[str], float]:
    """The verdicts on the right kernels, on the wrong ones, and torch's on the right ones; what went wrong; seconds."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    right, off, theirs, bad = Counter[str](), Counter[str](), Counter[str](), []
    start = time.perf_counter()
    for seed in seeds:
        kernel, inputs = drawn(seed)
        report = gradcheck(torch_function(kernel), *inputs, dtype=dtype, seed=seed)
        right[report.verdict] += 1
        if report.verdict in ("FAIL", "DETACHED", "KINK"):
            bad.append(f"{dtype}, seed {seed}, {kernel.__name__}, which is right:\n{report}")
        if dtype != "float64" and seed < wrong:
            verdict = gradcheck(too_large(kernel, dtype), *inputs, dtype=dtype, seed=seed).verdict
            off[verdict] += 1
            bad += [f"{dtype}, seed {seed}, {kernel.__name__}, times 1.01: PASS"] if verdict == "PASS" else []
            theirs[by_torch(kernel, inputs, dtype)] += 1
    return [right, off, theirs], bad, time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--wrong", type=int, default=96)
    parser.add_argument("--first", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    bad: list[str] = []
    last = options.first + options.count
    with ProcessPoolExecutor(options.jobs) as pool:
        for dtype in DTYPES:
            shares = [range(first, min(first + 12, last)) for first in range(options.first, last, 12)]
            wrong = [options.first + options.wrong] * len(shares)
            parts = list(pool.map(run, [dtype] * len(shares), shares, wrong))
            right, off, theirs = (sum((part[0][k] for part in parts), Counter[str]()) for k in range(3))
            bad += [each for part in parts for each in part[1]]
            said = f"right: {dict(right)}  times 1.01: {dict(off)}  torch slow, of the right ones: {dict(theirs)}"
            print(f"{dtype:9} {said}  {sum(part[2] for part in parts):.0f} s", flush=True)
    print("\n\n".join(bad))
    print(f"{len(bad)} false alarms or errors that passed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
