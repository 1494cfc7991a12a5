"""Adapters on the encoders under each head, from PEFT to npora and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, PeftModel, get_peft_model
from npora.files import load_file
from npora.models import DistilBertConfig, DistilBertForSequenceClassification
from npora.nn import init
from tests.parity.encoders import (
    BACKWARD,
    FORWARD,
    LABELS,
    SIZES,
    assert_same_logits,
    batch,
    every_family,
    every_head,
    ours,
    reference,
)
from tests.parity.reference import assert_close, assert_same_gradients, named, tensors, torch
from tests.parity.test_peft import randomize

peft = pytest.importorskip("peft", reason="needs the extra `parity`")

TASKS = {"SequenceClassification": "SEQ_CLS", "TokenClassification": "TOKEN_CLS", "MaskedLM": None}
TARGETS = {
    **{family: ["query", "value"] for family in SIZES},
    "distilbert": ["q_lin", "v_lin"],
    "mpnet": ["q", "v"],
    "deberta-v2": ["query_proj", "value_proj"],
    "modernbert": ["Wqkv"],
}


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
    assert assert_same_gradients(model, theirs, BACKWARD) >= 2 * len(TARGETS[family]) * 2


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
    # npora's defaults are PEFT's, where it has any.
    known = peft.utils.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    targets = None if family in known else TARGETS[family]
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
        n: p.requires_grad for n, p in named(other).items()
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
        ("bert", "MaskedLM", {"bias": "all"}),  # a bias that has two names
        ("roberta", "MaskedLM", {"bias": "all", "target_modules": ["query", "decoder"]}),
        ("bert", "MaskedLM", {"bias": "lora_only", "target_modules": ["query", "decoder"]}),
        ("roberta", "MaskedLM", {"bias": "all", "modules_to_save": ["decoder"]}),
        ("distilbert", "MaskedLM", {"target_modules": ["q_lin", "vocab_projector"], "layers_to_transform": [1]}),
        ("bert", "MaskedLM", {"target_modules": ["query", "decoder"], "layers_to_transform": 0}),
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
    model = PeftModel.from_pretrained(ours(head, tmp_path / "base"), tmp_path / "theirs", is_trainable=True)
    assert_same_logits(model(**batch(family))[0].logits, logits)
    trained = [{n for n, p in each.named_parameters() if p.requires_grad} for each in (model, theirs)]
    assert trained[0] == trained[1]
    model.save_pretrained(tmp_path / "ours")
    names = [load_file(tmp_path / name / "adapter_model.safetensors").keys() for name in ("ours", "theirs")]
    twice = {n for n in names[1] if ".modules_to_save." in n or ".original_module." in n}  # PEFT's heads, with biases
    untrained = {"base_model.model.lm_head.bias"} if "modules_to_save" in changes else set()
    assert names[0] == names[1] - twice - untrained
    with model.disable_adapter():
        assert_same_logits(
            model(**batch(family))[0].logits,
            reference(family, head, tmp_path / "base")(**tensors(batch(family))).logits,
        )
    again = PeftModel.from_pretrained(ours(head, tmp_path / "base"), tmp_path / "ours")
    assert again(**batch(family))[0].logits.tobytes() == model(**batch(family))[0].logits.tobytes()
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
    model = DistilBertForSequenceClassification(DistilBertConfig(), rng=init.Unset())
    get_peft_model(model, LoraConfig(task_type="SEQ_CLS")).print_trainable_parameters()
    expected = "trainable params: 739,586 || all params: 67,694,596 || trainable%: 1.0925\n"
    assert capsys.readouterr().out == expected
