"""AdaLoraConfig: PEFT's fields, names and defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from npora.lora.methods.lora_unsupported import UnsupportedFields
from npora.lora.values import Unsupported


@dataclass(kw_only=True)
class AdaLoraConfig(UnsupportedFields):
    """An AdaLoraConfig says what an AdaLoRA adapter begins as, what it is to shrink to, and when (Zhang et al., 2023).

    init_r, target_r : the rank that each layer begins with, and that the layers have at the end, on an average
    total_step : the steps of the training; of them the first `tinit` and the last `tfinal` cut nothing, and those
        between cut every `deltaT` steps
    beta1, beta2 : how much of the importance, and of its uncertainty, is that of the steps before
    orth_reg_weight : of the penalty on A and B, which are to have orthonormal rows and columns
    lora_alpha : the update is scaled by lora_alpha / (init_r + 1e-5)
    rank_pattern : of an adapter that was trained: which of its init_r ranks each layer has left
    init_lora_weights : True: A, B ~ N(0, 0.02²), E = 0; False: all ~ N(0, 1)
    lora_dropout, bias, layers_to_transform, layers_pattern : as of LoraConfig; r is not used
    """

    meaning: ClassVar[tuple[str, ...]] = ("init_r", "lora_alpha", "rank_pattern")
    found: ClassVar[tuple[str, ...]] = ("rank_pattern",)
    beginning: ClassVar[tuple[str, ...]] = (
        "init_lora_weights", "r", "corda_config", "eva_config", "loftq_config", "lora_ga_config",
        "ensure_weight_tying", "megatron_core", "qalora_group_size",
    )  # fmt: skip
    meant: ClassVar[Mapping[str, str]] = {
        **UnsupportedFields.meant, "rank": "init_r", "lora_r": "init_r", "alpha": "lora_alpha",
        "dropout": "lora_dropout", "total_steps": "total_step", "max_steps": "total_step",
    }  # fmt: skip

    usual: ClassVar[Mapping[str, Sequence[str]]] = {
        "t5": ("q", "k", "v", "o", "wi", "wo"),
        "roberta": ("query", "key", "value", "dense"),
        "deberta-v2": ("query_proj", "key_proj", "value_proj", "dense"),
    }

    peft_type: str = "ADALORA"
    target_r: int = 8
    init_r: int = 12
    tinit: int = 0
    tfinal: int = 0
    deltaT: int = 1
    beta1: float = 0.85
    beta2: float = 0.85
    orth_reg_weight: float = 0.5
    total_step: int | None = None
    rank_pattern: dict[str, list[bool]] | None = None
    r: Unsupported = 8
    lora_alpha: float = 8
    lora_dropout: float = 0.0
    fan_in_fan_out: bool = False
    bias: Literal["none", "all", "lora_only"] = "none"
    use_rslora: Unsupported = False
    use_dora: Unsupported = False
    corda_config: Unsupported = None
    eva_config: Unsupported = None
    lora_ga_config: Unsupported = None
    alpha_pattern: Unsupported = None
    init_lora_weights: bool = True
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        least = {"init_r": 1, "target_r": 1, "tinit": 0, "tfinal": 0, "deltaT": 1, "orth_reg_weight": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ValueError(f"{name} must be at least {bound}; got {getattr(self, name)}")
        for name in ("beta1", "beta2"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in (0, 1); got {getattr(self, name)}")
        if self.lora_alpha <= 0:
            raise ValueError(f"lora_alpha must be positive; got {self.lora_alpha}")
        if self.target_r > self.init_r:
            raise ValueError(f"target_r={self.target_r} is above init_r={self.init_r}, and ranks are only cut")
        if self.total_step is None or self.total_step < 1:
            raise ValueError(f"total_step must be the number of steps that the training has; got {self.total_step}")
        if self.tinit >= self.total_step - self.tfinal:
            raise ValueError(
                f"tinit={self.tinit} and tfinal={self.tfinal} leave none of the {self.total_step} steps to cut ranks in"
            )

    def check_new(self) -> None:
        if self.r != 8:
            raise ValueError(f"r={self.r} is not used by AdaLoRA: say init_r, and target_r")
        super().check_new()

    def complete(self, model: Any) -> None:
        super().complete(model)
        if self.rank_pattern is not None:
            raise ValueError("rank_pattern is what a training finds: a new adapter has none, leave it out")

    @property
    def last(self) -> int:
        """The step after which nothing is cut any more."""
        assert self.total_step is not None
        return self.total_step - self.tfinal

    def budget(self, step: int, first: int, layers: int) -> tuple[int, bool]:
        """Return how many ranks all layers together may have after this step, and whether they are cut to that.

        With t steps taken, b₀ = `first` ranks at the beginning, b₁ = target_r a layer at the end, and T = total_step:

            b = b₁ + (b₀ − b₁) (1 − (t − tinit)/(T − tfinal − tinit))³,  from b₀ at t = tinit to b₁ at t = T − tfinal
        """
        last, target = self.last, self.target_r * layers
        if step <= self.tinit:
            return first, False
        if step >= last:
            return target, True
        rest = 1 - (step - self.tinit) / (last - self.tinit)
        return int((first - target) * rest**3 + target), step % self.deltaT == 0
