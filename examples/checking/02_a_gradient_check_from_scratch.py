# %% [markdown]
"""How to know that a pullback is right: three checks, each a few lines of NumPy, and what each can see.

Let y = f(x) with the pullback dx = J(x)ᵀ dy, and choose dy at random. Then φ(x) = ⟨dy, f(x)⟩ is one number, and dx must
be its gradient. A direction v, at random too, asks for one more number, the slope of φ along v: ⟨dx, v⟩.

    difference    (φ(x + hv) − φ(x − hv)) / 2h     = ⟨dx, v⟩ + O(h²) + O(u/h)    truncation, and rounding (u ≈ 1e-16)
    complex step  Im φ(x + ihv) / h                = ⟨dx, v⟩ + O(h²)             nothing is subtracted: take h = 1e-20
    dot product   ⟨dy, J v⟩                        = ⟨Jᵀ dy, v⟩                  two numbers check an array of any size

The error of the difference over h is a V: its best is near h = u^(1/3), and even there only ten digits are right.
"""

# %%
import numpy as np


def softmax(x):
    """p = eˣ / Σ eˣ, row by row.    dx = p (dp − Σ dp p)"""
    e = np.exp(x - x.real.max(axis=-1, keepdims=True))  # .real: complex numbers have no largest one
    p = e / e.sum(axis=-1, keepdims=True)
    return p, lambda dp: p * (dp - (dp * p).sum(axis=-1, keepdims=True))


rng = np.random.default_rng(0)
x, dy, v = (rng.standard_normal((3, 5)) for _ in range(3))
_, backward = softmax(x)
slope = (backward(dy) * v).sum()


def phi(x):
    return (dy * softmax(x)[0]).sum()


# %%
print("The V-curve: the relative error for each step h, a # for every factor of ten above 1e-16")
errors = {}
for h in 10.0 ** -np.arange(1, 16):
    errors[h] = abs((phi(x + h * v) - phi(x - h * v)) / (2 * h) - slope) / abs(slope)
    print(f"h = {h:.0e}  {errors[h]:8.1e}  {'#' * round(16 + np.log10(max(errors[h], 1e-16)))}")
best = min(errors, key=errors.get)
assert 1e-7 < best < 1e-3

# %%
error = abs(phi(x + 1e-20j * v).imag / 1e-20 - slope) / abs(slope)
print(f"the complex step:  {error:8.1e}")
assert error < 1e-14

# %%
Jv = softmax(x + 1e-20j * v)[0].imag / 1e-20  # the whole of J v by one complex step, or from a formula of one's own
print(f"⟨dy, J v⟩ = {(dy * Jv).sum():.15f}\n⟨Jᵀdy, v⟩ = {slope:.15f}")


# %%
def seven_times(dp):
    return 7 * backward(dp)


# Why dy is random: with ones φ is the sum of all probabilities, 3 whatever x is. The true gradient is zero then, and
# so is seven times it.
ones = np.ones((3, 5))
print("seven times too large: ", f"{np.abs(seven_times(ones)).max():.0e} with ones, where 0 is right;", end=" ")
print(f"{(seven_times(dy) * v).sum() / slope:.1f} times the slope with a random dy")
assert np.abs(seven_times(ones)).max() < 1e-14 and abs((seven_times(dy) * v).sum() / slope - 7) < 1e-12
