"""The tasks of preferences: of two answers to a prompt the chosen one is to be likelier."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from npora.commands import usual
from npora.commands.task import Classes, Columns, Task
from npora.data import Dataset, Tokenizer, encode_preference, read_preferences
from npora.data.dataset import Example
from npora.data.preferences import preference_parts
from npora.models import AutoModelForCausalLM
from npora.train import DPOTrainer, ORPOTrainer, Trainer, TrainingArguments

_FIGURES = ("rewards/accuracies", "rewards/margins")


class Preferences(Task):
    """What DPO and ORPO share; they differ in their Trainer."""

    task_type, auto = "CAUSAL_LM", AutoModelForCausalLM
    options = frozenset({"prompt_column", "rejected_column", "chat_template_path", "beta"})
    used_as, is_of_pairs, continues = "causal-lm", True, True
    made_by: ClassVar[type[DPOTrainer] | type[ORPOTrainer]]

    def find_columns(self, chosen: dict[str, Any], first: Example, path: str) -> None:
        usual.preferences(chosen, first, path)

    def read(self, path: str, columns: Columns, classes: Classes | None = None, **how: Any) -> Dataset:
        is_chat = columns.conversational
        return read_preferences(path, columns.prompt, columns.text, columns.rejected, is_chat, **how)

    def encode(self, example: Example, tokenizer: Tokenizer, length: int | None) -> list[Example]:
        return [encode_preference(tokenizer, example, length)]

    def is_idle(self, parts: Sequence[Example]) -> bool:
        chosen, rejected = preference_parts(parts[0])
        return chosen == rejected

    def settings(self, options: Any) -> dict[str, Any]:
        """Raises ValueError for a β that is not above 0, or not finite."""
        if options.beta is None:
            return {}
        if not 0 < options.beta < math.inf:
            raise ValueError(f"--beta must be above 0; got {options.beta}")
        return {"beta": options.beta}

    def trainer(
        self, model: Any, args: TrainingArguments, train: Any = None, dev: Any = None, tokenizer: Any = None,
        classes: Classes | None = None, settings: Mapping[str, Any] = MappingProxyType({}),
    ) -> Trainer:  # fmt: skip
        return self.made_by(model, args, train, dev, tokenizer, **settings)

    def figures(self, metrics: Mapping[str, float]) -> dict[str, str]:
        return {name: f"{metrics[f'eval_{name}']:.4f}" for name in _FIGURES}

    def shown(self, encoded: Example) -> list[Example]:
        return [*preference_parts(encoded)]


class DPO(Preferences):
    name, made_by = "dpo", DPOTrainer


class ORPO(Preferences):
    name, made_by = "orpo", ORPOTrainer
