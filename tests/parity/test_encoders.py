"""BERT, RoBERTa and DistilBERT under each head against transformers and PEFT, in float64."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npora
from npora import LoraConfig, PeftModel, get_peft_model
from npora.files import load_file, save_file
from npora.models import DistilBertConfig, DistilBertForSequenceClassification
from npora.nn import init
from tests.parity.reference import assert_close, assert_same_gradients, tensors, torch, transformers
from tests.parity.test_peft import randomize

peft = pytest.importorskip("peft", reason="needs the extra `parity`")

# Values of size about 1 pass through two layers, at most 24 terms in a sum: 2¹² roundings of 2⁻⁵³ are 5e-13.
FORWARD, BACKWARD = 1e-12, 1e-10

COMMON = {"vocab_size": 50, "num_labels": 3}
SIZES: dict[str, dict[str, Any]] = {
    "bert": {
        "hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 20, "num_hidden_layers": 2,
        "max_position_embeddings": 9, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    },
    "roberta": {
        "hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 20, "num_hidden_layers": 2,
        "max_position_embeddings": 9, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        "type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1, "hidden_act": "relu",
    },
    "distilbert": {
        "dim": 24, "n_heads": 3, "hidden_dim": 20, "n_layers": 2, "max_position_embeddings": 9, "dropout": 0.0,
        "attention_dropout": 0.0, "seq_classif_dropout": 0.0, "sinusoidal_pos_embds": True,
    },
}  # fmt: skip
PREFIXES = {"bert": "Bert", "roberta": "Roberta", "distilbert": "DistilBert"}
# Lengths 5, 1 and 3. RoBERTa's padding token, 1, also stands inside the third sentence.
IDS = {
    "bert": np.array([[7, 3, 44, 9, 12], [31, 0, 0, 0, 0], [5, 5, 49, 0, 0]]),
    "roberta": np.array([[7, 3, 44, 9, 12], [31, 1, 1, 1, 1], [5, 1, 49, 1, 1]]),
    "distilbert": np.array([[7, 3, 44, 9, 12], [31, 0, 0, 0, 0], [5, 0, 49, 0, 0]]),
}
MASK = np.array([[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 1, 0, 0]])
TYPES = np.array([[0, 0, 1, 1, 0], [1, 0, 0, 0, 0], [0, 1, 1, 0, 0]])
LABELS = {
    "SequenceClassification": np.array([2, 0, 1]),
    "TokenClassification": np.array([[2, -100, 0, 0, 1], [-100] * 5, [1, 2, -100, -100, -100]]),
    "MaskedLM": np.array([[-100, 17, 44, -100, -100], [-100] * 5, [-100, -100, 3, -100, -100]]),
}
TASKS = {"SequenceClassification": "SEQ_CLS", "TokenClassification": "TOKEN_CLS", "MaskedLM": None}
TARGETS = {"bert": ["query", "value"], "roberta": ["query", "value"], "distilbert": ["q_lin", "v_lin"]}

every_family = pytest.mark.parametrize("family", SIZES)
every_head = pytest.mark.parametrize("head", LABELS)


def batch(family: str) -> dict[str, Any]:
    types = {"token_type_ids": TYPES} if family == "bert" else {}
    return {"input_ids": IDS[family], "attention_mask": MASK, **types}


def reference(family: str, head: str, directory: Path, **changes: Any) -> Any:
    """A model of transformers in float64 with every parameter drawn anew, saved there too."""
    config = getattr(transformers, PREFIXES[family] + "Config")(**{**COMMON, **SIZES[family], **changes})
    model = getattr(transformers, f"{PREFIXES[family]}For{head}")(config).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            is_norm = "norm" in name.lower() and name.endswith("weight")
            parameter.copy_((1.0 if is_norm else 0.0) + 0.3 * drawn)
    model.save_pretrained(directory)
    return model


def ours(head: str, directory: Path, **keywords: Any) -> Any:
    return getattr(npora, f"AutoModelFor{head}").from_pretrained(directory, dtype=np.float64, **keywords)


def assert_same_logits(found: Any, expected: Any) -> None:
    """At the padding npora's are zeros."""
    if found.ndim == 3:
        assert not found[MASK == 0].any()
        found, expected = found[MASK == 1], expected[torch.tensor(MASK == 1)]
    assert_close(found, expected, FORWARD)


