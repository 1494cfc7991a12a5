"""LoraConfig: PEFT's fields, names and defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import ClassVar

from npora.lora.methods.lora_unsupported import UnsupportedFields, refuse_altered_base, refuse_new_start
from npora.lora.names import fits_pattern


@dataclass
class LoraConfig(UnsupportedFields):
    """What a LoRA adapter is: which layers it goes on, its rank and its scale (Hu et al., 2021).

    r : the rank
    lora_alpha : the update is scaled by s = lora_alpha / r (by lora_alpha / √r with `use_rslora`, Kalajdzievski 2023)
    lora_dropout : probability of dropping an input of the adapter, in training
    bias : which biases of the base train too: "none", "all", "lora_only" (those of the targets)
    init_lora_weights : True: A ~ U(±1/√in), B = 0; "gaussian": A ~ N(0, 1/r²), B = 0; False: B is drawn like A
    use_dora : train the lengths of W's rows apart from their directions (DoRA, Liu et al., 2024)
    layers_to_transform, layers_pattern : only these layers, counted by the first number in a path, or by the number
        after `layers_pattern`
    rank_pattern, alpha_pattern : {regular expression for the end of a path: r or lora_alpha}; the first that fits wins

    target_modules, exclude_modules, modules_to_save, task_type and the rest are PeftConfig's.

    Raises
    ------
    ValueError: a value that makes no sense, or a field of PEFT's that npora does not support, by its name.
    TypeError: a field that there is not, with the name that was meant.
    """

    meaning: ClassVar[tuple[str, ...]] = (
        "r", "lora_alpha", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern",
    )  # fmt: skip
    beginning: ClassVar[tuple[str, ...]] = (
        "init_lora_weights", "corda_config", "eva_config", "loftq_config", "lora_ga_config", "ensure_weight_tying",
        "megatron_core", "qalora_group_size",
    )  # fmt: skip
    meant: ClassVar[Mapping[str, str]] = {
        **UnsupportedFields.meant,
        "rank": "r", "lora_r": "r", "lora_rank": "r", "alpha": "lora_alpha", "scaling": "lora_alpha",
        "dropout": "lora_dropout", "rslora": "use_rslora", "dora": "use_dora", "init_weights": "init_lora_weights",
    }  # fmt: skip

    r: int = 8
    lora_alpha: float = 8
    lora_dropout: float = 0.0
    fan_in_fan_out: bool = False
    bias: str = "none"
    use_rslora: bool = False
    init_lora_weights: bool | str = True
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    rank_pattern: dict[str, int] = field(default_factory=dict)
    alpha_pattern: dict[str, float] = field(default_factory=dict)
    use_dora: bool = False
    _: KW_ONLY
    peft_type: str = "LORA"

    def __post_init__(self) -> None:
        super().__post_init__()
        for pattern, rank in {"r": self.r, **self.rank_pattern}.items():
            if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
                raise ValueError(f"the rank must be a whole number of at least 1; got {rank!r} for {pattern}")
        for pattern, alpha in {"lora_alpha": self.lora_alpha, **self.alpha_pattern}.items():
            if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
                raise ValueError(f"lora_alpha must be a finite number; got {alpha!r} for {pattern}")
        if not isinstance(self.lora_dropout, int | float) or not 0 <= self.lora_dropout < 1:
            raise ValueError(f"lora_dropout must lie in [0, 1); got {self.lora_dropout!r}")
        if self.bias not in ("none", "all", "lora_only"):
            raise ValueError(f"bias must be 'none', 'all' or 'lora_only'; got {self.bias!r}")
        if self.layers_to_transform == []:  # as PEFT has it
            self.layers_to_transform = None
        if self.layers_pattern and self.layers_to_transform is None:
            raise ValueError("layers_pattern needs layers_to_transform")
        if self.layers_to_transform is not None and isinstance(self.target_modules, str):
            raise ValueError("layers_to_transform needs target_modules as a list of names, not a regular expression")

    def check_new(self) -> None:
        self.refuse_unsupported()
        refuse_new_start(self.init_lora_weights)

    def check_loaded(self, directory: str, is_trainable: bool) -> None:
        refuse_altered_base(self.init_lora_weights, directory, is_trainable)

    def rank_and_scaling(self, path: str) -> tuple[int, float]:
        """r and s of the layer at a path, by the first pattern that fits, else the config's own r and α."""
        r = next((r for key, r in self.rank_pattern.items() if fits_pattern(key, path)), self.r)
        alpha = next((alpha for key, alpha in self.alpha_pattern.items() if fits_pattern(key, path)), self.lora_alpha)
        return r, alpha / r**0.5 if self.use_rslora else alpha / r
