# %% [markdown]
"""A GPT on one page, trained: it learns to sort.

A row is six letters, a bar, and the same letters sorted: `dabcaf|aabcdf`. The GPT reads t tokens and says, at each
place, what comes next; the loss is the mean cross-entropy of the six places behind the bar. With E the table of tokens
and P that of positions,

    x₀ = E[ids] + P[0 … t−1]                        each layer:  x ← x + attention(norm(x))
    logits = norm(x_L) Eᵀ                                        x ← x + W₂ gelu(W₁ norm(x))

A sum passes its gradient on to both of its terms, so the pullback of x + f(x) is dy + f's pullback of dy. E is used
twice, at the bottom and at the top: its gradients add.
"""

# %%
import numpy as np

from npora import gradcheck, no_grad
from npora.nn import Embedding, LayerNorm, Linear, Module, MultiHeadAttention, cross_entropy
from npora.nn.functional import gelu
from npora.optim import AdamW

LETTERS = "abcdef"
BAR, LENGTH = len(LETTERS), 6  # the id of the bar, and how many letters are sorted


# %%
class Block(Module):
    def __init__(self, width, heads, rng):
        self.norm_1, self.attention = LayerNorm(width), MultiHeadAttention(width, heads, causal=True, rng=rng)
        self.norm_2 = LayerNorm(width)
        self.up, self.down = Linear(width, 4 * width, rng=rng), Linear(4 * width, width, rng=rng)

    def forward(self, x):
        h, back_norm_1 = self.norm_1(x)
        a, back_attention = self.attention(h)
        x = x + a
        h, back_norm_2 = self.norm_2(x)
        h, back_up = self.up(h)
        h, back_gelu = gelu(h)
        f, back_down = self.down(h)

        def backward(dy):
            dx = dy + back_norm_2(back_up(back_gelu(back_down(dy))))
            return dx + back_norm_1(back_attention(dx))

        return x + f, backward


# %%
class GPT(Module):
    def __init__(self, vocabulary, positions, width=32, heads=4, layers=2, rng=None):
        self.tokens, self.positions = Embedding(vocabulary, width, rng=rng), Embedding(positions, width, rng=rng)
        self.blocks = [Block(width, heads, rng) for _ in range(layers)]
        self.norm = LayerNorm(width)

    def forward(self, ids):  # [b,t] → logits [b,t,v]
        x, back_tokens = self.tokens(ids)
        p, back_positions = self.positions(np.arange(ids.shape[1]))  # [t,m]
        x = x + p
        backs = []
        for block in self.blocks:
            x, back = block(x)
            backs.append(back)
        h, back_norm = self.norm(x)
        table = self.tokens.weight
        E = table.data  # [v,m]

        def backward(dlogits):
            table.accumulate(np.einsum("btv,btm->vm", dlogits, h))  # E as the last matrix
            dx = back_norm(dlogits @ E)
            for back in reversed(backs):
                dx = back(dx)
            back_positions(dx.sum(axis=0))  # P was added to every row of the batch
            back_tokens(dx)  # E as the table

        return h @ E.T, backward


# %%
def rows(count, rng):
    letters = rng.integers(0, BAR, (count, LENGTH))
    return np.hstack([letters, np.full((count, 1), BAR), np.sort(letters, axis=1)])  # [b,13]


# %%
rng = np.random.default_rng(0)
model = GPT(BAR + 1, 2 * LENGTH, rng=rng)
for table in (model.tokens, model.positions):
    table.weight.data = table.weight.data / 4
print(model)
smaller = GPT(7, 3, width=4, heads=2, layers=2, rng=1)
assert gradcheck(smaller, np.array([[0, 2, 6], [5, 5, 1]]))  # of every parameter, those of E as both of its uses

# %%
STEPS, RATE = 140, 5e-3
is_asked = np.arange(2 * LENGTH) >= LENGTH  # [t]: what comes behind the bar
seen = set()
optimizer = AdamW(model.parameters(), lr=RATE)
for step in range(STEPS + 1):
    optimizer.param_groups[0]["lr"] = RATE * min(1, (step + 1) / 30, 2 - 2 * step / (STEPS + 1))  # up, and down again
    ids = rows(48, rng)
    seen.update(row.tobytes() for row in ids)
    logits, backward = model(ids[:, :-1])
    targets = np.where(is_asked, ids[:, 1:], -100)  # −100 counts in no loss
    loss, back_loss = cross_entropy(logits.reshape(-1, BAR + 1), targets.reshape(-1))
    optimizer.zero_grad()
    backward(back_loss().reshape(logits.shape))
    optimizer.step()
    if step % 35 == 0:
        print(f"step {step:3}  loss {loss:.4f}")

# %%
# Words that it has not seen: it writes, letter by letter, the likeliest one each time.
new = np.array([row for row in rows(300, np.random.default_rng(1)) if row.tobytes() not in seen])
written = new[:, : LENGTH + 1]
with no_grad():  # keeps nothing for a backward
    for _ in range(LENGTH):
        logits, _ = model(written)
        written = np.hstack([written, logits[:, -1:].argmax(axis=-1)])
for row in written[:4]:
    print("".join((LETTERS + "|")[token] for token in row))
right = (written == new).all(axis=1).mean()
print(f"{right:.0%} of {len(new)} words that it has never seen are sorted rightly")
assert right > 0.9
