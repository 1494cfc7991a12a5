"""What every model of a family shares: its config, its files, its layers' first values."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from npora.files import resolve, save_file, write_json
from npora.files.refusal import naming
from npora.files.together import together
from npora.files.weights import with_names
from npora.models.checkpoint import drawn_modules, is_constant, load_checkpoint, room_for, tied_names
from npora.models.config import CONFIG_NAME, PretrainedConfig
from npora.models.folder import check_is_model, copy_tokenizer, refuse_adapters_place
from npora.models.generate.generation_config import GenerationConfig
from npora.models.numbers import are_stored, become, dtype_of, narrowed, read_numbers, widest
from npora.models.options import asked_numbers, config_fields, overruled, refuse_of_saving
from npora.models.quantized import check_quantize, quantize_model
from npora.models.source import config_path, read_config
from npora.nn import Conv1D, Embedding, Linear, Module, init
from npora.nn.init import Source
from npora.nn.module import Array, Backward

logger = logging.getLogger("npora")

WEIGHTS_NAME = "model.safetensors"
_Model = TypeVar("_Model", bound="PretrainedModel")


class PretrainedModel(Module):
    """A model with a config that reads and writes Hugging Face directories.

    A family states, as class attributes: `config_class`; `base_model_prefix`, the attribute in which its models with
    a head hold their body, whether or not a file's keys begin with it; `may_lack`, beginnings of parameter names that
    a checkpoint may lack, to be newly initialised then; `ignored`, endings of a file's keys that are no parameters;
    `renamed`, parts of a file's keys and what stands for them in a parameter's name, in the order of the replacements;
    `default_target_modules`, what LoRA goes on unless named, as PEFT has it; `saved_along`, which further modules an
    adapter trains whole where it trains the named one.
    """

    config_class: ClassVar[type[PretrainedConfig]]
    base_model_prefix: ClassVar[str] = ""
    may_lack: ClassVar[tuple[str, ...]] = ()
    ignored: ClassVar[tuple[str, ...]] = ()
    renamed: ClassVar[Mapping[str, str]] = {}
    default_target_modules: ClassVar[tuple[str, ...]] = ()
    output_embeddings: ClassVar[str | None] = None  # the projection to the vocabulary, which "all-linear" leaves out
    saved_along: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    name_or_path: str | None = None
    folder: str | None = None  # which the files came from
    generation_config: GenerationConfig | None = None
    _drawn: Mapping[str, Array] = {}  # what from_pretrained drew, by name
    _drawn_modules: tuple[str, ...] = ()
    _unsaid = False
    gradient_checkpointing = False
    config: Any

    @classmethod
    def from_pretrained(
        cls: type[_Model],
        name_or_path: str | os.PathLike[str],
        num_labels: int | None = None,
        dtype: npt.DTypeLike | str | None = None,
        seed: int = 42,
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        token: str | bool | None = None,
        torch_dtype: Any = None,
        ignore_mismatched_sizes: bool = False,
        quantize: str | None = None,
        **fields: Any,
    ) -> _Model:
        """Read `config.json`, `generation_config.json` and the weights, in one file or in shards.

        name_or_path : the directory of a checkpoint, a GGUF file, or a name on the hub (`org/name`), which needs the
            extra `hf`
        num_labels : the size of a classifier's head; what the config says (else 2) unless given
        dtype : float32 (unless given), float64, bfloat16 or float16, as NumPy or torch name them, or "auto": what the
            weights are. In float32 the weights stay read-only memory maps until something trains them. In half
            precision the matrices stay as they lie in the file, and are widened part by part as products ask for them:
            half the memory. What is read is frozen then, computed with in float32, and rounded where the file has it in
            another dtype; thawing makes a float32 copy. An adapter, and what is newly drawn, is float32. The matrices
            of a GGUF file stay as they lie there, in whichever forms, unless a dtype is given
        seed : draws a head that the checkpoint lacks
        revision, cache_dir, local_files_only, token : of the hub: a branch, tag or commit; another cache; fetch
            nothing; for a model that not all may read
        torch_dtype : dtype's older name
        ignore_mismatched_sizes : draw tensors anew that the checkpoint has in another shape, as a head of other classes
        quantize : "int8" or "nf4": matrices are quantised as they are read, and widened part by part as products ask
            for them: 0.27 or 0.13 of float32's memory. `models.quantized.quantize_model` says which; the others are as
            dtype says, and what is read is frozen
        fields : of the config, to be another than the file says: problem_type, id2label, label2id, hidden_dropout_prob…

        What is newly drawn stands in `newly_initialized`.

        Raises
        ------
        FileNotFoundError, ValueError: a file that is missing or broken, an adapter in place of a model, a config that
        asks for what is not implemented, tensors that are missing, of another shape or no floating-point numbers.
        TypeError: a keyword that is none of these, and no field of the config.
        """
        folder = resolve(name_or_path, revision, cache_dir, local_files_only=local_files_only, token=token)
        check_is_model(folder)
        values = read_config(folder, cls.config_class.model_type)
        chosen = config_fields(cls.config_class, fields, values)
        asked = {*chosen, *(["num_labels"] if num_labels is not None else [])}
        own = f" with the {', '.join(sorted(asked))} of this call" if asked else ""
        plain = cls.config_class.plain
        with naming(config_path(folder) + own):
            values = overruled(cls.config_class, plain(values), plain({**chosen, "num_labels": num_labels}))
        numbers = asked_numbers(dtype, torch_dtype, folder)
        check_quantize(quantize, numbers)
        tensors = read_numbers(folder, numbers, as_they_lie=quantize is not None)
        cls.adjust(values, tensors)
        with naming(config_path(folder) + own):
            config = cls.config_class.from_dict(values)
            room = room_for(tensors, config.num_labels if asked & {"num_labels", "id2label", "label2id"} else 0)
            model = cls(config, rng=room, dtype=dtype_of(numbers))  # type: ignore[call-arg]
        with naming(folder):
            model._drawn = load_checkpoint(
                model, with_names(tensors, cls.renamed), cls.base_model_prefix, cls.may_lack, cls.ignored, seed,
                ignore_mismatched_sizes, frozen=are_stored(numbers) or quantize is not None,
            )  # fmt: skip
            if quantize is not None:
                quantize_model(model, quantize, leaving=model._drawn)
                become(model, numbers)
        model._drawn_modules, model._unsaid = drawn_modules(model, model._drawn), bool(model._drawn)
        model.name_or_path, model.folder = os.fspath(name_or_path), folder
        model.generation_config = GenerationConfig.from_pretrained(folder, values)
        return model

    @classmethod
    def adjust(cls, values: dict[str, Any], tensors: dict[str, Any]) -> None:
        """A place for a family to let the tensors that there are overrule the config."""

    def save_pretrained(self, directory: str | os.PathLike[str], **keywords: Any) -> None:
        """Write `config.json`, `generation_config.json` where something is said in it, and `model.safetensors`, as
        transformers reads them, beside the tokenizer's files of the folder that the model came from.

        A tied parameter is written once. A projection that an adapter has been merged into is tied no longer: the
        config then says so, and its bias is written under both of its names. The config says the dtype that is written
        too. A model that is stored in half precision is written so as far as that has its numbers, and in float32 what
        it has not, such as matrices that an adapter was merged into. Quantised matrices are written as the float32
        numbers that they stand for.

        Raises
        ------
        ValueError: the directory holds an adapter.  TypeError, ValueError: a keyword; those of transformers, as
        safe_serialization, may say what is done in any case.
        """
        refuse_of_saving("save_pretrained", keywords)
        refuse_adapters_place(directory)
        self.say_what_is_drawn()
        state, ties = narrowed(self.state_dict()), tied_names(self)
        own = f"{self.output_embeddings}."  # of the projection to the vocabulary
        is_tied = f"{own}weight" in ties
        if not is_tied:  # then each of its parameters is read by its own name
            state |= {name: state[first] for name, first in ties.items() if name.startswith(own)}
        values = {**self.config.to_dict(), "architectures": [type(self).__name__]}
        if self.output_embeddings:
            values["tie_word_embeddings"] = is_tied
        for name in {"dtype", "torch_dtype"} & values.keys():
            values[name] = widest(state)
        with together(directory, CONFIG_NAME) as folder:
            in_files = {live: part for part, live in self.renamed.items()}
            save_file(with_names(state, in_files), os.path.join(folder, WEIGHTS_NAME), {"format": "pt"})
            write_json(os.path.join(folder, CONFIG_NAME), values)
            if self.generation_config is not None:
                self.generation_config.save_pretrained(folder)
        copy_tokenizer(self.folder, directory)

    @property
    def newly_initialized(self) -> tuple[str, ...]:
        """The names of the parameters whose first values are still those that were drawn because the checkpoint had
        none. An adapter that trains a copy of one does not change it."""
        return tuple(n for n, value in self._drawn.items() if any(_is(p.data, value) for p in self.parameters()))

    def newly_initialized_modules(self) -> tuple[str, ...]:
        """The largest modules that are newly initialised throughout, where some of it is random: what an adapter must
        train and save, since nothing else can bring it back."""
        names = self.newly_initialized
        return tuple(path for path in self._drawn_modules if any(name.startswith(path + ".") for name in names))

    def say_what_is_drawn(self) -> None:
        """Log, once, what is about to be used as it was drawn: what no adapter has brought, or trains a copy of. Zeros
        and ones alone are no news."""
        if self._unsaid:
            self._unsaid = False
            parameters = dict(self.named_parameters())
            used = [n for n, value in self._drawn.items() if n in parameters and _is(parameters[n].data, value)]
            if not all(is_constant(self._drawn[name]) for name in used):
                logger.warning("newly initialised, since the checkpoint has none that fits: %s", ", ".join(used))

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Any, Backward]:
        self.say_what_is_drawn()
        return super().__call__(*args, **kwargs)

    def gradient_checkpointing_enable(self) -> None:
        """Keep only each layer's input, and compute its forward again in backward: less memory, more time."""
        for module in self.modules():
            if isinstance(module, PretrainedModel):
                module.gradient_checkpointing = True


