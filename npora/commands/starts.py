"""The adapter that finetune trains, put on its base; where its start is made of data, with the training's first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from npora.commands.messages import say
from npora.data import Dataset
from npora.lora import (
    PeftConfig,
    PeftModel,
    get_peft_model,
    initialize_lora_eva_weights,
    preprocess_corda,
    preprocess_loraga,
)
from npora.lora.starts import SETTINGS
from npora.train import TrainingArguments
from npora.train.batches import Batch, Batches
from npora.train.loaders import TrainLoader
from npora.train.micro_batches import TOKENS_AT_ONCE, cut

BATCHES = 16


def with_adapter(
    base: Any, config: PeftConfig, rows: Dataset, tokenizer: Any, args: TrainingArguments, number: int | None
) -> PeftModel:
    """Put an adapter of this config on a base.

    number : of the batches that its start is made of; BATCHES unless given. Raises ValueError where there is none, or
        where one is given and the start is made of no data.
    """
    start = getattr(config, "init_lora_weights", None)
    if not (isinstance(start, str) and start in SETTINGS):
        if number is not None:
            raise ValueError(f"--start-batches needs --init-lora-weights {', '.join(SETTINGS)}")
        return get_peft_model(base, config, seed=args.seed)
    number = BATCHES if number is None else number
    if number < 1:
        raise ValueError(f"--start-batches must be at least 1; got {number}")
    batches = list(first_batches(base, rows, tokenizer, args, number))
    say(f"{start} begins with {len(batches):,} batches of the training examples")
    if start == "corda":
        preprocess_corda(base, config, batches)  # type: ignore[arg-type]
    if start == "lora_ga":  # in pieces, since backward keeps what it needs
        pieces = (piece for batch in batches for piece in cut(batch, TOKENS_AT_ONCE))
        preprocess_loraga(base, config, pieces)  # type: ignore[arg-type]
    model = get_peft_model(base, config, seed=args.seed)
    if start == "eva":
        initialize_lora_eva_weights(model, batches)
    return model


def refuse_data(config: PeftConfig, task: str) -> None:
    """Raise ValueError where the start is made of data: the base itself makes nothing of this task's examples."""
    if (start := getattr(config, "init_lora_weights", None)) in [*SETTINGS]:
        raise ValueError(
            f"--init-lora-weights {start} begins with what the base makes of the training examples, and those of "
            f"{task} are pairs, which it does not read: take another start"
        )


def first_batches(base: Any, rows: Dataset, tokenizer: Any, args: TrainingArguments, number: int) -> Iterator[Batch]:
    """Yield the first batches that the training sees."""
    loader = TrainLoader(Batches(base, tokenizer, None, True), rows, args)
    for _, batch in loader.batches(0, 0, min(number, len(loader))):
        yield batch
