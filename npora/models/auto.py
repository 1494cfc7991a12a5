"""from_pretrained: the model that a directory's `config.json` names, in the file of its family."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy.typing as npt

from npora.files import resolve
from npora.models.folder import check_is_model
from npora.models.pretrained import PretrainedModel
from npora.models.source import config_path, read_config
from npora.models.tasks import Headed

# model_type: the file in families/, which is read when it is asked for, and how the names of its classes begin.
FAMILIES: Mapping[str, tuple[str, str]] = {
    "bert": ("bert", "Bert"),
    "deberta-v2": ("deberta_v2", "DebertaV2"),
    "distilbert": ("distilbert", "DistilBert"),
    "electra": ("electra", "Electra"),
    "gemma3_text": ("gemma3", "Gemma3"),
    "gpt2": ("gpt2", "GPT2"),
    "llama": ("llama", "Llama"),
    "mistral": ("mistral", "Mistral"),
    "modernbert": ("modernbert", "ModernBert"),
    "mpnet": ("mpnet", "MPNet"),
    "olmo2": ("olmo2", "Olmo2"),
    "phi3": ("phi3", "Phi3"),
    "qwen2": ("qwen2", "Qwen2"),
    "qwen3": ("qwen3", "Qwen3"),
    "roberta": ("roberta", "Roberta"),
    "smollm3": ("smollm3", "SmolLM3"),
    "t5": ("t5", "T5"),
    "vit": ("vit", "ViT"),
    "xlm-roberta": ("xlm_roberta", "XLMRoberta"),
}


def family(model_type: str) -> Any:
    """The module of a family. Raises KeyError for one that there is not."""
    return importlib.import_module(f"npora.models.families.{FAMILIES[model_type][0]}")


def tasks_of(model_type: str) -> Mapping[str, type[PretrainedModel]]:
    """The classes of a family's file that are of a task: {"CausalLM": LlamaForCausalLM, …}; none of a type that npora
    does not know."""
    own = vars(family(model_type)) if model_type in FAMILIES else {}
    classes = (found for found in own.values() if isinstance(found, type) and found.__module__ == own["__name__"])
    return {found.task_name: found for found in classes if issubclass(found, Headed) and found.task_name}


def class_named(name: str) -> Any:
    """A family's class by its name. Raises AttributeError where there is none."""
    for model_type, (_, beginning) in FAMILIES.items():
        if name.startswith(beginning) and hasattr(family(model_type), name):
            return getattr(family(model_type), name)
    raise AttributeError(f"npora.models has no {name!r}")


class Classes(Mapping[str, type[PretrainedModel]]):
    """The classes of one task, by model type."""

    def __init__(self, task: str) -> None:
        self.task = task

    def __getitem__(self, model_type: str) -> type[PretrainedModel]:
        return tasks_of(model_type)[self.task]

    def __iter__(self) -> Iterator[str]:
        return (model_type for model_type in FAMILIES if self.task in tasks_of(model_type))

    def __len__(self) -> int:
        return sum(1 for _ in self)  # list() asks for the length itself


class AutoModel:
    """Chooses a class by the `model_type` of `config.json`."""

    classes: ClassVar[Mapping[str, type[PretrainedModel]]] = {}

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str],
        num_labels: int | None = None,
        dtype: npt.DTypeLike | str | None = None,
        seed: int = 42,
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        token: str | bool | None = None,
        **options: Any,
    ) -> PretrainedModel:
        """As PretrainedModel.from_pretrained. Raises ValueError for a model type that npora does not know here."""
        folder = resolve(name_or_path, revision, cache_dir, local_files_only=local_files_only, token=token)
        if not os.path.isfile(config_path(folder)):
            check_is_model(folder)  # the class itself does where there is one
        model_type = str(read_config(folder).get("model_type"))
        if model_type not in cls.classes:
            raise ValueError(
                f"{config_path(folder)}: model_type {model_type!r} is not supported by {cls.__name__}, "
                f"which knows: {', '.join(cls.classes)}"
            )
        model = cls.classes[model_type].from_pretrained(folder, num_labels, dtype, seed, **options)
        model.name_or_path = os.fspath(name_or_path)
        return model


class AutoModelForSequenceClassification(AutoModel):
    classes: ClassVar = Classes("SequenceClassification")


class AutoModelForTokenClassification(AutoModel):
    classes: ClassVar = Classes("TokenClassification")


class AutoModelForQuestionAnswering(AutoModel):
    classes: ClassVar = Classes("QuestionAnswering")


class AutoModelForImageClassification(AutoModel):
    classes: ClassVar = Classes("ImageClassification")


class AutoModelForMultipleChoice(AutoModel):
    classes: ClassVar = Classes("MultipleChoice")


class AutoModelForMaskedLM(AutoModel):
    classes: ClassVar = Classes("MaskedLM")


class AutoModelForCausalLM(AutoModel):
    classes: ClassVar = Classes("CausalLM")


class AutoModelForSeq2SeqLM(AutoModel):
    classes: ClassVar = Classes("Seq2SeqLM")
