"""npora export: each form loads, and computes what the adapter on its base computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import HiraConfig, LoraConfig, PeftModel, get_peft_model
from npora.cli import main
from npora.files import load_file, read_json, save_file
from npora.files.gguf import load_gguf, read_gguf_header
from npora.gguf_adapter import write_gguf_adapter
from npora.models import AutoModelForCausalLM
from npora.models.gguf.architecture import in_halves
from npora.stored import BFloat16
from tests.made_tokenizers import as_llama_cpp_has_it
from tests.tiny_gguf import tiny_gguf

IDS = np.array([[3, 5, 7, 200, 9, 4]])
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if loop.first and m.role != 'system' %}<|sys|>Be good.<|end|>\n{% endif %}"
    "<|{{ {'system': 'sys', 'user': 'usr', 'assistant': 'ans'}[m.role] }}|>{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|ans|>{% endif %}"
)


def saved(folder: Path, family: str = "llama", config: Any = None, words: bool = False) -> tuple[str, str, Any]:
    """(base, adapter, the model with the adapter)"""
    base = tiny_gguf(family)
    base.save_pretrained(folder / "base")
    if words:
        tokenizer = as_llama_cpp_has_it("byte-level")
        tokenizer.chat_template = TEMPLATE
        tokenizer.save_pretrained(folder / "base")
    (folder / "base" / "README.md").write_text("about it")
    base.name_or_path = str(folder / "base")
    every = ["c_attn", "c_proj", "c_fc"] if family == "gpt2" else ["q_proj", "k_proj", "v_proj", "o_proj", "down_proj"]
    options = {"target_modules": every, "task_type": "CAUSAL_LM"}
    model = get_peft_model(base, (config or LoraConfig)(**({"r": 3, "lora_alpha": 5} | options)))
    drawn(model)
    model.save_pretrained(folder / "adapter")
    return str(folder / "base"), str(folder / "adapter"), model


def drawn(model: Any) -> None:
    rng = np.random.default_rng(3)
    for _, layer in model.lora_layers():
        for adapter in layer.adapters.values():
            for parameter in adapter.parameters():
                parameter.data = 0.3 * rng.standard_normal(parameter.shape).astype(np.float32)


def logits(model: Any) -> Any:
    return model(IDS)[0].logits


def exported(folder: Path, *options: str) -> Path:
    assert main(["export", *options, "--output", str(folder / "out")]) == 0
    return folder / "out"


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_merged_model_in_gguf_computes_what_the_adapter_does(
    tmp_path: Path, family: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tokenizers", reason="needs the extra `hf`")
    pytest.importorskip("jinja2", reason="needs the extra `hf`")
    _, adapter, model = saved(tmp_path, family, words=True)
    out = exported(tmp_path, "--adapter", adapter, "--to", "gguf", "--numbers", "F32")
    again = AutoModelForCausalLM.from_pretrained(out / "model.gguf")
    np.testing.assert_allclose(logits(again), logits(model), rtol=0, atol=1e-4)
    header = read_gguf_header(out / "model.gguf")
    assert header.metadata["general.name"] == "base" and header.metadata["tokenizer.chat_template"] == TEMPLATE
    assert "Modelfile, model.gguf" in capsys.readouterr().out
    assert (out / "Modelfile").read_text() == (
        'FROM ./model.gguf\nTEMPLATE """{{ if .System }}<s><|sys|>{{ .System }}<|end|>\n<|usr|>{{ else }}<|usr|>'
        '{{ end }}{{ .Prompt }}<|end|>\n<|ans|>{{ .Response }}<|end|>\n"""\n'
        'SYSTEM """Be good."""\nPARAMETER stop "<pad>"\n'
    )
    assert main(["info", str(out / "model.gguf")]) == 0
    said = capsys.readouterr().out
    assert "token_embd.weight" in said and "430×64" in said and f"general.architecture = {family}" in said


def test_the_template_and_the_end_that_were_taught_go_along(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="needs the extra `hf`")
    pytest.importorskip("jinja2", reason="needs the extra `hf`")
    base, adapter, model = saved(tmp_path, words=True)
    own = TEMPLATE.replace("ans", "me")
    model.notes.update(task="causal-lm", chat_template=own, end_token_ids=[2])
    model.save_pretrained(adapter)
    gguf = exported(tmp_path, "--model", base, "--to", "gguf", "--numbers", "F32") / "model.gguf"
    for name in (base, str(gguf)):
        folder = tmp_path / f"of {Path(name).name}"
        folder.mkdir()
        out = exported(folder, "--model", name, "--adapter", adapter, "--to", "gguf")
        assert read_gguf_header(out / "model.gguf").metadata["tokenizer.chat_template"] == own
        text = (out / "Modelfile").read_text()
        assert 'PARAMETER stop "</s>"' in text and "<|me|>{{ .Response }}" in text


