"""The floor: the matrix products that a workload cannot do without, and how long NumPy takes for them alone.

What the mathematics needs of LoRA, and no more:

- of a frozen layer no dW; of the lowest trained layer no dx, and nothing below it; of scores whose keys lead to nothing
  trained no dk;
- of LoRA's two ways, x Wᵀ + s (x Aᵀ) Bᵀ or x (W + s B A)ᵀ, the one with fewer multiplications;
- of causal scores the half that is not masked; of a causal batch not the last token, which predicts nothing;
- of a classifier's last layer, past its keys and values, the first row of each sequence alone;
- of padding nothing.

Each product is measured by np.matmul in float32 on contiguous arrays, its right operands following one another through
memory as the weights of a model do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from workloads import Batch, Workload, config_of, load_batches

Product = tuple[int, int, int, int]  # how many in one stack, and m, k, n of [m,k] @ [k,n]
LARGEST_OUTPUT = 1 << 23  # numbers: the projection to a large vocabulary goes by blocks of rows
LARGEST_MEMORY = 1 << 27  # numbers: after so many the right operands start again


class Products(list[Product]):
    """r is LoRA's rank on a layer, 0 for none; dx and dk say whether anybody reads that gradient."""

    def __init__(self, rank: int, train: bool, merged: bool = False) -> None:
        self.rank, self.train, self.merged = rank, train, merged

    def matrix(self, m: int, k: int, n: int, stack: int = 1) -> None:
        if stack == 1 and m * n > LARGEST_OUTPUT:
            block = max(LARGEST_OUTPUT // n, 1)
            self.extend((1, min(block, m - row), k, n) for row in range(0, m, block))
        elif stack and m and k and n:
            self.append((stack, m, k, n))

    def linear(self, n: int, i: int, o: int, *, dx: bool = True, lora: bool = False, dW: bool = False) -> None:
        self.matrix(n, i, o)
        dx = dx and self.train
        if dx:
            self.matrix(n, o, i)
        if dW and self.train:
            self.matrix(o, n, i)
        if lora and not self.merged:
            self._lora(n, i, o, self.rank, dx)

    def _lora(self, n: int, i: int, o: int, r: int, dx: bool) -> None:
        beside: list[Product] = [(1, n, i, r), (1, n, r, o)]  # u = x Aᵀ, u Bᵀ
        formed: list[Product] = [(1, o, r, i)]  # B A
        if self.train:
            formed.append((1, n, i, r))
            for way in (beside, formed):
                way += [(1, n, o, r), (1, o, n, r), (1, r, n, i)]  # du = dy B, dB = dyᵀ u, dA = duᵀ x
            if dx:
                beside.append((1, n, r, i))  # du A
        self += min(beside, formed, key=multiplications)

    def attention(
        self, heads: int, t: int, s: int, d: int, stack: int, *, causal: bool = False, dk: bool = True
    ) -> None:
        """Queries [t,d], keys and values [s,d] of `heads` heads in each of `stack` sequences."""
        stack *= heads
        if causal:  # half of the scores, as half of as many products
            stack = (stack + 1) // 2
        self.matrix(t, d, s, stack)  # q kᵀ
        self.matrix(t, s, d, stack)  # p v
        if self.train:
            self.matrix(s, t, d, stack)  # dv = pᵀ dy
            self.matrix(t, d, s, stack)  # dp = dy vᵀ
            self.matrix(t, s, d, stack)  # dq = dz k
            if dk:
                self.matrix(s, t, d, stack)  # dk = dzᵀ q


def multiplications(products: Iterable[Product]) -> int:
    return sum(stack * m * k * n for stack, m, k, n in products)


def bert(p: Products, c: Any, lengths: Counter[int]) -> None:
    d, f, n, b = c.hidden_size, c.intermediate_size, _rows(lengths), lengths.total()
    for index in range(c.num_hidden_layers):
        below, last = index > 0, index == c.num_hidden_layers - 1
        asking = b if last else n
        p.linear(asking, d, d, dx=below, lora=True)  # query
        p.linear(n, d, d, dx=below)  # key
        p.linear(n, d, d, dx=below, lora=True)  # value
        for t, stack in lengths.items():
            p.attention(c.num_attention_heads, 1 if last else t, t, d // c.num_attention_heads, stack, dk=below)
        for i, o in ((d, d), (d, f), (f, d)):
            p.linear(asking, i, o)
    p.linear(b, d, d)  # pooler
    p.linear(b, d, c.num_labels, dW=True)


def gpt2(p: Products, c: Any, lengths: Counter[int], past: int = 0, asked: int | None = None) -> None:
    """past : rows in the cache; asked : of how many rows the logits are wanted, if not of all."""
    d, f, n, heads = c.n_embd, c.n_inner or 4 * c.n_embd, _rows(lengths), c.n_head
    for index in range(c.n_layer):
        p.linear(n, d, 3 * d, dx=index > 0, lora=True)
        goes_on = asked if asked and index == c.n_layer - 1 else n
        for t, stack in lengths.items():
            if goes_on == n:
                p.attention(heads, t, t + past, d // heads, stack, causal=t > 1)
            else:
                p.attention(heads, 1, t + past, d // heads, stack)
        for i, o in ((d, d), (d, f), (f, d)):
            p.linear(goes_on, i, o)
    p.linear(asked or n, d, c.vocab_size)


def llama(p: Products, c: Any, lengths: Counter[int]) -> None:
    e, f, n, heads, d = c.hidden_size, c.intermediate_size, _rows(lengths), c.num_attention_heads, c.head_dim
    for index in range(c.num_hidden_layers):
        below = index > 0
        p.linear(n, e, heads * d, dx=below, lora=True)  # q
        p.linear(n, e, c.num_key_value_heads * d, dx=below)  # k
        p.linear(n, e, c.num_key_value_heads * d, dx=below, lora=True)  # v
        for t, stack in lengths.items():
            p.attention(heads, t, t, d, stack, causal=True, dk=below)
        for i, o in ((heads * d, e), (e, f), (e, f), (f, e)):
            p.linear(n, i, o)
    p.linear(n, e, c.vocab_size)


def t5(p: Products, c: Any, batch: int, s: int, t: int) -> None:
    """s tokens in each encoder's sequence, t in each decoder's."""
    d, inner, f, heads, m, n = c.d_model, c.num_heads * c.d_kv, c.d_ff, c.num_heads, batch * s, batch * t
    for index in range(c.num_layers):
        _t5_self(p, m, d, inner, heads, s, batch, below=index > 0, causal=False)
        p.linear(m, d, f)
        p.linear(m, f, d)
    for index in range(c.num_decoder_layers):
        _t5_self(p, n, d, inner, heads, t, batch, below=index > 0, causal=True)
        p.linear(n, d, inner, lora=True)  # q of the decoder's rows
        p.linear(m, d, inner)  # k and v of the encoder's
        p.linear(m, d, inner, lora=True)
        p.attention(heads, t, s, inner // heads, batch)
        for i, o in ((inner, d), (d, f), (f, d)):
            p.linear(n, i, o)
    p.linear(n, d, c.vocab_size)


def _t5_self(
    p: Products, n: int, d: int, inner: int, heads: int, t: int, batch: int, *, below: bool, causal: bool
) -> None:
    p.linear(n, d, inner, dx=below, lora=True)  # q
    p.linear(n, d, inner, dx=below)  # k
    p.linear(n, d, inner, dx=below, lora=True)  # v
    p.attention(heads, t, t, inner // heads, batch, causal=causal, dk=below)
    p.linear(n, inner, d)


def _rows(lengths: Counter[int]) -> int:
    return sum(t * stack for t, stack in lengths.items())


def products(workload: Workload, batch: Batch) -> Products:
    """What this batch needs."""
    p = Products(workload.rank, workload.kind not in ("infer", "generate"), workload.merged)
    if workload.kind == "layer":
        (b, t, d), heads = batch["x"].shape, workload.config["num_heads"]
        for lora in (True, False, True, False) if workload.model == "attention" else (True,):  # q, k, v, out
            p.linear(b * t, d, d, lora=lora)
        if workload.model == "attention":
            p.attention(heads, t, t, d // heads, b)
        return p
    config, (b, t) = config_of(workload), batch["input_ids"].shape
    lengths = Counter({t: b})
    if "attention_mask" in batch:
        lengths = Counter(batch["attention_mask"].sum(axis=1).tolist())
    if workload.kind == "generate":
        gpt2(p, config, lengths, asked=b)
        for new in range(workload.target - 1):
            gpt2(p, config, Counter({1: b}), past=t + new, asked=b)
    elif config.model_type == "bert":
        bert(p, config, lengths)
    elif config.model_type == "t5":
        t5(p, config, b, t, batch["labels"].shape[1])
    else:
        {"gpt2": gpt2, "llama": llama}[config.model_type](p, config, Counter({t - 1: b}))
    return p


def start(workload: Workload, folder: Path) -> tuple[Any, Any]:
    """As a peer's: a step is the products and nothing else."""
    needed = {_key(batch): products(workload, batch) for batch in load_batches(workload, folder)}
    shapes = [product for found in needed.values() for product in found]
    left, out = (
        np.full(max(size), 0.5, dtype=np.float32)
        for size in zip(*((stack * m * k, stack * m * n) for stack, m, k, n in shapes), strict=True)
    )
    weights = max(sum(stack * k * n for stack, _, k, n in found) for found in needed.values())
    largest = max(stack * k * n for stack, _, k, n in shapes)
    right = np.full(max(largest, min(weights, LARGEST_MEMORY)), 0.5, dtype=np.float32)
    operands = {key: list(_operands(found, left, right, out)) for key, found in needed.items()}

    def check(batch: Batch) -> dict[str, Any]:
        return {}

    def step(batch: Batch) -> None:
        for a, b, c in operands[_key(batch)]:
            np.matmul(a, b, out=c)

    return check, step


def _operands(
    needed: Products, left: np.ndarray, right: np.ndarray, out: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    place = 0
    for stack, m, k, n in needed:
        size = stack * k * n
        place = place if place + size <= right.size else 0
        shapes = ((left, (m, k)), (right[place:], (k, n)), (out, (m, n)))
        place += size
        a, b, c = (flat[: stack * x * y].reshape(stack, x, y) for flat, (x, y) in shapes)
        yield (a, b, c) if stack > 1 else (a[0], b[0], c[0])


def _key(batch: Batch) -> bytes:
    """What the sizes depend on: all batches of a workload are of one shape, but for their padding."""
    return batch["attention_mask"].tobytes() if "attention_mask" in batch else b""
