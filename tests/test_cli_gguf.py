"""The commands on a base in a GGUF file: it is trained on as it lies, and its adapter is for it alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import AutoPeftModelForCausalLM, AutoTokenizer, LoraConfig, PeftModel, get_peft_model
from npora.cli import main
from npora.commands.modelfile import Pieces, pieces_of, renderer
from npora.data import Tokenizer
from npora.data.gguf_vocabulary import gguf_vocabulary
from npora.files import read_json
from npora.lora import read_record
from npora.models import AutoModelForCausalLM
from npora.models.gguf.writing import write_gguf
from npora.stored import Q4_1
from tests.made_tokenizers import as_llama_cpp_has_it
from tests.tiny_gguf import VOCABULARY, tiny_gguf

pytest.importorskip("tokenizers", reason="needs the extra `hf`")


def test_lora_trains_on_a_quantised_base_whose_bytes_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "base.gguf", tmp_path / "out"
    keys = gguf_vocabulary(as_llama_cpp_has_it("byte-level"), VOCABULARY)
    write_gguf(tiny_gguf("qwen2"), path, "Q8_0", keys)
    before = path.read_bytes()
    (tmp_path / "train.txt").write_text("the film was good\n" * 6)
    arguments = ["--task", "causal-lm", "--model", str(path), "--train", str(tmp_path / "train.txt")]
    arguments += ["--output", str(out), "--epochs", "2", "--batch-size", "2", "--learning-rate", "0.01"]
    assert main(["finetune", *arguments, "--eval", str(tmp_path / "train.txt")]) == 0
    said = capsys.readouterr().out
    frozen = [line.split()[-1] for line in said.splitlines() if line.startswith("frozen bytes")]
    assert len(set(frozen)) == 1 and path.read_bytes() == before
    assert read_record(out)["base_forms"] == ["int8"]
    assert read_json(out / "adapter" / "adapter_config.json")["base_model_name_or_path"] == str(path)
    losses = [float(line.split()[-1]) for line in said.splitlines() if line.startswith("evaluation loss")]
    assert main(["evaluate", "--adapter", str(out), str(tmp_path / "train.txt")]) == 0
    found = [line for line in capsys.readouterr().out.splitlines() if "loss" in line]
    assert f"{losses[0]:.4f}" in found[0]
    assert main(["generate", "--adapter", str(out), "--max-new-tokens", "3", "the film"]) == 0
    assert capsys.readouterr().out.startswith("the film")
    assert main(["merge", "--adapter", str(out), "--output", str(tmp_path / "merged")]) == 0
    words = "the quick film"
    ids = AutoTokenizer.from_pretrained(path)(words)["input_ids"]
    assert AutoTokenizer.from_pretrained(tmp_path / "merged")(words)["input_ids"] == ids
    capsys.readouterr()
    model = AutoPeftModelForCausalLM.from_pretrained(out / "adapter")
    assert all(not p.requires_grad for p in model.get_base_model().parameters())
    wide = ["--model", str(tmp_path / "wide.gguf"), "--adapter", str(out)]
    write_gguf(tiny_gguf("qwen2"), tmp_path / "wide.gguf", "F16", keys)
    assert main(["generate", *wide, "the"]) == 2
    assert "trained on a base in int8, and this one is in plain floats" in capsys.readouterr().err


def test_a_model_at_rest_takes_what_its_file_takes(tmp_path: Path) -> None:
    write_gguf(tiny_gguf("llama"), tmp_path / "x.gguf", "Q8_0")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "x.gguf")
    held = sum(parameter.data.nbytes for parameter in model.parameters())
    assert held <= (tmp_path / "x.gguf").stat().st_size
    assert np.isfinite(model(np.array([[1, 2, 3]]))[0].logits).all()


def pieces(template: str, bos: str = "", tokenizer: Tokenizer | None = None) -> Pieces | None:
    pytest.importorskip("jinja2", reason="needs the extra `hf`")
    return pieces_of(renderer(template, tokenizer or as_llama_cpp_has_it("byte-level")), bos)


CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{% set first = messages[0].content + '\n\n' %}"
    "{% set rest = messages[1:] %}{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}<start>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ first if loop.first else '' }}"
    "{{ m.content | trim }}<end>\n{% endfor %}{% if add_generation_prompt %}<start>model\n{% endif %}"
)
REFUSING = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}[{{ m.role[0] }}]"
    "{{ m.content }}{% endfor %}{% if add_generation_prompt %}[a]{% endif %}"
)


def test_the_pieces_of_a_template_are_what_stands_around_its_texts() -> None:
    system, user = "<|im_start|>system\n", "<|im_start|>user\n"
    end, answer = "<|im_end|>\n", "<|im_end|>\n<|im_start|>assistant\n"
    assert pieces(CHATML) == Pieces(system, end + user, user, answer, end, None)
    start = "<start>user\n"
    assert pieces(GEMMA, bos="<s>") == Pieces(start, "\n\n", start, "<end>\n<start>model\n", "<end>\n", None)
    assert pieces(REFUSING) == Pieces("[u]", "\n\n", "[u]", "[a]", "", None)
    found = pieces(CHATML.replace("<|im_end|>", "{{"))
    assert found is not None and '{{ .Response }}{{ "{{" }}\n' in found.template


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m.content | upper }}{% endfor %}",
        "{% for m in messages %}[{{ loop.index }}]{{ m.content }}{% endfor %}",
        "{{ messages[0].content }}{{ undefined.nothing }}",
        REFUSING.replace("prompt %}[a]", "prompt %}[a]<think>"),
        "<s>{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}",
    ],
)
def test_a_template_that_is_not_the_same_around_each_turn_has_no_pieces(template: str) -> None:
    assert pieces(template) is None


def test_a_template_that_is_none_of_jinjas_is_refused() -> None:
    with pytest.raises(ValueError, match="the chat template is not one of Jinja"):
        pieces("{% for %}")
    with pytest.raises(ValueError, match="the chat template: "):
        renderer("{{ ''.__class__.__mro__ }}", as_llama_cpp_has_it("byte-level"))([], True)


def test_an_adapter_of_a_base_in_forms_of_gguf_says_where_it_belongs(tmp_path: Path) -> None:
    def model() -> PeftModel:
        return get_peft_model(tiny_gguf("qwen2"), LoraConfig(r=2, target_modules=["q_proj"]))

    trained = model()
    base: Any = trained.get_base_model()
    own = base.model.layers[0].self_attn.k_proj.weight
    own.data = Q4_1(np.zeros((len(own.data), 2 * 20), np.uint8), own.shape)
    trained.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"a base in Q4_1, and this one is in plain floats: load the base from the GG"):
        model().load_adapter(tmp_path)
    PeftModel.from_pretrained(trained.unload(), tmp_path)
