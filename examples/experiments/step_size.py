# %% [markdown]
"""The step of a difference, and its V: too large a step truncates, too small a one rounds.

Of φ with derivative φ′, in arithmetic of unit roundoff u, each formula has an error with two branches:

    forward      (φ(x + h) − φ(x)) / h               O(h)  + O(u/h)     best at h ≈ u^(1/2)
    central      (φ(x + h) − φ(x − h)) / 2h          O(h²) + O(u/h)              u^(1/3)
    five-point   8 central(h), less central(2h)      O(h⁴) + O(u/h)              u^(1/5)
    complex      Im φ(x + ih) / h                    O(h²), and no difference: no second branch

`npora vcurve NAME` prints the same for any layer.

    python examples/experiments/step_size.py [--plot FILE]
"""

# %%
import figure
import numpy as np

from npora.check import v_curve
from npora.nn.functional import attention

options = figure.options("error against step size")
rng = np.random.default_rng(0)
q, k, v = (rng.standard_normal(shape) for shape in ((3, 4), (5, 4), (5, 2)))
curve = v_curve(attention, q, k, v)

# %%
names = {"forward": 1 / 2, "central": 1 / 3, "five-point": 1 / 5, "complex": None}
errors = {name: dict(zip(curve.steps, curve.errors[f"{name} float64"], strict=True)) for name in names}
best = {name: min(errors[name], key=errors[name].get) for name in names}
for name, power in names.items():
    predicted = f", u^({power:.2f}) = {(2.0**-53) ** power:.0e}" if power else ""
    print(f"{name:10}  least error {errors[name][best[name]]:.0e} at h = {best[name]:.0e}{predicted}")

# %% The slope of the left branch's other side: the order of the formula, from its two largest useful steps
orders = {name: np.log10(errors[name][1e-2] / errors[name][1e-3]) for name in ("forward", "central")}

# %%
shown = {name: list(errors[name].items()) for name in names}
shown["central in float32"] = list(zip(curve.steps, curve.errors["central float32"], strict=True))
figure.show("Derivatives of attention", shown, "step h", "relative error", log="xy", plot=options.plot)
single = min(error for _, error in shown["central in float32"])
print(
    f"\nFrom h = 0.01 to 0.001 the error falls with the power {orders['forward']:.1f} of h (forward) and "
    f"{orders['central']:.1f} (central). The central difference is best at h = {best['central']:.0e}, with an error of "
    f"{errors['central'][best['central']]:.0e} ({single:.0e} in float32); the complex step has "
    f"{errors['complex'][1e-16]:.0e} at h = 1e-16, where the central difference is off by "
    f"{errors['central'][1e-16]:.0%}."
)
