"""(IA)³: which layers it scales, and where, in each family; what its config refuses; and what a file brings back."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import models
from npora.cli import main
from npora.lora import IA3Config, LoraConfig, PeftModel, get_peft_model
from npora.lora.inject import adapted_layer
from npora.nn import Linear
from tests.lora.test_files import change_config, logits
from tests.test_cli_tasks import predicted
from tests.tiny import tiny_bert
from tests.tiny_folders import BODIES, FAMILIES, save_folder

SCALED: dict[str, set[str]] = {
    "bert": {"key [16,1]", "value [16,1]", "output.dense [1,28]", "attention.output.dense [1,16]"},
    "roberta": {"key [16,1]", "value [16,1]", "output.dense [1,28]", "attention.output.dense [1,16]"},
    "gpt2": {"attn.c_attn [48,1]", "mlp.c_proj [1,64]"},
    "llama": {"k_proj [8,1]", "v_proj [8,1]", "mlp.down_proj [1,28]"},
    "qwen3": {"q_proj [16,1]", "v_proj [8,1]", "mlp.down_proj [1,28]"},
    "t5": {"SelfAttention.k [14,1]", "SelfAttention.v [14,1]", "EncDecAttention.k [14,1]", "EncDecAttention.v [14,1]",
           "DenseReluDense.wo [1,28]"},
}  # fmt: skip


def tiny(family: str) -> Any:
    name, sizes = FAMILIES[family]
    kind = getattr(models, name + BODIES.get(family, "ForSequenceClassification"))
    return kind(getattr(models, f"{name}Config")(vocab_size=11, **sizes), rng=0)


def scaled(model: PeftModel) -> dict[str, tuple[int, ...]]:
    return {
        name.removesuffix(".ia3_l.default"): parameter.shape
        for name, parameter in model.named_parameters()
        if name.endswith(".ia3_l.default")
    }


@pytest.mark.parametrize("family", SCALED)
def test_none_means_keys_values_and_the_inputs_of_feed_forwards_as_in_peft(family: str) -> None:
    config = IA3Config()
    found = {
        f"{path} [{','.join(map(str, shape))}]" for path, shape in scaled(get_peft_model(tiny(family), config)).items()
    }
    for end in SCALED[family]:
        assert any(name.endswith("." + end) for name in found), end
    assert all(any(name.endswith("." + end) for end in SCALED[family]) for name in found)
    assert isinstance(config.target_modules, list) and isinstance(config.feedforward_modules, list)
    assert set(config.feedforward_modules) < set(config.target_modules)


def test_targets_that_are_all_feed_forwards_are_listed() -> None:
    config = IA3Config(target_modules=["output.dense"])
    model = get_peft_model(tiny_bert(), config)
    assert config.feedforward_modules == ["output.dense"]
    assert "trainable, scales its input" in repr(model) and "scales its output" not in repr(model)
    assert "trainable, scales its output" in repr(get_peft_model(tiny_bert(), IA3Config()))


def test_a_family_without_defaults_in_peft_and_a_model_of_no_family_are_told_what_to_name() -> None:
    for model, kind in ((tiny("distilbert"), "'distilbert'"), (Linear(5, 3), "None")):
        with pytest.raises(
            ValueError, match=rf"no defaults for a model of the type {kind}: name target_modules, and in"
        ):
            get_peft_model(model, IA3Config())
    config = IA3Config(target_modules=["k_lin", "lin2"], feedforward_modules="lin2")
    assert set(scaled(get_peft_model(tiny("distilbert"), config)).values()) == {(16, 1), (1, 28)}


def test_a_name_is_any_end_of_a_path_and_a_pattern_is_for_the_whole() -> None:
    """ "o" is an end of `wo`, as PEFT has it; a file that npora saves means there what it means here."""
    both = IA3Config(target_modules=["o", "wo"], feedforward_modules=["o"])
    assert set(scaled(get_peft_model(tiny("t5"), both)).values()) == {(1, 14), (1, 28)}
    one = IA3Config(target_modules=["o", "wo"], feedforward_modules=r".*\.wo")
    assert set(scaled(get_peft_model(tiny("t5"), one)).values()) == {(16, 1), (1, 28)}


def test_a_feed_forward_is_one_of_the_targets_or_an_error_and_the_config_stays() -> None:
    with pytest.raises(ValueError, match="names some of the target_modules, and wi, wo is none of them"):
        IA3Config(target_modules=["k"], feedforward_modules=["wo", "wi"])
    with pytest.raises(ValueError, match="and dense is none of them"):
        get_peft_model(tiny_bert(), IA3Config(feedforward_modules=["dense"]))
    for wrong in (["output.dense", "key.dense"], ".*dens", "all-linear"):
        config = IA3Config(target_modules=r".*(key|dense)", feedforward_modules=wrong)
        before = config.to_dict()
        with pytest.raises(ValueError, match=r"feedforward_modules: one of .* matches none of the target modules"):
            get_peft_model(tiny_bert(), config)
        assert config.to_dict() == before
    config = IA3Config(target_modules=["kye"])
    with pytest.raises(ValueError, match="'kye' matches no module; near names: key"):
        get_peft_model(tiny_bert(), config)
    assert config.feedforward_modules is None
    with pytest.raises(TypeError, match="no field 'init_weights'; did you mean init_ia3_weights"):
        IA3Config(init_weights=True)
    with pytest.raises(ValueError, match="init_ia3_weights must be True or False"):
        IA3Config(init_ia3_weights="gaussian")  # type: ignore[arg-type]


def test_the_vectors_are_ones_or_drawn_from_a_seed(tmp_path: Path) -> None:
    fresh = logits(get_peft_model(tiny_bert(), IA3Config()))
    assert fresh == logits(tiny_bert())
    drawn = [get_peft_model(tiny_bert(), IA3Config(init_ia3_weights=False), seed=seed) for seed in (1, 1, 2)]
    assert logits(drawn[0]) == logits(drawn[1]) != logits(drawn[2])
    values = np.concatenate([layer.ia3_l["default"].data.ravel() for _, layer in drawn[0].lora_layers()])
    assert abs(values.mean()) < 0.5 and abs(values.std() - 1) < 0.4
    drawn[0].save_pretrained(tmp_path)
    change_config(init_ia3_weights="a way of later")(tmp_path)  # how they began says nothing of what they are
    assert logits(PeftModel.from_pretrained(tiny_bert(), tmp_path)) == logits(drawn[1])


@pytest.mark.parametrize("scaled", [[], ["dense"]], ids=["output", "input"])
def test_a_frozen_vector_keeps_no_rows(scaled: list[str]) -> None:
    config = IA3Config(feedforward_modules=scaled, init_ia3_weights=False)
    layer = adapted_layer(Linear(5, 3, rng=0), config, np.random.default_rng(1), "dense")
    x = np.random.default_rng(2).standard_normal((1 << 16, 5)).astype(np.float32)
    dx = []
    for frozen in (False, True):
        layer.requires_grad_(not frozen)
        layer.base_layer.requires_grad_(False)
        tracemalloc.start()
        y, backward = layer(np.array(x))
        kept = tracemalloc.get_traced_memory()[0] - y.nbytes
        tracemalloc.stop()
        assert (kept < 1 << 16) == frozen
        dx.append(backward(np.array(y)).tobytes())
    assert dx[0] == dx[1]


def test_beside_a_lora_adapter_each_is_what_it_is_alone_and_they_merge_in_order() -> None:
    config = IA3Config(init_ia3_weights=False)
    alone, model = get_peft_model(tiny_bert(dtype=np.float64), config), tiny_bert(dtype=np.float64)
    model = get_peft_model(model, LoraConfig(r=2, target_modules=["value", "query"], init_lora_weights=False))
    lora = logits(model)
    model.add_adapter("scales", config)
    model.set_adapter("scales")
    assert logits(model) == logits(alone)
    model.merge_adapter(["default", "scales"])
    first = logits(model)
    model.unmerge_adapter()
    model.merge_adapter(["scales", "default"])
    assert logits(model) != first
    model.unmerge_adapter()
    model.set_adapter("default")
    assert logits(model) == lora
    model.delete_adapter("scales")
    assert not scaled(model)


def test_the_commands_merge_a_saved_adapter_and_predict_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_folder(tmp_path / "model", "bert", "ForSequenceClassification", num_labels=3)
    base = models.BertForSequenceClassification.from_pretrained(folder)
    model = get_peft_model(base, IA3Config(task_type="SEQ_CLS", init_ia3_weights=False))
    model.save_pretrained(tmp_path / "adapter")
    adapter, merged, texts = str(tmp_path / "adapter"), str(tmp_path / "merged"), ("good film", "the plot was bad")
    assert main(["merge", "--adapter", adapter, "--output", merged]) == 0
    found = predicted(capsys, "--adapter", adapter, *texts)
    for line, alone in zip(found, predicted(capsys, "--model", merged, *texts), strict=True):
        assert line[0] == alone[0] and abs(float(line[1]) - float(alone[1])) < 2e-4
    assert found != predicted(capsys, "--model", folder, *texts)
