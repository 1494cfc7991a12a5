"""An example means the same alone, in a batch, and as a tokenizer padded it, in every family that classifies."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, Trainer, get_peft_model, models
from tests.tiny import randomized
from tests.train.test_trainer import arguments

PAD, END = 30, 29
_TINY: dict[str, dict[str, Any]] = {
    "bert": {"hidden_size": 6, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 7},
    "distilbert": {"dim": 6, "n_layers": 1, "n_heads": 2, "hidden_dim": 7},
    "roberta": {"hidden_size": 6, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 7,
                "max_position_embeddings": 60},
    "gpt2": {"n_embd": 6, "n_layer": 1, "n_head": 2, "n_positions": 12},
    "llama": {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
              "intermediate_size": 7},
    "t5": {"d_model": 6, "d_kv": 4, "d_ff": 7, "num_layers": 1, "num_heads": 2, "eos_token_id": END,
           "decoder_start_token_id": PAD},
}  # fmt: skip


def tiny(family: str) -> Any:
    made = models.AutoModelForSequenceClassification.classes[family]
    config = made.config_class(vocab_size=31, num_labels=3, pad_token_id=PAD, **_TINY[family])
    return randomized(made(config, rng=1, dtype=np.float64))


def examples() -> list[dict[str, Any]]:
    """Of 2 to 9 tokens, of which 0 is a real one."""
    rng = np.random.default_rng(5)
    return [
        {"input_ids": [*rng.integers(0, 28, n).tolist(), 0, END], "label": int(rng.integers(3))}
        for n in rng.integers(0, 8, 11)
    ]


def padded(example: dict[str, Any], side: str) -> dict[str, Any]:
    """As a tokenizer with padding="max_length", max_length=11 gives it."""
    extra = 11 - len(example["input_ids"])
    ids, mask = example["input_ids"], [1] * len(example["input_ids"])
    if side == "left":
        return {"input_ids": [PAD] * extra + ids, "attention_mask": [0] * extra + mask, "label": example["label"]}
    return {"input_ids": ids + [PAD] * extra, "attention_mask": mask + [0] * extra, "label": example["label"]}


@pytest.mark.parametrize("family", _TINY)
def test_a_row_has_the_logits_that_it_has_alone(family: str, tmp_path: Path) -> None:
    model, data = tiny(family), examples()
    alone = np.concatenate([model(np.array([example["input_ids"]]))[0].logits for example in data])
    trainer = Trainer(model, arguments(tmp_path, per_device_eval_batch_size=5))
    for given in (data, [padded(example, "right") for example in data]):
        np.testing.assert_allclose(trainer.predict(given).predictions, alone, rtol=0, atol=1e-12)
    if family in ("llama", "roberta"):  # the others count positions from the first column, as transformers does
        left = [padded(example, "left") for example in data]
        with nullcontext() if family == "llama" else pytest.warns(models.DifferenceWarning, match="column 0"):
            predictions = trainer.predict(left).predictions
        np.testing.assert_allclose(predictions, alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("family", _TINY)
def test_sentences_of_unequal_lengths_are_learnt(family: str, tmp_path: Path) -> None:
    losses = []
    for data in (examples(), [padded(example, "right") for example in examples()]):
        base = tiny(family)
        head = {"modules_to_save": ["classification_head"]} if family == "t5" else {"task_type": "SEQ_CLS"}
        model = get_peft_model(base, LoraConfig(r=2, target_modules="all-linear", **head))
        for module in model.modules():  # dropout draws a mask of the batch's own shape
            for name in ("p", "dropout"):
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, 0.0)
        trainer = Trainer(model, arguments(tmp_path, num_train_epochs=3), data, data)
        first = trainer.evaluate()["eval_loss"]
        losses.append((first, trainer.train().training_loss, trainer.evaluate()["eval_loss"]))
    assert losses[0][2] < losses[0][0]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-9)


def test_the_tokenizer_pads_where_the_config_names_no_token(tmp_path: Path) -> None:
    class Names:
        pad_token_id = 17

    model = tiny("bert")
    for token, tokenizer, pad in (
        (PAD, Names, PAD),
        (None, Names, 17),
        (-1, None, 0),
        (99, Names, 17),
        (31, Names, 17),  # as many as there are
        (None, None, 0),
    ):
        model.config.pad_token_id = token
        batches = Trainer(model, arguments(tmp_path), processing_class=tokenizer)._batches
        ids = next(batches.stream([{"input_ids": [4]}, {"input_ids": [5, 6]}], 2))["input_ids"]
        assert ids.tolist() == [[4, pad], [5, 6]]
