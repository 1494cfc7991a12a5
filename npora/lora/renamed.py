"""Adapters of older versions of transformers, in which some families' modules had other names."""

from __future__ import annotations

from dataclasses import replace

from npora.files.weights import with_names
from npora.lora.config import PeftConfig
from npora.lora.folder import PREFIX
from npora.lora.inject import PlainView
from npora.lora.methods import methods_of
from npora.nn.module import Array


def with_names_of(
    view: PlainView, config: PeftConfig, tensors: dict[str, Array]
) -> tuple[PeftConfig, dict[str, Array]]:
    """Return config and tensors under the names that the model's modules have, where they are under those that its
    class says were `renamed`: the targets are then named by the tensors.

    Raises
    ------
    ValueError: the config has a rank or an alpha for modules by their former names.
    """
    found = with_names(tensors, view.renamed)
    if found.keys() == tensors.keys():
        return config, tensors
    for field in ("rank_pattern", "alpha_pattern"):
        if getattr(config, field, None):
            raise ValueError(
                f"{field} is for modules by names that they had in older versions of transformers: load the adapter "
                "with PEFT and that version, and save it without"
            )
    ends = [f".{tensor.file_name}" for method in methods_of(config) for tensor in method.tensors.values()]
    paths = {name.removesuffix(end) for name in found for end in ends if name.endswith(end)}
    targets = sorted({path.removeprefix(PREFIX).rpartition(".")[2] for path in paths})
    return replace(config, target_modules=targets), found
