"""The fields of PEFT's LoraConfig that npora does not support: each is known by name, and refused unless it is idle."""

from __future__ import annotations

from dataclasses import dataclass, field

from npora.files.refusal import shortened
from npora.lora.config import PeftConfig
from npora.lora.starts import NAMES, start_of
from npora.lora.values import Unsupported

_W_STAYS = ("gaussian", "eva", "orthogonal", "mica")  # PEFT's ways to begin that leave the base's weights alone
_W_IS_ALTERED = ("pissa", "olora", "corda", "lora_ga", "loftq")


@dataclass(kw_only=True)
class UnsupportedFields(PeftConfig):
    """These fields belong to LoRA's variants, and to its other ways to begin."""

    alora_invocation_tokens: Unsupported = None
    arrow_config: Unsupported = None
    ensure_weight_tying: Unsupported = False
    kasa_config: Unsupported = None
    layer_replication: Unsupported = None
    loftq_config: Unsupported = field(default_factory=dict)
    lora_bias: Unsupported = False
    megatron_config: Unsupported = None
    megatron_core: Unsupported = "megatron.core"
    monteclora_config: Unsupported = None
    qalora_group_size: Unsupported = 16
    target_parameters: Unsupported = None
    trainable_token_indices: Unsupported = None
    use_bdlora: Unsupported = None
    use_qalora: Unsupported = False
    velora_config: Unsupported = None


def refuse_new_start(start: object) -> None:
    """Raise ValueError for an `init_lora_weights` that npora cannot begin with."""
    if start not in (True, False, "gaussian", "eva") and start_of(start) is None:
        own = ", ".join(map(repr, ("gaussian", *NAMES)))
        raise ValueError(f"init_lora_weights={shortened(start)} is not supported: use True, False or one of {own}")


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
