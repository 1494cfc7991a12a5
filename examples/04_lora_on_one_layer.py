# %% [markdown]
"""LoRA on one linear layer: what is trained, what is frozen, and what the algebra promises (Hu et al., 2021).

W stays as it is, and a matrix of rank r is added to it: with A [r,i], B [o,r] and s = α/r,

    y = W x + b + s B A x             u = A x
    dB = s Σ dyₙ uₙᵀ            (1)
    du = s Bᵀ dy                (2)
    dA = Σ duₙ xₙᵀ              (3)
    dx = Wᵀ dy + Aᵀ du          (4)   the gradient flows through the frozen W, which has none itself

The update W + s B A has r (i + o) numbers in place of i o, and no product here forms the gradient of W, o × i.
"""

# %%
import numpy as np

from npora import gradcheck
from npora.lora import LoRALinear
from npora.nn import Linear
from npora.nn.functional import mse_loss
from npora.optim import AdamW

rng = np.random.default_rng(0)
base = Linear(20, 30, rng=1)  # pretend that it was pretrained
layer = LoRALinear(base, r=2, lora_alpha=4, rng=2)  # freezes the base
print(layer)
trained = {name: parameter for name, parameter in layer.named_parameters() if parameter.requires_grad}
A, B = trained.values()
assert (A.shape, B.shape) == ((2, 20), (30, 2))

# %%
# B starts at zero, so the fresh layer is its base bit for bit, and (2) makes dA zero: A has no gradient yet.
x = rng.standard_normal((64, 20)).astype(np.float32)
assert layer(x)[0].tobytes() == base(x)[0].tobytes()
print("at B = 0:", gradcheck(layer, x[:3], randomize=False))  # VACUOUS for A: whatever the formula, it would pass
assert gradcheck(layer, x[:3])  # so that a check moves B off zero first, on a copy

# %%
# A task that differs from the base by an update of rank 2: LoRA of rank 2 can learn it.
update = 0.3 * rng.standard_normal((30, 2)) @ rng.standard_normal((2, 20))
target = (x @ (base.weight.data + update).T).astype(np.float32)
frozen = base.weight.data.tobytes()
optimizer = AdamW([A, B], lr=2e-2, weight_decay=0.0)
for step in range(301):
    y, backward = layer(x)
    loss, back_loss = mse_loss(y, target)
    optimizer.zero_grad()
    backward(back_loss())
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step:3}  loss {loss:.6f}")
assert base.weight.data.tobytes() == frozen  # and a write to it would raise
assert loss < 1e-3

# %%
# Equations (1), (2), (3) by hand, on one more backward with a random dy.
dy = rng.standard_normal((64, 30)).astype(np.float32)
optimizer.zero_grad()
layer(x)[1](dy)
s = 4 / 2
du = s * dy @ B.data  # rows: (Bᵀ dy)ᵀ = dyᵀ B
assert np.allclose(B.grad, s * dy.T @ (x @ A.data.T), atol=1e-3) and np.allclose(A.grad, du.T @ x, atol=1e-3)

# %%
# The loss cannot see A → M A, B → B M⁻¹, so Bᵀ dB = dA Aᵀ: a check of both gradients without differences.
print("|Bᵀ dB − dA Aᵀ| ≤", np.abs(B.data.T @ B.grad - A.grad @ A.data.T).max(), "of", np.abs(A.grad @ A.data.T).max())

# %%
# Merging makes one matrix of the two; unmerging is exact, since W's bytes were never touched.
row = x[:1]  # one row takes two thin products; many rows form W + s B A anyway
before = layer(row)[0]
layer.merge()
print("|merged − unmerged| ≤", np.abs(layer(row)[0] - before).max())
layer.unmerge()
assert layer(row)[0].tobytes() == before.tobytes()
