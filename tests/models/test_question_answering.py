"""Question answering against NumPy: whose tokens are classes, what counts, what is refused; and that it is learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, Trainer, TrainingArguments, get_peft_model, models
from npora.models import AutoModelForQuestionAnswering, BertForQuestionAnswering, T5ForQuestionAnswering, T5Model
from npora.models.families.bert import BertConfig
from npora.models.families.t5 import T5Config
from tests.tiny import randomized
from tests.tiny_encoders import SIZES, tiny_encoder
from tests.tiny_folders import FAMILIES

CONFIG = BertConfig(
    vocab_size=11, hidden_size=6, num_hidden_layers=1, num_attention_heads=2, intermediate_size=7,
    max_position_embeddings=7, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
)  # fmt: skip
IDS = np.array([[3, 7, 4, 9, 2], [5, 8, 6, 0, 0], [4, 3, 0, 0, 0]])
MASK = (IDS > 0).astype(int)
START, END = np.array([1, 0, 9]), np.array([3, 2, -100])  # the last answer is cut off


def model(seed: int = 3) -> Any:
    made = BertForQuestionAnswering(CONFIG, rng=seed, dtype=np.float64)
    for number, parameter in enumerate(made.parameters()):
        parameter.data = parameter.data + 0.3 * np.random.default_rng(number).standard_normal(parameter.shape)
    return made


def by_hand(z: Any, counted: list[tuple[int, int, int]]) -> float:
    """The mean of −log p over (text, which end, column); z [b,t,2]."""
    terms = []
    for text, which, column in counted:
        own = z[text, : MASK[text].sum(), which]
        terms.append(np.log(np.exp(own).sum()) - own[column])
    return float(np.mean(terms))


def test_a_texts_own_tokens_are_its_classes() -> None:
    output, _ = model()(IDS, MASK, start_positions=START, end_positions=END)
    z = output.logits
    expected = by_hand(z, [(0, 0, 1), (0, 1, 3), (1, 0, 0), (1, 1, 2)])
    assert output.loss == pytest.approx(expected, rel=1e-12) and output.num_items == 4
    assert (z[MASK == 0] == np.finfo(float).min / 2).all() and (np.abs(z[MASK == 1]) < 99).all()
    alone = model()(IDS[1:2, :3])[0]
    np.testing.assert_allclose(alone.start_logits[0], output.start_logits[1, :3], atol=1e-12)


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_there_are_two_scores_however_many_classes_a_config_names(family: str) -> None:
    made = tiny_encoder(family, "QuestionAnswering", num_labels=3)
    made(IDS, MASK, start_positions=START, end_positions=END)[1]()
    assert made.state_dict()[f"{made.head_name}.weight"].shape == (2, 6)


def test_a_text_of_one_token_has_one_answer() -> None:
    output, _ = model()(np.array([[3, 7], [5, 0]]), np.array([[1, 1], [1, 0]]), labels=np.array([[1, 0], [0, 0]]))
    z = output.logits[0]
    expected = (np.logaddexp(*z[:, 0]) - z[1, 0] + np.logaddexp(*z[:, 1]) - z[0, 1]) / 4  # the other's are certain
    assert output.loss == pytest.approx(expected, rel=1e-12) and output.num_items == 4


def test_an_end_that_is_cut_off_leaves_the_other_learnt() -> None:
    output, _ = model()(IDS, MASK, labels=np.array([[1, 5], [-100, 2], [0, 1]]))
    expected = by_hand(output.logits, [(0, 0, 1), (1, 1, 2), (2, 0, 0), (2, 1, 1)])
    assert output.loss == pytest.approx(expected, rel=1e-12) and output.num_items == 4


def test_labels_are_the_two_positions_side_by_side() -> None:
    gradients = []
    for labels in ({"start_positions": START, "end_positions": END}, {"labels": np.stack((START, END), 1)}):
        made = model()
        made(IDS, MASK, **labels)[1]()
        gradients.append({name: parameter.grad for name, parameter in made.named_parameters()})
    for name, gradient in gradients[0].items():
        np.testing.assert_array_equal(gradient, gradients[1][name])


def test_logits_have_their_own_pullback() -> None:
    rng, made = np.random.default_rng(5), model()
    output, backward = made(IDS, MASK)
    dlogits = rng.standard_normal(output.logits.shape)
    backward(dlogits)
    weight = made.qa_outputs.weight
    step = rng.standard_normal(weight.shape)
    values = []
    for sign in (1, -1):
        weight.data = weight.data + sign * 1e-6 * step * (1 if sign == 1 else 2)
        values.append((made(IDS, MASK)[0].logits * dlogits)[MASK == 1].sum())
    assert (values[0] - values[1]) / 2e-6 == pytest.approx((weight.grad * step).sum(), rel=1e-6)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"start_positions": START}, "given together"),
        ({"start_positions": START, "end_positions": END, "labels": np.zeros((3, 2), int)}, "give those or these"),
        ({"labels": np.zeros(3, int)}, r"whole numbers \[3,2\]; got int64 of shape \(3,\)"),
        ({"labels": np.zeros((3, 2))}, "got float64"),
        ({"labels": np.array([[1, 3], [0, 4], [0, 1]])}, "the answer's last token is 4 in row 1: that is no token"),
        ({"labels": np.array([[-1, 3], [0, 1], [0, 1]])}, "the answer's first token is -1 in row 0"),
    ],
)
def test_what_is_no_answer_is_refused(labels: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model()(IDS, MASK, **labels)


@pytest.mark.parametrize("joined", [False, True])
def test_a_trainer_learns_answers_under_either_name(joined: bool, tmp_path: Path) -> None:
    """The answer is what stands between two 9s."""
    rng, examples = np.random.default_rng(0), []
    for _ in range(40):
        ids = rng.integers(3, 8, 7)
        start = int(rng.integers(0, 3))
        end = start + int(rng.integers(1, 4))
        ids[[start, end]] = 9, 10
        span = {"labels": [start, end]} if joined else {"start_positions": start, "end_positions": end}
        examples.append({"input_ids": ids.tolist(), **span})
    made = get_peft_model(
        BertForQuestionAnswering(CONFIG, rng=1), LoraConfig(r=4, target_modules="all-linear", task_type="QUESTION_ANS")
    )
    arguments = TrainingArguments(
        str(tmp_path), num_train_epochs=30, learning_rate=3e-2, per_device_train_batch_size=20, save_strategy="no"
    )
    trainer = Trainer(made, arguments, examples, examples[:5])
    trainer.train()
    found = trainer.predict(examples[:5])
    spans = np.array([e["labels"] if joined else [e["start_positions"], e["end_positions"]] for e in examples[:5]])
    np.testing.assert_array_equal(found.label_ids, spans)
    np.testing.assert_array_equal(found.predictions.argmax(axis=1), spans)


def test_distilberts_head_drops_out_and_reads_every_token() -> None:
    made = tiny_encoder("distilbert", "QuestionAnswering", np.float64, qa_dropout=0.5)
    made.eval()
    h = made.body(IDS, MASK)[0].last_hidden_state  # [b,t,m]
    z = h @ made.qa_outputs.weight.data.T + made.qa_outputs.bias.data
    output, _ = made(IDS, MASK)
    np.testing.assert_allclose(output.logits[MASK == 1], z[MASK == 1], atol=1e-12)
    made.train()
    dropped, _ = made(IDS, MASK, rng=np.random.default_rng(1))
    assert np.abs(dropped.logits - output.logits)[MASK == 1].max() > 0.1


def test_t5s_scores_are_of_its_decoder_which_reads_the_same_text_behind_the_start() -> None:
    config = T5Config(
        vocab_size=13, d_model=6, d_kv=2, d_ff=7, num_layers=1, num_heads=3, dropout_rate=0.0, decoder_start_token_id=2
    )  # fmt: skip
    made = randomized(T5ForQuestionAnswering(config, rng=0, dtype=np.float64))
    behind = np.concatenate((np.full((3, 1), 2), IDS[:, :-1]), axis=1)
    h = T5Model.forward(made, IDS, MASK, decoder_input_ids=behind, decoder_attention_mask=MASK)[0].last_hidden_state
    z = h @ made.qa_outputs.weight.data.T + made.qa_outputs.bias.data
    np.testing.assert_allclose(made(IDS, MASK)[0].logits[MASK == 1], z[MASK == 1], atol=1e-12)


def test_the_biases_that_no_answer_depends_on_are_said() -> None:
    model = tiny_encoder("bert", "QuestionAnswering", num_hidden_layers=3)
    last = "bert.encoder.layer.2.output.LayerNorm.bias"
    assert set(model.idle_parameters()) == {"qa_outputs.bias", last} <= {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("family", SIZES)
@pytest.mark.parametrize("task", ["QuestionAnswering", "SequenceClassification", "TokenClassification"])
def test_what_a_checkpoint_may_lack_is_all_that_a_head_adds_to_the_body(family: str, task: str) -> None:
    model = tiny_encoder(family, task)
    names = [name for name, _ in model.named_parameters()]
    added = [name for name in names if not name.startswith(f"{model.base_model_prefix}.")]
    assert added and all(name.startswith(model.may_lack) for name in added)
    assert all(any(name.startswith(part) for name in names) for part in model.may_lack)
    if task == "QuestionAnswering":
        assert {*model.idle_parameters()} <= {*names}


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
def test_a_body_is_read_from_the_files_of_other_tasks(family: str, tmp_path: Path) -> None:
    """Of a Llama the files' name for it is another in question answering than elsewhere."""
    name, changes = FAMILIES[family]
    config = getattr(models, f"{name}Config")(vocab_size=8, **changes)
    for task in ("SequenceClassification", None):
        given = getattr(models, f"{name}For{task}" if task else f"{name}Model")(config, rng=1)
        given.save_pretrained(tmp_path / str(task))
        found = AutoModelForQuestionAnswering.from_pretrained(tmp_path / str(task))
        body = given if task is None else given.body
        of_the_body = dict(body.named_parameters())
        mine = dict(found.body.named_parameters())
        assert [*found._drawn] == ["qa_outputs.weight", "qa_outputs.bias"]
        assert all(np.array_equal(value.data, of_the_body[path].data) for path, value in mine.items()) and len(mine) > 9
