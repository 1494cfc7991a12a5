"""What every model of a family shares: its config, its files, its layers' first values."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from npora.files import load_weights, resolve, save_file, write_json
from npora.models.checkpoint import load_checkpoint, tied_names
from npora.models.config import CONFIG_NAME, PretrainedConfig, read_config
from npora.nn import Conv1D, Embedding, Linear, Module, init
from npora.nn.heap import keep_freed_memory
from npora.nn.init import Source

WEIGHTS_NAME = "model.safetensors"
_Model = TypeVar("_Model", bound="PretrainedModel")


class PretrainedModel(Module):
    """A model with a config that reads and writes Hugging Face directories.

    A family states, as class attributes: `config_class`; `base_model_prefix`, the attribute in which its models with
    a head hold their body, whether or not a file's keys begin with it; `may_lack`, beginnings of parameter names that
    a checkpoint may lack, to be newly initialised then; `ignored`, endings of a file's keys that are no parameters;
    `default_target_modules`, what LoRA goes on unless named, as PEFT has it; `saved_along`, which further modules an
    adapter trains whole where it trains the named one.
    """

    config_class: ClassVar[type[PretrainedConfig]]
    base_model_prefix: ClassVar[str] = ""
    may_lack: ClassVar[tuple[str, ...]] = ()
    ignored: ClassVar[tuple[str, ...]] = ()
    default_target_modules: ClassVar[tuple[str, ...]] = ()
    output_embeddings: ClassVar[str | None] = None  # the projection to the vocabulary, which "all-linear" leaves out
    saved_along: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    name_or_path: str | None = None
    gradient_checkpointing = False
    config: Any

    @classmethod
    def from_pretrained(
        cls: type[_Model],
        directory: str | os.PathLike[str],
        num_labels: int | None = None,
        dtype: npt.DTypeLike = np.float32,
        seed: int = 42,
        **fields: Any,
    ) -> _Model:
        """Read `config.json` and the weights, in one file or in shards.

        directory : of a checkpoint, or its name on the hub (`org/name`), which needs the extra `hf`
        num_labels : the size of a classifier's head; what the config says (else 2) unless given
        dtype : float32 or float64. In float32 the weights stay read-only memory maps until something trains them
        seed : draws a head that the checkpoint lacks
        fields : of the config, to be another than the file says

        From now on this process keeps the memory that it frees, for the next call.

        Raises
        ------
        FileNotFoundError, ValueError: a file that is missing or broken, a config that asks for what is not
        implemented, tensors that are missing or of another shape.
        """
        if np.dtype(dtype) not in (np.float32, np.float64):
            raise ValueError(f"dtype must be float32 or float64; got {np.dtype(dtype)}")
        folder = resolve(directory)
        values = {**read_config(folder), **fields}
        if num_labels is not None:
            values["num_labels"] = num_labels
        tensors = load_weights(folder)
        cls.adjust(values, tensors)
        model = cls(cls.config_class.from_dict(values), rng=init.Blank(), dtype=dtype)  # type: ignore[call-arg]
        load_checkpoint(model, tensors, cls.base_model_prefix, cls.may_lack, cls.ignored, seed)
        model.name_or_path = os.fspath(directory)
        keep_freed_memory()  # not before: reading a checkpoint frees what no call needs
        return model

    @classmethod
    def adjust(cls, values: dict[str, Any], tensors: dict[str, Any]) -> None:
        """A place for a family to let the tensors that there are overrule the config."""

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write `config.json` and `model.safetensors`, as transformers reads them. A tied parameter is written once; a
        projection that an adapter has been merged into is tied no longer, and the config then says so."""
        os.makedirs(directory, exist_ok=True)
        save_file(self.state_dict(), os.path.join(directory, WEIGHTS_NAME), {"format": "pt"})
        values = {**self.config.to_dict(), "architectures": [type(self).__name__]}
        if self.output_embeddings and "tie_word_embeddings" in values:
            values["tie_word_embeddings"] = f"{self.output_embeddings}.weight" in tied_names(self)
        write_json(os.path.join(directory, CONFIG_NAME), values)

    def gradient_checkpointing_enable(self) -> None:
        """Keep only each layer's input, and compute its forward again in backward: less memory, more time."""
        for module in self.modules():
            if isinstance(module, PretrainedModel):
                module.gradient_checkpointing = True


class Make:
    """Makes the layers of one model: weights N(0, std²), biases 0."""

    def __init__(self, rng: Source | int | None, dtype: npt.DTypeLike, std: float) -> None:
        self.rng, self.dtype, self.std = init.default_rng(rng), dtype, std

    def linear(self, i: int, o: int, bias: bool = True) -> Linear:
        layer = Linear(i, o, bias, rng=init.Blank(), dtype=self.dtype)
        layer.weight.data = init.normal(self.rng, (o, i), self.std, self.dtype)
        return layer

    def conv1d(self, i: int, o: int, std: float | None = None) -> Conv1D:
        layer = Conv1D(i, o, rng=init.Blank(), dtype=self.dtype)
        layer.weight.data = init.normal(self.rng, (i, o), self.std if std is None else std, self.dtype)
        return layer

    def embedding(self, v: int, d: int, padding_idx: int | None = None) -> Embedding:
        layer = Embedding(v, d, padding_idx, rng=init.Blank(), dtype=self.dtype)
        layer.weight.data = init.normal(self.rng, (v, d), self.std, self.dtype)
        return layer
