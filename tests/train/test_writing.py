"""An evaluation lets an encoder-decoder write, and metrics are given what it wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import Seq2SeqTrainer, Seq2SeqTrainingArguments
from tests.models.test_generation_families import made
from tests.tiny import tiny_peft
from tests.train.test_trainer import ROWS

SOURCES = [[3, 5, 2], [4, 4], [7, 3, 9, 11, 2], [8], [2, 12, 6]]
PAIRS = [{"input_ids": ids, "labels": [*ids[::-1], 1]} for ids in SOURCES]


def evaluator(folder: Path, model: Any, metrics: Any = None, **changes: Any) -> Seq2SeqTrainer:
    args = Seq2SeqTrainingArguments(str(folder), predict_with_generate=True, per_device_eval_batch_size=2, **changes)
    return Seq2SeqTrainer(model, args, eval_dataset=PAIRS, compute_metrics=metrics)


def test_predictions_are_what_generate_gives_and_the_loss_is_that_of_the_labels(tmp_path: Path) -> None:
    model, seen = made("t5"), []

    def metrics(pair: Any) -> dict[str, float]:
        seen.append(pair)
        return {"length": float((pair.predictions != 0).sum(axis=1).mean())}

    trainer = evaluator(tmp_path, model, metrics, generation_max_length=7)
    found = trainer.evaluate()
    (pair,) = seen
    for example, prediction, labels in zip(PAIRS, pair.predictions, pair.label_ids, strict=True):
        alone = model.generate(np.array([example["input_ids"]]), max_length=7)[0]
        assert prediction[: len(alone)].tolist() == alone.tolist() and not prediction[len(alone) :].any()
        assert [label for label in labels if label != -100] == example["labels"]
    assert pair.predictions.dtype.kind == "i" and found["eval_length"] > 1
    plain = Seq2SeqTrainer(model, Seq2SeqTrainingArguments(str(tmp_path), per_device_eval_batch_size=2))
    assert found["eval_loss"] == plain.evaluate(PAIRS)["eval_loss"]
    assert (trainer.predict(PAIRS).predictions == pair.predictions).all()


def test_options_of_generate_are_those_of_each_of_several_datasets(tmp_path: Path) -> None:
    trainer = evaluator(tmp_path, made("t5"), lambda pair: {"width": pair.predictions.shape[1]})
    found = trainer.evaluate({"one": PAIRS[:2], "other": PAIRS[2:]}, max_new_tokens=2)
    assert max(found["eval_one_width"], found["eval_other_width"]) <= 3


def test_what_ends_before_others_is_filled_up_with_the_pad_token(tmp_path: Path) -> None:
    model = made("t5")
    model.config.pad_token_id = 6
    vars(model)["generate"] = lambda input_ids, attention_mask: np.full_like(input_ids, 9)  # as long as what is read
    found = evaluator(tmp_path, model).predict(PAIRS).predictions
    assert found.tolist() == [[9, 9, 9, 6, 6], [9, 9, 9, 6, 6], [9] * 5, [9] * 5, [9, 9, 9, 6, 6]]


def test_rows_without_labels_are_written_for_too(tmp_path: Path) -> None:
    trainer = evaluator(tmp_path, made("t5"), generation_max_length=7)
    found = trainer.predict([{"input_ids": ids} for ids in SOURCES])
    assert (found.predictions == trainer.predict(PAIRS).predictions).all()
    assert found.label_ids is None and "test_loss" not in found.metrics
    with pytest.raises(ValueError, match=r"in a batch of the dataset's examples 0, 1"):
        trainer.predict(PAIRS, num_beams=0)


def test_keywords_win_over_the_arguments_and_these_over_the_config(tmp_path: Path) -> None:
    model = made("t5")
    trainer = evaluator(tmp_path, model, generation_max_length=4, generation_num_beams=3)
    few = trainer.predict(PAIRS).predictions
    expected = model.generate(np.array([SOURCES[2]]), max_length=4, num_beams=3)[0]
    assert few.shape[1] <= 4 and few[2, : len(expected)].tolist() == expected.tolist()
    more = trainer.predict(PAIRS, max_new_tokens=9, num_beams=1).predictions
    alone = model.generate(np.array([SOURCES[2]]), max_new_tokens=9, num_beams=1)[0]
    assert more[2, : len(alone)].tolist() == alone.tolist() and more.shape[1] > 4
    assert (trainer.predict(PAIRS, max_length=10, num_beams=1).predictions == more).all()


def test_options_that_nobody_uses_and_models_that_write_behind_their_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="predict_with_generate is for encoder-decoders"):
        evaluator(tmp_path, tiny_peft()).predict(ROWS)
    with pytest.raises(TypeError, match="num_beams: options of generate need predict_with_generate"):
        Seq2SeqTrainer(made("t5"), Seq2SeqTrainingArguments(str(tmp_path))).predict(PAIRS, num_beams=2)
    with pytest.raises(TypeError, match="num_beams: options of generate need predict_with_generate"):
        Seq2SeqTrainer(made("t5"), Seq2SeqTrainingArguments(str(tmp_path))).evaluate(PAIRS, num_beams=2)
    args = Seq2SeqTrainingArguments(str(tmp_path), predict_with_generate=True, eval_strategy="epoch")
    model = tiny_peft()
    before = model.state_dict()
    with pytest.raises(ValueError, match="predict_with_generate is for encoder-decoders"):
        Seq2SeqTrainer(model, args, ROWS, ROWS, compute_metrics=lambda pair: {}).train()
    assert all(array.tobytes() == before[name].tobytes() for name, array in model.state_dict().items())
    for name in ("generation_max_length", "generation_num_beams"):
        for bad in (0, -1, 2.0, True):
            with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1"):
                Seq2SeqTrainingArguments(str(tmp_path), **{name: bad})
