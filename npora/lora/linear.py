"""A linear layer with LoRA, standing alone."""

from __future__ import annotations

from npora.lora.adapted import Adapted
from npora.lora.methods import method_of
from npora.lora.methods.lora_config import LoraConfig
from npora.nn import init
from npora.nn.init import Source
from npora.nn.linear import Linear


class LoRALinear(Adapted):
    """A frozen Linear with a low-rank update:  y = (W + s B A) x + b  (Hu et al., 2021). Its derivation is LoRA's page;
    with `use_dora` it is DoRA's.

    As PeftModel puts it in a layer's place; here with its adapter switched on. `rng` (a Generator or a seed) draws A.
    """

    def __init__(
        self,
        base_layer: Linear,
        r: int = 8,
        lora_alpha: float = 8,
        lora_dropout: float = 0.0,
        *,
        use_rslora: bool = False,
        use_dora: bool = False,
        init_lora_weights: bool | str = True,
        adapter_name: str = "default",
        rng: Source | int | None = None,
    ) -> None:
        super().__init__(base_layer)
        config = LoraConfig(
            r=r, lora_alpha=lora_alpha, lora_dropout=lora_dropout, use_rslora=use_rslora, use_dora=use_dora,
            init_lora_weights=init_lora_weights,
        )  # fmt: skip
        method = method_of(config, base_layer)
        if method is None:
            raise TypeError(f"LoRA goes on a Linear; got a {type(base_layer).__name__}")
        self.adapters[adapter_name] = method(base_layer, config, init.default_rng(rng), "", {})
        self.active_adapter = adapter_name
