"""A model written to GGUF and read from it is the model that it was, in the numbers that the file has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, get_peft_model
from npora.files.gguf import read_gguf_header
from npora.files.gguf_writer import Blocks, save_gguf
from npora.models import AutoModelForCausalLM, AutoModelForSequenceClassification
from npora.models.auto import tasks_of
from npora.models.gguf.architecture import in_halves, in_pairs
from npora.models.gguf.table import ARCHITECTURES
from npora.models.gguf.writing import NUMBERS, write_gguf
from npora.stored import Q8_0, BFloat16, Float16, Stored
from tests.tiny_gguf import DECODERS, tiny_gguf

IDS = np.array([[3, 5, 7, 200, 9, 4], [33, 12, 90, 1, 2, 8]])


def written(folder: Path, model: Any, numbers: str = "F32", **more: Any) -> Path:
    write_gguf(model, folder / "x.gguf", numbers, more)
    return folder / "x.gguf"


def logits(model: Any) -> Any:
    return model(IDS)[0].logits


@pytest.mark.parametrize("family", DECODERS)
def test_in_float32_all_is_as_it_was(tmp_path: Path, family: str) -> None:
    model = tiny_gguf(family)
    path = written(tmp_path, model)
    again: Any = tasks_of(family)["CausalLM"].from_pretrained(path)
    assert logits(again).tobytes() == logits(model).tobytes()
    assert again.name_or_path == str(path) and not again.newly_initialized
    for name in (*ARCHITECTURES["gemma3"].fields, "rope_scaling", "n_inner", "query_pre_attn_scalar", "attention_bias"):
        if hasattr(model.config, name) and name != "n_inner":
            expected = getattr(model.config, name)
            assert getattr(again.config, name) == (np.float32(expected) if isinstance(expected, float) else expected)
    assert type(AutoModelForCausalLM.from_pretrained(path)).__name__.removesuffix("ForCausalLM") in (
        type(model).__name__.removesuffix("ForCausalLM"), "Llama",  # what llama.cpp calls so may be a Mistral
    )  # fmt: skip


@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("family", ["gpt2", "qwen2"])
def test_matrices_lie_as_they_lie_in_the_file_and_are_what_their_floats_are(
    tmp_path: Path, family: str, numbers: str
) -> None:
    path = written(tmp_path, tiny_gguf(family), numbers)
    model: Any = AutoModelForCausalLM.from_pretrained(path)
    wide: Any = AutoModelForCausalLM.from_pretrained(path, dtype="float32")
    form = {"F16": Float16, "BF16": BFloat16, "Q8_0": Q8_0}.get(numbers)
    block = (model.transformer.h if family == "gpt2" else model.model.layers)[0]
    weight = (block.attn.c_attn if family == "gpt2" else block.self_attn.q_proj).weight
    assert not weight.requires_grad and isinstance(weight.data, Stored if form else np.ndarray)
    if form:
        assert isinstance(weight.data.T if family == "gpt2" else weight.data, form)
    for name, parameter in wide.named_parameters():
        assert np.array_equal(parameter.data, model.get_parameter(name).data) and parameter.dtype == np.float32
        assert type(parameter.data) is np.ndarray
    np.testing.assert_allclose(logits(model), logits(wide), rtol=0, atol=2e-4)  # sums in another order
    if numbers != "F32":
        narrow = AutoModelForCausalLM.from_pretrained(path, dtype="bfloat16")
        assert {type(p.data) for p in narrow.parameters() if p.data.ndim == 2} <= {
            BFloat16,
            type(BFloat16.rounded([[1.0]]).T),
        }


def test_a_matrix_is_in_blocks_where_its_rows_are_made_of_them(tmp_path: Path) -> None:
    header = read_gguf_header(written(tmp_path, tiny_gguf("llama", hidden_size=48), "Q8_0"))
    kinds = {tensor.shape: tensor.kind.name for tensor in header.tensors.values() if len(tensor.shape) == 2}
    assert kinds == {shape: "F16" if shape[1] % 32 else "Q8_0" for shape in kinds}
    assert kinds[96, 48] == "F16" and kinds[48, 96] == "Q8_0"


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_an_adapter_has_the_gradients_that_it_has_on_the_floats(tmp_path: Path, family: str) -> None:
    path, gradients = written(tmp_path, tiny_gguf(family), "Q8_0"), []
    for dtype in (None, "float32"):
        base = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
        model = get_peft_model(base, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False), seed=1)
        _, backward = model(IDS, labels=IDS)
        backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
    stored, wide = gradients
    assert stored.keys() == wide.keys() and len(stored) >= 16
    for name, gradient in stored.items():
        scale = np.abs(wide[name]).max()
        np.testing.assert_allclose(gradient, wide[name], rtol=0, atol=1e-4 * scale, err_msg=name)


def test_a_bert_is_read_without_its_head_which_is_drawn(tmp_path: Path) -> None:
    model = tiny_gguf("bert")
    left_out = write_gguf(model.bert, tmp_path / "x.gguf", "F32")
    assert left_out == ["bert.pooler.dense.weight", "bert.pooler.dense.bias"]
    again: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path / "x.gguf", num_labels=3)
    assert {name.split(".")[0] for name in again.newly_initialized} <= {"bert", "classifier"}
    found = again.bert(IDS)[0].last_hidden_state
    assert found.tobytes() == model.bert(IDS)[0].last_hidden_state.tobytes()


def test_a_classifier_is_drawn_on_a_decoder_and_trains_with_lora(tmp_path: Path) -> None:
    path = written(tmp_path, tiny_gguf("qwen3"), "Q8_0")
    base: Any = AutoModelForSequenceClassification.from_pretrained(path, num_labels=3)
    model = get_peft_model(base, LoraConfig(r=2, target_modules="all-linear", task_type="SEQ_CLS"))
    output, backward = model(IDS, labels=np.array([0, 2]))
    backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert all(g is not None and np.isfinite(g).all() for g in gradients.values()) and np.isfinite(output.loss)
    assert any("lora_B" in name and gradients[name].any() for name in gradients)


def test_what_gguf_has_no_place_for_is_refused(tmp_path: Path) -> None:
    for model, said in (
        (tiny_gguf("llama", "SequenceClassification"), "no place for score.weight of a LlamaForSequenceClassification"),
        (tiny_gguf("bert"), "no place for classifier.weight, classifier.bias"),
        (tiny_gguf("qwen2", use_sliding_window=True), "use_sliding_window lets layers see a window"),
        (tiny_gguf("mistral", sliding_window=3), "a window of 3: GGUF cannot say that"),
        (tiny_gguf("gemma3_text", query_pre_attn_scalar=9), "query_pre_attn_scalar is 9, and llama.cpp divides by √32"),
        (tiny_gguf("gemma3_text", sliding_window_pattern=2), "lets each 6th layer see all"),
        (tiny_gguf("gemma3_text", rope_local_base_freq=9.0), "rope_local_base_freq is 9.0"),
    ):
        with pytest.raises(ValueError, match=said):
            write_gguf(model, tmp_path / "x.gguf")
    model = tiny_gguf("gpt2")
    model.config.scale_attn_by_inverse_layer_idx = True
    with pytest.raises(ValueError, match="divides a GPT-2's scores"):
        write_gguf(model, tmp_path / "x.gguf")
    model.config.__class__ = type("T", (type(model.config),), {"model_type": "t5"})
    with pytest.raises(ValueError, match="npora writes no t5 to GGUF; it writes bert, gemma3_text, gpt2, llama, mis"):
        write_gguf(model, tmp_path / "x.gguf")
    with pytest.raises(ValueError, match="numbers must be one of F32, F16, Q8_0, BF16; got 'Q4_K'"):
        write_gguf(tiny_gguf("llama"), tmp_path / "x.gguf", "Q4_K")
    model = tiny_gguf("llama")
    model.model.layers[1].mlp.up_proj.weight.data[0, 0] = 1e6
    with pytest.raises(ValueError, match=r"blk\.1\.ffn_up\.weight: float16 has no number near 1e\+06"):
        write_gguf(model, tmp_path / "x.gguf")
    assert not list(tmp_path.iterdir())


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"general.architecture": "mamba"}, "general.architecture 'mamba' is not supported; npora has bert, gemma3"),
    ({"general.architecture": 3}, "general.architecture 3 is not supported"),
    ({"general.type": "adapter"}, "is of the type 'adapter'; a model was expected"),
    ({"split.count": 2}, "one of several files of a model"),
    ({"llama.block_count": None}, "has no field llama.block_count"),
    ({"llama.block_count": 10**6}, "num_hidden_layers is 1,000,000; at most 10,000 are made"),
    ({"llama.attention.head_count": 0}, "num_attention_heads must be a positive whole number; got 0"),
    ({"llama.attention.head_count": np.array([4, 4])}, "llama.attention.head_count must be one number for all layers"),
    ({"llama.attention.head_count_kv": 5}, "which are not those of 5 heads"),
    ({"llama.rope.freq_base": 0.0}, "rope_theta must be a positive number; got 0.0"),
    ({"llama.rope.scaling.type": "yarn"}, "rope.scaling.type 'yarn' is not supported; npora reads none and linear"),
    ({"llama.rope.dimension_count": 8}, "rope.dimension_count is 8, and a head has 16"),
    ({"llama.expert_count": 8}, "expert_count is 8: npora has no mixtures of experts"),
    ({"llama.feed_forward_length": 95}, "must be"),
    ({"tokenizer.ggml.bos_token_id": "x"}, "bos_token_id must be a whole number or None; got 'x'"),
]


@pytest.mark.parametrize(("changes", "said"), WRONG, ids=[said for _, said in WRONG])
def test_a_file_that_says_what_cannot_be_is_refused_by_its_name(
    tmp_path: Path, changes: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(path: Any, metadata: Any, tensors: Any) -> None:
        save_gguf(path, {k: v for k, v in {**metadata, **changes}.items() if v is not None}, tensors)

    monkeypatch.setattr("npora.models.gguf.writing.save_gguf", changed)
    path = written(tmp_path, tiny_gguf("llama"))
    with pytest.raises(ValueError, match=said if said != "must be" else r"\(95, 64\)|95") as error:
        AutoModelForCausalLM.from_pretrained(path)
    assert "x.gguf" in str(error.value)


def test_factors_that_are_not_those_of_llama_3_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(path: Any, metadata: Any, tensors: Any) -> None:
        factors = np.linspace(1, 8, 8, dtype=np.float32)
        save_gguf(path, metadata, {**tensors, "rope_freqs.weight": Blocks("F32", (8,), lambda: [factors])})

    monkeypatch.setattr("npora.models.gguf.writing.save_gguf", changed)
    with pytest.raises(ValueError, match=r"rope_freqs\.weight holds other factors than those of rope_type 'llama3'"):
        AutoModelForCausalLM.from_pretrained(written(tmp_path, tiny_gguf("llama")))


def test_a_model_type_that_a_file_is_not_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path, tiny_gguf("qwen2"))
    AutoModelForCausalLM.from_pretrained(path, revision="other")
    assert "x.gguf is a file, which has no revision 'other'" in caplog.text
    with pytest.raises(ValueError, match="the checkpoint does not fit Qwen3ForCausalLM"):
        tasks_of("qwen3")["CausalLM"].from_pretrained(path)
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none\.gguf"):
        AutoModelForCausalLM.from_pretrained(tmp_path / "none.gguf")
    with pytest.raises(FileNotFoundError, match=r"has no config\.json, and GGUF files: pass one of them, as .*x\.gguf"):
        AutoModelForCausalLM.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="pass the file's own path in the place of its folder's"):
        AutoModelForCausalLM.from_pretrained(path, gguf_file="x.gguf")


def test_rows_in_pairs_and_in_halves_are_each_others_inverse() -> None:
    rows = np.arange(2 * 6)[:, None] * np.ones(3)
    # Of each head's six the two halves 0 1 2 | 3 4 5 become 0 3 1 4 2 5.
    assert in_halves(rows, 2)[:, 0].tolist() == [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]
    assert np.array_equal(in_pairs(in_halves(rows, 2), 2), rows)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_names_and_paths_are_each_others_inverse(name: str) -> None:
    architecture = ARCHITECTURES[name]
    for tensor in architecture.tensors:
        numbered = f"{tensor.replace('{}', '12')}.weight"
        path = architecture.path_of(numbered)
        assert path is not None and architecture.name_of(path) == numbered
    assert architecture.path_of("blk.0.attn_sinks.weight") is None and architecture.path_of("token_embd.scale") is None
