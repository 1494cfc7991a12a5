"""A layer returns its value and its own pullback: the whole idea, on numbers small enough for paper."""

import numpy as np

from npora import gradcheck
from npora.nn import Linear
from npora.nn.functional import mse_loss, tanh

layer = Linear(2, 3, dtype=np.float64)
layer.weight.data = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])  # W [o,i]
x = np.array([[1.0, -1.0]])  # [n,i]

y, backward = layer(x)
print("y  = x Wᵀ + b =", y)  # 1 − 2, 3 − 4, 5 − 6
dy = np.array([[1.0, 10.0, 100.0]])  # how the loss changes with y: it comes from whatever stands above this layer
dx = backward(dy)
print("dx = dy W     =", dx)  # 1 + 30 + 500, 2 + 40 + 600
print("dW = dyᵀ x    =", layer.weight.grad.tolist())

# Composition is by hand, and reads backwards.
target = np.array([[0.5, 0.0, -0.5]])
z, back_linear = layer(x)
a, back_tanh = tanh(z)
loss, back_loss = mse_loss(a, target)
layer.zero_grad()
back_linear(back_tanh(back_loss()))
print("loss", loss, "and its gradient for b:", layer.bias.grad)

# Is the pullback right? Compare it with the derivative of the forward, in every coordinate.
print(gradcheck(layer, np.random.default_rng(0).standard_normal((4, 2))))


# The check takes any function that returns its value and its pullback. This one lacks a factor 2.
def squared(x):
    return x * x, lambda dy: dy * x


report = gradcheck(squared, np.random.default_rng(1).standard_normal(3))
print(report)
assert not report.ok
