"""EmbeddingTrainer: its losses by their formulas, whole batches, what it measures and refuses."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import AutoModelForSentenceEmbedding, EmbeddingTrainer, LoraConfig, TrainingArguments, get_peft_model
from npora.data import ByteTokenizer
from npora.data.alike import encode_alike, usual_texts
from npora.train import accumulate_gradients
from npora.train.embeddings import alike
from npora.train.evaluation import EvalPrediction
from npora.train.preferences import Referenced
from tests.tiny import tiny_bert
from tests.tiny_folders import save_folder

WORDS = ("sun", "rain", "fog", "ice", "sea")
PAIRS = [{"anchor": word, "positive": word[::-1] + "!"} for word in WORDS]
TRIPLETS = [{**pair, "negative": f"no {pair['anchor']}"} for pair in PAIRS]
SCORED = [{"sentence1": a, "sentence2": b, "score": (i % 3) / 2} for i, (a, b) in enumerate(pairwise(WORDS))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_folder(tmp_path_factory.mktemp("embed") / "llama", "llama")


def model(folder: str, dtype: str = "float64", **options: Any) -> Any:
    made = get_peft_model(
        AutoModelForSentenceEmbedding.from_pretrained(folder, dtype=dtype, **options),
        LoraConfig(r=2, task_type="FEATURE_EXTRACTION", target_modules="all-linear"),
    )
    rng = np.random.default_rng(4)
    for name, parameter in made.named_parameters():
        if "lora_B" in name:
            parameter.data = parameter.data + 0.1 * rng.standard_normal(parameter.shape).astype(parameter.dtype)
    return made


class Small(ByteTokenizer):
    """Bytes among the 14 ids of the model."""

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        found = super().__call__(*args, **keywords)
        return {"input_ids": [4 + i % 10 for i in found["input_ids"]]}


def arguments(path: Path, **changes: Any) -> TrainingArguments:
    return TrainingArguments(str(path), **{"save_strategy": "no", "per_device_eval_batch_size": 8, **changes})


def cosines(a: Any, b: Any) -> Any:
    return (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))


def expected_loss(loss: str, e: Any, labels: Any) -> float:
    if loss == "multiple-negatives-ranking":
        others = np.concatenate([e[:, i] for i in range(1, e.shape[1])])
        z = 7 * cosines(e[:, None, 0], others[None])
        return float(np.mean([math.log(np.exp(row).sum()) - row[i] for i, row in enumerate(z)]))
    if loss == "triplet":
        near, far = (np.sqrt(((e[:, 0] - e[:, i]) ** 2).sum(-1)) for i in (1, 2))
        return float(np.maximum(near - far + 0.4, 0).mean())
    c = cosines(e[:, 0], e[:, 1])
    if loss == "cosine":
        return float(((c - labels) ** 2).mean())
    both = [(i, j) for i in range(len(c)) for j in range(len(c)) if labels[i] > labels[j]]
    return math.log(1 + sum(math.exp(7 * (c[j] - c[i])) for i, j in both))


CASES = [
    ("multiple-negatives-ranking", PAIRS), ("multiple-negatives-ranking", TRIPLETS), ("triplet", TRIPLETS),
    ("cosine", SCORED), ("cosent", SCORED),
]  # fmt: skip


@pytest.mark.parametrize("loss, data", CASES)
def test_each_loss_is_its_formula_and_its_gradient_that_of_the_loss(
    loss: str, data: Any, folder: str, tmp_path: Path
) -> None:
    made = model(folder)
    trainer = EmbeddingTrainer(made, arguments(tmp_path), data, data, Small(), loss=loss, scale=7, margin=0.4)
    texts = [[value for value in example.values() if isinstance(value, str)] for example in data]
    e = np.stack([made.encode([row[i] for row in texts], Small()) for i in range(len(texts[0]))], axis=1)
    labels = np.array([example.get("score", 1) for example in data])
    found = trainer.predict(trainer.eval_dataset)
    np.testing.assert_allclose(found.predictions, e, atol=1e-12)
    assert found.metrics["test_loss"] == pytest.approx(expected_loss(loss, e, labels), rel=1e-10)
    batch = trainer._batches.of(list(trainer.train_dataset), range(len(data)))
    gradients = []
    for at_once in (0, 15):  # in pieces, where that leaves the loss as it is
        made.zero_grad()
        accumulate_gradients(trainer.objective(), batch, tokens_at_once=at_once)
        gradients.append({n: p.grad / len(data) for n, p in made.named_parameters() if p.grad is not None})
    for name, gradient in gradients[0].items():
        np.testing.assert_allclose(gradient, gradients[1][name], atol=1e-12)
    rng = np.random.default_rng(2)
    name = next(name for name in gradients[0] if "v_proj.lora_A" in name)
    parameter, values = made.get_parameter(name), []
    start, step = parameter.data, rng.standard_normal(parameter.shape)
    for h in (1e-6, -1e-6):
        parameter.data = start + h * step
        values.append(float(trainer.objective()(**batch)[0].loss))
    assert (values[0] - values[1]) / 2e-6 == pytest.approx((gradients[0][name] * step).sum(), rel=1e-5)


def test_what_is_alike_is_drawn_together(folder: str, tmp_path: Path) -> None:
    args = arguments(tmp_path, num_train_epochs=30, learning_rate=2e-2, per_device_train_batch_size=5)
    trainer = EmbeddingTrainer(model(folder, "float32"), args, PAIRS, {"a": PAIRS, "b": TRIPLETS[:3]}, Small())
    before = trainer.evaluate(trainer.eval_dataset["a"])
    trainer.train()
    after = trainer.evaluate()
    assert after["eval_a_accuracy"] == 1.0 and after["eval_a_loss"] < 0.3 * before["eval_loss"]


def test_what_is_measured_follows_the_examples() -> None:
    e = np.random.default_rng(0).standard_normal((4, 2, 3))
    c, labels = cosines(e[:, 0], e[:, 1]), np.array([0.1, 0.9, 0.3, 0.2])
    found = alike(EvalPrediction(e, labels))
    ranks = [np.argsort(np.argsort(x)) for x in (c, labels)]
    assert found["spearman"] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert found["pearson"] == pytest.approx(np.corrcoef(c, labels)[0, 1])
    near, far = np.array([[3.0, 0, 0]]), np.array([[1.0, 1, 0]])
    both = np.stack((np.stack((near, near, far), 1)[0], np.stack((near, far, near), 1)[0]))
    assert alike(EvalPrediction(both, np.ones(2))) == {"accuracy": 0.5}
    assert np.isnan(alike(EvalPrediction(both, np.zeros(2)))["spearman"])  # scores that have no order
    own = np.stack((np.eye(3), np.roll(np.eye(3), 1, axis=0)), axis=1)
    own[0, 1] = own[0, 0] * 5
    assert alike(EvalPrediction(own, np.ones(3)))["accuracy"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    "data, options, message",
    [
        (PAIRS, {"loss": "triplet"}, "the loss triplet is of examples of 3 texts without a score; got 2 texts without"),
        (SCORED, {"loss": "triplet"}, "of 3 texts without a score; got 2 texts with one"),
        (PAIRS, {"loss": "cosent"}, "of 2 texts with a score; got 2 texts without one"),
        (SCORED, {"loss": "multiple-negatives-ranking"}, "of two texts or more without a score; got 2 texts with one"),
        (PAIRS, {"loss": "x"}, "loss must be multiple-negatives-ranking, triplet, cosine, cosent; got 'x'"),
        ([PAIRS[0], {"a": "b"}], {}, "example 1: two texts that are alike, or more, are expected; got 1"),
        ([PAIRS[0], {"a": "b", "c": ""}], {}, "example 1: a text has no token"),
        ([PAIRS[0], "a"], {}, "example 1: a dict of texts is expected; got a str"),
        ([*PAIRS, SCORED[0]], {}, "2 texts with a score, and example 0 2 texts without a score: all must be alike"),
        (
            [PAIRS[0], {"a": "b", "c": "d", "e": "f"}],
            {},
            "example 1 has 3 texts without a score, and example 0 2 texts",
        ),
        (PAIRS, {"scale": -1}, "scale must be a number above 0; got -1"),
        (PAIRS, {"margin": float("inf")}, "margin must be a number above 0; got inf"),
        (PAIRS, {"scale": "x"}, "scale must be a number above 0; got 'x'"),
        (PAIRS, {"compute_loss_func": print}, "EmbeddingTrainer has a loss of its own"),
    ],
)
def test_what_does_not_fit_is_refused(data: Any, options: Any, message: str, folder: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        EmbeddingTrainer(model(folder), arguments(tmp_path), data, None, Small(), **options)


def test_in_a_batch_of_one_a_negative_is_something_to_compare_with(folder: str, tmp_path: Path) -> None:
    args = arguments(tmp_path, per_device_train_batch_size=1)
    EmbeddingTrainer(model(folder), args, TRIPLETS, processing_class=Small(), loss="multiple-negatives-ranking")


def test_texts_need_a_tokenizer(folder: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="texts need a tokenizer: pass it as processing_class"):
        EmbeddingTrainer(model(folder), arguments(tmp_path), PAIRS)


def test_scores_that_no_cosine_reaches_are_refused(folder: str, tmp_path: Path) -> None:
    data = [{**SCORED[0], "score": 4.5}]
    trainer = EmbeddingTrainer(model(folder), arguments(tmp_path), None, data, Small(), loss="cosine")
    with pytest.raises(ValueError, match=r"between -1 and 1, as cosines are; got 4\.5: scale them"):
        trainer.evaluate()


def test_a_model_without_embeddings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="AutoModelForSentenceEmbedding is expected; got a BertForSequence"):
        EmbeddingTrainer(tiny_bert(), arguments(tmp_path), PAIRS, None, Small())


def test_texts_are_encoded_one_by_one_and_cut() -> None:
    found = encode_alike(ByteTokenizer(), ["ab", "cde"], max_length=2)
    assert found == {"input_ids": [97, 98, 99, 100], "lengths": [2, 2], "is_scored": 0, "label": 1.0}
    assert encode_alike(ByteTokenizer(), ["a", "b"], 0)["is_scored"] == 1


def test_columns_have_their_usual_names() -> None:
    assert usual_texts(["positive", "anchor", "x"]) == ("anchor", "positive", None, None)
    assert usual_texts(["score", "sentence2", "sentence1"]) == ("sentence1", "sentence2", None, "score")
    assert usual_texts(["query", "negative", "positive"]) == ("query", "positive", "negative", None)
    assert usual_texts(["anchor", "text"]) is None


def test_a_reference_follows_from_the_examples_and_tells_nothing_of_its_own() -> None:
    one, other = (Referenced([{"a": 1}, {"a": 2}], reference) for reference in ([[1.0], [2.0]], [[3.0], [4.0]]))
    assert one.fingerprint() == other.fingerprint() and one.take([1])[0] == {"a": 2, "reference": [2.0]}
