"""Where an adapter is found, and what it says of itself before its model is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, PeftModel, get_peft_model
from npora.files import load_file, load_metadata, save_file
from npora.lora import adapter_directory, read_record
from npora.models import GPT2Config, GPT2ForSequenceClassification, T5Config, T5ForSequenceClassification
from npora.nn import Module
from tests.files.hub_server import serving
from tests.lora.test_files import logits, trained
from tests.lora.test_load import WEIGHTS, as_peft_saves, rename
from tests.tiny import tiny_bert, tiny_peft
from tests.tiny_encoders import tiny_encoder

NAMES = {0: "no", 1: "yes", 2: "perhaps"}


def classifier(family: str, num_labels: int) -> Module:
    if family == "gpt2":
        sizes = {"vocab_size": 31, "n_positions": 8, "n_embd": 6, "n_layer": 1, "n_head": 2}
        return GPT2ForSequenceClassification(GPT2Config(**sizes, num_labels=num_labels, pad_token_id=0), rng=0)
    if family == "t5":
        sizes = {"vocab_size": 31, "d_model": 6, "d_kv": 3, "d_ff": 7, "num_layers": 1, "num_heads": 2}
        return T5ForSequenceClassification(T5Config(**sizes, num_labels=num_labels), rng=0)
    model: Module = tiny_encoder(family, "SequenceClassification", num_labels=num_labels)
    return model


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "gpt2", "t5"])
@pytest.mark.parametrize("num_labels", [1, 3, 7])
def test_the_classes_are_read_from_every_familys_head(tmp_path: Path, family: str, num_labels: int) -> None:
    get_peft_model(classifier(family, num_labels), LoraConfig(task_type="SEQ_CLS")).save_pretrained(tmp_path)
    assert read_record(tmp_path)["num_labels"] == num_labels
    rename(lambda name: name)(tmp_path)  # without a record, as PEFT saves it
    nothing = {"id2label": None, "problem_type": None, "notes": {}, "base_forms": []}
    assert read_record(tmp_path) == {"num_labels": num_labels, **nothing}
    other = 4 if family == "t5" else 2
    with pytest.raises(ValueError, match=f"has {num_labels} classes, and this model has {other}: .*num_labels="):
        PeftModel.from_pretrained(classifier(family, other), tmp_path)


def test_t5s_head_is_trained_by_its_task_and_named_for_peft(tmp_path: Path) -> None:
    model = get_peft_model(classifier("t5", 3), LoraConfig(task_type="SEQ_CLS"))
    assert any("classification_head" in name for name, p in model.named_parameters() if p.requires_grad)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["modules_to_save"] == ["classification_head"]


def named(**fields: Any) -> Any:
    base = tiny_bert()
    for name, value in fields.items():
        setattr(base.config, name, value)
    return base


def test_labels_and_notes_are_saved_with_the_adapter_and_found_again(tmp_path: Path) -> None:
    base = named(id2label=NAMES, problem_type="single_label_classification")
    model = get_peft_model(base, LoraConfig(task_type="SEQ_CLS"))
    model.notes["max_length"] = 256
    model.save_pretrained(tmp_path)
    assert read_record(tmp_path) == {
        "num_labels": 3, "id2label": NAMES, "problem_type": "single_label_classification", "notes": {"max_length": 256},
        "base_forms": [],
    }  # fmt: skip
    other = named(id2label={i: f"LABEL_{i}" for i in range(3)}, label2id={})
    again = PeftModel.from_pretrained(other, tmp_path)
    assert again.notes == {"max_length": 256}
    assert again.config.id2label == NAMES and again.config.label2id == {"no": 0, "yes": 1, "perhaps": 2}
    before = (tmp_path / WEIGHTS).read_bytes()
    again.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == before
    again.notes["max_length"] = 128
    again.save_pretrained(tmp_path / "again")
    assert read_record(tmp_path / "again")["notes"] == {"max_length": 128}
    assert load_metadata(tmp_path / "again" / WEIGHTS)["format"] == "pt"


def test_each_adapter_has_notes_of_its_own(tmp_path: Path) -> None:
    model = tiny_peft()
    model.notes["number"] = 1
    model.add_adapter("second", LoraConfig(r=1, target_modules=["key"]))
    model.set_adapter("second")
    model.notes["number"] = 2
    model.save_pretrained(tmp_path)
    assert [read_record(place)["notes"]["number"] for place in (tmp_path, tmp_path / "second")] == [1, 2]
    assert read_record(tmp_path / "second")["num_labels"] is None


def test_notes_that_json_cannot_hold_are_refused_by_name(tmp_path: Path) -> None:
    model = tiny_peft()
    model.notes["array"] = np.ones(2)
    with pytest.raises(ValueError, match=r"notes must be what JSON can hold; got {'array'"):
        model.save_pretrained(tmp_path)


def test_classes_of_other_names_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    get_peft_model(named(id2label=NAMES), LoraConfig(task_type="SEQ_CLS")).save_pretrained(tmp_path)
    PeftModel.from_pretrained(named(id2label={0: "a", 1: "b", 2: "c"}), tmp_path)
    assert "the adapter's classes are {0: 'no'" in caplog.text and "this model calls them {0: 'a'" in caplog.text


def test_a_record_that_is_not_json_is_an_error_with_its_file(tmp_path: Path) -> None:
    trained().save_pretrained(tmp_path)
    tensors = {name: np.array(value) for name, value in load_file(tmp_path / WEIGHTS).items()}
    save_file(tensors, tmp_path / WEIGHTS, {"npora": "{"})
    for read in (lambda: read_record(tmp_path), lambda: PeftModel.from_pretrained(tiny_bert(), tmp_path)):
        with pytest.raises(ValueError, match=f"the npora record of {tmp_path / WEIGHTS} is not valid JSON"):
            read()


def test_an_output_of_finetune_is_the_adapter_in_it(tmp_path: Path) -> None:
    model = trained()
    model.save_pretrained(tmp_path / "adapter")
    (tmp_path / "log.jsonl").write_text("")
    assert adapter_directory(tmp_path) == str(tmp_path / "adapter")
    assert logits(PeftModel.from_pretrained(tiny_bert(), tmp_path)) == logits(model)
    assert read_record(tmp_path)["num_labels"] == 3


def test_a_place_without_an_adapter_says_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"there is no file {tmp_path / 'adapter_config.json'}"):
        adapter_directory(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="holds no adapter; it holds a whole model"):
        adapter_directory(tmp_path)
    trained().save_pretrained(tmp_path / "checkpoint-7")
    with pytest.raises(FileNotFoundError, match="its folders checkpoint-7 hold adapters: name one of them"):
        adapter_directory(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"there is no directory .*second"):
        adapter_directory(tmp_path, subfolder="second")


FETCH = """
import sys
from npora import PeftModel
from npora.lora import read_record
from tests.lora.test_files import logits
from tests.tiny import tiny_bert

