"""Decoders of Llama's kind: which rows a last layer computes, what a window sees, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npora.models.auto import tasks_of
from npora.nn import Linear, RMSNorm, no_grad
from tests.tiny_decoders import FAMILIES, WINDOWED, tiny_decoder

IDS = np.array([[5, 3, 9, 2, 7], [4, 7, 1, 0, 0], [8, 8, 6, 11, 0]])
MASK = (IDS != 0).astype(int)
BATCH: dict[str, Any] = {"input_ids": IDS, "attention_mask": MASK}
PROMPT_AND_ANSWER = {"labels": np.where((MASK == 1) & (np.arange(5) > 2), IDS, -100)}  # 2, 0 and 1 tokens are learnt
EVERY_TOKEN = {"labels": np.where(MASK == 1, IDS, -100)}
EVERY_ROW = ("k_proj", "v_proj", "qkv_proj", "k_norm", "input_layernorm")
every_family = pytest.mark.parametrize("family", FAMILIES)
every_window = pytest.mark.parametrize("family", WINDOWED)


@pytest.mark.parametrize(
    ("task", "asked", "read"),
    [
        ("SequenceClassification", {"labels": np.array([2, 0, 1])}, 3),
        ("SequenceClassification", {}, 3),
        ("CausalLM", PROMPT_AND_ANSWER, 3),
        ("CausalLM", EVERY_TOKEN, 12 - 3),
        ("CausalLM", {**PROMPT_AND_ANSWER, "all_logits": True}, 12),
        ("CausalLM", {}, 12),
        ("TokenClassification", {"labels": np.where(IDS > 5, IDS % 3, -100)}, 12),
    ],
    ids=["classes", "classes, no labels", "prompts", "every token", "prompts, all logits", "logits", "tokens"],
)
@every_family
def test_the_last_layer_multiplies_keys_and_values_of_all_rows_and_the_rest_of_those_that_are_read(
    family: str, task: str, asked: dict[str, Any], read: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward and backward; what a row costs does not depend on the others. A head's norm is of the head's rows."""
    if task not in tasks_of(family):
        pytest.skip("transformers has none")
    model = tiny_decoder(family, task)
    paths, seen = {id(module): path for path, module in model.named_modules()}, {}

    def counted(kind: Any) -> None:
        forward = kind.forward

        def counting(self: Any, x: Any, *rng: Any) -> Any:
            y, backward = forward(self, x, *rng)
            rows = seen.setdefault(paths[id(self)], [len(x)])
            return y, lambda dy: (rows.append(len(dy)), backward(dy))[1]

        monkeypatch.setattr(kind, "forward", counting)

    counted(Linear)
    counted(RMSNorm)
    output, backward = model(**BATCH, **asked)
    backward(*([] if "labels" in asked else [np.ones_like(output.logits)]))
    layers = {path: rows for path, rows in seen.items() if ".layers." in path}
    assert len(layers) == 2 * {"gemma3_text": 13, "olmo2": 11, "phi3": 6, "qwen3": 11}.get(family, 9)
    for path, rows in layers.items():
        everywhere = ".layers.0." in path or path.endswith(EVERY_ROW)
        assert rows == [12 if everywhere else read] * 2, path
    assert seen["model.norm"] == [read, read]


@every_family
def test_dropout_drops_the_same_with_gradients_without_and_recomputed(family: str) -> None:
    for task in tasks_of(family):
        labels = {"SequenceClassification": {"labels": np.array([2, 0, 1])},
                  "TokenClassification": {"labels": np.where(IDS > 5, IDS % 3, -100)},
                  "QuestionAnswering": {"labels": np.array([[1, 4], [0, 2], [2, 2]])}}  # fmt: skip
        given, losses, gradients = {**BATCH, **labels.get(task, PROMPT_AND_ANSWER)}, set(), []
        for recompute in (False, True):
            model = tiny_decoder(family, task, attention_dropout=0.3)
            if recompute:
                model.gradient_checkpointing_enable()
            with no_grad():
                losses.add(model(**given, rng=np.random.default_rng(5))[0].loss.tobytes())
            output, backward = model(**given, rng=np.random.default_rng(5))
            losses.add(output.loss.tobytes())
            backward()
            gradients.append({name: p.grad.tobytes() for name, p in model.named_parameters() if p.grad is not None})
        assert len(losses) == 1 and model(**given)[0].loss.tobytes() not in losses
        assert gradients[0] == gradients[1] and len(gradients[0]) > 14


@every_window
def test_a_window_as_wide_as_the_texts_sees_all_and_a_narrower_one_does_not(family: str) -> None:
    def logits(**changes: Any) -> Any:
        return tiny_decoder(family, **changes, **({"rope_theta": 1e4} if family == "gemma3_text" else {}))(**BATCH)[
            0
        ].logits

    whole = logits(
        **({"sliding_window": None} if family in ("mistral", "phi3") else {"layer_types": ["full_attention"] * 2})
    )
    assert logits(sliding_window=5).tobytes() == logits(sliding_window=99).tobytes() == whole.tobytes()
    reached = [(logits(sliding_window=width) != whole).any(axis=2).sum(axis=1).tolist() for width in (4, 3)]
    assert reached == [[1, 0, 0], [2, 0, 1]]  # tokens that stand further from the first than the window is wide