@every_family
@every_head
def test_outputs_and_every_gradient_agree(tmp_path: Path, family: str, head: str) -> None:
    theirs = reference(family, head, tmp_path)
    model = ours(head, tmp_path)
    output, backward = model(**batch(family), labels=LABELS[head])
    expected = theirs(**tensors(batch(family)), labels=torch.tensor(LABELS[head]))
    assert_same_logits(output.logits, expected.logits)
    assert_close(output.loss, expected.loss, FORWARD)
    backward()
    expected.loss.backward()
    assert assert_same_gradients(model, theirs, BACKWARD) > 36
    without, _ = model(**batch(family))
    assert_same_logits(without.logits, expected.logits)


@every_family
@every_head
def test_a_model_saved_by_npora_is_the_same_in_transformers(tmp_path: Path, family: str, head: str) -> None:
    reference(family, head, tmp_path / "theirs")
    model = ours(head, tmp_path / "theirs")
    model.save_pretrained(tmp_path / "ours")
    again = getattr(transformers, f"AutoModelFor{head}").from_pretrained(tmp_path / "ours", dtype=torch.float64).eval()
    assert type(again).__name__ == type(model).__name__
    assert_same_logits(model(**batch(family))[0].logits, again(**tensors(batch(family))).logits)


def lora(family: str, head: str, **changes: Any) -> dict[str, Any]:
    return {"r": 3, "lora_alpha": 5, "target_modules": TARGETS[family], "task_type": TASKS[head], **changes}


@every_family
@every_head
def test_an_adapter_of_peft_loads_with_the_same_gradients(tmp_path: Path, family: str, head: str) -> None:
    base = reference(family, head, tmp_path / "base")
    theirs = randomize(peft.get_peft_model(base, peft.LoraConfig(**lora(family, head))))
    theirs.save_pretrained(tmp_path / "adapter")
    model = PeftModel.from_pretrained(ours(head, tmp_path / "base"), tmp_path / "adapter", is_trainable=True)
    output, backward = model(**batch(family), labels=LABELS[head])
    expected = theirs.eval()(**tensors(batch(family)), labels=torch.tensor(LABELS[head]))
    assert_same_logits(output.logits, expected.logits)
    backward()
    expected.loss.backward()
    assert assert_same_gradients(model, theirs, BACKWARD) >= 8


@every_family
@every_head
def test_an_adapter_of_npora_loads_in_peft_with_its_names_and_counts(
    tmp_path: Path, family: str, head: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base = reference(family, head, tmp_path / "base")
    model = get_peft_model(ours(head, tmp_path / "base"), LoraConfig(**lora(family, head, target_modules=None)))
    rng = np.random.default_rng(2)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + 0.3 * rng.standard_normal(parameter.shape)
    model.save_pretrained(tmp_path / "ours")
    model.print_trainable_parameters()
    printed = capsys.readouterr().out
    # npora's defaults are PEFT's, which has none for DistilBERT.
    targets = TARGETS[family] if family == "distilbert" else None
    config = {**lora(family, head, target_modules=targets)}
    other = peft.get_peft_model(reference(family, head, tmp_path / "base"), peft.LoraConfig(**config))
    other.print_trainable_parameters()
    assert capsys.readouterr().out == printed
    other.save_pretrained(tmp_path / "theirs")
    shapes = [
        {name: value.shape for name, value in load_file(tmp_path / name / "adapter_model.safetensors").items()}
        for name in ("ours", "theirs")
    ]
    assert shapes[0] == shapes[1]
    assert {n: p.requires_grad for n, p in model.named_parameters()} == {
        n: p.requires_grad for n, p in other.named_parameters()
    }
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "ours").eval()
    assert_same_logits(model(**batch(family))[0].logits, theirs(**tensors(batch(family))).logits)


