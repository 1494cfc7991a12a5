"""Values of the encoders under each head, which a derivative check does not see: against transformers'
(see make_golden.py) and by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora.models import AutoModelForMaskedLM, BertConfig, BertModel, DistilBertConfig, RobertaConfig
from npora.models.tokens import Tokens
from npora.nn import Linear, no_grad
from tests.tiny_encoders import HEADS, SIZES, tiny_encoder

GOLDEN = Path(__file__).with_name("golden_encoders.json")
IDS = np.array([[7, 3, 24, 9], [30, 1, 1, 1], [5, 1, 29, 1]])  # RoBERTa's padding, also inside a sentence
MASK = np.array([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 0]])
TYPES = np.array([[0, 0, 1, 1], [1, 0, 0, 0], [0, 1, 1, 0]])
KEYS_AND_VALUES = ("key", "value", "key_proj", "value_proj", "k_lin", "v_lin", ".k", ".v", "Wqkv")
LABELS = {
    "SequenceClassification": np.array([2, 0, 1]),
    "TokenClassification": np.array([[2, -100, 0, 0], [-100] * 4, [1, 2, -100, -100]]),
    "MaskedLM": np.array([[-100, 17, 24, -100], [-100] * 4, [-100, -100, 3, -100]]),
}


def batch(family: str) -> dict[str, Any]:
    types = {"token_type_ids": TYPES} if family in ("bert", "electra", "deberta-v2") else {}
    return {"input_ids": IDS, "attention_mask": MASK, **types}


def test_logits_and_losses_are_those_of_transformers() -> None:
    expected = json.loads(GOLDEN.read_text())
    for family in SIZES:
        for head in HEADS:
            output, _ = tiny_encoder(family, head, np.float64)(**batch(family), labels=LABELS[head])
            logits, golden = output.logits, np.array(expected[f"{family} {head}"]["logits"])
            if logits.ndim == 3:
                golden = golden * MASK[..., None]
            # Two layers, sums of at most 7 terms of size about 1.
            np.testing.assert_allclose(logits, golden, rtol=0, atol=1e-12)
            np.testing.assert_allclose(output.loss, expected[f"{family} {head}"]["loss"], rtol=0, atol=1e-12)


def test_roberta_counts_positions_from_its_padding_token_and_passes_that_over() -> None:
    model = tiny_encoder("roberta", "MaskedLM").roberta
    ids = np.array([[1, 1, 5, 6], [5, 1, 6, 7]])
    tokens = Tokens.of(ids, [[0, 0, 1, 1], [1, 1, 1, 1]])
    assert model.positions(tokens).tolist() == [2, 3, 2, 1, 3, 4]
    assert model.embeddings.position_embeddings.padding_idx == 1


def test_a_sequence_may_fill_every_position_and_no_more() -> None:
    for family in SIZES:  # 12 tokens each; RoBERTa's first two positions of 14 hold none
        model = tiny_encoder(family, "TokenClassification")
        if model.config.takes_any_length:
            continue
        assert model.config.most_tokens == 12
        assert model(np.full((1, 12), 5))[0].logits.shape == (1, 12, 3)
        with pytest.raises(ValueError, match="a sequence of 13 tokens is longer than the 12 positions"):
            model(np.full((1, 13), 5))


@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.parametrize("family", SIZES)
def test_the_first_tokens_alone_are_those_of_the_whole(family: str, layers: int) -> None:
    depth = {"n_layers" if family == "distilbert" else "num_hidden_layers": layers}
    body = tiny_encoder(family, "SequenceClassification", np.float64, **depth)
    body = getattr(body, body.base_model_prefix)
    tokens = Tokens.of(IDS, MASK)
    rows = tokens.packing.first_rows()
    whole, first = body.rows(tokens)[0], body.rows(tokens, read=rows)[0]
    np.testing.assert_allclose(first, whole[rows], rtol=0, atol=1e-13)  # other sizes, other roundings
    assert first.shape == (3, 6)


@pytest.mark.parametrize(
    ("head", "asked", "read"),
    [
        ("SequenceClassification", {"labels": np.array([2, 0, 1])}, 3),
        ("SequenceClassification", {}, 3),
        ("MaskedLM", {"labels": np.array([[-100, 17, -100, -100], [-100] * 4, [-100, -100, 3, -100]])}, 2),
        ("MaskedLM", {"labels": LABELS["MaskedLM"], "all_logits": True}, 8),
        ("MaskedLM", {}, 8),
        ("TokenClassification", {"labels": LABELS["TokenClassification"]}, 8),
    ],
)
@pytest.mark.parametrize("family", SIZES)
def test_the_last_layer_multiplies_keys_and_values_of_all_rows_and_the_rest_of_those_that_are_read(
    family: str, head: str, asked: dict[str, Any], read: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward and backward; what a row costs does not depend on the others."""
    model, forward = tiny_encoder(family, head), Linear.forward
    paths, seen = {id(module): path for path, module in model.named_modules()}, {}

    def counting(self: Linear, x: Any, rng: Any = None) -> Any:
        y, backward = forward(self, x, rng)
        rows = seen.setdefault(paths[id(self)], [len(x)])
        return y, lambda dy: (rows.append(len(dy)), backward(dy))[1]

    monkeypatch.setattr(Linear, "forward", counting)
    output, backward = model(**batch(family), **asked)
    backward(*([] if "labels" in asked else [np.ones_like(output.logits)]))
    layers = {path: rows for path, rows in seen.items() if ".layer" in path and ".pos_" not in path}
    assert len(layers) == 2 * (4 if family == "modernbert" else 6)
    for path, rows in layers.items():
        everywhere = ".0." in path or path.endswith(KEYS_AND_VALUES)
        assert rows == [8 if everywhere else read] * 2, path


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", SIZES)
def test_dropout_drops_the_same_with_gradients_without_and_recomputed(family: str, head: str) -> None:
    given, losses, gradients = {**batch(family), "labels": LABELS[head]}, set(), []

    def loss(model: Any) -> Any:
        output, backward = model(**given, rng=np.random.default_rng(5))
        losses.add(output.loss.tobytes())
        return backward

    for recompute in (False, True):
        model = tiny_encoder(family, head)
        if recompute:
            model.gradient_checkpointing_enable()
        loss(model)()
        gradients.append({name: p.grad.tobytes() for name, p in model.named_parameters() if p.grad is not None})
        with no_grad():
            loss(model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad = "layer.1" in name or "layers.1" in name
        loss(model)  # what is below the layer that is trained keeps nothing
    assert len(losses) == 1 and model(**given)[0].loss.tobytes() not in losses
    assert gradients[0] == gradients[1] and len(gradients[0]) > 22


def test_an_input_that_a_family_has_not_is_refused_and_a_body_without_a_pooler_gives_nothing_pooled() -> None:
    for head in HEADS:
        with pytest.raises(TypeError, match="DistilBertModel has no token_type_ids: it takes input_ids, attention_m"):
            tiny_encoder("distilbert", head)(IDS, MASK, token_type_ids=TYPES)
    body = BertModel(BertConfig(**SIZES["bert"]), add_pooling_layer=False, rng=1)
    assert body.rows(body.tokens(IDS, MASK))[0].shape == (8, 6)
    output, backward = body(IDS, MASK)
    assert output.last_hidden_state.shape == (*IDS.shape, 6) and not hasattr(output, "pooler_output")
    backward(output.last_hidden_state)
    assert body.embeddings.word_embeddings.weight.grad is not None


def test_tokens_without_a_label_are_neither_transformed_nor_projected() -> None:
    model, seen = tiny_encoder("roberta", "MaskedLM"), []
    head = model.lm_head
    forward = head.forward
    head.forward = lambda h, rng=None: (seen.append(len(h)), forward(h, rng))[1]
    output, backward = model(**batch("roberta"), labels=LABELS["MaskedLM"])
    backward()
    assert seen == [3] and output.num_items == 3
    assert output.logits.shape == (3, 4, 31) and seen == [3, 8]


def test_without_labels_the_loss_is_none_over_no_items() -> None:
    output, _ = tiny_encoder("bert", "MaskedLM")(IDS, MASK)
    assert output.loss is None and output.num_items == 0


def test_a_batch_without_any_label_has_no_loss_and_no_gradient() -> None:
    for family in SIZES:
        for head in ("TokenClassification", "MaskedLM"):
            model = tiny_encoder(family, head)
            output, backward = model(IDS, MASK, labels=np.full((3, 4), -100))
            backward()
            assert output.loss == 0 and output.num_items == 0
            assert not any(p.grad.any() for p in model.parameters() if p.grad is not None)


def test_the_tied_vocabulary_is_one_parameter_and_saved_once() -> None:
    names = {
        **dict.fromkeys(("bert", "deberta-v2"), ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias")),
        **dict.fromkeys(("roberta", "xlm-roberta", "mpnet"), ("lm_head.decoder.weight", "lm_head.decoder.bias")),
        "electra": ("generator_lm_head.weight",),
        "modernbert": ("decoder.weight",),
        "distilbert": ("vocab_projector.weight",),
    }
    for family in SIZES:
        model = tiny_encoder(family, "MaskedLM")
        decoder = model.get_submodule(model.output_embeddings)
        assert decoder.weight is model.body.embedding().weight
        assert not set(names[family]) & set(model.state_dict())


def test_dropout_names_of_distilbert_reach_their_places() -> None:
    changes = {"dropout": 0.1, "attention_dropout": 0.2, "seq_classif_dropout": 0.3}
    model = tiny_encoder("distilbert", "SequenceClassification", **changes)
    layer = model.distilbert.transformer.layer[1]
    assert (model.dropout.p, layer.attention.dropout, layer.ffn.dropout.p) == (0.3, 0.2, 0.1)
    assert model.distilbert.embeddings.dropout.p == 0.1
    assert tiny_encoder("distilbert", "TokenClassification", **changes).dropout.p == 0.1


def test_the_dropout_of_a_head_is_the_classifiers_or_else_the_hidden_one() -> None:
    for family in ("bert", "roberta", "xlm-roberta", "electra"):
        for given, expected in ((None, 0.1), (0.25, 0.25), (0.0, 0.0)):
            assert tiny_encoder(family, "TokenClassification", classifier_dropout=given).dropout.p == expected
            head = tiny_encoder(family, "SequenceClassification", classifier_dropout=given)
            assert (head if family == "bert" else head.classifier).dropout.p == expected


def test_sinusoidal_position_embeddings_are_as_the_file_has_them() -> None:
    for said in (True, False):
        values = {**SIZES["distilbert"], "sinusoidal_pos_embds": said}
        assert DistilBertConfig.from_dict(values).to_dict()["sinusoidal_pos_embds"] == said
    pair = [tiny_encoder("distilbert", "MaskedLM", sinusoidal_pos_embds=said) for said in (True, False)]
    with no_grad():
        logits = [model(IDS, MASK)[0].logits.tobytes() for model in pair]
    assert logits[0] == logits[1]


BERT = {
    "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "intermediate_size": 3072, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0,
    "initializer_range": 0.02, "classifier_dropout": None,
}  # fmt: skip
DEFAULTS: dict[str, dict[str, Any]] = {
    "bert": BERT,
    "roberta": {**BERT, "vocab_size": 50265, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2},
    "xlm-roberta": {**BERT, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2},
    "electra": {**BERT, "embedding_size": 128, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024},
    "mpnet": {
        **{name: value for name, value in BERT.items() if name not in ("type_vocab_size", "classifier_dropout")},
        "vocab_size": 30527, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
        "relative_attention_num_buckets": 32,
    },
    "deberta-v2": {
        **{name: value for name, value in BERT.items() if name != "classifier_dropout"},
        "vocab_size": 128100, "hidden_size": 1536, "num_hidden_layers": 24, "num_attention_heads": 24,
        "intermediate_size": 6144, "type_vocab_size": 0, "layer_norm_eps": 1e-7, "relative_attention": False,
        "max_relative_positions": -1, "position_biased_input": True, "pos_att_type": None, "pooler_dropout": 0.0,
        "pooler_hidden_act": "gelu", "legacy": True, "tie_word_embeddings": True,
    },
    "modernbert": {
        "vocab_size": 50368, "hidden_size": 768, "intermediate_size": 1152, "num_hidden_layers": 22,
        "num_attention_heads": 12, "hidden_activation": "gelu", "max_position_embeddings": 8192,
        "initializer_range": 0.02, "norm_eps": 1e-5, "norm_bias": False, "attention_bias": False,
        "attention_dropout": 0.0, "local_attention": 128, "sliding_window": 64, "embedding_dropout": 0.0,
        "mlp_bias": False, "mlp_dropout": 0.0, "decoder_bias": True, "classifier_pooling": "cls",
        "classifier_dropout": 0.0, "classifier_bias": False, "classifier_activation": "gelu", "pad_token_id": 50283,
        "bos_token_id": 50281, "eos_token_id": 50282, "tie_word_embeddings": True,
        "layer_types": [("sliding" if index % 3 else "full") + "_attention" for index in range(22)],
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            "full_attention": {"rope_type": "default", "rope_theta": 1.6e5},
        },
    },
    "distilbert": {
        "vocab_size": 30522, "max_position_embeddings": 512, "n_layers": 6, "n_heads": 12, "dim": 768,
        "hidden_dim": 3072, "dropout": 0.1, "attention_dropout": 0.1, "activation": "gelu", "seq_classif_dropout": 0.2,
        "pad_token_id": 0, "initializer_range": 0.02,
    },
}  # fmt: skip


def test_what_a_config_leaves_out_is_what_transformers_takes() -> None:
    for family, expected in DEFAULTS.items():
        config = AutoModelForMaskedLM.classes[family].config_class.from_dict({})
        assert {name: getattr(config, name) for name in expected} == expected


def test_a_config_that_makes_no_sense_is_named() -> None:
    with pytest.raises(ValueError, match="RoBERTa counts its positions from pad_token_id, which is None"):
        RobertaConfig(pad_token_id=None)
    with pytest.raises(ValueError, match="dim 7 is not a multiple of n_heads 2"):
        DistilBertConfig(dim=7, n_heads=2)
    with pytest.raises(ValueError, match="activation 'prelu' is not one of"):
        DistilBertConfig(activation="prelu")
    assert DistilBertConfig.from_dict({"hidden_size": 24, "num_hidden_layers": 2}).dim == 24
