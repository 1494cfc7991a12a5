"""Small files that are right, with what reads them: a reader of npora's, and the first use of what it gives."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from npora import (
    AutoTokenizer,
    HiraConfig,
    IA3Config,
    LoHaConfig,
    LoraConfig,
    PeftModel,
    Trainer,
    TrainingArguments,
    VeraConfig,
    get_peft_model,
    models,
)
from npora.data import Dataset, read_csv, read_json, read_jsonl, read_texts, read_tsv
from npora.data.gguf_vocabulary import gguf_vocabulary
from npora.files import load_file, load_metadata, load_weights, save_file, write_json
from npora.files.gguf import load_gguf
from npora.lora import read_record
from npora.models import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
)
from npora.models.generate.generation_config import chosen_options
from npora.models.gguf.writing import write_gguf
from npora.train.finite import NotFinite
from npora.train.manifest import write_manifest
from npora.train.runs import read_run
from tests.files.test_gguf import floats, raw, written
from tests.made_tokenizers import as_llama_cpp_has_it, made
from tests.tiny import tiny_bert
from tests.tiny_encoders import SIZES as ENCODERS
from tests.tiny_folders import FAMILIES, save_folder, save_tokenizer
from tests.tiny_gguf import tiny_gguf

Files = dict[str, bytes]
_TABLE = ["sentence\tlabel", "a good film\t1", "a bad plot\t0", "the very red\t1"]


@dataclass(frozen=True)
class Subject:
    """A folder's files, which of them are changed, and what reads the folder."""

    name: str
    files: Files
    changed: tuple[str, ...]
    read: Callable[[Path], Any]


def subjects() -> list[Subject]:
    """All of them; those of tokenizers where the package is there."""
    with tempfile.TemporaryDirectory() as folder:
        return [
            subject
            for make in (_tensors, _models, _adapters, _caches, _data, _tokenizers, _runs)
            for subject in make(Path(folder))
        ]


def _of(folder: Path) -> Files:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def _new(folder: Path, name: str) -> Path:
    made_ = folder / name
    made_.mkdir(parents=True)
    return made_


def _tensors(folder: Path) -> Iterator[Subject]:
    place, rng = _new(folder, "tensors"), np.random.default_rng(0)
    arrays = {name: rng.standard_normal((3, 4)).astype(kind) for name, kind in (("a", "f4"), ("b", "f2"), ("c", "i8"))}
    save_file({**arrays, "flags": np.array([True, False])}, place / "x.safetensors", {"format": "pt", "note": "n"})
    yield Subject("safetensors", _of(place), ("x.safetensors",), _read_tensors)
    place = _new(folder, "shards")
    places = {}
    for number, name in enumerate(arrays):
        shard = f"model-{number}.safetensors"
        save_file({name: arrays[name]}, place / shard)
        places[name] = shard
    write_json(place / "model.safetensors.index.json", {"metadata": {"total_size": 1}, "weight_map": places})
    yield Subject("shards", _of(place), ("model.safetensors.index.json", "model-1.safetensors"), load_weights)
    place = _new(folder, "gguf")
    written(place, w=floats(arrays["a"]), blocks=raw("Q8_0", (2, 32), bytes(range(68))), last=floats([1.5]))
    yield Subject("gguf", _of(place), ("x.gguf",), _read_gguf)


def _read_tensors(folder: Path) -> None:
    load_metadata(folder / "x.safetensors")
    for array in load_file(folder / "x.safetensors").values():
        np.asarray(array).sum()


def _read_gguf(folder: Path) -> None:
    header, tensors = load_gguf(folder / "x.gguf", {"Q8_0": np.asarray})
    repr(header)
    for array in tensors.values():
        array.sum()


def _read_gguf_model(folder: Path, auto: Any) -> None:
    _read_tokenizer(folder / "x.gguf")
    model = auto.from_pretrained(folder / "x.gguf")
    json.dumps(model.config.to_dict())
    for parameter in model.parameters():
        with np.errstate(all="ignore"):
            np.asarray(parameter.data).sum()


