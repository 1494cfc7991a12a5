# %% [markdown]
"""Sentences of different lengths as rows, one after the other: padding does not exist, so it costs and leaks nothing.

A padded batch of lengths 4, 1 and 6 has 3 × 6 cells, of which 7 hold nothing. A packed one has the 11 rows, and a
Packing that says where each sentence lies. A layer that works row by row (linear, norm, activation) needs no more than
the rows. Attention alone asks the packing, since a token looks at its own sentence: with p = softmax(z),

    p_ts = 0 where t and s are of different sentences,     so dz_ts = p_ts (dp_ts − Σ dp p) = 0 there too.
"""

# %%
import numpy as np

from npora import gradcheck
from npora.models import BertConfig, BertModel
from npora.nn import LayerNorm, MultiHeadAttention, Packing

lengths = [4, 1, 6]
packing = Packing.of_lengths(lengths)
print(packing.rows, "rows, of which sentences begin at", packing.starts.tolist())

rng = np.random.default_rng(0)
norm, attention = LayerNorm(12), MultiHeadAttention(12, 3, rng=1)
x = rng.standard_normal((packing.rows, 12)).astype(np.float32)  # [n,m]
h, back_norm = norm(x)  # knows of no sentence
y, back_attention = attention(h, packing=packing)
print("rows in, rows out:", x.shape, y.shape)

# %%
# Each sentence comes out as it would alone.
for start, length in zip(packing.starts, lengths, strict=True):
    alone, _ = attention(h[None, start : start + length])  # [1,t,m]
    assert np.allclose(y[start : start + length], alone[0], atol=1e-6)

# %%
# And no gradient crosses a border: a dy on the second sentence reaches its one row.
dy = np.zeros_like(y)
dy[4] = rng.standard_normal(12)
dx = back_norm(back_attention(dy))
print("rows reached by a gradient of row 4:", np.flatnonzero(np.abs(dx).max(axis=-1)).tolist())
assert np.flatnonzero(np.abs(dx).max(axis=-1)).tolist() == [4]
assert gradcheck(attention, x, packing=packing)

# %%
# Models take padded ids and a mask, as transformers do, and pack them at the door. Whatever the padding holds, the
# outcome is the same to the last bit, for nothing reads it.
sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32, "intermediate_size": 48}
model = BertModel(BertConfig(vocab_size=50, **sizes), rng=0)
mask = np.arange(6) < np.array(lengths)[:, None]  # [b,t]
ids = rng.integers(1, 50, (3, 6))
output, _ = model(ids, attention_mask=mask)
again, _ = model(np.where(mask, ids, 49), attention_mask=mask)
assert output.last_hidden_state.tobytes() == again.last_hidden_state.tobytes()
print("with other padding: the same bits; and where there is padding, zeros:", output.last_hidden_state[1, 1:].any())
