# %% [markdown]
"""float32 against float64: how small an error can a check see?

The right gradient of RMS norm is multiplied by 1 + ε, and the check is asked whether it is right. What it can see is
bounded by the precision that it computes in (unit roundoff u = 6e-8, or 1e-16), and by the oracle: a central difference
loses a third of the digits, a complex step none.

    python examples/experiments/precision.py [--plot FILE]
"""

# %%
import figure
import numpy as np

from npora import gradcheck
from npora.nn.functional import rms_normalize

options = figure.options("the smallest error that a check sees, in both precisions")
x = np.random.default_rng(0).standard_normal((3, 7))
WAYS = {
    "float64, complex step": {"dtype": "float64", "method": "complex"},
    "float64, central": {"dtype": "float64", "method": "central"},
    "float32, complex step": {"dtype": "float32", "method": "complex"},
    "float32, central": {"dtype": "float32", "method": "central"},
}


def off_by(epsilon):
    def wrong(x):
        y, backward = rms_normalize(x, 1e-6)
        return y, lambda dy: backward(dy) * (1 + epsilon)

    return wrong


# %%
curves, seen = {}, {}
for way, chosen in WAYS.items():
    curves[way] = []
    for exponent in range(-14, 0):
        row = gradcheck(off_by(10.0**exponent), x, **chosen).rows[0]
        curves[way].append((10.0**exponent, row.worst.ratio))
        if row.verdict == "FAIL":
            seen.setdefault(way, 10.0**exponent)
    print(f"{way:22}  the smallest ε that fails: {seen[way]:.0e}")

# %%
curves["at 1 the check fails"] = [(10.0**exponent, 1.0) for exponent in range(-14, 0)]
figure.show("What a check sees of an error", curves, "ε", "difference over tolerance", log="xy", plot=options.plot)
double, single = seen["float64, complex step"], seen["float32, complex step"]
print(
    f"\nIn float64 a complex step sees a relative error of {double:.0e}, in float32 one of {single:.0e}: "
    f"{single / double:.0e} times as large, where the roundoffs are {2.0**29:.0e} apart. By central differences it "
    f"takes {seen['float64, central']:.0e} and {seen['float32, central']:.0e}."
)