@pytest.mark.parametrize(("numbers", "kind"), [(None, "F16"), ("BF16", "BF16"), ("Q8_0", "Q8_0")])
def test_matrices_are_written_as_asked_and_a_gguf_base_is_exported_too(
    tmp_path: Path, numbers: str | None, kind: str
) -> None:
    pytest.importorskip("tokenizers", reason="needs the extra `hf`")
    pytest.importorskip("jinja2", reason="needs the extra `hf`")
    base, _, _ = saved(tmp_path, words=True)
    first = exported(tmp_path, "--model", base, "--to", "gguf", *(["--numbers", numbers] if numbers else []))
    header = read_gguf_header(first / "model.gguf")
    assert {t.kind.name for t in header.tensors.values() if len(t.shape) == 2} == {kind}
    assert {t.kind.name for t in header.tensors.values() if len(t.shape) == 1} == {"F32"}
    (tmp_path / "second").mkdir()
    again = exported(tmp_path / "second", "--model", str(first / "model.gguf"), "--to", "gguf", "--numbers", kind)
    before, after = (load_gguf(p / "model.gguf", dict.fromkeys([kind], np.asarray)) for p in (first, again))
    assert before[1].keys() == after[1].keys()
    assert all(np.array_equal(after[1][name], tensor) for name, tensor in before[1].items())
    names = {"general.name"}
    assert {k for k, v in before[0].metadata.items() if not np.array_equal(v, after[0].metadata[k])} == names


def test_an_adapter_in_gguf_has_its_pairs_and_one_alpha(tmp_path: Path) -> None:
    _, adapter, model = saved(tmp_path)
    out = exported(tmp_path, "--adapter", adapter, "--to", "gguf-lora")
    header, tensors = load_gguf(out / "adapter.gguf", {})
    assert header.metadata == {
        "general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": 5.0,
    }  # fmt: skip
    q = dict(model.lora_layers())["model.layers.1.self_attn.q_proj"].adapters["default"]
    assert np.array_equal(tensors["blk.1.attn_q.weight.lora_a"], q.A.data)
    assert np.array_equal(tensors["blk.1.attn_q.weight.lora_b"], in_halves(q.B.data, 4))
    assert len(tensors) == 2 * 2 * 5


def test_layers_of_other_scales_have_them_in_their_b(tmp_path: Path) -> None:
    def config(**options: Any) -> LoraConfig:
        patterns = {"rank_pattern": {"v_proj": 2}, "alpha_pattern": {"o_proj": 7}}
        return LoraConfig(**{**options, "use_rslora": True, **patterns})

    _, adapter, model = saved(tmp_path, config=config)
    header, tensors = load_gguf(exported(tmp_path, "--adapter", adapter, "--to", "gguf-lora") / "adapter.gguf", {})
    alpha = header.metadata["adapter.lora.alpha"]
    names = {"self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.down_proj": "ffn_down"}
    for path, name in names.items():
        own = dict(model.lora_layers())[f"model.layers.0.{path}"]
        A, B = (tensors[f"blk.0.{name}.weight.lora_{part}"] for part in "ab")
        np.testing.assert_allclose(alpha / len(A) * B @ A, own.get_delta_weight("default"), rtol=0, atol=1e-5)


def test_a_layer_whose_alpha_is_0_has_zeros_for_b(tmp_path: Path) -> None:
    config = LoraConfig(r=2, lora_alpha=4, alpha_pattern={"q_proj": 0}, target_modules=["q_proj", "v_proj"])
    model = get_peft_model(tiny_gguf("qwen2"), config)
    drawn(model)
    write_gguf_adapter(model, tmp_path / "x.gguf")
    header, tensors = load_gguf(tmp_path / "x.gguf", {})
    assert header.metadata["adapter.lora.alpha"] == 1 and not tensors["blk.0.attn_q.weight.lora_b"].any()
    B = dict(model.lora_layers())["model.layers.0.self_attn.v_proj"].adapters["default"].B.data
    assert np.array_equal(tensors["blk.0.attn_v.weight.lora_b"], 4 * B)


