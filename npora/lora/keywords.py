"""Keywords of PEFT's functions: those that can say nothing here are accepted where they say nothing."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

_NOT_HERE = {
    "device_map": "npora computes on the CPU, in one process",
    "max_memory": "npora computes on the CPU, in one process",
    "offload_folder": "a float32 base is a memory map of its file already",
    "offload_dir": "a float32 base is a memory map of its file already",
    "offload_index": "a float32 base is a memory map of its file already",
    "torch_dtype": "an adapter has its base's dtype",
    "dtype": "an adapter has its base's dtype",
    "token": "the hub's token is taken from HF_TOKEN, or from hf auth login",
    "use_auth_token": "the hub's token is taken from HF_TOKEN, or from hf auth login",
    "force_download": "remove the copy in the hub's cache: hf cache delete",
    "ignore_mismatched_sizes": "an adapter of another size is another adapter",
    "key_mapping": "tensors have the names that PEFT's save_pretrained gives them",
    "mixed": "adapters of several methods may share a model without it",
    "ephemeral_gpu_offload": "npora computes on the CPU",
    "path_initial_model_for_weight_conversion": "npora's adapters leave the base's weights alone",
    "push_to_hub": "upload the folder with: hf upload",
}
# With these values a keyword changes nothing here.
_IDLE: dict[str, tuple[Any, ...]] = {
    "torch_device": (None, "cpu"),
    "autocast_adapter_dtype": (True, False),  # the base, and so the adapter, is float32 or float64
    "low_cpu_mem_usage": (True, False),
    "use_safetensors": (None, True),
    "device_map": (None, "cpu", "auto"),
    "is_main_process": (True,),
    "save_embedding_layers": ("auto", False),
    "safe_serialization": (True,),
    "progressbar": (True, False),
}


def refuse_others(function: str, keywords: Mapping[str, Any], known: tuple[str, ...], idle: tuple[str, ...]) -> None:
    """Raise TypeError for a keyword that is none of `idle`, with near names of those that are `known`, and ValueError
    for one of `idle` whose value asks for what npora does not do."""
    for name, value in keywords.items():
        reason = _NOT_HERE.get(name)
        if name in idle:
            if not _is_idle(name, value):
                shown = "…" if "token" in name else repr(value)  # a secret
                raise ValueError(f"{function}: {name}={shown} is not supported" + (f": {reason}" if reason else ""))
        elif reason is not None:
            raise TypeError(f"{function} has no use for '{name}': {reason}")
        else:
            near = difflib.get_close_matches(name, [*known, *idle], n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else f"; it has: {', '.join(known)}"
            raise TypeError(f"{function} got an unexpected keyword argument '{name}'{hint}")


def _is_idle(name: str, value: Any) -> bool:
    return (
        str(value) == "cpu" if name == "torch_device" and value is not None else value in _IDLE.get(name, (None, False))
    )
