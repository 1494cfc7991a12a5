"""Sentence embeddings: what is made of a text's rows, its gradient, and the files that say it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import AutoModelForSentenceEmbedding, AutoModelForSeq2SeqLM, LoraConfig, get_peft_model
from npora.files import read_json, write_json
from npora.files.json import read_json_list
from npora.models import auto
from npora.models.sentence_transformers import EmbeddingForm, read_form
from tests.tiny_folders import FAMILIES, save_folder

IDS = np.array([[2, 9, 4, 3, 0], [2, 5, 3, 0, 0], [2, 11, 12, 6, 3]])
MASK = (IDS > 0).astype(int)


def loaded(path: Path, family: str = "bert", **options: Any) -> Any:
    folder = path / family
    if not folder.exists():
        save_folder(folder, family)
    return AutoModelForSentenceEmbedding.from_pretrained(folder, dtype="float64", **options)


def test_the_families_of_a_task_are_listed_and_counted() -> None:
    assert sorted(AutoModelForSeq2SeqLM.classes) == ["t5"] and len(AutoModelForSeq2SeqLM.classes) == 1
    assert set(AutoModelForSentenceEmbedding.classes) == {*auto.FAMILIES} - {"vit"}
    assert len(AutoModelForSentenceEmbedding.classes) == len(auto.FAMILIES) - 1


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
def test_a_text_is_the_mean_the_first_or_the_last_of_its_rows(family: str, pooling: str, tmp_path: Path) -> None:
    made = loaded(tmp_path, family, pooling=pooling, normalize=family != "bert")
    rows = super(type(made).__mro__[1], made).of_tokens(made.tokens(IDS, MASK))[0].last_hidden_state  # the body's own
    e = made(IDS, MASK)[0].sentence_embedding
    for row, mask, own in zip(rows, MASK, e, strict=True):
        text = row[mask > 0]
        expected = {"mean": text.mean(axis=0), "cls": text[0], "lasttoken": text[-1]}[pooling]
        size = 1 if family == "bert" else np.sqrt(expected @ expected)
        np.testing.assert_allclose(own, expected / size, rtol=1e-9, atol=1e-12)
    assert made.width == e.shape[1] == 16


@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
def test_the_gradient_is_that_of_the_vector(pooling: str, tmp_path: Path) -> None:
    made, rng = loaded(tmp_path, pooling=pooling, normalize=True), np.random.default_rng(0)
    for parameter in made.parameters():
        parameter.requires_grad = True
    e, backward = made(IDS, MASK)
    de = rng.standard_normal(e.sentence_embedding.shape)
    backward(de)
    for name in ("embeddings.word_embeddings.weight", "encoder.layer.0.attention.self.query.weight"):
        parameter = made.get_parameter(name)
        start, step, values = parameter.data, rng.standard_normal(parameter.shape), []
        for h in (1e-6, -1e-6):
            parameter.data = start + h * step
            values.append((made(IDS, MASK)[0].sentence_embedding * de).sum())
        parameter.data = start
        assert (values[0] - values[1]) / 2e-6 == pytest.approx((parameter.grad * step).sum(), rel=1e-6)


class Words:
    """A tokenizer whose words are their own ids."""

    def __call__(self, text: str, truncation: bool, max_length: int | None) -> dict[str, list[int]]:
        assert truncation == (max_length is not None)
        return {"input_ids": [int(word) for word in text.split()][:max_length]}


def test_texts_are_encoded_alike_in_any_batch_and_in_their_order(tmp_path: Path) -> None:
    made = loaded(tmp_path)
    texts = ["2 5 3", "2 9 4 3", "2 3", "2 11 12 6 3"]
    whole = made.encode(texts, Words())
    np.testing.assert_allclose(made.encode(texts, Words(), batch_size=3), whole, rtol=1e-12)
    for text, own in zip(texts, whole, strict=True):
        ids = np.array([text.split()], int)
        np.testing.assert_allclose(made.encode(text, Words()), made(ids)[0].sentence_embedding[0], rtol=1e-12)
        np.testing.assert_allclose(made.encode(text, Words()), own, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(made.encode("2 11 12", Words(), max_length=2), made.encode("2 11", Words()), rtol=1e-12)
    assert made.encode([], Words()).shape == (0, 16)
    with pytest.raises(ValueError, match="text 1 has no token, and so no embedding"):
        made.encode(["2", ""], Words())
    with pytest.raises(ValueError, match="batch_size must be at least 1; got 0"):
        made.encode(["2"], Words(), batch_size=0)
    with pytest.raises(TypeError, match="a sentence is a string; got a list"):
        made.encode(["2", ["3"]], Words())  # type: ignore[list-item]


def test_the_texts_of_the_most_tokens_are_computed_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = loaded(tmp_path)
    packed, lengths = made.packed, list[list[int]]()

    def noted(texts: Any) -> Any:
        lengths.append([len(text) for text in texts])
        return packed(texts)

    monkeypatch.setattr(made, "packed", noted)
    made.encode(["10 11", "2 5 3", "2", "2 5 3 4"], Words(), batch_size=2)  # the first has as many letters as the next
    assert lengths == [[4, 3], [2, 1]]


@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
@pytest.mark.parametrize("normalize", [True, False])
def test_the_form_is_saved_and_read(pooling: str, normalize: bool, tmp_path: Path) -> None:
    made = loaded(tmp_path, pooling=pooling, normalize=normalize)
    made.form = EmbeddingForm(pooling, normalize, 17)
    made.save_pretrained(tmp_path / "saved")
    assert read_form(str(tmp_path / "saved")) == made.form
    again = AutoModelForSentenceEmbedding.from_pretrained(tmp_path / "saved", dtype="float64")
    assert again.form == made.form and read_json(tmp_path / "saved" / "config.json")["architectures"] == ["BertModel"]
    np.testing.assert_array_equal(again(IDS, MASK)[0].sentence_embedding, made(IDS, MASK)[0].sentence_embedding)
    modules = read_json_list(tmp_path / "saved" / "modules.json")
    kinds = ["Transformer", "Pooling", "Normalize"][: 2 + normalize]
    assert [module["type"] for module in modules] == [f"sentence_transformers.models.{kind}" for kind in kinds]
    assert read_json(tmp_path / "saved" / "1_Pooling" / "config.json")["word_embedding_dimension"] == 16
    other = AutoModelForSentenceEmbedding.from_pretrained(tmp_path / "saved", normalize=not normalize)
    assert other.form == EmbeddingForm(pooling, not normalize, 17)


@pytest.mark.parametrize(
    "file, content, message",
    [
        ("modules.json", {}, "modules.json holds a JSON dict; a list was expected"),
        ("modules.json", [{}], "modules.json: modules with type and path were expected"),
        ("modules.json", [{"type": "x.Transformer", "path": ""}, {"type": "x.Dense", "path": "2"}],
         "has the modules Transformer, Dense: npora has Transformer, Pooling and, or not, Normalize"),
        ("modules.json", [{"type": "x.Transformer", "path": "0_T"}, {"type": "x.Pooling", "path": "1"}],
         "the transformer itself is in '0_T'"),
        ("config_sentence_transformers.json", {"default_prompt_name": "query"}, "the prompt 'query' is to stand"),
        ("sentence_bert_config.json", {"do_lower_case": True}, "do_lower_case is not implemented"),
        ("sentence_bert_config.json", {"max_seq_length": "x"}, "max_seq_length must be a whole number; got 'x'"),
        ("1_Pooling/config.json", [], "config.json holds a JSON list; an object was expected"),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True, "pooling_mode_cls_token": False},
         "the pooling is max_tokens; npora has mean_tokens, cls_token, lasttoken"),
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
         "the pooling is cls_token and mean_tokens"),
    ],
)  # fmt: skip
def test_what_npora_has_not_is_refused_by_name(file: str, content: Any, message: str, tmp_path: Path) -> None:
    loaded(tmp_path).save_pretrained(tmp_path / "saved")
    write_json(tmp_path / "saved" / file, content)
    with pytest.raises(ValueError, match=message):
        AutoModelForSentenceEmbedding.from_pretrained(tmp_path / "saved")


def test_another_pooling_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pooling must be mean, cls, lasttoken; got 'max'"):
        loaded(tmp_path, pooling="max", normalize=False)
    with pytest.raises(TypeError, match="BertModel"):
        loaded(tmp_path)(IDS, labels=IDS)


def test_an_adapters_names_are_the_bodys(tmp_path: Path) -> None:
    made = get_peft_model(loaded(tmp_path), LoraConfig(r=2, task_type="FEATURE_EXTRACTION"))
    names = [name for name, parameter in made.named_parameters() if parameter.requires_grad]
    assert names[0] == "base_model.model.encoder.layer.0.attention.self.query.lora_A.default.weight"
    np.testing.assert_array_equal(made.encode("2 5 3", Words()), loaded(tmp_path).encode("2 5 3", Words()))
