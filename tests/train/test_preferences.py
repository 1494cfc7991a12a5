"""Preferences: the losses of whole texts against NumPy, what the reference is, and that they are learnt."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, TrainingArguments, get_peft_model
from npora.data import ByteTokenizer
from npora.models import GPT2LMHeadModel
from npora.models.families.gpt2 import GPT2Config
from npora.models.log_probs import sequence_log_probs
from npora.train import DPOTrainer, EvalPrediction, ORPOTrainer, accumulate_gradients
from npora.train.preferences import preferred
from tests.tiny import tiny_bert

TOKENIZER = ByteTokenizer(eos=True, pad=True)
PAIRS = [
    {"prompt": f"{thing} is", "chosen": " good", "rejected": " so bad"} for thing in ("a", "the sea", "it", "rain")
] + [{"prompt": f"not {thing} is", "chosen": " bad", "rejected": " good"} for thing in ("b", "fog", "snow", "x")]


def model(dtype: Any = np.float64, seed: int = 0) -> Any:
    config = GPT2Config(
        vocab_size=258, n_embd=12, n_head=2, n_layer=2, n_positions=40, resid_pdrop=0.0, embd_pdrop=0.0,
        attn_pdrop=0.0, eos_token_id=256, pad_token_id=257,
    )  # fmt: skip
    made = GPT2LMHeadModel(config, rng=seed, dtype=dtype)
    for number, parameter in enumerate(made.parameters()):
        parameter.data = parameter.data + 0.2 * np.random.default_rng(number).standard_normal(parameter.shape).astype(
            parameter.dtype
        )
    return made


def adapted(dtype: Any = np.float64, **fields: Any) -> Any:
    made = get_peft_model(model(dtype), LoraConfig(r=3, task_type="CAUSAL_LM", **fields))
    rng = np.random.default_rng(4)
    for name, parameter in made.named_parameters():
        if parameter.requires_grad and "lora_B" in name:
            parameter.data = parameter.data + 0.1 * rng.standard_normal(parameter.shape).astype(parameter.dtype)
    return made


def arguments(path: Path, **changes: Any) -> TrainingArguments:
    return TrainingArguments(str(path), **{"save_strategy": "no", "per_device_train_batch_size": 8, **changes})


def log_prob(logits: Any, ids: list[int], begin: int) -> float:
    """Σ log p of ids[begin:], each by the logits of the token before it."""
    z = logits[0].astype(float)
    return float(sum(z[i - 1, ids[i]] - math.log(np.exp(z[i - 1]).sum()) for i in range(begin, len(ids))))


def of_answer(made: Any, prompt: str, answer: str) -> tuple[float, int]:
    ids = [*(prompt + answer).encode(), 256]
    return log_prob(made(np.array([ids]))[0].logits, ids, len(prompt)), len(answer) + 1


def test_a_texts_log_probability_is_the_sum_of_its_labels() -> None:
    ids = np.array([[3, 9, 4, 7, 2], [5, 6, 8, 0, 0]])
    labels = np.where(np.array([[0, 0, 1, 1, 1], [0, 1, 1, 0, 0]]) == 1, ids, -100)
    mask, made, dy = (ids > 0).astype(int), model(), np.array([1.3, -0.7])
    y, counts, backward = sequence_log_probs(made, ids, mask, labels)
    expected = [
        log_prob(made(ids[:1])[0].logits, [3, 9, 4, 7, 2], 2),
        log_prob(made(ids[1:, :3])[0].logits, [5, 6, 8], 1),
    ]
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    assert counts.tolist() == [3, 2]
    backward(dy)
    rng = np.random.default_rng(1)
    for path in ("transformer.wte.weight", "transformer.h.0.attn.c_attn.weight", "transformer.ln_f.bias"):
        parameter = made.get_parameter(path)
        start, step = parameter.data, rng.standard_normal(parameter.shape)
        values = []
        for h in (1e-6, -1e-6):
            parameter.data = start + h * step
            values.append(sequence_log_probs(made, ids, mask, labels)[0] @ dy)
        parameter.data = start
        assert (values[0] - values[1]) / 2e-6 == pytest.approx((parameter.grad * step).sum(), rel=1e-6)


def test_a_text_without_a_label_has_the_log_probability_0_wherever_it_stands() -> None:
    ids = np.array([[3, 9, 4], [5, 6, 8]])
    watched, labels = model(), np.where([[0, 1, 1], [0, 0, 0]], ids, -100)
    y, counts, backward = sequence_log_probs(watched, ids, None, labels)
    assert counts.tolist() == [2, 0] and y[0] < 0 == y[1]
    parts = [parameter for parameter in watched.parameters() if parameter.requires_grad]
    backward(np.array([0.7, 3.1]))
    gradients = [parameter.grad.copy() for parameter in parts]
    assert any(gradient.any() for gradient in gradients)
    watched.zero_grad()
    sequence_log_probs(watched, ids, None, labels)[2](np.array([0.7, -9.0]))
    for parameter, gradient in zip(parts, gradients, strict=True):
        np.testing.assert_array_equal(parameter.grad, gradient)


def test_an_adapter_on_the_projection_drops_out_too() -> None:
    made, ids = adapted(target_modules=["lm_head"], lora_dropout=0.5), np.array([[3, 9, 4, 7]])
    drops = (None, *map(np.random.default_rng, (0, 0, 1)))
    found = [sequence_log_probs(made.get_base_model(), ids, None, ids, rng)[0][0] for rng in drops]
    assert found[1] == found[2] and len(set(found)) == 3


def test_only_a_causal_model_finds_texts_likely() -> None:
    with pytest.raises(TypeError, match="a causal language model; got a BertForSequenceClassification"):
        sequence_log_probs(tiny_bert(), np.zeros((1, 2), int), None, np.zeros((1, 2), int))


def test_the_reference_is_the_base_and_the_loss_dpos(tmp_path: Path) -> None:
    made = adapted()
    trainer = DPOTrainer(made, arguments(tmp_path), PAIRS, PAIRS[:3], TOKENIZER, beta=0.3, label_smoothing=0.1)
    base, terms, rewards = model(), [], []
    for pair, encoded in zip(PAIRS[:3], trainer.eval_dataset, strict=True):
        ours = [of_answer(made, pair["prompt"], pair[name])[0] for name in ("chosen", "rejected")]
        theirs = [of_answer(base, pair["prompt"], pair[name])[0] for name in ("chosen", "rejected")]
        np.testing.assert_allclose(encoded["reference"], theirs, rtol=1e-12)
        rewards.append([0.3 * (a - b) for a, b in zip(ours, theirs, strict=True)])
        u = rewards[-1][0] - rewards[-1][1]
        terms.append(0.9 * math.log1p(math.exp(-u)) + 0.1 * math.log1p(math.exp(u)))
    found = trainer.predict(trainer.eval_dataset)
    assert found.metrics["test_loss"] == pytest.approx(sum(terms) / 3, rel=1e-12)
    np.testing.assert_allclose(found.predictions, rewards, atol=1e-12)
    margins = np.diff(rewards)[:, 0] * -1
    assert found.metrics["test_rewards/margins"] == pytest.approx(margins.mean())
    assert found.metrics["test_rewards/accuracies"] == (margins > 0).mean()


def test_an_answer_that_is_as_likely_as_the_other_is_not_ahead() -> None:
    found = preferred(EvalPrediction(np.array([[1.0, 1.0], [2.5, 1.0], [0.0, 3.0]]), None))
    assert found == {"rewards/accuracies": 1 / 3, "rewards/margins": -0.5}


def test_orpos_loss_is_its_formula(tmp_path: Path) -> None:
    made = adapted()
    trainer = ORPOTrainer(made, arguments(tmp_path), PAIRS, PAIRS[2:6], TOKENIZER, beta=0.4)
    terms, margins = [], []
    for pair in PAIRS[2:6]:
        means = []
        for name in ("chosen", "rejected"):
            total, count = of_answer(made, pair["prompt"], pair[name])
            means.append(total / count)
        odds = [m - math.log(1 - math.exp(m)) for m in means]
        terms.append(-means[0] + 0.4 * math.log1p(math.exp(odds[1] - odds[0])))
        margins.append(means[0] - means[1])
    found = trainer.evaluate()
    assert found["eval_loss"] == pytest.approx(sum(terms) / 4, rel=1e-12)
    assert found["eval_rewards/margins"] == pytest.approx(sum(margins) / 4, rel=1e-12)
    assert "reference" not in trainer.train_dataset[0]


@pytest.mark.parametrize("kind", [DPOTrainer, ORPOTrainer])
def test_the_gradient_is_that_of_the_loss_however_a_batch_is_cut(kind: Any, tmp_path: Path) -> None:
    gradients, rng = [], np.random.default_rng(2)
    trainer = kind(made := adapted(), arguments(tmp_path), PAIRS, None, TOKENIZER)
    batch = trainer._batches.of(list(trainer.train_dataset), range(len(PAIRS)))
    for at_once in (0, 30):
        made.zero_grad()
        accumulate_gradients(trainer.objective(), batch, tokens_at_once=at_once)
        gradients.append({name: p.grad / len(PAIRS) for name, p in made.named_parameters() if p.requires_grad})
    name = next(name for name in gradients[0] if "lora_A" in name)
    parameter, step = made.get_parameter(name), rng.standard_normal(gradients[0][name].shape)
    start, values = parameter.data, []
    for h in (1e-6, -1e-6):
        parameter.data = start + h * step
        values.append(float(trainer.objective()(**batch)[0].loss))
    assert (values[0] - values[1]) / 2e-6 == pytest.approx((gradients[0][name] * step).sum(), rel=1e-5)
    for name, gradient in gradients[0].items():
        np.testing.assert_allclose(gradient, gradients[1][name], atol=1e-12)


@pytest.mark.parametrize("kind", [DPOTrainer, ORPOTrainer])
def test_preferences_are_learnt_and_the_base_stays(kind: Any, tmp_path: Path) -> None:
    made = adapted(np.float32, target_modules="all-linear")
    frozen = {name: p.data.tobytes() for name, p in made.named_parameters() if not p.requires_grad}
    trainer = kind(made, arguments(tmp_path, num_train_epochs=40, learning_rate=2e-2), PAIRS, PAIRS, TOKENIZER)
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert after["eval_rewards/accuracies"] == 1.0 and after["eval_loss"] < 0.7 * before["eval_loss"]
    assert {name: p.data.tobytes() for name, p in made.named_parameters() if not p.requires_grad} == frozen


def test_dpo_begins_at_log_2_without_an_adapter_too(tmp_path: Path) -> None:
    trainer = DPOTrainer(model(), arguments(tmp_path), PAIRS, PAIRS, TOKENIZER)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(math.log(2), rel=1e-12)


@pytest.mark.parametrize("max_length", [None, 9, 4])
def test_what_two_answers_share_stands_once_and_a_long_prompt_loses_its_beginning(
    max_length: int | None, tmp_path: Path
) -> None:
    pair = {"prompt": "0123456789", "chosen": "abc", "rejected": "abd!"}
    trainer = ORPOTrainer(model(), arguments(tmp_path), [pair], None, TOKENIZER, max_length=max_length)
    (found,) = trainer.train_dataset
    text = bytes(i for i in found["input_ids"] if i < 256).decode()
    expected = {None: ("0123456789abcabd!", [10, 14]), 9: ("6789abcabd!", [4, 8]), 4: ("9abcabd", [1, 4])}
    assert (text, found["labels"]) == expected[max_length]


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (
            {"prompt": "a", "chosen": "b"},
            "example 1: preferences are dicts of prompt, chosen and rejected; got prompt, chosen",
        ),
        ("a", "got str"),
        ({"prompt": "", "chosen": "b", "rejected": "c"}, "example 1: a prompt and both answers have a token at least"),
    ],
)
def test_what_is_no_preference_is_refused(example: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        DPOTrainer(model(), arguments(tmp_path), [PAIRS[0], example], None, TOKENIZER)


@pytest.mark.parametrize("kind", [DPOTrainer, ORPOTrainer])
def test_a_beta_that_is_none_and_texts_without_a_tokenizer_are_refused(kind: Any, tmp_path: Path) -> None:
    for beta in (0, float("nan")):
        with pytest.raises(ValueError, match="beta must be a number above 0; got"):
            kind(model(), arguments(tmp_path), PAIRS, None, TOKENIZER, beta=beta)
    with pytest.raises(ValueError, match="texts need a tokenizer: pass it as processing_class"):
        kind(model(), arguments(tmp_path), PAIRS)


@pytest.mark.parametrize("kind", [DPOTrainer, ORPOTrainer])
@pytest.mark.parametrize("where", ["compute_loss_func", "label_smoothing_factor", "class_weights"])
def test_another_loss_besides_is_refused(kind: Any, where: str, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"label_smoothing_factor": 0.1, "class_weights": [1.0, 2.0]}
    args = arguments(tmp_path, **{where: changes[where]} if where in changes else {})
    keywords: dict[str, Any] = {} if where in changes else {where: lambda *_, **__: None}
    with pytest.raises(ValueError, match="has a loss of its own: leave out compute_loss_func, label_smoothing_factor"):
        kind(model(), args, PAIRS, None, TOKENIZER, **keywords)
