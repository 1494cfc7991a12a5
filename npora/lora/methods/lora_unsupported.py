"""The fields of PEFT's LoraConfig that npora does not support: each is known by name, and refused unless it is idle."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from npora.lora.config import PeftConfig

_W_STAYS = ("gaussian", "eva", "orthogonal", "mica")  # PEFT's ways to begin that leave the base's weights alone
_W_IS_ALTERED = ("pissa", "olora", "corda", "lora_ga", "loftq")


@dataclass(kw_only=True)
class UnsupportedFields(PeftConfig):
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
    use_qalora: Any = False
    velora_config: Any = None

    def refuse_unsupported(self) -> None:
        """Raise ValueError, by name, where one of these fields asks for something."""
        for f in fields(UnsupportedFields)[len(fields(PeftConfig)) :]:
            value = getattr(self, f.name)
            if value and value != f.default:
                raise ValueError(f"LoraConfig: {f.name}={value!r} is not supported by npora; leave it out")


def refuse_new_start(start: object) -> None:
    """Raise ValueError for an `init_lora_weights` that npora cannot begin with."""
    if start not in (True, False, "gaussian"):
        raise ValueError(f"init_lora_weights={start!r} is not supported: use True, False or 'gaussian'")


def refuse_altered_base(start: object, directory: str, is_trainable: bool) -> None:
    """Raise ValueError where an adapter that began so does not belong on the base's own weights.

    PiSSA, OLoRA, CorDA, LoRA-GA and LoftQ take something away from W when they begin, and their A and B mean something
    beside that altered W alone.
    """
    name = start.lower() if isinstance(start, str) else start
    if isinstance(name, str) and name.startswith(_W_IS_ALTERED):
        raise ValueError(
            f"the adapter in {directory} began with init_lora_weights={start!r}, which altered the base's weights: its "
            "A and B do not fit the weights of this base. In PEFT, save it as plain LoRA with save_pretrained(…, "
            "path_initial_model_for_weight_conversion=…), which leaves out a head, or merged, after "
            "merge_and_unload(); where this base is the altered one, say init_lora_weights=True in the adapter's config"
        )
    if isinstance(name, str) and name not in _W_STAYS:
        raise ValueError(
            f"the adapter in {directory} began with init_lora_weights={start!r}, which npora does not know: where that "
            "leaves the base's weights alone, say init_lora_weights=True in its config"
        )
    if name == "mica" and is_trainable:
        raise ValueError(
            f"the adapter in {directory} began with init_lora_weights='mica', which trains A alone; npora would train "
            "B too: load it frozen, or say init_lora_weights=True in its config"
        )
