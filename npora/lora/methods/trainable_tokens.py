"""Some rows of an embedding, trained: tokens that are new, or that are to mean something else."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from npora.files.refusal import shortened
from npora.lora.adapter import Adapter, Merged, Rng, Shared, Tensor
from npora.lora.config import PeftConfig
from npora.machine.product import product
from npora.nn import init
from npora.nn.embedding import Embedding
from npora.nn.init import Source
from npora.nn.linear import Linear, matmul, rows
from npora.nn.module import Array, Module, Parameter


@dataclass(kw_only=True)
class TrainableTokensConfig(PeftConfig):
    """A TrainableTokensConfig says which tokens' embeddings are trained, and nothing else is.

    token_indices : the ids of the tokens, each once
    target_modules : the embeddings; None is the model's own. What shares its matrix, as a tied head does, has the new
        rows too
    init_weights : True: the rows start as they are; False: as N(0, 1), which changes the model at once
    """

    meaning: ClassVar[tuple[str, ...]] = ("token_indices",)
    beginning: ClassVar[tuple[str, ...]] = ("init_weights",)
    lacks: ClassVar[tuple[str, ...]] = ("exclude_modules", "modules_to_save")

    token_indices: list[int] = field(default_factory=list)
    init_weights: bool = True
    peft_type: str = "TRAINABLE_TOKENS"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.token_indices = checked_ids("token_indices", self.token_indices)

    def check_new(self) -> None:
        super().check_new()
        if not len(self.token_indices):
            raise ValueError("token_indices names no token: say which rows of the embedding are to be trained")

    def complete(self, model: Any) -> None:
        self.target_modules = self.target_modules or [input_embedding(model) or "embed_tokens"]


class TrainableTokens(Adapter):
    """y = E′[ids], and z = x E′ᵀ + b of a tied head.    ids int [...]  x [...,m]  E, E′ [v,m]  →  y [...,m]  z [...,v]

    E′ is E with the rows of k tokens T replaced by those of D [k,m], which is trained, and of which a file holds k rows
    in place of v (PEFT's trainable tokens). A row of y is D_j where its id is T_j:

        dD_j = Σ dyₙ over the n with idsₙ = T_j         (1)

    Of the head, with the columns T of dz apart,

        dD = Σₙ dz_{n,T} xₙᵀ                            (2)
        dx = dz E with zeros for T + dz_T D             (3)

    and both add to the one D. It starts as E's own rows. (1) gives none to the row `padding_idx`, as E has none there;
    (2) does. Products beside the base's: 1 forward, 2 backward, of k columns, on a head; none on an embedding. Kept are
    the ids, and of a head x. Merged, E′ is formed.
    """

    config_class = TrainableTokensConfig
    adapts: ClassVar[tuple[type[Module], ...]] = (Embedding, Linear)
    tensors: ClassVar[Mapping[str, Tensor]] = {"D": Tensor("trainable_tokens_delta.{}")}
    samples: ClassVar[Mapping[str, Any]] = {"trainable_tokens": {"token_indices": [1, 0]}}

    def __init__(self, base: Any, config: Any, rng: Source, path: str, shared: Shared) -> None:
        T, v = np.array(config.token_indices, dtype=np.int64), base.weight.shape[0]
        if outside := [token for token in config.token_indices if token >= v]:
            raise ValueError(
                f"the tokens {shortened(outside)} are to be trained, and {path or 'this'} has those of 0 … {v - 1}: "
                "take their ids from the tokenizer, and a model whose vocabulary has them"
            )
        self.is_table, self.is_tied, self.tokens = isinstance(base, Embedding), False, tuple(config.token_indices)
        self.order = np.argsort(T)
        drawn = init.normal(rng, (len(T), base.weight.shape[1]), 1.0, base.dtype)
        keeps = config.init_weights and isinstance(rng, np.random.Generator)
        self.D = Parameter(np.array(base.weight.data[T], dtype=base.dtype) if keeps else drawn)

    def tied(self, base: Any) -> TrainableTokens:
        """Return the same D on a layer that shares E. A file has it once, where it is an embedding's."""
        other = copy.copy(self)
        other.is_table, other.is_tied = isinstance(base, Embedding), True
        return other

    def in_file(self, path: str, config: PeftConfig) -> Iterator[tuple[str, Parameter]]:
        return iter(()) if self.is_tied else super().in_file(path, config)

    def forward(self, x: Array, base: Any, rng: Rng = None) -> tuple[Array, Any]:
        return self.looked_up(x, base) if self.is_table else self.projected(x, base)

    def looked_up(self, ids: Array, base: Any) -> tuple[Array, Any]:
        D, ids = self.D.data, np.asarray(ids)
        y, back_base = base(ids)  # [...,m]
        T = np.array(self.tokens)[self.order]
        at = np.minimum(np.searchsorted(T, ids), len(T) - 1)  # [...]
        here, j = T[at] == ids, self.order[at]  # [...]

        def backward(dy: Array) -> None:
            dD = np.zeros(D.shape, dy.dtype)
            np.add.at(dD, j[here], dy[here])  # (1) [k,m]
            if base.padding_idx in self.tokens:
                dD[self.tokens.index(base.padding_idx)] = 0
            self.accumulate(dD)
            back_base(np.where(here[..., None], 0, dy))

        return np.where(here[..., None], D[j], y), backward

    def projected(self, x: Array, base: Linear) -> tuple[Array, Any]:
        D, T, bias = self.D.data, list(self.tokens), base.bias
        z, back_base = base(x)  # [...,v]
        z = z.copy()
        z[..., T] = matmul(x, D.T)
        if bias is not None:
            z[..., T] += bias.data[T]

        def backward(dz: Array) -> Array:
            dT, others = dz[..., T], dz.copy()  # [...,k], [...,v]
            others[..., T] = 0
            self.accumulate(product(rows(dT).T, rows(x)) if self.D.requires_grad else None)  # (2) [k,m]
            if bias is not None and bias.requires_grad:
                db = np.zeros_like(bias.data, dtype=dz.dtype)
                db[T] = rows(dT).sum(axis=0)
                bias.accumulate(db)
            dx: Array = back_base(others) + matmul(dT, D)  # (3) [...,m]
            return dx

        return z, backward

    def merged(self, W: Array, b: Array | None, *theta: Array) -> Merged:
        """E′ of E = Wᵀ, or of E = W of a head;  dD = dE′ of the rows T,  dE = dE′ with zeros there"""
        (D,), T, table = theta, list(self.tokens), self.is_table
        E = np.array(W.T if table else W, dtype=np.result_type(W, D))  # [v,m]
        E[T] = D

        def backward(dW: Array, db: Array | None) -> tuple[Array | None, ...]:
            dE = np.array(dW.T if table else dW)  # [v,m]
            dD = dE[T]
            dE[T] = 0
            return dE.T if table else dE, db, dD

        return E.T if table else E, b, backward

    def said(self) -> Iterator[str]:
        yield f"{len(self.tokens)} tokens"


class TokensBeside(TrainableTokens):
    """The same beside another method of the same config: LoRA's `trainable_token_indices`."""

    tensors: ClassVar[Mapping[str, Tensor]] = {"D": Tensor("token_adapter.trainable_tokens_delta.{}")}


def checked_ids(name: str, ids: Any) -> list[int]:
    """Return the ids of tokens as a list. Raises ValueError where one is negative or stands twice."""
    found = [int(token) for token in ids]
    if min(found, default=0) < 0:
        raise ValueError(f"{name} holds ids of tokens, from 0 on; got {min(found)}")
    if twice := [token for token, count in Counter(found).items() if count > 1]:
        raise ValueError(f"{name} holds each token once; got {shortened(twice)} several times")
    return found


def input_embedding(model: Any) -> str | None:
    """Return the path of a model's own embedding of its tokens, and None where it does not say."""
    body = getattr(model, "body", model)
    if (own := getattr(body, "input_embeddings", None)) is None:
        return None
    prefix = next((path for path, module in model.named_modules() if module is body), "")
    return f"{prefix}.{own}" if prefix else str(own)