name, cache = sys.argv[1:]
model = PeftModel.from_pretrained(tiny_bert(), name, revision="v2", cache_dir=cache)
print(logits(model).hex(), read_record(name, "v2", cache, local_files_only=True)["num_labels"])
try:
    PeftModel.from_pretrained(tiny_bert(), "org/pickled", cache_dir=cache)
except FileNotFoundError as error:
    print(error)
"""


def test_a_name_on_the_hub_is_fetched(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="needs the extra `hf`")
    expected = as_peft_saves(tmp_path / "adapter")
    files = {path.name: path.read_bytes() for path in (tmp_path / "adapter").iterdir()}
    pickled = {"adapter_config.json": files["adapter_config.json"], "adapter_model.bin": b"\x80"}
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and not k.lower().endswith("_proxy")}
    with serving({"org/adapter": files, "org/pickled": pickled}) as hub:
        settings = {
            "HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.address, "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
        }  # fmt: skip
        result = subprocess.run(
            [sys.executable, "-c", FETCH, "org/adapter", str(tmp_path / "cache")], cwd=Path(__file__).parents[2],
            env={**clean, **settings}, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        asked = list(hub.asked)
    assert result.returncode == 0, result.stderr
    found, missing = result.stdout.splitlines()
    assert found == f"{expected.hex()} 3" and any("/revision/v2" in line for line in asked)
    assert "Where its repository has an adapter_model.bin: that is a pickle" in missing
