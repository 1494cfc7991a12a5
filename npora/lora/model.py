"""Put LoRA on a model: get_peft_model and PeftModel, with PEFT's names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from npora.files.refusal import naming
from npora.lora import files
from npora.lora.adapters import DEFAULT_SEED, Adapters, check_config
from npora.lora.config import PeftConfig
from npora.lora.fit import check_fit, plan, read_tensors, refuse_large_ranks, shapes_of, with_every_name
from npora.lora.folder import adapter_directory, own_record, weights_path
from npora.lora.inject import base_parameters, check_name
from npora.lora.keywords import refuse_others
from npora.lora.mixed import by_adapter, texts_joined
from npora.lora.renamed import with_names_of
from npora.lora.starts.doubled import halved
from npora.lora.status import TunerLayerStatus, TunerModelStatus, get_layer_status, get_model_status
from npora.lora.weighted import Weighted
from npora.lora.whole import after_step, file_form, live_form, loaded, penalty
from npora.nn.module import Array, Module

_IDLE = (
    "torch_device", "autocast_adapter_dtype", "ephemeral_gpu_offload", "low_cpu_mem_usage", "key_mapping",
    "use_safetensors", "device_map", "token", "use_auth_token", "force_download", "ignore_mismatched_sizes",
)  # fmt: skip
_WHERE = ("adapter_name", "is_trainable", "config", "revision", "cache_dir", "local_files_only", "subfolder")


class PeftModel(Weighted):
    """A PeftModel is a frozen model with adapters. Build one with `get_peft_model` or `PeftModel.from_pretrained`.

    The base model is changed in place: its target modules become Adapted, which hold them as `base_layer`.
    """

    def __init__(self, model: Module, peft_config: PeftConfig, adapter_name: str = "default", seed: int = DEFAULT_SEED):
        super().__init__(model)
        self.add_adapter(adapter_name, peft_config, seed)
        self.set_adapter(adapter_name)

    def encode(self, *args: Any, **options: Any) -> Array:
        """Call the base model's `encode`, with the active adapters. Raises AttributeError where the base has none."""
        base: Any = self.base_model.model
        return np.asarray(base.encode(*args, **options))

    def generate(self, *args: Any, **options: Any) -> Array:
        """Call the base model's `generate`, with the active adapters, or with `adapter_names`, one for each prompt.

        Raises AttributeError where the base has none; with adapter_names, as a call of the model does, and ValueError
        for `prefix_allowed_tokens_fn` and `streamer`, which are told of prompts by their place in the batch.
        """
        base: Any = self.base_model.model
        if (adapter_names := options.pop("adapter_names", None)) is None:
            return np.asarray(base.generate(*args, **options))
        for name in ("prefix_allowed_tokens_fn", "streamer"):
            if options.get(name) is not None:
                raise ValueError(f"{name} goes by the places of prompts in a batch, and adapter_names divide it: "
                                 "generate with one adapter at a time")  # fmt: skip
        prompts: dict[str, Any] = {name: options[name] for name in ("input_ids", "attention_mask") if name in options}
        others = {name: value for name, value in options.items() if name not in prompts}  # as suppress_tokens is
        names = self._checked_rows(adapter_names, args, prompts)
        rows, texts = by_adapter(names, partial(base.generate, **others), args, prompts)
        settings = (getattr(base, "generation_config", None), base.config)
        pads = [options.get("pad_token_id"), *(getattr(one, "pad_token_id", None) for one in settings)]
        ends = [options.get("eos_token_id"), *(getattr(one, "eos_token_id", None) for one in settings)]
        pad = next((token for token in (*pads, *ends) if token is not None), None)
        return texts_joined(texts, list(rows.values()), pad[0] if isinstance(pad, list) else pad)

    def get_layer_status(self) -> list[TunerLayerStatus]:
        """Say how each layer's adapters stand: which are active, merged, trained."""
        return get_layer_status(self)

    def get_model_status(self) -> TunerModelStatus:
        """Say how the adapters stand: which are active, merged, trained, and where layers do not agree."""
        return get_model_status(self)

    def penalty(self) -> float:
        """Add to the gradients that of what the active adapters' methods add to the loss once a step, as AdaLoRA does,
        and return that term. A Trainer asks for it."""
        return penalty(self)

    def after_step(self, step: int) -> None:
        """Let the active adapters' methods do their work after the step-th update, as AdaLoRA does, and before the
        gradients are set to zero. A Trainer calls it."""
        after_step(self, step)

    @property
    def config(self) -> Any:
        return getattr(self.base_model.model, "config", None)

    def load_state_dict(self, state: Any) -> None:
        self._refuse_merged("load_state_dict()")
        with self._biases.on():
            super().load_state_dict(state)

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        safe_serialization: bool = True,
        selected_adapters: Sequence[str] | None = None,
        save_embedding_layers: str | bool = "auto",
        is_main_process: bool = True,
        **keywords: Any,
    ) -> None:
        """Write each adapter as PEFT does: `default` into the directory, any other into a directory of its name.

        selected_adapters : these alone
        save_embedding_layers : "auto" or False: the base's embeddings stay as they are, below an adapter too, and are
            not saved; PEFT reads such files, and npora those in which its "auto" has put them
        is_main_process : False writes nothing
        """
        idle = {"safe_serialization": safe_serialization, "save_embedding_layers": save_embedding_layers}
        refuse_others("save_pretrained", {**idle, **keywords}, ("save_directory", "selected_adapters"), tuple(idle))
        names = list(self.peft_config) if selected_adapters is None else list(selected_adapters)
        for name in names:
            self._refuse_unknown(name)
        if not names:
            raise RuntimeError("there is no adapter to save: the model was unloaded, or selected_adapters is empty")
        with self._biases.on():
            for name in names if is_main_process else ():
                directory = os.fspath(save_directory) if name == "default" else os.path.join(save_directory, name)
                self._refuse_lost(name)
                base, said = self._frozen_state(self._saved_paths(name)), self._said(name)
                config, parameters = file_form(self, name)
                files.save_adapter(directory, config, parameters, base, said, self._origins.get(name))

    def _said(self, adapter_name: str) -> dict[str, Any]:
        """Return what is recorded beside an adapter's tensors, where there is something to say."""
        said: dict[str, Any] = {"notes": self._notes[adapter_name]}
        if files.has_head(self.adapter_parameters(adapter_name)):
            labels = getattr(self.config, "id2label", None)
            said["id2label"] = {str(key): name for key, name in labels.items()} if labels else None
            said["problem_type"] = getattr(self.config, "problem_type", None)
        return {key: value for key, value in said.items() if value}

    def load_adapter(
        self,
        model_id: str | os.PathLike[str],
        adapter_name: str = "default",
        is_trainable: bool = False,
        config: PeftConfig | None = None,
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        subfolder: str | None = None,
        **keywords: Any,
    ) -> None:
        """Load an adapter's values: into the adapter of this name where there is one, else as a new one, not yet
        active and frozen unless `is_trainable`.

        model_id : an adapter's directory, an output of finetune, or a name on the hub
        config : in place of the one that lies there
        revision, cache_dir, local_files_only, subfolder : as of adapter_directory

        Raises
        ------
        FileNotFoundError, ValueError: tensors missing, unexpected or misshapen; another rank, alpha, base or number of
        classes; an adapter whose base was altered: each named.  RuntimeError: the adapter of this name is merged.
        TypeError: an unknown keyword.  Nothing is then changed.
        """
        refuse_others("load_adapter", keywords, ("model_id", *_WHERE), _IDLE)
        check_name(adapter_name)
        directory = adapter_directory(model_id, revision, cache_dir, local_files_only, subfolder)
        config = PeftConfig.from_pretrained(directory) if config is None else config
        check_config(config)
        config.check_loaded(directory, is_trainable)
        path, view = weights_path(directory), self._view()
        record = own_record(path)
        with naming(directory):
            config, tensors = with_names_of(view, config, read_tensors(directory))
        config, tensors = halved(config, tensors, record, path)
        is_new = adapter_name not in self.peft_config
        if is_new:
            self._check_place(adapter_name, config)
            names = [plain for _, plain, _ in base_parameters(self.base_model.model, remove_duplicate=False)]
            biases, numbers = [name for name in names if name.endswith(".bias")], sum(t.size for t in tensors.values())
            with naming(directory):
                refuse_large_ranks(path, config, tensors)
                planned = plan(view, config, tensors)
                expected = shapes_of(view, config, planned, biases, numbers)
            saved = planned.saved
        else:
            self._refuse_merged("load_adapter()", adapter_name)
            files.check_same(self.peft_config[adapter_name], config, directory)
            with naming(directory):
                tensors = live_form(self, adapter_name, config, tensors)
            expected = {name: parameter.shape for name, parameter in self.adapter_parameters(adapter_name).items()}
            saved = self._saved_paths(adapter_name)
        values = check_fit(path, with_every_name(tensors, expected, view), expected, view)
        files.check_meaning(path, config, self._frozen_state(saved))
        files.warn_of_another_base(config, files.base_name(self.get_base_model())[0], directory)
        if is_new:
            files.warn_of_a_lost_order(config, planned.targets, directory)
            config.inference_mode = not is_trainable
            self._install(adapter_name, config, planned, seed=None)
        elif is_trainable:
            self.peft_config[adapter_name].inference_mode = False
            self._requires_grad(adapter_name, adapter_name in self._active)
        with self._biases.on():
            parameters = self.adapter_parameters(adapter_name)
            for name, parameter in parameters.items():
                parameter.data = np.array(values[name], dtype=parameter.dtype)
            if not is_new:
                self.peft_config[adapter_name].waits_for = ""
                loaded(self, adapter_name, config)
            self.base_model.keep_equal_arrays_once()
            self._notes[adapter_name] = dict(record.get("notes", {}))
            files.take_labels(self.config, record)
            config, said = self.peft_config[adapter_name], self._said(adapter_name)
            self._origins[adapter_name] = files.Origin.of(directory, config, parameters, said)

    @classmethod
    def from_pretrained(
        cls,
        model: Module,
        model_id: str | os.PathLike[str],
        adapter_name: str = "default",
        is_trainable: bool = False,
        config: PeftConfig | None = None,
        **keywords: Any,
    ) -> PeftModel:
        """Load an adapter that npora or PEFT saved onto its base model. Frozen, unless `is_trainable`.

        model_id : an adapter's directory, an output of finetune (which has the folder `adapter`), or `org/name` on the
            hub
        keywords : revision, cache_dir, local_files_only, subfolder

        Raises
        ------
        As load_adapter; the model is then as it was.
        """
        refuse_others(
            "from_pretrained", {k: v for k, v in keywords.items() if k not in _WHERE}, ("model_id", *_WHERE), _IDLE
        )
        peft_model = cls.__new__(cls)
        Adapters.__init__(peft_model, model)
        peft_model.load_adapter(model_id, adapter_name, is_trainable, config, **keywords)
        peft_model.set_adapter(adapter_name)
        return peft_model


def get_peft_model(
    model: Module,
    peft_config: PeftConfig,
    adapter_name: str = "default",
    mixed: bool = False,
    autocast_adapter_dtype: bool = True,
    revision: str | None = None,
    low_cpu_mem_usage: bool = False,
    *,
    seed: int = DEFAULT_SEED,
) -> PeftModel:
    """Freeze a model and put an adapter on it, in place. Its initial values come from `seed`.

    revision : the base's, to be written into the adapter's config
    mixed, autocast_adapter_dtype, low_cpu_mem_usage : PEFT's, without meaning here; `mixed` must be False
    """
    refuse_others("get_peft_model", {"mixed": mixed}, (), ("mixed",))
    check_config(peft_config)
    if revision is not None:
        peft_config.revision = revision
    return PeftModel(model, peft_config, adapter_name, seed)