def _models(folder: Path) -> Iterator[Subject]:
    autos: dict[str, Any] = dict.fromkeys(FAMILIES, AutoModelForCausalLM)
    autos |= dict.fromkeys(ENCODERS, AutoModelForMaskedLM) | {"t5": AutoModelForSeq2SeqLM}
    for family in FAMILIES:
        save_folder(_new(folder, family), family)
    _, sizes = FAMILIES["qwen3"]
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    longrope = {"rope_type": "longrope", "short_factor": [1.0, 2.0, 3.0, 4.0], "long_factor": [9.0] * 4}
    for name, config in {
        "Mistral": models.MistralConfig(vocab_size=14, **sizes), "Qwen2": models.Qwen2Config(vocab_size=14, **sizes),
        "Phi3": models.Phi3Config(vocab_size=14, pad_token_id=0, rope_scaling=longrope, **sizes),
        "Olmo2": models.Olmo2Config(vocab_size=14, **sizes),
        "SmolLM3": models.SmolLM3Config(vocab_size=14, pad_token_id=0, **sizes),
        "Gemma3": models.Gemma3TextConfig(vocab_size=14, **{**sizes, "num_hidden_layers": 2}, sliding_window_pattern=2),
        "Llama": models.LlamaConfig(vocab_size=14, **sizes, rope_scaling=scaling),
    }.items():  # fmt: skip
        family = f"{name.lower()}, made"
        getattr(models, f"{name}ForCausalLM")(config, rng=1).save_pretrained(_new(folder, family))
        autos[family] = AutoModelForCausalLM
    for family, auto in autos.items():
        said = {"max_new_tokens": 5, "temperature": 0.7, "top_p": 0.9, "eos_token_id": [3], "do_sample": True}
        write_json(folder / family / "generation_config.json", said)
        files = {name: text for name, text in _of(folder / family).items() if not name.startswith("tokenizer")}
        changed = ("config.json", "config.json", "generation_config.json", "model.safetensors")

        def read(folder: Path, auto: Any = auto) -> None:
            model = auto.from_pretrained(folder)
            json.dumps(model.config.to_dict())
            json.dumps(model.generation_config.to_dict())
            chosen_options(model.generation_config, {})
            repr(model.config)

        yield Subject(family, files, changed, read)


def _adapters(folder: Path) -> Iterator[Subject]:
    names: dict[str, Any] = {"target_modules": ["query", "value"], "task_type": "SEQ_CLS"}
    configs: dict[str, Any] = {
        "lora": LoraConfig(**names, r=2, rank_pattern={"0.*query": 3}, alpha_pattern={"value": 4}, exclude_modules="x"),
        "layers": LoraConfig(**names, r=2, layers_to_transform=[0, 1], layers_pattern="layer", bias="lora_only"),
        "pattern": LoraConfig(r=2, target_modules=r".*\.(query|value)"),
        "dora": LoraConfig(**names, r=2, use_dora=True),
        "vera": VeraConfig(**names, r=3), "drawn": VeraConfig(**names, r=3, save_projection=False),
        "ia3": IA3Config(target_modules=["key", "output.dense"], feedforward_modules=["output.dense"]),
        "loha": LoHaConfig(**names, r=2), "hira": HiraConfig(**names, r=2),
    }  # fmt: skip
    for name, config in configs.items():
        place = _new(folder, name)
        model = get_peft_model(tiny_bert(), config)
        model.notes = {"task": "classification", "columns": {"text": "sentence"}, "max_length": 9}
        model.save_pretrained(place)
        changed = ("adapter_config.json", "adapter_config.json", "adapter_model.safetensors")
        yield Subject(f"adapter {name}", _of(place), changed, _read_adapter)


def _read_adapter(folder: Path) -> None:
    read_record(folder)
    model = PeftModel.from_pretrained(tiny_bert(), folder)
    json.dumps(model.peft_config["default"].to_dict())
    repr(model)


