# %% [markdown]
"""Derive a layer, get it wrong, let the check find and name the error, and mend it.

RMS norm is y = γ x̂ with x̂ = x / σ and σ² = mean(x²) + ε over the d features. With dx̂ = γ dy, and since σ too depends
on x, ∂σ/∂x_j = x_j / (d σ):

    dx = (dx̂ − x̂ mean(dx̂ x̂)) / σ     (1)
    dγ = Σ dy x̂                        (2)

A first attempt forgets that σ depends on x, and the second one takes a sum for the mean.
"""

# %%
import numpy as np

from npora import gradcheck
from npora.nn import Module, Parameter


# %%
class RMSNorm(Module):
    def __init__(self, d):
        self.weight = Parameter(np.ones(d))

    def forward(self, x):
        weight = self.weight
        sigma = np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-6)
        xhat = x / sigma

        def backward(dy):
            weight.accumulate((dy * xhat).reshape(-1, xhat.shape[-1]).sum(axis=0))  # (2)
            return self.input_gradient(dy * weight.data, xhat, sigma)

        return xhat * weight.data, backward


# %%
class First(RMSNorm):
    def input_gradient(self, dxhat, xhat, sigma):
        return dxhat / sigma


class Second(RMSNorm):
    def input_gradient(self, dxhat, xhat, sigma):
        return (dxhat - xhat * (dxhat * xhat).sum(axis=-1, keepdims=True)) / sigma


class Right(RMSNorm):
    def input_gradient(self, dxhat, xhat, sigma):
        return (dxhat - xhat * (dxhat * xhat).mean(axis=-1, keepdims=True)) / sigma  # (1)


# %%
x = np.random.default_rng(0).standard_normal((3, 4, 7))  # sizes that differ, so that no transpose can hide

# The table names the tensor, the element, both values, and how far apart they are; weight is right, and x is not.
report = gradcheck(First(7), x)
print(report, "\n")
assert report["weight"].verdict == "PASS" and report["x"].verdict == "FAIL"
# The difference is a multiple of x itself in each row: a term x̂ mean(dx̂ x̂) is missing.
assert "off by a multiple of the x" in report["x"].note

report = gradcheck(Second(7), x)
print(report, "\n")
assert report["x"].verdict == "FAIL"

report = gradcheck(Right(7), x)
print(report, "\n")
assert report  # every row is PASS; "caught" is the smallest error that would not have been

# %%
# The same at weights that training has moved, in float32, and by an oracle that needs no complex numbers.
assert gradcheck(Right(7), x, steps=3)
assert gradcheck(Right(7), x, dtype="float32")
assert gradcheck(Right(7), x, method="central")

# %% [markdown]
# An upstream gradient of ones would have missed the second mistake in softmax: its true gradient is then zero, and any
# formula times zero passes. That is why dy is drawn, and why a gradient that is zero is called VACUOUS.
