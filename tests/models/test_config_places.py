"""What a config says reaches every layer that it is about, and is read, kept and written as it was said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, get_peft_model
from npora.models import BertConfig, GPT2Config, LlamaConfig
from npora.nn import LayerNorm, RMSNorm, no_grad
from tests.models.test_each_parameter_alone import CASES, IDS, LLAMAS, MASK, batch, tiny

EPS = {
    **dict.fromkeys(("Bert", "Roberta", "XLMRoberta", "Electra", "MPNet", "DebertaV2"), "layer_norm_eps"),
    "GPT2": "layer_norm_epsilon",
    "ModernBert": "norm_eps",
    **dict.fromkeys(("Llama", *LLAMAS, "Gemma3Text"), "rms_norm_eps"),
    **dict.fromkeys(("T5", "T5 gated"), "layer_norm_epsilon"),
}  # fmt: skip
# How often each dropout is drawn for one text: layers are 2, and 3 in T5's decoder.
_BERT = {"hidden_dropout_prob": 1 + 2 * 2, "attention_probs_dropout_prob": 2}
DROPOUTS: dict[str, dict[str, int]] = {
    "Bert": {**_BERT, "classifier_dropout": 1},
    **{family: {**_BERT, "classifier_dropout": 2} for family in ("Roberta", "XLMRoberta", "Electra")},
    "ModernBert": {"embedding_dropout": 1, "attention_dropout": 2 * 2, "mlp_dropout": 2, "classifier_dropout": 1},
    "MPNet": {**_BERT, "hidden_dropout_prob": 1 + 2 * 2 + 2},
    # Before the layers, in each the embeddings of distances too, and the head's.
    "DebertaV2": {"hidden_dropout_prob": 1 + 2 * 3 + 1, "attention_probs_dropout_prob": 2, "pooler_dropout": 1},
    "DistilBert": {"dropout": 1 + 2, "attention_dropout": 2, "seq_classif_dropout": 1},
    "GPT2": {"embd_pdrop": 1, "attn_pdrop": 2, "resid_pdrop": 2 * 2},
    **{family: {"attention_dropout": 2} for family in ("Llama", *LLAMAS, "Gemma3Text")},
    "Phi3": {"attention_dropout": 2, "resid_pdrop": 2 * 2},
    # Before and after the layers; in a layer the weights and the result of each attention, and twice the feed-forward.
    "T5": {"dropout_rate": (2 + 2 * 4) + (2 + 3 * 6), "classifier_dropout": 2},
    "T5 gated": {"dropout_rate": (2 + 2 * 4) + (2 + 3 * 6)},
}  # fmt: skip


class Counting(np.random.Generator):
    """Counts what is drawn from it."""

    draws = 0

    def integers(self, *args: Any, **keywords: Any) -> Any:
        self.draws += 1
        return super().integers(*args, **keywords)


@pytest.mark.parametrize(("family", "head"), [case for case in CASES if case[0] in EPS])
def test_every_norm_has_the_configs_eps(family: str, head: str) -> None:
    model = tiny(family, head, **{EPS[family]: 0.37})
    norms = [module for module in model.modules() if isinstance(module, LayerNorm | RMSNorm)]
    assert len(norms) >= 4 and {norm.eps for norm in norms} == {0.37}


@pytest.mark.parametrize(("family", "name"), [(family, name) for family in DROPOUTS for name in DROPOUTS[family]])
def test_each_dropout_of_a_config_drops_out_where_it_is_about(family: str, name: str) -> None:
    """Nothing else drops out here."""
    apart = {"classifier_dropout": 0.0} if "classifier_dropout" in DROPOUTS[family] else {}
    model = tiny(family, "SequenceClassification", **{**apart, name: 0.5})
    with no_grad():
        plain = model(IDS[:1], MASK[:1])[0].logits
        rng = Counting(np.random.PCG64(1))
        assert (model(IDS[:1], MASK[:1], rng=rng)[0].logits != plain).all()
    assert rng.draws == DROPOUTS[family][name]


@pytest.mark.parametrize("family", ["Bert", "Roberta", "Electra", "DistilBert", "Llama"])
def test_the_embedding_of_the_padding_token_is_not_trained_even_where_it_is_read(family: str) -> None:
    model = tiny(family, "SequenceClassification")
    model(IDS, np.ones_like(MASK), labels=np.array([2, 0, 1]))[1]()
    ends = ("word_embeddings.weight", "embed_tokens.weight")
    (gradient,) = (parameter.grad for name, parameter in model.named_parameters() if name.endswith(ends))
    assert not gradient[0].any() and gradient[1].any()


def test_the_gradients_of_the_rows_and_of_what_is_pooled_add_up() -> None:
    model = tiny("Bert", "SequenceClassification").bert
    output, backward = model(IDS, MASK)
    rng, found = np.random.default_rng(5), []
    dhidden, dpooled = (rng.standard_normal(x.shape) for x in (output.last_hidden_state, output.pooler_output))
    for given in ((dhidden, dpooled), (dhidden, None), (None, dpooled)):
        model.zero_grad()
        backward(*given)
        found.append(model.embeddings.LayerNorm.weight.grad)
    np.testing.assert_allclose(found[0], found[1] + found[2], rtol=1e-12, atol=1e-13)
    assert found[1].any() and found[2].any()


@pytest.mark.parametrize(
    ("family", "head", "target"),
    [
        ("Bert", "MaskedLM", "cls.predictions.transform.dense"), ("Roberta", "MaskedLM", "lm_head.dense"),
        ("DistilBert", "MaskedLM", "vocab_transform"), ("Electra", "MaskedLM", "generator_predictions.dense"),
        ("GPT2", "LMHeadModel", "lm_head"),
        ("Llama", "CausalLM", "lm_head"), ("T5 gated", "ConditionalGeneration", "lm_head"),
    ],
)  # fmt: skip
def test_an_adapter_of_a_head_drops_out_where_there_are_no_labels_too(family: str, head: str, target: str) -> None:
    base = tiny(family, head)
    model = get_peft_model(base, LoraConfig(r=2, target_modules=[target], lora_dropout=0.5)).train()
    for name, parameter in model.adapter_parameters("default").items():
        if "lora_B" in name:
            parameter.data = np.random.default_rng(1).standard_normal(parameter.shape)
    given = {"input_ids": IDS, "attention_mask": MASK}
    if family.startswith("T5"):
        given["decoder_input_ids"] = IDS
    with no_grad():
        logits = {model(**given, rng=np.random.default_rng(seed))[0].logits.tobytes() for seed in range(3)}
    assert len(logits) == 3


@pytest.mark.parametrize(("family", "head"), [case for case in CASES if case[1].startswith(("Seq", "Cond"))])
def test_with_checkpointing_a_layer_runs_once_more_in_backward(family: str, head: str) -> None:
    model = tiny(family, head)
    ends = (".layer.1", ".h.1", ".layers.1", ".block.1")
    layers: list[Any] = [module for path, module in model.named_modules() if path.endswith(ends)]
    runs: list[int] = []
    for number, layer in enumerate(layers):
        forward = layer.forward
        layer.forward = lambda *x, number=number, forward=forward, **k: (runs.append(number), forward(*x, **k))[1]
    model(**batch(head))[1]()
    assert layers and sorted(runs) == list(range(len(layers)))
    runs.clear()
    model.gradient_checkpointing_enable()
    model(**batch(head))[1]()
    assert sorted(runs) == sorted([*range(len(layers))] * 2)


def test_what_a_file_left_out_is_written_once_it_is_another_value() -> None:
    config = BertConfig.from_dict({"hidden_size": 8, "num_attention_heads": 2})
    assert not {"hidden_dropout_prob", "pad_token_id"} & config.to_dict().keys()
    config.hidden_dropout_prob = 0.3
    written = config.to_dict()
    assert written["hidden_dropout_prob"] == 0.3 and "pad_token_id" not in written
    assert BertConfig.from_dict(written).hidden_dropout_prob == 0.3


def test_a_field_that_is_said_under_another_name_is_written_once() -> None:
    config = GPT2Config.from_dict({"hidden_size": 8, "num_attention_heads": 2})
    written = config.to_dict()
    assert written["n_embd"] == 8 and written["n_head"] == 2 and config.kept == {}
    assert not {"hidden_size", "num_attention_heads"} & written.keys()
    config.n_embd = 16
    assert GPT2Config.from_dict(config.to_dict()).n_embd == 16


def test_numbers_of_names_are_kept_as_they_are_said() -> None:
    said = {"no": 0, "yes": 1, "nope": 0}
    config = BertConfig.from_dict({"id2label": {"0": "no", "1": "yes"}, "label2id": said})
    assert config.label2id == said and config.to_dict()["label2id"] == said


def test_of_two_names_for_the_angles_base_the_older_counts_as_in_transformers() -> None:
    both = {"rope_scaling": {"rope_type": "default", "rope_theta": 5.0}, "rope_parameters": {"rope_theta": 7.0}}
    for said, expected in ((both, 5.0), ({"rope_parameters": {"rope_theta": 7.0}, "rope_theta": 3.0}, 7.0)):
        assert LlamaConfig.from_dict(said).rope_theta == expected


@pytest.mark.parametrize("family", ["Mistral", "Qwen2", "Qwen3"])
def test_biases_that_a_file_names_and_its_family_has_not_are_not_made(family: str) -> None:
    """As in transformers, which passes over such a field too."""
    kept = {"mlp_bias": True, **({} if family == "Qwen3" else {"attention_bias": True})}
    made = tiny(family, "CausalLM", kept=kept)
    assert made.config.kept == kept
    assert [*dict(made.named_parameters())] == [*dict(tiny(family, "CausalLM").named_parameters())]
