"""A real checkpoint in float32 against transformers."""

from __future__ import annotations

import numpy as np
import pytest

from npora import AutoModelForSequenceClassification, AutoTokenizer, LoraConfig, get_peft_model
from npora.data import collate, read_tsv
from tests.shared_data import data

torch = pytest.importorskip("torch", reason="needs the extra `parity`")
transformers = pytest.importorskip("transformers", reason="needs the extra `parity`")
pytest.importorskip("tokenizers", reason="needs the extra `hf`")


def test_real_sentences_give_transformers_ids_and_outputs() -> None:
    directory = data("checkpoints", "minilm-l6")
    sentences = read_tsv(data("sst2", "dev.tsv"))[:16]["sentence"]
    tokenizer = AutoTokenizer.from_pretrained(directory)
    theirs = transformers.AutoTokenizer.from_pretrained(directory)
    encoded = [tokenizer(sentence) for sentence in sentences]
    assert encoded == [dict(theirs(sentence)) for sentence in sentences]
    batch = collate(encoded, {"input_ids", "attention_mask", "token_type_ids"})
    model = AutoModelForSequenceClassification.from_pretrained(directory, num_labels=2)
    output = model.bert(**batch)[0]
    reference = transformers.BertModel.from_pretrained(directory).eval()
    with torch.no_grad():
        expected = reference(**{key: torch.tensor(value) for key, value in batch.items()})
        head = torch.tensor(model.classifier.weight.data)
        logits = expected.pooler_output @ head.T
    # float32 through six layers of sums of 384 and 1,536 terms of size about 1.
    np.testing.assert_allclose(output.pooler_output, expected.pooler_output, rtol=0, atol=1e-5)
    np.testing.assert_allclose(model(**batch)[0].logits, logits, rtol=0, atol=1e-5)


def test_the_recipe_counts_its_parameters_as_peft_does(capsys: pytest.CaptureFixture[str]) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(data("checkpoints", "minilm-l6"), num_labels=2)
    config = LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"], task_type="SEQ_CLS")
    get_peft_model(model, config).print_trainable_parameters()
    expected = "trainable params: 74,498 || all params: 22,788,484 || trainable%: 0.3269\n"
    assert capsys.readouterr().out == expected
