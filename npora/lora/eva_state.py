"""The directions in which a model's layers are given most, and the ranks that EVA gives them, from batches of data."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np

from npora.lora.adapted import Adapted
from npora.lora.adapters import Adapters
from npora.lora.config import PeftConfig
from npora.lora.folder import PREFIX
from npora.lora.keywords import refuse_others
from npora.lora.methods.lora import LoRA
from npora.lora.methods.lora_config import LoraConfig
from npora.lora.recording import seeing_inputs, targets_of
from npora.lora.starts.eva import Components, ranks
from npora.nn.linear import Linear
from npora.nn.module import Array, Module

_PASSES = 100  # through the data, after which directions that still turn are given up
IDLE = ("gather_distributed_inputs", "show_progress_bar")
_OWN = ("model", "dataloader", "peft_config", "forward_fn", "adapter_name")

Batch = Mapping[str, Any]
Forward = Callable[[Module, Batch], Any]


def get_eva_state_dict(
    model: Module,
    dataloader: Iterable[Batch] | None,
    peft_config: LoraConfig | None = None,
    forward_fn: Forward | None = None,
    adapter_name: str = "default",
    **keywords: Any,
) -> dict[str, Array]:
    """Return A [r,i] of each layer, of the rank that EVA gives it, under the layer's path in `model`.

    The batches are gone through again and again until all directions that have a rank are known: until each differs
    little from what it was a batch before. Rows of padding are left out, and those whose label is eva_config's
    label_mask_value where labels are [b,t] as input_ids are; PEFT fails where they are not. Layers of equal inputs
    share one decomposition.

    model : a PeftModel, or a base with the peft_config of an adapter for it
    forward_fn : (model, batch) → whatever, in place of model(**batch)

    Raises
    ------
    ValueError: another start, no batch; inputs with fewer directions than ranks, a batch of fewer rows than a layer may
    get ranks in all of them, directions that keep turning.  TypeError: an unknown keyword.
    """
    refuse_others("get_eva_state_dict", keywords, _OWN, IDLE)
    if peft_config is not None:
        config = check_eva(peft_config)
        layers = targets_of(model, config)
    elif isinstance(model, Adapters):
        model._refuse_unknown(adapter_name)
        config = check_eva(model.peft_config[adapter_name])
        layers = {path: layer.base_layer for path, layer in started_layers(model, adapter_name).items()}
    else:
        raise ValueError("get_eva_state_dict needs the peft_config of an adapter, or a PeftModel")
    if dataloader is None or isinstance(dataloader, Mapping) or callable(dataloader):
        raise ValueError("EVA begins with data: pass batches, each a dict of what the model is called with")
    batches = iter(dataloader)
    first = next(batches, None)
    if first is None:
        raise ValueError("EVA begins with data: there is no batch")
    run = _Run(model, layers, config, forward_fn or (lambda model, batch: model(**batch)))
    groups = run.groups(first)
    found = run.known(groups, _again(chain([first], batches)))
    prefix = PREFIX if isinstance(model, Adapters) else ""
    return {prefix + path: found[path] for path in layers}


class _Run:
    """A model, the layers whose inputs are looked at, and how."""

    def __init__(self, model: Module, layers: Mapping[str, Linear], config: LoraConfig, forward: Forward) -> None:
        self.model, self.layers, self.config, self.forward = model, layers, config, forward
        self.settings: Any = config.eva_config

    def inputs(self, batch: Batch, see: Callable[[str, Array], None], paths: Iterable[str]) -> None:
        """Run the model, and show what these layers are given, of the rows that count."""
        counted = self._counted(batch)

        def some(path: str, x: Array) -> None:
            mask, keep = counted
            if mask is not None and keep is not None and len(x) in (mask.sum(), mask.size):
                x = x[keep[mask] if len(x) == mask.sum() else (keep & mask).ravel()]
            see(path, x)

        with seeing_inputs(self.model, {path: self.layers[path] for path in paths}, some):
            self.forward(self.model, batch)

    def _counted(self, batch: Batch) -> tuple[Array | None, Array | None]:
        """Return which cells [b,t] of a batch are tokens, and which of them count."""
        ids, mask, labels = (batch.get(name) for name in ("input_ids", "attention_mask", "labels"))
        if ids is None:
            return None, None
        mask = np.ones(np.shape(ids), dtype=bool) if mask is None else np.asarray(mask, dtype=bool)  # [b,t]
        reads_labels = getattr(getattr(self.model, "config", None), "is_encoder_decoder", False)
        if labels is None or np.shape(labels) != mask.shape or reads_labels or not self.settings.use_label_mask:
            return mask, mask
        return mask, np.asarray(labels) != self.settings.label_mask_value

    def groups(self, batch: Batch) -> list[list[str]]:
        """Return the layers by what they are given: those that are given the same stand together."""
        groups: dict[bytes, list[str]] = {}
        digests: dict[str, bytes] = {}

        def see(path: str, x: Array) -> None:
            digests.setdefault(path, hashlib.sha256(np.ascontiguousarray(x).data).digest())

        self.inputs(batch, see, self.layers)
        for path in self.layers:
            if path not in digests:
                raise ValueError(f"EVA: {path} was not called: forward_fn must run the model that it is passed")
            groups.setdefault(digests[path], []).append(path)
        return list(groups.values())

    def known(self, groups: list[list[str]], batches: Iterator[tuple[int, Batch]]) -> dict[str, Array]:
        """Return each layer's A [r,i], once all directions that have a rank are known."""
        r = {path: self.config.rank_and_scaling(path)[0] for path in self.layers}
        parts: dict[str, Components] = {}
        for group in groups:
            k = min(max(round(r[path] * self.settings.rho) for path in group), self.layers[group[0]].in_features)
            parts[group[0]] = Components(
                k, self.settings.tau, np.random.default_rng([42, zlib.crc32(group[0].encode())])
            )
        owner = {path: group[0] for group in groups for path in group}
        wanted = {path: part.k for path, part in parts.items()}
        for past, batch in batches:
            turning = [path for path, part in parts.items() if not part.known[: wanted[path]].all()]
            if not turning:
                break
            if past:
                self._refuse(parts, wanted, past)
            self.inputs(batch, lambda path, x: parts[path].see(x), turning)
            if all(part.rows for part in parts.values()):
                shares = {path: part.shares for path, part in parts.items()}
                wanted = ranks(shares, groups, sum(r.values()))
        return {path: parts[owner[path]].start(wanted[path], self.settings.whiten) for path in self.layers}

    @staticmethod
    def _refuse(parts: Mapping[str, Components], wanted: Mapping[str, int], passes: int) -> None:
        """Raise ValueError, after some passes through the data, where another one cannot help."""
        for path, part in parts.items():
            if not part.rows:
                raise ValueError(
                    f"EVA: {path} may get {part.k} ranks, and no batch has so many rows that count: use larger "
                    "batches, a lower r, or eva_config's rho=1"
                )
            if wanted[path] > part.spanned:
                raise ValueError(
                    f"EVA: the inputs of {path} have {part.spanned} directions, and it would get the rank "
                    f"{wanted[path]}: use more data, or a lower r"
                )
            if passes > _PASSES and not part.known[: wanted[path]].all():
                raise ValueError(
                    f"EVA: after {_PASSES} passes through the data the directions of {path} still turn from batch to "
                    "batch: use larger batches, or a lower tau in eva_config"
                )


def _again(batches: Iterable[Batch]) -> Iterator[tuple[int, Batch]]:
    """Yield some batches over and over, each with how often all of them have been passed."""
    kept = []
    for batch in batches:
        kept.append(batch)
        yield 0, batch
    passed = 1
    while True:
        yield from ((passed, batch) for batch in kept)
        passed += 1


def started_layers(model: Adapters, adapter_name: str) -> dict[str, Adapted]:
    """Return the layers, by path, that have LoRA of this name: not those whose trained tokens are beside it."""
    return {path: m for path, m in model.lora_layers() if isinstance(m.adapters.get(adapter_name), LoRA)}


def check_eva(config: PeftConfig) -> LoraConfig:
    """Return the config. Raises ValueError where its adapter does not begin as EVA does."""
    if not isinstance(config, LoraConfig) or config.init_lora_weights != "eva":
        raise ValueError("this is for LoraConfig(init_lora_weights='eva'); got a config of another start")
    return config
