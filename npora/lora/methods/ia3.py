"""(IA)³: a vector that scales what a layer gives, or what it is given; and IA3Config: PEFT's fields and defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np

from npora.lora.adapter import Adapter, Merged, Rng, Shared, Tensor
from npora.lora.config import PeftConfig
from npora.lora.names import is_named
from npora.lora.pattern import matches
from npora.nn import init
from npora.nn.contract import checked_input
from npora.nn.init import Source
from npora.nn.linear import Linear, rows
from npora.nn.module import Array, Identities, Named, Parameter, Pullback

# What PEFT's config means by None, for each kind of model: targets, and those of them whose input is scaled.
DEFAULTS: Mapping[str, tuple[list[str], list[str]]] = {
    "bert": (["key", "output.dense", "value"], ["output.dense"]),
    "roberta": (["key", "output.dense", "value"], ["output.dense"]),
    "deberta-v2": (["key_proj", "output.dense", "value_proj"], ["output.dense"]),
    "gpt2": (["c_attn", "mlp.c_proj"], ["mlp.c_proj"]),
    **dict.fromkeys(("llama", "mistral"), (["down_proj", "k_proj", "v_proj"], ["down_proj"])),
    **dict.fromkeys(("gemma3_text", "qwen2", "qwen3"), (["down_proj", "q_proj", "v_proj"], ["down_proj"])),
    "t5": (["k", "v", "wo"], ["wo"]),
}


@dataclass
class IA3Config(PeftConfig):
    """An IA3Config says which layers' outputs are scaled, and which layers' inputs (Liu et al., 2022).

    feedforward_modules : the targets whose input is scaled: ends of paths, or a regular expression for whole ones; []
        for none. None, as for target_modules: PEFT's default for this kind of model (it has none for DistilBERT)
    init_ia3_weights : True: l = 1, so that nothing changes at first; False: l ~ N(0, 1)

    target_modules, exclude_modules, modules_to_save, task_type and the rest are PeftConfig's.
    """

    beginning: ClassVar[tuple[str, ...]] = ("init_ia3_weights",)
    meant: ClassVar[Mapping[str, str]] = {**PeftConfig.meant, "init_weights": "init_ia3_weights"}

    feedforward_modules: list[str] | str | None = None
    fan_in_fan_out: bool = False
    init_ia3_weights: bool = True
    _: KW_ONLY
    peft_type: str = "IA3"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._refuse_others()

    def _refuse_others(self) -> None:
        scaled, targets = self.feedforward_modules, self.target_modules
        if isinstance(scaled, list) and isinstance(targets, list) and not set(scaled) <= set(targets):
            others = ", ".join(sorted(set(scaled) - set(targets)))
            raise ValueError(f"feedforward_modules names some of the target_modules, and {others} is none of them")

    def complete(self, model: Any) -> None:
        kind, own = getattr(getattr(model, "config", None), "model_type", None), self.feedforward_modules
        if kind not in DEFAULTS and None in (self.target_modules, own):
            raise ValueError(
                f"(IA)³ has no defaults for a model of the type {kind!r}: name target_modules, and in "
                "feedforward_modules those of them whose input is scaled ([] for none)"
            )
        targets, scaled = DEFAULTS.get(kind or "", ([], []))
        named = self.target_modules = list(targets) if self.target_modules is None else self.target_modules
        everything = isinstance(named, str) and named.lower() == "all-linear"
        paths = [path for path, _ in model.named_modules() if everything or is_named(named, path)]
        patterns = _patterns(scaled if own is None else own)
        reached = [pattern for pattern in patterns if any(matches(pattern, path) for path in paths)]
        if own is None:  # PEFT reads a list back only where each of its names is among those of target_modules
            is_listed = isinstance(named, str) or set(scaled) <= set(named)
            self.feedforward_modules = list(scaled) if is_listed else "|".join(reached) or []
        elif len(reached) < len(patterns):
            raise ValueError(f"feedforward_modules: one of {own!r} matches none of the target modules")
        self._refuse_others()

    def is_feedforward(self, path: str) -> bool:
        """Say whether the input of the layer at this path is scaled, rather than its output."""
        return any(matches(pattern, path) for pattern in _patterns(self.feedforward_modules or []))


def _patterns(names: list[str] | str) -> list[str]:
    """Return patterns for whole paths. As PEFT has it, a name is any end of a path: "o" that of `wo` too."""
    return [names] if isinstance(names, str) else [".*" + re.escape(name) for name in names]


class IA3(Adapter):
    """y = l ⊙ (W x + b),  or in a feed-forward  y = W (l ⊙ x) + b.    x [...,i]  W [o,i]  b [o]  →  y [...,o]

    l [o,1] or [1,i] is all there is to train: o or i numbers a layer (Liu et al., 2022). No ΔW is formed. Where z is
    the frozen layer's output, u its input, and dz → du its own pullback,

        output, z = W x + b:   dz = l ⊙ dy  (1)    dl = Σₙ dyₙ ⊙ zₙ  (2)    dx = du
        input,  u = l ⊙ x:     dz = dy             dl = Σₙ duₙ ⊙ xₙ  (3)    dx = l ⊙ du  (4)

    Products beside the base's: 0 forward, 0 backward. Kept is z or x, where l is trained. l starts at 1, so that a
    fresh adapter leaves its layer as it is. Merged, W′ = diag(l) W with b′ = l ⊙ b, or W′ = W diag(l) with b′ = b.

    Identity, where the input is scaled: the loss cannot see x → c ⊙ x, l → l ⊘ c, so l ⊙ dl = Σₙ xₙ ⊙ dxₙ.

    The paper scales keys, values and the hidden activations of a feed-forward, in layers without biases. PEFT scales a
    bias with the rest, all of GPT-2's fused c_attn (queries too), and in BERT and RoBERTa the input of
    `attention.output.dense` beside that of `output.dense`, since a name is any end of a path. There a second adapter
    on a layer scales what the first one does; here each goes by its own config.
    """

    config_class = IA3Config
    calls_alone = True
    tensors: ClassVar[Mapping[str, Tensor]] = {"l": Tensor("ia3_l.{}")}
    samples: ClassVar[Mapping[str, Any]] = {
        "ia3": {"feedforward_modules": []},
        "ia3_feedforward": {"feedforward_modules": ["dense"]},
    }

    def __init__(self, base: Linear, config: IA3Config, rng: Source, path: str, shared: Shared) -> None:
        self.is_feedforward = config.is_feedforward(path)
        shape = (1, base.in_features) if self.is_feedforward else (base.out_features, 1)
        drawn = init.normal(rng, shape, 1.0, base.dtype)
        self.l = Parameter(np.ones_like(drawn) if config.init_ia3_weights else drawn)

    def forward(self, x: Array, base: Linear, rng: Rng = None) -> tuple[Array, Pullback]:
        scale, by_input = self.l.data.reshape(-1), self.is_feedforward  # [o] or [i]
        z, back_base = base(checked_input(base, x, base.matrix) * scale if by_input else x)
        kept = None if not self.l.requires_grad else x if by_input else z

        def backward(dy: Array) -> Array:
            du = back_base(dy if by_input else dy * scale)  # (1) [...,i]
            if kept is not None:
                dl = rows((du if by_input else dy) * kept).sum(axis=0)  # (2), (3)
                self.accumulate(dl.reshape(self.l.shape))
            return du * scale if by_input else du  # (4)

        return z if by_input else z * scale, backward

    def merged(self, W: Array, b: Array | None, *theta: Array) -> Merged:
        """W′ = W ⊙ l, by rows or by columns, and b′ = b ⊙ l or b:  dl = Σ dW′ ⊙ W + db′ ⊙ b,  dW = dW′ ⊙ l"""
        scale, by_input = theta[0], self.is_feedforward  # [o,1] or [1,i]

        def backward(dW: Array, db: Array | None) -> tuple[Array | None, ...]:
            dl = (dW * W).sum(axis=0 if by_input else 1, keepdims=True)
            if by_input or b is None or db is None:
                return dW * scale, db, dl
            return dW * scale, db * scale[:, 0], dl + (db * b)[:, None]

        return W * scale, b if by_input or b is None else b * scale[:, 0], backward

    def identities(self, inputs: Named, gradients: Named) -> Identities:
        if self.is_feedforward and len(gradients) == 1 and self.l.grad is not None:
            (x,), (dx,) = inputs.values(), gradients.values()
            yield "l ⊙ dl = Σₙ xₙ ⊙ dxₙ", np.vstack([self.l.data * self.l.grad, -rows(x * dx)]).T  # [i,1+n]

    def said(self) -> Any:
        yield "scales its input" if self.is_feedforward else "scales its output"
