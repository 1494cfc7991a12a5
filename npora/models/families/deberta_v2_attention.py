"""DeBERTa's disentangled attention (He et al., 2020): what a token is, and how far away it is, ask and answer apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from npora.machine.threads import in_parallel
from npora.models.body import Rng
from npora.models.families.bert_layers import BertSelfAttention
from npora.models.pretrained import Factory
from npora.nn import Dropout, Packing
from npora.nn.dropout import active_rng
from npora.nn.functional import attention
from npora.nn.module import Array, Pullback
from npora.nn.residual import Shared, chain
from npora.nn.view import View

Position = Array | None  # the keys or the queries of distances, where scores have such a term
DisentangledPullback = Callable[[Array], tuple[Array, Array, Array, Position, Position]]


def disentangled_attention(
    q: Array,
    k: Array,
    v: Array,
    kappa: Position,
    chi: Position,
    distance: Array,
    *,
    scale: float,
    dropout_p: float = 0.0,
    rng: np.random.Generator | None = None,
) -> tuple[Array, DisentangledPullback]:
    """y = dropout(softmax(c · (q_t k_s + q_t κ_δ + k_s χ_δ))) v, where δ = distance[t,s] and c = scale.

    q [h,t,d]  k, v [h,s,d]  κ, χ [h,k,d]  distance int [t,s]  →  y [h,t,d]. A distance δ has a key κ_δ, which contents
    ask (content-to-position), and a query χ_δ, which asks contents (position-to-content); either may be None. The
    second term and the third are the bias of a plain attention:

        C = c · q κᵀ,   P = c · k χᵀ,   bias[t,s] = C[t,δ] + P[s,δ]        (1)

    Distances differ along a row and along a column: no two keys stand equally far to one side of a query. So a row t of
    C gives each of its numbers to one s at most, and a row s of P to one t. With that attention's dbias, dq and dk:

        dC[t,δ] = dbias[t,s]            (2)   0 where nothing stands that far
        dP[s,δ] = dbias[t,s]            (3)
        dq = … + c · dC κ               (4)
        dκ = c · dCᵀ q                  (5)
        dk = … + c · dP χ               (6)
        dχ = c · dPᵀ k                  (7)

    backward returns (dq, dk, dv, dκ, dχ). C and P are each up to twice as large as the scores, and are not kept.
    """
    of_t, of_s = np.ogrid[: distance.shape[0], : distance.shape[1]]  # [t,1], [1,s]
    bias = None
    if kappa is not None:
        bias = ((q * scale) @ kappa.swapaxes(-1, -2))[:, of_t, distance]  # (1) [h,t,k] → [h,t,s]
    if chi is not None:
        P = (k * scale) @ chi.swapaxes(-1, -2)  # [h,s,k]
        bias = P[:, of_s, distance] if bias is None else bias + P[:, of_s, distance]  # (1) [h,t,s]
    y, back_attention = attention(q, k, v, bias=bias, scale=scale, dropout_p=dropout_p, rng=rng)

    def backward(dy: Array) -> tuple[Array, Array, Array, Position, Position]:
        dq, dk, dv, dbias = back_attention(dy)
        dkappa = dchi = None
        if kappa is not None:
            dC = np.zeros((*q.shape[:2], kappa.shape[1]), dbias.dtype)  # type: ignore[union-attr]
            dC[:, of_t, distance] = dbias  # (2) [h,t,s] → [h,t,k]
            dq = dq + dC @ kappa * scale  # (4) [h,t,d]
            dkappa = dC.swapaxes(-1, -2) @ q * scale  # (5) [h,k,d]
        if chi is not None:
            dP = np.zeros((*k.shape[:2], chi.shape[1]), dbias.dtype)  # type: ignore[union-attr]
            dP[:, of_s, distance] = dbias  # (3) [h,t,s] → [h,s,k]
            dk = dk + dP @ chi * scale  # (6) [h,s,d]
            dchi = dP.swapaxes(-1, -2) @ k * scale  # (7) [h,k,d]
        return dq, dk, dv, dkappa, dchi

    return y, backward


@dataclass(frozen=True)
class Distances:
    """The distances −(L − 1) … L − 1 within the longest sequence, of L tokens, and their embeddings, which all layers
    read.

    rows : the embeddings [k,m] of the buckets that occur
    bucket : int, the row of each distance; it does not fall
    """

    rows: Shared
    bucket: Array

    def spread(self, x: Array) -> tuple[Array, Pullback]:
        """A row for each distance, of one for each bucket, whose gradient is the sum over the bucket's distances."""
        starts = np.flatnonzero(np.diff(self.bucket, prepend=-1))
        return x[self.bucket], lambda dy: np.add.reduceat(dy, starts, axis=0)

    def within(self, length: int) -> slice:
        """Which of them are those within a sequence of so many tokens."""
        longest = (len(self.bucket) + 1) // 2
        return slice(longest - length, longest + length - 1)