def _runs(folder: Path) -> Iterator[Subject]:
    """A run's own files, and its checkpoint: as its digests guard it, and where whoever changed it signed it anew."""
    place, examples = _new(folder, "run"), [{"input_ids": [3, 5 + i], "labels": i % 3} for i in range(6)]

    def trainer(place: Path, steps: int) -> Trainer:
        model = get_peft_model(tiny_bert(), LoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS"))
        args = TrainingArguments(str(place), max_steps=steps, save_strategy="steps", save_steps=2, disable_tqdm=True,
                                 logging_steps=1, lr_scheduler_type="constant", num_train_epochs=9)  # fmt: skip
        return Trainer(model, args, examples)

    trainer(place, 2).train()
    yield Subject("run", _of(place), ("log.jsonl", "run.json"), lambda folder: repr(read_run(folder)))

    def resume(folder: Path) -> None:
        # Signed values that are finite, and no step from them is: the step says so, and whose they are does not matter.
        with tempfile.TemporaryDirectory() as output, suppress(NotFinite):
            trainer(Path(output), 3).train(folder)

    def resume_signed(folder: Path) -> None:
        text = (folder / "trainer_state.json").read_bytes()
        with suppress(ValueError, RecursionError):  # what is no JSON is read as it is
            content = json.loads(text)
            if isinstance(content, dict):
                content["files"] = None  # written anew
                (folder / "trainer_state.json").unlink()
                write_manifest(str(folder), content)
        resume(folder)

    saved = place / "checkpoint-2"
    names = ("trainer_state.json", "trainer_state.json", "trainer_state.safetensors", "adapter_config.json")
    yield Subject("checkpoint", _of(saved), names, resume)
    yield Subject("checkpoint, signed", _of(saved), names, resume_signed)


def _caches(folder: Path) -> Iterator[Subject]:
    place = folder / "cache"
    examples = Dataset([{"input_ids": [3, 5 + i][: i % 3], "label": i % 3, "score": i / 2} for i in range(6)])

    def use(folder: Path) -> None:
        list(examples.cached(folder))

    use(place)
    yield Subject("cache", _of(place), ("about.json", "about.json", "input_ids.bin", "input_ids.ends.bin"), use)


def _data(folder: Path) -> Iterator[Subject]:
    examples = [line.split("\t") for line in _TABLE]
    objects = [dict(zip(examples[0], example, strict=True)) for example in examples[1:]]
    lines = "\n".join(json.dumps({**example, "ids": [1, 2.5, None], "more": {"a": "ü"}}) for example in objects)
    quoted = "\n".join(",".join(f'"{value}, ""x"""' for value in example) for example in examples[1:])
    paragraphs = partial(read_texts, text_column="text", sample_by="paragraph")
    for name, text, read in (
        ("a.tsv", "\n".join(_TABLE), read_tsv), ("a.csv", f"sentence,label\n{quoted}\n", read_csv),
        ("a.jsonl", lines, read_jsonl), ("a.json", json.dumps({"data": objects}), read_json),
        ("b.json", json.dumps(objects), read_json), ("a.txt", "\n\n".join(_TABLE), paragraphs),
    ):  # fmt: skip

        def use(folder: Path, name: str = name, read: Any = read) -> None:
            for example in read(folder / name):
                repr(example)

        yield Subject(name, {name: text.encode()}, (name,), use)


def _tokenizers(folder: Path) -> Iterator[Subject]:
    try:
        import tokenizers  # noqa: F401
    except ImportError:
        return
    for family, kind in (("llama", "metaspace"), ("gpt2", "byte-level"), ("bert", "word-pieces")):
        place = _new(folder, f"gguf-{family}")
        model = tiny_gguf(family, **({} if family in ("gpt2", "bert") else {"vocab_size": 560}))
        body = model.bert if family == "bert" else model
        write_gguf(body, place / "x.gguf", "Q8_0", gguf_vocabulary(as_llama_cpp_has_it(kind), model.config.vocab_size))
        auto = AutoModelForSequenceClassification if family == "bert" else AutoModelForCausalLM
        yield Subject(f"gguf of a {family}", _of(place), ("x.gguf",), partial(_read_gguf_model, auto=auto))
    place = _new(folder, "words")
    save_tokenizer(place, "bert")
    (place / "chat_template.jinja").write_text("{{ messages }}")
    write_json(place / "special_tokens_map.json", {"pad_token": {"content": "<pad>", "lstrip": False}})
    changed = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
    yield Subject("tokenizer of words", _of(place), changed, _read_tokenizer)
    for kind, name in (("byte-level", "Roberta"), ("word-pieces", "Bert"), ("unigram", "T5"), ("metaspace", "Llama")):
        place = _new(folder, f"tokenizer-{name}")
        made(kind).save(str(place / "tokenizer.json"))
        settings = {"tokenizer_class": f"{name}Tokenizer", "model_max_length": 12, "extra_special_tokens": ["good"]}
        write_json(place / "tokenizer_config.json", settings)
        yield Subject(f"tokenizer {name}", _of(place), ("tokenizer.json", "tokenizer_config.json"), _read_tokenizer)
    place = _new(folder, "pairs")
    (place / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(["a", "b", "ab", "Ġ", "<|endoftext|>"])}))
    (place / "merges.txt").write_text("#version: 0.2\na b\n")
    write_json(place / "added_tokens.json", {"[A]": 5, "[B]": 6})
    yield Subject("byte pairs", _of(place), tuple(_of(place)), _read_tokenizer)
    place = _new(folder, "pieces")
    (place / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "film", "##s"]))
    token = {"content": "[MASK]", "lstrip": True, "special": True}
    write_json(place / "tokenizer_config.json", {"added_tokens_decoder": {"4": token}, "do_lower_case": True})
    yield Subject("word pieces", _of(place), tuple(_of(place)), _read_tokenizer)


def _read_tokenizer(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer("a good film, the films", truncation=True, max_length=8)
    repr(tokenizer)
