"""Question answering of encoders and T5 agrees with transformers where nothing is padded; so do T5's classes of
tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npora
from npora.data import AutoTokenizer, encode_question
from tests.parity.encoders import BACKWARD, FORWARD, every_family, ours, reference
from tests.parity.reference import assert_close, tensors, torch, transformers
from tests.parity.test_t5 import KINDS, SIZES, randomized
from tests.shared_data import data

IDS = np.array([[7, 3, 44, 9, 12], [31, 5, 5, 49, 8], [6, 7, 3, 3, 20]])
SPANS = {"start_positions": np.array([1, 4, 5]), "end_positions": np.array([3, 4, 6])}  # the last is cut off


def assert_same(found: Any, theirs: Any, batch: dict[str, Any]) -> None:
    output, backward = found(**batch)
    expected = theirs(**tensors(batch))
    names = ("start_logits", "end_logits") if "start_positions" in batch else ("logits",)
    for name in (*names, "loss"):
        assert_close(getattr(output, name), getattr(expected, name), FORWARD)
    backward()
    expected.loss.backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    compared = {name: p for name, p in found.named_parameters() if name in gradients}
    assert len(compared) > 20
    for name, parameter in compared.items():
        assert_close(parameter.grad, gradients[name], BACKWARD)


@every_family
def test_encoders_agree(tmp_path: Path, family: str) -> None:
    theirs = reference(family, "QuestionAnswering", tmp_path, num_labels=2)
    assert_same(ours("QuestionAnswering", tmp_path), theirs, {"input_ids": IDS, **SPANS})


@pytest.mark.usefixtures("t5_norm_in_float64")
@pytest.mark.parametrize("task", ["QuestionAnswering", "TokenClassification"])
def test_t5_agrees(tmp_path: Path, task: str) -> None:
    config = transformers.T5Config(**{**SIZES, **KINDS[next(iter(KINDS))]}, num_labels=2)
    theirs = randomized(getattr(transformers, f"T5For{task}")(config).double().eval())
    theirs.save_pretrained(tmp_path)
    found = getattr(npora, f"AutoModelFor{task}").from_pretrained(tmp_path, dtype=np.float64)
    spans = SPANS if task == "QuestionAnswering" else {"labels": np.where(IDS > 6, IDS % 2, -100)}
    assert_same(found, theirs, {"input_ids": IDS % 11, **spans})


def test_an_adapter_trains_the_head_and_peft_reads_it(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="needs the extra `parity`")
    theirs = reference("bert", "QuestionAnswering", tmp_path / "base", num_labels=2)
    config = npora.LoraConfig(r=3, target_modules=["query"], task_type="QUESTION_ANS")
    found = npora.get_peft_model(ours("QuestionAnswering", tmp_path / "base"), config)
    rng = np.random.default_rng(3)
    for parameter in found.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + 0.3 * rng.standard_normal(parameter.shape)
    assert any("qa_outputs" in name for name, p in found.named_parameters() if p.requires_grad)
    found.save_pretrained(tmp_path / "adapter")
    both = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()
    with torch.no_grad():
        expected = both(torch.tensor(IDS))
    assert_close(found(IDS)[0].start_logits, expected.start_logits, FORWARD)
    assert_close(found(IDS)[0].end_logits, expected.end_logits, FORWARD)


def run_qa(tokenizer: Any, example: dict[str, Any], length: int, stride: int) -> list[tuple[list[int], list[int]]]:
    """The windows and labels of transformers' example of question answering, with its loops."""
    made = tokenizer(
        example["text"].lstrip(), example["text_pair"], truncation="only_second", max_length=length, stride=stride,
        return_overflowing_tokens=True, return_offsets_mapping=True,
    )  # fmt: skip
    found = []
    for i, offsets in enumerate(made["offset_mapping"]):
        ids, whose = made["input_ids"][i], made.sequence_ids(i)
        mark = ids.index(tokenizer.cls_token_id)
        label = [mark, mark]
        if example["answers"]:
            start = example["starts"][0]
            stop = start + len(example["answers"][0])
            first, last = whose.index(1), len(whose) - 1 - whose[::-1].index(1)
            if offsets[first][0] <= start and offsets[last][1] >= stop:
                while first < len(offsets) and offsets[first][0] <= start:
                    first += 1
                while offsets[last][1] >= stop:
                    last -= 1
                label = [first - 1, last + 1]
        found.append((ids, label))
    return found


@pytest.mark.parametrize(("length", "stride"), [(None, 0), (24, 8), (300, 128)])
def test_windows_and_labels_are_those_of_run_qa(length: int | None, stride: int) -> None:
    folder = data("checkpoints", "minilm-l6")
    mine, theirs = AutoTokenizer.from_pretrained(folder), transformers.AutoTokenizer.from_pretrained(folder)
    rng = np.random.default_rng(0)
    words = np.array(["Café", "Crème's", "the", "river,", "unbelievably", "£", "10.50", "Zizzi", "\n", "日本"])
    for number in range(12):
        context = "  ".join(rng.choice(words, 30 if length == 24 else 400))
        start, more = (int(n) for n in rng.integers(0, (len(context) - 9, 9)))
        answers = [context[start : start + 1 + more]] if number % 4 else []
        example = {"text": "  What is near?", "text_pair": context, "answers": answers, "starts": [start]}
        expected = run_qa(theirs, example, length or 10_000, stride)
        found = encode_question(mine, example, length)
        assert len(expected) > 2 or length is None or (length == 300 and len(expected) > 1)
        assert [(part["input_ids"], part["label"]) for part in found] == expected
