"""LoRA on the queries and values of an attention layer, on packed sentences of different lengths."""

import numpy as np

from npora import gradcheck
from npora.lora import LoRAAttention
from npora.nn import Packing

layer = LoRAAttention(embed_dim=12, num_heads=3, r=2, lora_alpha=4, causal=True, rng=0)
print("trained:", [name for name, parameter in layer.named_parameters() if parameter.requires_grad])

# Three sentences of 4, 1 and 6 tokens are 11 rows: padding does not exist, so it costs nothing and cannot leak.
packing = Packing.of_lengths([4, 1, 6])
rng = np.random.default_rng(1)
x = rng.standard_normal((packing.rows, 12)).astype(np.float32)
y, backward = layer(x, packing=packing)
print("rows in, rows out:", x.shape, y.shape)

# Causal: the gradient of the first row's output reaches the first row's input alone.
dy = np.zeros_like(y)
dy[0] = 1
dx = backward(dy)
assert dx[0].any() and not dx[1:].any()

# Every gradient is checked away from B = 0, where A's would be zero whatever its formula.
report = gradcheck(layer, x, packing=packing)
print(report)
assert report.ok
