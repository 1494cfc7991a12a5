"""BERT's layers: attention and feed-forward, each with the sum and the norm behind it.

Post-norm: each sublayer is LN(x + f(x)). Every token sees all the others of its sequence.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from npora.models.body import Rng
from npora.models.pretrained import Factory
from npora.nn import Dropout, LayerNorm, Module
from npora.nn.dropout import active_rng
from npora.nn.functional import ACTIVATIONS
from npora.nn.module import Array, Pullback
from npora.nn.residual import chain, residual
from npora.nn.view import View, self_attention


class BertSelfAttention(Module):
    """y = concat_h(softmax(q_h k_hᵀ/√d) v_h) over all keys of a sequence, before any projection.    x [n,m]  →  [k,m]

    Families that vary it give its three projections other `names`.
    """

    names: ClassVar = ("query", "key", "value")

    def __init__(self, m: int, heads: int, dropout: float, make: Factory) -> None:
        for name in self.names:
            setattr(self, name, make.linear(m, m))
        self.heads, self.dropout = heads, dropout

    def forward(self, x: Array, view: View, rng: Rng = None) -> tuple[Array, Pullback]:
        query, key, value = (getattr(self, name) for name in self.names)
        asking, back_pick = view.pick(x)  # [k,m]
        q, back_q = query(asking, rng)  # [k,m]
        k, back_k = key(x, rng)  # [n,m]
        v, back_v = value(x, rng)  # [n,m]
        y, back_attention = self_attention(
            q, k, v, self.heads, view, dropout_p=self.dropout, rng=active_rng(self, self.dropout, rng)
        )

        def backward(dy: Array) -> Array:
            dq, dk, dv, _ = back_attention(dy)
            return back_pick(back_q(dq)) + back_k(dk) + back_v(dv)  # x feeds all three

        return y, backward

    def idle_parameters(self) -> dict[str, slice]:
        """The key's bias adds the same to all of a query's scores, which softmax does not see."""
        key = self.names[1]
        parameters = getattr(self, key).named_parameters()
        return {f"{key}.{name}": slice(None) for name, _ in parameters if name.endswith("bias")}


class BertOutput(Module):
    """y = dropout(W a + b), the end of a sublayer. The norm of the sum stands beside it.    a [n,i]  →  y [n,m]"""

    def __init__(self, config: Any, make: Factory, in_features: int) -> None:
        self.dense: Module = make.linear(in_features, config.hidden_size)
        self.LayerNorm = LayerNorm(config.hidden_size, config.layer_norm_eps, dtype=make.dtype)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, a: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        return chain(partial(self.dense, rng=rng), partial(self.dropout, rng=rng))(a)


class BertAttention(Module):
    """y = LN(x + output(heads(x))).    x [n,m]  →  y [k,m], of the rows that are read"""

    def __init__(self, config: Any, make: Factory) -> None:
        p = config.attention_probs_dropout_prob
        self.self = BertSelfAttention(config.hidden_size, config.num_attention_heads, p, make)
        self.output = BertOutput(config, make, config.hidden_size)

    def forward(self, x: Array, view: View, rng: Rng = None) -> tuple[Array, Pullback]:
        attend = chain(partial(self.self, view=view, rng=rng), partial(self.output, rng=rng))
        return chain(partial(residual, attend, view=view), self.output.LayerNorm)(x)


class BertIntermediate(Module):
    """f = activation(W x + b).    x [n,m]  →  f [n,f]"""

    def __init__(self, config: Any, make: Factory) -> None:
        self.dense: Module = make.linear(config.hidden_size, config.intermediate_size)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, x: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        return chain(partial(self.dense, rng=rng), self.activation)(x)


class BertLayer(Module):
    """h = attention(x), y = LN(h + output(intermediate(h))).    x [n,m]  →  y [k,m], of the rows that are read

    Families that vary it name their `attention_class`, and what is `given` to it.
    """

    attention_class: ClassVar[Callable[..., Module]] = BertAttention

    def __init__(self, config: Any, make: Factory) -> None:
        self.attention: Module = self.attention_class(config, make)
        self.intermediate = BertIntermediate(config, make)
        self.output = BertOutput(config, make, config.intermediate_size)

    def forward(self, x: Array, view: View, rng: Rng = None, **given: Any) -> tuple[Array, Pullback]:
        attend = partial(self.attention, view=view, rng=rng, **given)
        feed_forward = chain(partial(self.intermediate, rng=rng), partial(self.output, rng=rng))
        return chain(attend, partial(residual, feed_forward), self.output.LayerNorm)(x)
