# %% [markdown]
"""The complex step against differences, where inputs are large or small: only one of the two has a step to choose.

Let φ(x) = ⟨dy, f(x)⟩ with f RMS norm, whose gradient at c x is that at x over c. A central difference moves x by h: for
a small c that is far more than x itself, for a large one less than an ulp of it. The complex step's error is O(h²)
with nothing subtracted, so that one h = 1e-20 serves at every scale.

    python examples/experiments/complex_step.py [--plot FILE]
"""

# %%
import time

import figure
import numpy as np

options = figure.options("errors of derivatives against the scale of the inputs")
rng = np.random.default_rng(0)
x, dy, direction = rng.standard_normal((3, 4, 6))


def f(x):
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True))


def backward(dy, x):
    sigma = np.sqrt((x * x).mean(axis=-1, keepdims=True))
    xhat = x / sigma
    return (dy - xhat * (dy * xhat).mean(axis=-1, keepdims=True)) / sigma


def central(x, h):
    return (dy * (f(x + h * direction) - f(x - h * direction))).sum() / (2 * h)


def complex_step(x, h=1e-20):
    return (dy * f(x + 1j * h * direction)).sum().imag / h


# %%
WAYS = {
    "central, h = 1e-3": lambda x: central(x, 1e-3),
    "central, h = 1e-6": lambda x: central(x, 1e-6),
    "central, h = 6e-6 max|x|": lambda x: central(x, 6e-6 * np.abs(x).max()),
    "complex step, h = 1e-20": complex_step,
}
SCALES = 10.0 ** np.arange(-8, 9)
curves = {}
for way, derivative in WAYS.items():
    curves[way] = []
    for c in SCALES:
        slope = (backward(dy, c * x) * direction).sum()
        curves[way].append((c, max(abs(derivative(c * x) - slope) / abs(slope), 1e-17)))
    print(f"{way:25}  the worst error {max(error for _, error in curves[way]):.0e}")


# %%
def seconds(derivative, times=300):
    begin = time.perf_counter()
    for _ in range(times):
        derivative(x)
    return (time.perf_counter() - begin) / times


figure.show("Error against the inputs' scale", curves, "scale c", "relative error", log="xy", plot=options.plot)
worst = {way: max(error for _, error in points) for way, points in curves.items()}
fixed, scaled, exact = (worst[way] for way in list(WAYS)[1:])
print(
    f"\nOver scales from {SCALES[0]:.0e} to {SCALES[-1]:.0e} the complex step is off by {exact:.0e} at most; the "
    f"central difference by {scaled:.0e} with a step that follows the scale, and by {fixed:.0e} with h = 1e-6 "
    f"throughout. One complex evaluation takes {seconds(complex_step) / seconds(WAYS['central, h = 1e-6']):.1f} times "
    f"as long as the two real ones of a difference."
)
