"""LoRA and DoRA on a table of embeddings, of which a batch reads a few rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from npora.lora.adapter import Rng, Shared, Tensor
from npora.lora.methods.dora import DoRA
from npora.lora.methods.lora import LoRA
from npora.lora.methods.lora_config import LoraConfig
from npora.lora.starts import start_of
from npora.machine.product import product
from npora.nn import init
from npora.nn.embedding import Embedding
from npora.nn.grad_mode import held
from npora.nn.init import Source
from npora.nn.linear import matmul, rows
from npora.nn.module import Array, Identities, Module, Named, Parameter


class LoRAEmbedding(LoRA):
    """y = E[ids] + s Aᵀ[ids] Bᵀ.    ids int [...]  E [v,m]  A [r,v]  B [m,r]  →  y [...,m]    (Hu et al., 2021)

    It is LoRA's page for W = Eᵀ and an x that is 1 at the id and 0 elsewhere: u = A x is a column of A, which is looked
    up, and (3) there is a sum over the places where the id stands:

        du = s Bᵀ dy                                    (1)
        dB = s Σₙ dyₙ uₙᵀ                               (2)
        dA[:,i] = Σ duₙ over the n with idsₙ = i        (3)

    Products beside the base's lookup: 1 forward, 2 backward, of n rows and r columns; v costs a zero for each of dA.
    Kept is u. As in PEFT it starts the other way round, A at 0 and B from N(0, 1), nothing is dropped, and the column
    of the row `padding_idx` gets no gradient. Ids have none, so backward returns None.

    Identity: Bᵀ dB = dA Aᵀ, as of LoRA, where no row is the padding's.
    """

    adapts: ClassVar[tuple[type[Module], ...]] = (Embedding,)
    tensors: ClassVar[Mapping[str, Tensor]] = {"A": Tensor("lora_embedding_A.{}"), "B": Tensor("lora_embedding_B.{}")}
    samples: ClassVar[Mapping[str, Any]] = {"lora_embedding": {"r": 3, "lora_alpha": 7}}

    def __init__(self, base: Any, config: Any, rng: Source, path: str, shared: Shared) -> None:
        start = config.init_lora_weights
        if isinstance(rng, np.random.Generator) and (start == "eva" or start_of(start) is not None):
            raise ValueError(
                f"init_lora_weights={start!r} begins with directions of a matrix, and {path or 'this'} is an "
                "embedding, where PEFT passes over it: give it an adapter of its own, with init_lora_weights=True"
            )
        if config.lora_bias:
            raise ValueError(f"lora_bias=True has no meaning on an embedding, which {path or 'this'} is: leave it out")
        self.r, self.s = config.rank_and_scaling(path)
        self.padding_idx = base.padding_idx
        A = init.normal(rng, (self.r, base.in_features), 1.0, base.dtype)
        self.A = Parameter(np.zeros_like(A) if start else A)
        self.B = Parameter(init.normal(rng, (base.out_features, self.r), 1.0, base.dtype))

    def forward(self, ids: Array, base: Any, rng: Rng = None) -> tuple[Array, Any]:
        A, B, s = self.A.data, self.B.data, self.s
        y, back_base = base(ids)  # [...,m]
        u = A.T[np.asarray(ids)]  # [...] → [...,r]

        def backward(dy: Array) -> None:
            dB = s * product(rows(dy).T, rows(u)) if self.B.requires_grad else None  # (2) [m,r]
            dA = self.scattered(s * matmul(dy, B), ids) if self.A.requires_grad else None  # (1), (3) [r,v]
            self.accumulate(dA, dB)
            back_base(dy)

        return y + matmul(s * u, B.T), backward

    def scattered(self, du: Array, ids: Array) -> Array:
        """dA of du [...,r], which came of these ids [...]."""
        dA = np.zeros(self.A.shape, du.dtype)
        np.add.at(dA.T, ids, du)  # (3) [v,r]
        if self.padding_idx is not None:
            dA[:, self.padding_idx] = 0
        return dA

    def identities(self, inputs: Named, gradients: Named) -> Identities:
        return super().identities(inputs, gradients) if self.padding_idx is None else iter(())


class DoRAEmbedding(DoRA, LoRAEmbedding):
    """y = g ⊙ V[:,ids],  V = Eᵀ + s B A,  g = m / c,  c = ‖V‖ row by row.    ids int [...]  →  y [...,m]

    (Liu et al., 2024) It is DoRA's page for W = Eᵀ [m,v], with the lookup and the start of LoRAEmbedding: each feature
    of the embeddings has a length m that is trained apart from its direction, a row of V, over the whole vocabulary.
    The gradient treats c as a constant. With u = Aᵀ[ids] and z = E[ids] + s u Bᵀ:

        dz = g ⊙ dy                                     (1)
        dm = Σₙ dyₙ ⊙ zₙ / c                            (2)
        dB = s Σₙ dzₙ uₙᵀ                               (3)
        dA[:,i] = Σ s Bᵀ dzₙ over the n with idsₙ = i   (4)

    c takes 2 r m v operations at each forward, however few ids there are: who generates token by token merges first.

    Identity: Bᵀ dB = dA Aᵀ, as of LoRA.
    """

    adapts: ClassVar[tuple[type[Module], ...]] = (Embedding,)
    tensors: ClassVar[Mapping[str, Tensor]] = {**LoRAEmbedding.tensors, "m": DoRA.tensors["m"]}
    samples: ClassVar[Mapping[str, Any]] = {"dora_embedding": {"r": 3, "lora_alpha": 7, "use_dora": True}}

    def __init__(self, base: Any, config: LoraConfig, rng: Source, path: str, shared: Shared) -> None:
        if config.dora_norm_grad:
            raise ValueError(f"dora_norm_grad=True is for linear layers, and {path} is an embedding: leave one out")
        super().__init__(base, config, rng, path, shared)

    def forward(self, ids: Array, base: Any, rng: Rng = None) -> tuple[Array, Any]:
        A, B, m, s = self.A.data, self.B.data, self.m.data, self.s
        z, back_base = base(ids)  # E[ids] [...,m]
        c = held("norm", self.norms, base.matrix, A, B)  # [m]
        g, u = m / c, A.T[np.asarray(ids)]  # [...] → [...,r]
        z = z + matmul(s * u, B.T)

        def backward(dy: Array) -> None:
            dz = g * dy  # (1) [...,m]
            dm = rows(dy * z).sum(axis=0) / c  # (2) [m]
            dB = s * product(rows(dz).T, rows(u)) if self.B.requires_grad else None  # (3) [m,r]
            dA = self.scattered(s * matmul(dz, B), ids) if self.A.requires_grad else None  # (4) [r,v]
            self.accumulate(dA, dB, dm)
            back_base(dz)

        return g * z, backward
