"""LN tuning: a norm's scale and shift, trained on a copy of them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from npora.lora.adapter import Adapter, Merged, Rng, Shared, Tensor
from npora.lora.config import PeftConfig
from npora.nn.init import Source
from npora.nn.module import Array, Module, Parameter, Pullback
from npora.nn.norm import LayerNorm, RMSNorm

_LLAMA = ["input_layernorm", "norm", "post_attention_layernorm"]
# What PEFT's config means by None, for each kind of model.
DEFAULTS: Mapping[str, list[str]] = {
    "gpt2": ["ln_1", "ln_2", "ln_f"],
    "t5": ["final_layer_norm", "layer_norm"],
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": ["post_attention_layernorm"],
    "qwen3": ["post_attention_layernorm"],
    "gemma3_text": [*_LLAMA, "post_feedforward_layernorm", "pre_feedforward_layernorm"],
}


@dataclass(kw_only=True)
class LNTuningConfig(PeftConfig):
    """An LNTuningConfig says which norms are trained (Zhao et al., 2023).

    target_modules, exclude_modules, modules_to_save, task_type and the rest are PeftConfig's; None for target_modules
    is PEFT's default for this kind of model (it has none for BERT, RoBERTa and DistilBERT).
    """

    peft_type: str = "LN_TUNING"

    def complete(self, model: Any) -> None:
        kind = getattr(getattr(model, "config", None), "model_type", None)
        if self.target_modules is None and kind not in DEFAULTS:
            raise ValueError(
                f"LN tuning has no default for a model of the type {kind!r}: name its norms in target_modules"
            )
        self.target_modules = list(DEFAULTS[str(kind)]) if self.target_modules is None else self.target_modules


class LNTuning(Adapter):
    """y = γ ⊙ x̂ + β, with γ and β of the adapter's own.    x, x̂, y [...,i]  γ, β [i]

    (Zhao et al., 2023, arXiv:2312.11420.) x̂ is what the norm makes of x, by mean and deviation or by the root of the
    mean square, where there is no β. All is as on the page of the norm, `nn/norm.py`:

        dγ = Σₙ dyₙ ⊙ x̂ₙ,  dβ = Σₙ dyₙ       (1)
        dx = the norm's pullback of γ ⊙ dy    (2)

    It takes no product, and 2 i numbers a norm, some thousandths of a model. x̂ is kept, as by any norm. γ and β start
    as copies of the norm's, so that a fresh adapter leaves it as it is. Of Gemma's norms γ is 1 and what is trained.

    Merged, W′ = γ and b′ = β, whatever W and b were: it replaces what stands there, so that no two of them are merged
    on one norm, and PEFT refuses it too. The paper trains the norms of a language model to take in pictures, and finds
    them to do as well as LoRA.
    """

    config_class = LNTuningConfig
    adapts: ClassVar[tuple[type[Module], ...]] = (LayerNorm, RMSNorm)
    tensors: ClassVar[Mapping[str, Tensor]] = {
        "gamma": Tensor("ln_tuning_layers.{}.weight"),
        "beta": Tensor("ln_tuning_layers.{}.bias"),
    }
    samples: ClassVar[Mapping[str, Any]] = {"ln_tuning": {}}
    replaces = True

    def __init__(self, base: Any, config: LNTuningConfig, rng: Source, path: str, shared: Shared) -> None:
        self.gamma = Parameter(np.array(base.weight.data))
        self.beta = None if base.bias is None else Parameter(np.array(base.bias.data))

    def forward(self, x: Array, base: Any, rng: Rng = None) -> tuple[Array, Pullback]:
        norm = copy.copy(base)
        norm.weight, norm.bias = self.gamma, self.beta
        y, backward = norm(x)  # (1), (2)
        return y, backward

    def merged(self, W: Array, b: Array | None, *theta: Array) -> Merged:
        """W′ = γ,  b′ = β,  dγ = dW′,  dβ = db′,  dW = 0,  db = 0"""

        def backward(dW: Array, db: Array | None) -> tuple[Array | None, ...]:
            zero = np.zeros_like(dW)
            return (zero, None, dW) if db is None else (zero, np.zeros_like(db), dW, db)

        return theta[0], b if b is None else theta[1], backward
