"""A base and its adapter from the adapter's name alone: PEFT's `AutoPeftModelFor…`."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from npora.lora import PeftConfig, PeftModel, TaskType, adapter_directory, read_record
from npora.models import (
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSentenceEmbedding,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)
from npora.models.auto import AutoModel
from npora.models.quantized import quantize_for


class _AutoPeftModel:
    """Loads the base that an adapter's config names, for one task, and the adapter onto it."""

    base_class: ClassVar[type[AutoModel]]
    task_type: ClassVar[TaskType]

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        adapter_name: str = "default",
        is_trainable: bool = False,
        config: PeftConfig | None = None,
        revision: str | None = None,
        *,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        subfolder: str | None = None,
        **options: Any,
    ) -> PeftModel:
        """Return a PeftModel of the base that the adapter was trained on, with as many classes as its head has.

        revision, cache_dir, local_files_only, subfolder : of the adapter; the base's revision is in its config
        options : of the base, as of AutoModelFor….from_pretrained: dtype, num_labels, …; quantize is what the adapter
            was trained on unless given

        Raises
        ------
        ValueError: the adapter is for another task, or says no base.  The other errors are those of the two classes.
        """
        place = {"revision": revision, "cache_dir": cache_dir, "local_files_only": local_files_only}
        directory = adapter_directory(pretrained_model_name_or_path, subfolder=subfolder, **place)  # type: ignore[arg-type]
        config = PeftConfig.from_pretrained(directory) if config is None else config
        if config.task_type not in (None, cls.task_type.value):
            raise ValueError(f"the adapter in {directory} is for the task {config.task_type}, and {cls.__name__} for "
                             f"{cls.task_type.value}")  # fmt: skip
        name = config.base_model_name_or_path
        if not name:
            raise ValueError(f"{directory} does not say which model it was trained on: load that one with "
                             f"{cls.base_class.__name__}, and then PeftModel.from_pretrained(model, …)")  # fmt: skip
        record = read_record(directory)
        if "num_labels" not in options and record["num_labels"] is not None:
            options["num_labels"] = record["num_labels"]
        if "quantize" not in options:
            options["quantize"] = quantize_for(record["base_forms"], name)
        if not os.path.exists(name):
            options |= {"revision": config.revision, "cache_dir": cache_dir, "local_files_only": local_files_only}
        model = cls.base_class.from_pretrained(name, **options)
        return PeftModel.from_pretrained(model, directory, adapter_name, is_trainable, config)


class AutoPeftModelForCausalLM(_AutoPeftModel):
    base_class, task_type = AutoModelForCausalLM, TaskType.CAUSAL_LM


class AutoPeftModelForSeq2SeqLM(_AutoPeftModel):
    base_class, task_type = AutoModelForSeq2SeqLM, TaskType.SEQ_2_SEQ_LM


class AutoPeftModelForSequenceClassification(_AutoPeftModel):
    base_class, task_type = AutoModelForSequenceClassification, TaskType.SEQ_CLS


class AutoPeftModelForTokenClassification(_AutoPeftModel):
    base_class, task_type = AutoModelForTokenClassification, TaskType.TOKEN_CLS


class AutoPeftModelForQuestionAnswering(_AutoPeftModel):
    base_class, task_type = AutoModelForQuestionAnswering, TaskType.QUESTION_ANS


class AutoPeftModelForFeatureExtraction(_AutoPeftModel):
    """Takes pooling and normalize besides, as AutoModelForSentenceEmbedding.from_pretrained does."""

    base_class, task_type = AutoModelForSentenceEmbedding, TaskType.FEATURE_EXTRACTION