def _is(found: Array, value: Array) -> bool:
    """Whether this is what was drawn, or a copy of it. One array of zeros is not known from another."""
    return found is value or (found.shape == value.shape and not is_constant(value) and np.array_equal(found, value))


class Factory:
    """Makes the layers of one model: weights N(0, std²), biases 0."""

    def __init__(self, rng: Source | int | None, dtype: npt.DTypeLike, std: float) -> None:
        self.rng, self.dtype, self.std = init.default_rng(rng), dtype, std

    def linear(self, i: int, o: int, bias: bool = True) -> Linear:
        weight = init.normal(self.rng, (o, i), self.std, self.dtype)  # first: it may be more than there is room for
        layer = Linear(i, o, bias, rng=init.Unset(), dtype=self.dtype)
        layer.weight.data = weight
        return layer

    def conv1d(self, i: int, o: int, std: float | None = None) -> Conv1D:
        weight = init.normal(self.rng, (i, o), self.std if std is None else std, self.dtype)
        layer = Conv1D(i, o, rng=init.Unset(), dtype=self.dtype)
        layer.weight.data = weight
        return layer

    def embedding(self, v: int, d: int, padding_idx: int | None = None) -> Embedding:
        weight = init.normal(self.rng, (v, d), self.std, self.dtype)
        layer = Embedding(v, d, padding_idx, rng=init.Unset(), dtype=self.dtype)
        layer.weight.data = weight
        return layer
