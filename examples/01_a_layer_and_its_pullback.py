# %% [markdown]
"""A layer returns its value and its own pullback: the whole idea, on numbers small enough for paper.

A linear layer is y = x Wᵀ + b. Let a loss ℓ be computed from y, and write dz for ∂ℓ/∂z, whatever z is. Since
y_o = Σᵢ W_oi x_i + b_o, the chain rule gives, for rows n of x,

    dx = dy W           (1)   since ∂y_o/∂x_i = W_oi
    dW = Σₙ dyₙᵀ xₙ     (2)   since ∂y_o/∂W_oi = x_i
    db = Σₙ dyₙ         (3)

`y, backward = layer(x)` computes y; `backward(dy)` returns (1), and adds (2) and (3) to the parameters' `grad`. What
backward needs it has kept itself, so there is neither a tape nor a graph.
"""

# %%
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
print("dx = dy W     =", dx)  # (1): 1 + 30 + 500, 2 + 40 + 600
print("dW = dyᵀ x    =", layer.weight.grad.tolist())  # (2)
print("db = dy       =", layer.bias.grad)  # (3)
assert dx.tolist() == [[531.0, 642.0]]

# %%
# Layers are composed by hand. Backward calls the pullbacks in the reverse order: that is the chain rule.
target = np.array([[0.5, 0.0, -0.5]])
z, back_linear = layer(x)
a, back_tanh = tanh(z)
loss, back_loss = mse_loss(a, target)
layer.zero_grad()  # gradients add up until they are zeroed
da = back_loss()
dz = back_tanh(da)
dx = back_linear(dz)
print("loss", loss, "and its gradient for b:", layer.bias.grad)
assert np.allclose(layer.bias.grad, 2 / 3 * (a - target)[0] * (1 - a[0] ** 2))  # the mean of three squares, and tanh′

# %%
# Are (1), (2), (3) right? The check compares them with the derivative of the forward, in every coordinate.
report = gradcheck(layer, np.random.default_rng(0).standard_normal((4, 2)))
print(report)
assert report