HOLES = np.array([[1, 0, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])


@every_window
def test_a_hole_in_the_mask_is_refused_where_a_window_does_not_reach_over_the_batch(family: str) -> None:
    message = "mask of sequence 0 hides tokens between others: a window of attention counts them"
    for task in tasks_of(family):
        with pytest.raises(ValueError, match=message):
            tiny_decoder(family, task)(IDS, HOLES)
    tiny_decoder(family, sliding_window=5)(IDS, HOLES)
    tiny_decoder(family)(IDS[:, :2], HOLES[:, :2])  # a window of 2 hides nothing of two columns
    model = tiny_decoder(family, sliding_window=8)
    assert model.generate(IDS, HOLES, max_new_tokens=3).shape == (3, 8)
    with pytest.raises(ValueError, match=message):
        model.generate(IDS, HOLES, max_new_tokens=4)


def test_a_hole_in_the_mask_is_no_hindrance_where_all_is_seen() -> None:
    model = tiny_decoder("llama")
    model(IDS, HOLES)
    model.generate(IDS, HOLES, max_new_tokens=3)


@every_window
def test_a_config_of_windows_that_makes_no_sense_is_named(family: str) -> None:
    config: Any = tasks_of(family)["CausalLM"].config_class
    if family in ("mistral", "phi3"):
        with pytest.raises(ValueError, match=r"layer_types=.* is not supported; only None is"):
            config.from_dict({"layer_types": ["full_attention"]})
        with pytest.raises(ValueError, match="sliding_window must be at least 1, or null; got 0"):
            config(sliding_window=0)
        return
    slides = {"num_hidden_layers": 2, "layer_types": ["full_attention", "sliding_attention"]}
    if family != "gemma3_text":
        slides["use_sliding_window"] = True
        with pytest.raises(ValueError, match=r"a layer of sliding_attention needs a sliding_window .* got None"):
            config(**{**slides, "use_sliding_window": False})
    for fields, message in (
        ({"num_hidden_layers": 3}, "layer_types names 2 layers; num_hidden_layers is 3"),
        ({"layer_types": ["full_attention", "chunked_attention"]}, "layer_types chunked_attention are not supported"),
        ({"sliding_window": 0}, "needs a sliding_window of at least 1; got 0"),
        ({"sliding_window": None}, "needs a sliding_window of at least 1; got None"),
    ):
        with pytest.raises(ValueError, match=message):
            config(**{**slides, **fields})


def test_layers_see_windows_where_their_numbers_say_so() -> None:
    full, sliding = "full_attention", "sliding_attention"
    qwen2, qwen3, gemma = (tasks_of(name)["CausalLM"].config_class for name in ("qwen2", "qwen3", "gemma3_text"))
    for kind in (qwen2, qwen3):
        assert kind(num_hidden_layers=3, max_window_layers=1).layer_types == [full] * 3
        asked: Any = kind(num_hidden_layers=3, max_window_layers=1, use_sliding_window=True)
        assert asked.layer_types == [full, sliding, sliding] and asked.sliding_window == 4096
    assert gemma(num_hidden_layers=7).layer_types == [sliding] * 5 + [full, sliding]
    assert gemma(num_hidden_layers=4, sliding_window_pattern=2).layer_types == [sliding, full] * 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping=30.0 is not supported; only None is"),
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping=50.0 is not supported; only None is"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention=True is not supported; only False is"),
        ({"rope_local_base_freq": 0}, "rope_local_base_freq must be a positive number; got 0"),
        ({"query_pre_attn_scalar": 0}, "query_pre_attn_scalar must be a positive number; got 0"),
        ({"sliding_window_pattern": 0}, "sliding_window_pattern must be a positive whole number; got 0"),
        ({"hidden_activation": "prelu"}, "hidden_activation 'prelu' is not one of"),
        (
            {"rope_parameters": {"rope_type": "default"}},
            "must be of full_attention and sliding_attention; got .'rope_typ",
        ),
        (
            {"rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 2}}},
            "of sliding_attention .*'linear'.* is not supported; only rope_type 'default' is",
        ),
    ],
)
def test_what_gemma_3_has_not_here_is_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tasks_of("gemma3_text")["CausalLM"].config_class.from_dict(fields)


def test_gemma_3_reads_the_angles_of_older_files_and_of_newer_ones() -> None:
    kind: Any = tasks_of("gemma3_text")["CausalLM"].config_class
    linear = {"rope_type": "linear", "factor": 8.0}
    older = kind.from_dict({"rope_theta": 5e5, "rope_local_base_freq": 7.0, "rope_scaling": linear})
    full, local = {"rope_theta": 5e5, **linear}, {"rope_type": "default", "rope_theta": 7.0}
    assert older.rope_parameters == {"full_attention": full, "sliding_attention": local}
    newer = kind.from_dict({"rope_parameters": older.rope_parameters})
    assert newer == older and kind.from_dict(older.to_dict()) == older
    assert kind.from_dict({}).rope_parameters == {
        "full_attention": {"rope_type": "default", "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