@pytest.mark.parametrize(
    ("family", "head", "changes"),
    [
        ("bert", "MaskedLM", {"target_modules": "all-linear"}),
        ("roberta", "MaskedLM", {"target_modules": "all-linear"}),
        ("distilbert", "MaskedLM", {"target_modules": "all-linear"}),
        ("roberta", "SequenceClassification", {"target_modules": "all-linear"}),
        ("roberta", "SequenceClassification", {"bias": "all"}),
        ("bert", "TokenClassification", {"bias": "all"}),
        ("distilbert", "MaskedLM", {"bias": "all"}),
        ("roberta", "MaskedLM", {"bias": "lora_only", "target_modules": ["dense"]}),
        ("distilbert", "SequenceClassification", {"bias": "lora_only", "target_modules": ["lin1", "out_lin"]}),
    ],
)
def test_other_targets_and_biases_go_both_ways(
    tmp_path: Path, family: str, head: str, changes: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    config = lora(family, head, **changes)
    theirs = peft.get_peft_model(reference(family, head, tmp_path / "base"), peft.LoraConfig(**config))
    model = get_peft_model(ours(head, tmp_path / "base"), LoraConfig(**config))
    theirs.print_trainable_parameters()
    expected = capsys.readouterr().out
    model.print_trainable_parameters()
    assert capsys.readouterr().out == expected
    randomize(theirs).eval().save_pretrained(tmp_path / "theirs")
    logits = theirs(**tensors(batch(family))).logits
    model = PeftModel.from_pretrained(ours(head, tmp_path / "base"), tmp_path / "theirs")
    assert_same_logits(model(**batch(family))[0].logits, logits)
    model.save_pretrained(tmp_path / "ours")
    base = reference(family, head, tmp_path / "base")
    again = peft.PeftModel.from_pretrained(base, tmp_path / "ours").eval()
    assert_same_logits(model(**batch(family))[0].logits, again(**tensors(batch(family))).logits)


def test_with_its_classifier_an_adapter_saves_the_layer_before_it_whoever_names_it(tmp_path: Path) -> None:
    for number, names in enumerate((["classifier"], ["pre_classifier"], ["classifier", "pre_classifier"])):
        folder = tmp_path / str(number)
        base = reference("distilbert", "SequenceClassification", folder / "base")
        config = {"r": 3, "target_modules": ["q_lin"], "modules_to_save": names}
        theirs = randomize(peft.get_peft_model(base, peft.LoraConfig(**config)))
        theirs.save_pretrained(folder / "adapter")
        model = PeftModel.from_pretrained(ours("SequenceClassification", folder / "base"), folder / "adapter")
        expected = theirs.eval()(**tensors(batch("distilbert"))).logits
        assert_close(model(**batch("distilbert"))[0].logits, expected, FORWARD)
        saved = {name.split(".")[2] for name in model.adapter_parameters("default")}
        assert saved == {"distilbert", "pre_classifier"} | ({"classifier"} if "classifier" in names else set())


def test_the_trained_share_of_distilbert_base_is_what_peft_prints(capsys: pytest.CaptureFixture[str]) -> None:
    model = DistilBertForSequenceClassification(DistilBertConfig(), rng=init.Blank())
    get_peft_model(model, LoraConfig(task_type="SEQ_CLS")).print_trainable_parameters()
    expected = "trainable params: 739,586 || all params: 67,694,596 || trainable%: 1.0925\n"
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize(
    ("problem_type", "num_labels", "labels"),
    [
        ("single_label_classification", 3, np.array([2, -100, 1])),
        ("multi_label_classification", 3, np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])),
        ("regression", 3, np.array([[0.5, -2.0, 1.0], [3.0, 0.25, -1.0], [0.0, 4.0, 1.5]])),
        ("regression", 1, np.array([0.5, -2.0, 1.25])),
        ("regression", 1, np.array([[0.5], [-2.0], [1.25]])),
        (None, 3, np.array([2, 0, 1])),
        (None, 3, np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])),
        (None, 1, np.array([0.5, -2.0, 1.25])),
    ],
)
@every_family
def test_each_problem_type_has_transformers_loss_and_gradients(
    tmp_path: Path, family: str, problem_type: str | None, num_labels: int, labels: Any
) -> None:
    head = "SequenceClassification"
    theirs = reference(family, head, tmp_path, num_labels=num_labels, problem_type=problem_type)
    model = ours(head, tmp_path)
    assert model.config.problem_type == problem_type
    output, backward = model(**batch(family), labels=labels)
    expected = theirs(**tensors(batch(family)), labels=torch.tensor(labels))
    assert_close(output.loss, expected.loss, FORWARD)
    backward()
    expected.loss.backward()
    assert_same_gradients(model, theirs, BACKWARD)


