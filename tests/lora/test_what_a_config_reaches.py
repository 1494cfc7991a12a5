"""Which modules of a nested model a config reaches, and what an adapter does to those that it shares with others."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from npora import LoraConfig, PeftModel, get_peft_model
from npora.nn import Conv1D, Linear, Module
from npora.nn.module import Array


class Chain(Module):
    """What its layers make of x, one after another."""

    def __init__(self, **layers: Any) -> None:
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Array, rng: Any = None) -> tuple[Array, Any]:
        backs = []
        for child in dict(self.named_children()).values():
            x, back = child(x, rng)
            backs.append(back)

        def backward(dy: Array) -> Array:
            for back in reversed(backs):
                dy = back(dy)
            return dy

        return x, backward


class Nested(Chain):
    output_embeddings: ClassVar = "head"
    saved_along: ClassVar = {"head": ("norm",)}

    def __init__(self) -> None:
        def block() -> Chain:
            return Chain(up=linear(5, 5), up_proj=linear(5, 5), experts=[linear(5, 5), linear(5, 5)])

        super().__init__(first=block(), layers=[block(), block()], norm=linear(5, 5), head=linear(5, 3))


def linear(i: int, o: int, kind: Any = Linear) -> Any:
    return kind(i, o, rng=i + o, dtype=np.float64)


def reached(**config: Any) -> list[str]:
    model = get_peft_model(Nested(), LoraConfig(**{"r": 2, **config}))
    return [path for path, _ in model.lora_layers()]


def saved(**config: Any) -> set[str]:
    model = get_peft_model(Nested(), LoraConfig(r=2, target_modules=["layers.0.up"], **config))
    return {n.rsplit(".modules_to_save.", 1)[0] for n, p in model.named_parameters() if "modules_to_save" in n}


def test_layers_are_counted_by_the_first_number_or_behind_any_of_the_patterns() -> None:
    ups = {"target_modules": ["up", "experts.0", "experts.1"]}
    of_the_second = ["layers.1.up", "layers.1.experts.0", "layers.1.experts.1"]
    # In `first` the first number is that of an expert.
    assert reached(**ups, layers_to_transform=[1]) == ["first.experts.1", *of_the_second]
    assert reached(**ups, layers_to_transform=1, layers_pattern=["h", "layers"]) == of_the_second
    assert reached(**ups, layers_to_transform=[1], layers_pattern="layers") == of_the_second
    experts = reached(**ups, layers_to_transform=[1], layers_pattern="experts")
    assert experts == [f"{block}.experts.1" for block in ("first", "layers.0", "layers.1")]


def test_an_expression_is_for_the_whole_path() -> None:
    assert reached(target_modules=r".*s\.\d\.up") == ["layers.0.up", "layers.1.up"]
    ups = ["layers.0.up", "layers.1.up"]
    assert reached(target_modules=["layers.0.up", "layers.1.up"], exclude_modules=r"layers\.[01]") == ups
    assert reached(target_modules=["layers.0.up", "layers.1.up"], exclude_modules=r".*\.0\.u.") == ups[1:]


def test_everything_linear_is_so_in_any_case_but_the_projection_to_the_vocabulary() -> None:
    everything = reached(target_modules="all-linear")
    assert everything == reached(target_modules="All-Linear") and len(everything) == 3 * 4 + 1
    assert "head" not in everything and "norm" in everything
    assert reached(target_modules=["head"]) == ["head"]


def test_what_is_saved_along_is_saved_and_a_part_of_what_is_saved_is_not_saved_again() -> None:
    prefix = "base_model.model."
    assert saved(modules_to_save=["head"]) == {f"{prefix}head", f"{prefix}norm"}
    assert saved(modules_to_save=["layers.1", "up_proj"]) == {
        f"{prefix}{path}" for path in ("layers.1", "first.up_proj", "layers.0.up_proj")
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kinds", "expected"), [("CL", True), ("LC", True), ("CC", True), ("LL", False)], ids=lambda value: str(value)
)
def test_a_config_says_whether_one_of_its_targets_holds_its_matrix_the_other_way(kinds: str, expected: bool) -> None:
    layers = {f"l{n}": linear(5, 5, {"C": Conv1D, "L": Linear}[kind]) for n, kind in enumerate(kinds)}
    config = LoraConfig(r=2, target_modules=["l0", "l1"])
    get_peft_model(Chain(**layers), config)
    assert config.fan_in_fan_out is expected


def drawn(model: PeftModel, name: str) -> PeftModel:
    for number, parameter in enumerate(model.adapter_parameters(name).values()):
        parameter.data = np.random.default_rng(number).standard_normal(parameter.shape)
    return model


X = np.random.default_rng(0).standard_normal((4, 5))


def test_an_adapter_that_is_added_while_adapters_are_off_is_off() -> None:
    model = drawn(get_peft_model(Nested(), LoraConfig(target_modules=["norm"])), "default")
    base = Nested()(X)[0]
    with model.disable_adapter():
        model.add_adapter("b", LoraConfig(r=3, target_modules=["norm", "layers.0.up"], modules_to_save=["layers.1"]))
        model.set_adapter("b")
        drawn(model, "b")
        np.testing.assert_array_equal(model(X)[0], base)
    assert abs(model(X)[0] - base).max() > 0.1


@pytest.mark.parametrize("part", ["lora_A", "lora_B"])
def test_what_is_merged_is_not_trained_by_either_half(part: str) -> None:
    model = drawn(get_peft_model(Nested(), LoraConfig(target_modules=["norm"])), "default")
    for name, parameter in model.adapter_parameters("default").items():
        parameter.requires_grad = part in name
    model.merge_adapter()
    y, backward = model(X)
    with pytest.raises(RuntimeError, match="adapter 'default' is merged, and cannot be trained so"):
        backward(y)
    for parameter in model.adapter_parameters("default").values():
        with pytest.raises(ValueError, match="read-only"):
            parameter.data[...] = 0


def test_the_share_that_is_trained_is_of_all_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    model = get_peft_model(Chain(dense=linear(5, 3)), LoraConfig(r=2, target_modules=["dense"]))
    model.print_trainable_parameters()  # 2 (5 + 3) beside 5 · 3 + 3
    assert capsys.readouterr().out == "trainable params: 16 || all params: 34 || trainable%: 47.0588\n"
    saving = get_peft_model(Chain(dense=linear(5, 3), head=linear(3, 2)), LoraConfig(
        r=2, target_modules=["dense"], modules_to_save=["head"]
    ))  # fmt: skip
    assert saving.get_nb_trainable_parameters() == (16 + 8, 16 + 8 + 18 + 8)
    assert {n for n, p in saving.named_parameters() if p.requires_grad and "original_module" in n} == set()


def test_names_revisions_and_seeds_reach_their_places(tmp_path: Path) -> None:
    config = LoraConfig(r=2, target_modules=["norm"])
    model = get_peft_model(Nested(), config, "mine", revision="v3", seed=4)
    assert model.active_adapter == "mine" and list(model.peft_config) == ["mine"] and config.revision == "v3"
    model.save_pretrained(tmp_path, is_main_process=False)
    assert not list(tmp_path.iterdir())
    named = Nested()
    named.name_or_path = "org/name@v7"
    config = LoraConfig(r=2, target_modules=["norm"])
    get_peft_model(named, config)
    assert (config.base_model_name_or_path, config.revision) == ("org/name", "v7")


@pytest.mark.parametrize("bias", ["none", "lora_only", "all"])
def test_biases_are_trained_where_the_config_says_and_given_back(bias: str, tmp_path: Path) -> None:
    base = {name: array.copy() for name, array in Nested().state_dict().items()}
    config: dict[str, Any] = {"r": 2, "target_modules": ["layers.0.up", "norm"], "modules_to_save": ["layers.1"]}
    model = get_peft_model(Nested(), LoraConfig(**config, bias=bias))
    trained = {n.removeprefix("base_model.model.") for n, _ in model.trained_biases("default")}
    own = {"layers.0.up.base_layer.bias", "norm.base_layer.bias"}
    rest = {
        name for name in base if name.endswith("bias") and not name.startswith(("layers.1.", "layers.0.up.", "norm."))
    }  # fmt: skip
    assert trained == {"none": set(), "lora_only": own, "all": own | rest}[bias]
    drawn(model, "default")
    after = model(X)[0]
    model.save_pretrained(tmp_path)
    np.testing.assert_array_equal(PeftModel.from_pretrained(Nested(), tmp_path)(X)[0], after)
    restored = model.unload()
    for name, array in restored.state_dict().items():
        np.testing.assert_array_equal(array, base[name], err_msg=name)
    np.testing.assert_array_equal(restored(X)[0], Nested()(X)[0])
    merged = PeftModel.from_pretrained(Nested(), tmp_path)
    with merged.disable_adapter():
        plain = merged.merge_and_unload()
    np.testing.assert_allclose(plain(X)[0], after, rtol=1e-10, atol=1e-11)


def test_a_file_whose_config_has_other_patterns_than_it_was_saved_with_is_refused(tmp_path: Path) -> None:
    config: dict[str, Any] = {"r": 2, "target_modules": ["norm", "layers.0.up"]}
    drawn(get_peft_model(Nested(), LoraConfig(**config, alpha_pattern={"norm": 3})), "default").save_pretrained(
        tmp_path
    )
    for other in ({}, {"alpha_pattern": {"norm": 4}}, {"alpha_pattern": {"up": 3}}):
        with pytest.raises(ValueError, match=r"alpha_pattern=.*the two files do not belong together"):
            PeftModel.from_pretrained(Nested(), tmp_path, config=LoraConfig(**config, **other))
    PeftModel.from_pretrained(Nested(), tmp_path, config=LoraConfig(**config, alpha_pattern={"norm": 3}))


def test_an_adapters_base_is_told_from_one_that_differs_in_one_number_of_any_layer(tmp_path: Path) -> None:
    drawn(get_peft_model(Nested(), LoraConfig(r=2, target_modules=["norm"])), "default").save_pretrained(tmp_path)
    for name in Nested().state_dict():
        base = Nested()
        parameter = dict(base.named_parameters())[name]
        parameter.data.flat[-1] += 1e-5  # more than float32 rounds off, and less than float16 does
        with pytest.raises(ValueError, match="trained on another base model"):
            PeftModel.from_pretrained(base, tmp_path)


def test_a_loaded_adapter_computes_in_its_bases_dtype(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    drawn(get_peft_model(Nested(), LoraConfig(r=2, target_modules=["norm"])), "default").save_pretrained(tmp_path)
    base = Nested()
    for parameter in base.parameters():
        parameter.data = parameter.data.astype(np.float32)
    base.name_or_path = "org/another-name"  # its digest says that it is the same
    with caplog.at_level(logging.WARNING, "npora"):
        model = PeftModel.from_pretrained(base, tmp_path)
    assert not caplog.text
    assert {p.dtype for p in model.parameters()} == {np.dtype(np.float32)}
    assert model(X.astype(np.float32))[0].dtype == np.float32


def test_the_record_of_an_adapters_base_leaves_out_what_it_trains_whole_whichever_is_active(tmp_path: Path) -> None:
    model = get_peft_model(Nested(), LoraConfig(r=2, target_modules=["layers.0.up"]))
    model.add_adapter("b", LoraConfig(r=2, target_modules=["layers.0.up"], modules_to_save=["layers.1"]))
    drawn(model, "b")
    model.save_pretrained(tmp_path)
    model.set_adapter("b")
    base: Any = Nested()
    base.layers[1].up.weight.data = base.layers[1].up.weight.data + 1
    found = PeftModel.from_pretrained(base, tmp_path / "b")
    np.testing.assert_array_equal(found(X)[0], model(X)[0])
    with pytest.raises(ValueError, match="trained on another base model"):
        PeftModel.from_pretrained(found.unload(), tmp_path)


def test_every_task_of_pefts_is_known() -> None:
    tasks = ("SEQ_CLS", "SEQ_2_SEQ_LM", "CAUSAL_LM", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION")
    assert [LoraConfig(task_type=task).task_type for task in tasks] == list(tasks)


def test_a_rank_that_no_matrix_of_a_layers_shape_has_is_said_of_a_new_adapter(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def model() -> Chain:
        return Chain(first=Linear(5, 3, rng=0), second=Linear(3, 4, rng=1))

    with caplog.at_level(logging.WARNING, "npora"):
        adapted = get_peft_model(model(), LoraConfig(r=3, target_modules=["first", "second"]))
        get_peft_model(model(), LoraConfig(r=4, rank_pattern={"first": 3, "second": 2}, target_modules="all-linear"))
        assert not caplog.records
        adapted = get_peft_model(model(), LoraConfig(r=4, rank_pattern={"first": 3}, target_modules="all-linear"))
        assert [record.getMessage() for record in caplog.records] == [
            "second is 4 × 3: no change of it has a rank above 3, and its adapter has r=4. A rank of 3 can do as much, "
            "for such layers alone by rank_pattern"
        ]
        caplog.clear()
        adapted.save_pretrained(tmp_path)
        PeftModel.from_pretrained(model(), tmp_path)
        assert not caplog.records