class DisentangledSelfAttention(BertSelfAttention):
    """BERT's, whose scores see distances too: with r the embeddings of these,

        κ = W_κ dropout(r) + b_κ,    χ = W_χ dropout(r) + b_χ,    c = 1/√(d · (1 + how many of the two there are))

    where share_att_key says that W_κ and b_κ are the keys' own, W_χ and b_χ the queries'.    x [n,m]  →  y [k,m]
    """

    names = ("query_proj", "key_proj", "value_proj")

    def __init__(self, config: Any, make: Factory) -> None:
        m, heads = config.hidden_size, config.num_attention_heads
        super().__init__(m, heads, config.attention_probs_dropout_prob, make)
        self.scale = 1 / math.sqrt(m // heads * (1 + len(config.terms)))
        self.pos_dropout = Dropout(config.hidden_dropout_prob)
        own, shared = ("pos_key_proj", "pos_query_proj"), ("key_proj", "query_proj")
        self.of_distances = tuple(  # the projections to κ and χ, by name
            name if config.relative_attention and term in config.terms else None
            for term, name in zip(("c2p", "p2c"), shared if config.share_att_key else own, strict=True)
        )
        for name in own:
            if name in self.of_distances:
                setattr(self, name, make.linear(m, m))

    def forward(  # type: ignore[override]  # it sees distances
        self, x: Array, view: View, distances: Distances | None = None, rng: Rng = None
    ) -> tuple[Array, Pullback]:
        query, key, value = (getattr(self, name) for name in self.names)
        asking, back_pick = view.pick(x)  # [k,m]
        q, back_q = query(asking, rng)  # [k,h·d]
        k, back_k = key(x, rng)  # [n,h·d]
        v, back_v = value(x, rng)  # [n,h·d]
        positions, back_positions = self.positions(distances, rng)
        y, back_attention = attend_apart(
            q, k, v, positions, self.heads, view, distances, scale=self.scale, dropout_p=self.dropout,
            rng=active_rng(self, self.dropout, rng),
        )  # fmt: skip

        def backward(dy: Array) -> Array:
            dq, dk, dv, dpositions = back_attention(dy)
            back_positions(dpositions)
            return back_pick(back_q(dq)) + back_k(dk) + back_v(dv)  # x feeds all three

        return y, backward

    def positions(
        self, distances: Distances | None, rng: Rng
    ) -> tuple[list[Position], Callable[[list[Position]], None]]:
        """κ and χ, a row [h·d] for each distance, or None; the pullback adds to the gradient of the distances' rows."""
        if distances is None or not any(self.of_distances):
            return [None, None], lambda dpositions: None
        r, back_dropout = self.pos_dropout(distances.rows.value, rng)  # [k,m]
        found: list[Position] = []
        backs: list[Pullback | None] = []
        for name in self.of_distances:
            project = None if name is None else chain(partial(getattr(self, name), rng=rng), distances.spread)
            of_term, back = (None, None) if project is None else project(r)
            found.append(of_term)
            backs.append(back)

        def backward(dpositions: list[Position]) -> None:
            for dposition, back in zip(dpositions, backs, strict=True):
                if dposition is not None and back is not None:
                    distances.rows.add(back_dropout(back(dposition)))  # r feeds both

        return found, backward

    def idle_parameters(self) -> dict[str, slice]:
        """What adds the same to all of a query's scores, which softmax does not see: the bias of κ, and that of the
        keys, unless distances ask them."""
        idle = ["key_proj"] if self.of_distances[1] is None else []
        idle += ["pos_key_proj"] if "pos_key_proj" in self.of_distances else []
        return {
            f"{layer}.{name}": slice(None)
            for layer in idle
            for name, _ in getattr(self, layer).named_parameters()
            if name.endswith("bias")
        }


def attend_apart(
    q: Array, k: Array, v: Array, positions: list[Position], heads: int, view: View, distances: Distances | None,
    *, scale: float, dropout_p: float, rng: Rng,
) -> tuple[Array, Callable[[Array], tuple[Array, Array, Array, list[Position]]]]:  # fmt: skip
    """`disentangled_attention` in each sequence by itself.    q [k,h·d]  k, v [n,h·d]  →  y [k,h·d]

    positions : κ and χ, a row [h·d] for each of `distances`, of which a shorter sequence has those in the middle. Their
    gradients are sums over the sequences.
    """
    packing, queries, places = view.packing, view.queries, view.at(view.packing.places)
    y, shapes = np.zeros_like(q), (q.shape, k.shape, v.shape)

    def by_head(x: Array) -> Array:
        return x.reshape(len(x), heads, -1).swapaxes(0, 1)  # [n,h·d] → [h,n,d]

    def by_row(x: Array) -> Array:
        return x.swapaxes(0, 1).reshape(x.shape[1], -1)  # [h,n,d] → [n,h·d]

    def attend(sequence: int, seed: int | None) -> tuple[slice, slice, slice, DisentangledPullback]:
        (of_q, of_k), length = (_rows(of, sequence) for of in (queries, packing)), int(packing.lengths[sequence])
        near = slice(0) if distances is None else distances.within(length)
        distance = places[of_q, None] - np.arange(length) + (length - 1)  # [t,s], from 0
        kappa, chi = (None if x is None else by_head(x[near]) for x in positions)
        a, back = disentangled_attention(
            by_head(q[of_q]), by_head(k[of_k]), by_head(v[of_k]), kappa, chi, distance, scale=scale,
            dropout_p=dropout_p, rng=None if seed is None else np.random.default_rng(seed),
        )  # fmt: skip
        y[of_q] = by_row(a)
        return of_q, of_k, near, back

    asking = np.flatnonzero(queries.lengths).tolist()
    seeds = [int(rng.integers(1 << 62)) if rng is not None else None for _ in asking]
    done = in_parallel([partial(attend, sequence, seed) for sequence, seed in zip(asking, seeds, strict=True)])
    of_positions = [None if x is None else x.shape for x in positions]

    def backward(dy: Array) -> tuple[Array, Array, Array, list[Position]]:
        dq, dk, dv = (np.zeros(shape, dy.dtype) for shape in shapes)
        dpositions = [None if shape is None else np.zeros(shape, dy.dtype) for shape in of_positions]

        def back_of(of_q: slice, of_k: slice, near: slice, back: DisentangledPullback) -> tuple[Position, Position]:
            dq_part, dk_part, dv_part, *parts = back(by_head(dy[of_q]))
            dq[of_q], dk[of_k], dv[of_k] = by_row(dq_part), by_row(dk_part), by_row(dv_part)
            return parts[0], parts[1]

        for (_, _, near, _), parts in zip(done, in_parallel([partial(back_of, *each) for each in done]), strict=True):
            for dposition, part in zip(dpositions, parts, strict=True):
                if dposition is not None and part is not None:
                    dposition[near] += by_row(part)
        return dq, dk, dv, dpositions

    return y, backward


def _rows(packing: Packing, sequence: int) -> slice:
    start = int(packing.starts[sequence])
    return slice(start, start + int(packing.lengths[sequence]))
