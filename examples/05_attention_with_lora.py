# %% [markdown]
"""Attention, and LoRA on the projections of its queries and values, where the LoRA paper puts it.

For one head of width d, with rows q [t,d], k [s,d], v [s,d]:

    z = q kᵀ / √d      p = softmax(z), row by row      y = p v

    dv = pᵀ dy                  (1)
    dp = dy vᵀ                  (2)
    dz = p (dp − Σ dp p)        (3)   the pullback of softmax
    dq = dz k / √d              (4)
    dk = dzᵀ q / √d             (5)

Each of q, k, v is a linear layer of x, so that dx is the sum of three pullbacks. A query that attends to nothing
behind it (causal) has p = 0 there; by (3) its dz is zero too, and no gradient goes back to what it has not seen.
"""

# %%
import math

import numpy as np

from npora import gradcheck
from npora.lora import LoRAAttention
from npora.nn.functional import attention

rng = np.random.default_rng(1)
q, k, v, dy = (rng.standard_normal(shape) for shape in ((4, 3), (5, 3), (5, 2), (4, 2)))
_, backward = attention(q, k, v)
p = np.exp(q @ k.T / math.sqrt(3))
p /= p.sum(axis=-1, keepdims=True)
dp = dy @ v.T  # (2)
dz = p * (dp - (dp * p).sum(axis=-1, keepdims=True))  # (3)
dq, dk, dv = backward(dy)[:3]
assert np.allclose(dv, p.T @ dy)  # (1)
assert np.allclose(dq, dz @ k / math.sqrt(3)) and np.allclose(dk, dz.T @ q / math.sqrt(3))  # (4), (5)
print("Σ q·dq =", (q * dq).sum(), " Σ k·dk =", (k * dk).sum())  # equal: z does not see q → c q, k → k / c

# %%
# A whole layer of three heads. Its four projections are frozen; those of q and v have LoRA beside them.
layer = LoRAAttention(embed_dim=12, num_heads=3, r=2, lora_alpha=4, causal=True, rng=0)
print(layer)
x = rng.standard_normal((2, 5, 12)).astype(np.float32)  # [b,t,m]
y, backward = layer(x)

# %%
# Causal: the gradient of the third token's output reaches the first three tokens' input, and no other.
dy = np.zeros_like(y)
dy[0, 2] = rng.standard_normal(12)
reached = np.abs(backward(dy)).max(axis=-1) > 0  # [b,t]
print("reached by the gradient:", reached.tolist())
assert reached.tolist() == [[True, True, True, False, False], [False] * 5]

# %%
# Every gradient is checked away from B = 0, where A's would be zero whatever its formula.
report = gradcheck(layer, x)
print(report)
assert report
