"""The fields of PEFT's LoraConfig that npora does not support: each is known by name, and refused unless it is idle."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from npora.nn.readable import Readable


@dataclass(kw_only=True)
class UnsupportedFields(Readable):
    """With these values, which PEFT writes into every `adapter_config.json`, the fields change nothing."""

    alora_invocation_tokens: Any = None
    arrow_config: Any = None
    corda_config: Any = None
    ensure_weight_tying: Any = False
    eva_config: Any = None
    kasa_config: Any = None
    layer_replication: Any = None
    loftq_config: Any = field(default_factory=dict)
    lora_bias: Any = False
    lora_ga_config: Any = None
    megatron_config: Any = None
    megatron_core: Any = "megatron.core"
    monteclora_config: Any = None
    qalora_group_size: Any = 16
    target_parameters: Any = None
    trainable_token_indices: Any = None
    use_bdlora: Any = None
    use_dora: Any = False
    use_qalora: Any = False
    velora_config: Any = None

    def refuse_unsupported(self) -> None:
        """Raise ValueError, by name, where one of these fields asks for something."""
        for f in fields(UnsupportedFields):
            value = getattr(self, f.name)
            if value and value != f.default:
                raise ValueError(f"LoraConfig: {f.name}={value!r} is not supported by npora; leave it out")