@pytest.mark.parametrize(
    ("ids", "mask"),
    [
        ([[5, 9, 49, 1]], [[1, 1, 1, 0]]),
        ([[1, 1, 5, 9, 49]], [[0, 0, 1, 1, 1]]),  # padding on the left does not count
        ([[5, 1, 9, 1, 49]], [[1, 1, 1, 1, 1]]),  # nor does it between tokens, seen or not
        ([[7, 8, 5, 9, 49]], [[0, 0, 1, 1, 1]]),  # tokens that the mask alone hides do
    ],
)
def test_positions_of_roberta_are_counted_over_the_ids_that_are_no_padding(
    tmp_path: Path, ids: list[list[int]], mask: list[list[int]]
) -> None:
    given = {"input_ids": np.array(ids), "attention_mask": np.array(mask)}
    theirs = reference("roberta", "MaskedLM", tmp_path).roberta
    hidden = ours("MaskedLM", tmp_path).roberta.rows(**given)[0]
    seen = torch.tensor(np.array(mask) == 1)
    assert_close(hidden, theirs(**tensors(given)).last_hidden_state[seen], FORWARD)


def test_the_last_position_of_roberta_is_used_and_the_next_is_an_error(tmp_path: Path) -> None:
    theirs = reference("roberta", "MaskedLM", tmp_path)
    model = ours("MaskedLM", tmp_path)
    longest = {"input_ids": np.full((1, 7), 5)}  # 9 positions, of which 0 and 1 hold no token
    assert_close(model(**longest)[0].logits, theirs(**tensors(longest)).logits, FORWARD)
    with pytest.raises(ValueError, match="a sequence of 8 tokens is longer than the 7 positions"):
        model(np.full((1, 8), 5))


def old_names(state: dict[str, Any]) -> dict[str, Any]:
    return {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for key, value in state.items()
    }


@pytest.mark.parametrize("head", ["TokenClassification", "SequenceClassification", "MaskedLM"])
def test_the_first_files_of_bert_load_for_every_head(
    tmp_path: Path, head: str, caplog: pytest.LogCaptureFixture
) -> None:
    """bert-base-uncased's file: gamma and beta, both heads of its pretraining, buffers, the decoder stored again."""
    theirs = transformers.BertForPreTraining(transformers.BertConfig(**{**COMMON, **SIZES["bert"]})).double().eval()
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    state = {name: np.array(value) for name, value in load_file(path).items()}
    words = state["bert.embeddings.word_embeddings.weight"]
    state.update({"cls.predictions.decoder.weight": words, "bert.embeddings.position_ids": np.arange(9)[None]})
    save_file(old_names(state), path)
    with caplog.at_level(logging.WARNING, "npora"):
        model = ours(head, tmp_path)
    unused = next((line for line in caplog.messages if "not used by" in line), "")
    assert "cls.seq_relationship.weight" in unused and "position_ids" not in unused
    assert ("cls.predictions.transform.LayerNorm.weight" in unused) == (head != "MaskedLM")
    assert ("bert.pooler.dense.weight" in unused) == (head != "SequenceClassification")
    expected = theirs(**tensors(batch("bert")))
    if head == "MaskedLM":
        assert "newly initialised" not in caplog.text
        assert_same_logits(model(**batch("bert"))[0].logits, expected.prediction_logits)
    else:
        assert "newly initialised, since the checkpoint has none: classifier.weight, classifier.bias" in caplog.text
        hidden = model.bert.rows(**batch("bert"))[0]
        assert_close(hidden, theirs.bert(**tensors(batch("bert"))).last_hidden_state[torch.tensor(MASK == 1)], FORWARD)


@every_family
def test_a_body_alone_gets_a_head_whose_norm_does_nothing_yet(
    tmp_path: Path, family: str, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = reference(family, "TokenClassification", tmp_path)
    prefix = {"bert": "bert", "roberta": "roberta", "distilbert": "distilbert"}[family]
    getattr(theirs, prefix).save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING, "npora"):
        model = ours("MaskedLM", tmp_path)
    norms = [p for n, p in model.named_parameters() if not n.startswith(prefix) and "norm" in n.lower()]
    assert [(p.data == (1 if i == 0 else 0)).all() for i, p in enumerate(norms)] == [True, True]
    assert "newly initialised" in caplog.text


@every_family
def test_a_vocabulary_that_is_not_tied_is_refused(tmp_path: Path, family: str) -> None:
    reference(family, "TokenClassification", tmp_path, tie_word_embeddings=False)
    ours("TokenClassification", tmp_path)
    with pytest.raises(ValueError, match="tie_word_embeddings=False is not supported for masked language models"):
        ours("MaskedLM", tmp_path)