def test_an_adapter_of_another_method_is_cut_to_a_rank(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, adapter, model = saved(tmp_path, config=lambda lora_alpha, **options: HiraConfig(**options))
    for way in ("gguf-lora", "peft"):
        assert main(["export", "--adapter", adapter, "--to", way, "--output", str(tmp_path / "no")]) == 2
        assert "HiRA is no plain LoRA" in capsys.readouterr().err
    layers = dict(model.lora_layers())
    out = exported(tmp_path, "--adapter", adapter, "--to", "gguf-lora", "--rank", "32")
    header, tensors = load_gguf(out / "adapter.gguf", {})
    delta = layers["model.layers.0.mlp.down_proj"].get_delta_weight("default")
    A, B = (tensors[f"blk.0.ffn_down.weight.lora_{part}"] for part in "ab")
    U, values, V = np.linalg.svd(delta, full_matrices=False)
    nearest = (U[:, :32] * values[:32]) @ V[:32]
    np.testing.assert_allclose(header.metadata["adapter.lora.alpha"] / 32 * B @ A, nearest, rtol=0, atol=1e-4)
    (tmp_path / "peft").mkdir()
    out = exported(tmp_path / "peft", "--adapter", adapter, "--to", "peft", "--rank", "0.9999999")
    assert read_json(out / "adapter_config.json")["peft_type"] == "LORA"
    assert "the rank leaves out up to" in capsys.readouterr().err
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), out)
    np.testing.assert_allclose(logits(plain), logits(model), rtol=0, atol=0.02)


def test_a_lora_goes_to_peft_as_it_is(tmp_path: Path) -> None:
    _, adapter, _ = saved(tmp_path)
    out = exported(tmp_path, "--adapter", adapter, "--to", "peft")
    assert (out / "adapter_model.safetensors").read_bytes() == Path(adapter, "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize("half", [False, True])
def test_a_merged_checkpoint_has_the_bases_dtype_and_its_other_files(tmp_path: Path, half: bool) -> None:
    base, adapter, model = saved(tmp_path)
    if half:
        narrow: Any = AutoModelForCausalLM.from_pretrained(base, dtype="bfloat16")
        for parameter in narrow.parameters():
            parameter.data = BFloat16.rounded(parameter.data)
        narrow.save_pretrained(base)
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter_of_any_base(adapter))
    (Path(base) / "other.bin").write_bytes(b"x")
    out = exported(tmp_path, "--model", base, "--adapter", adapter, "--to", "hf")
    tensors = load_file(out / "model.safetensors", {"BF16": BFloat16})
    assert all(isinstance(tensor, BFloat16) == half for tensor in tensors.values())
    assert (out / "README.md").read_text() == "about it" and not (out / "other.bin").exists()
    again = AutoModelForCausalLM.from_pretrained(out)
    # Each weight is rounded to eight binary digits.
    np.testing.assert_allclose(logits(again), logits(model), rtol=0, atol=0.3 if half else 1e-4)


def adapter_of_any_base(adapter: str) -> str:
    """The adapter without what npora noted of its base, whose numbers are rounded since."""
    path = Path(adapter, "adapter_model.safetensors")
    tensors = {name: np.array(tensor) for name, tensor in load_file(path).items()}
    save_file(tensors, path)
    return adapter


def test_what_cannot_be_exported_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, adapter, _ = saved(tmp_path)
    out = ["--output", str(tmp_path / "out")]
    for options, said in (
        (["--model", base, "--to", "peft"], "--to peft writes an adapter: pass --adapter"),
        (["--model", base, "--to", "gguf-lora"], "--to gguf-lora writes an adapter: pass --adapter"),
        (["--model", base, "--to", "hf", "--numbers", "F16"], "--numbers is for --to gguf"),
        (["--adapter", adapter, "--to", "gguf", "--rank", "2"], "--rank is for --to gguf-lora and peft"),
        (["--model", base, "--to", "hf", "--output", base], "is not empty: name a new folder"),
    ):
        arguments = ["export", *options, *([] if "--output" in options else out)]
        assert main(arguments) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bias": "lora_only"}, "this one has base_model.model.model.layers.0.self_attn"),
        ({"modules_to_save": ["lm_head"]}, "this one has base_model.model.lm_head.weight: merge it"),
        ({"target_modules": ["lm_head"], "tie": True}, "lm_head has no matrix of its own in a GGUF file of llama"),
        ({"use_dora": True}, "DoRA is no plain LoRA"),
    ],
)
def test_what_an_adapter_in_gguf_has_no_place_for_is_refused(
    tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    base = tiny_gguf("llama", tie_word_embeddings=options.pop("tie", False))
    config = LoraConfig(**{"r": 2, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM", **options})
    with pytest.raises(ValueError, match=said):
        write_gguf_adapter(get_peft_model(base, config), tmp_path / "x.gguf")
    assert not list(tmp_path.iterdir())
