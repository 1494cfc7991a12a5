"""What is measured: models by name, workloads by letter, and batches for them that every peer is given alike.

Weights are random unless a checkpoint is given: time does not depend on them. A model is made once, by npora, written
as Hugging Face lays it out, and read by every peer; LoRA's values are drawn from their names, B's too, so that no
gradient is zero.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

RANK, ALPHA, LEARNING_RATE, MAX_NORM = 8, 16, 5e-4, 1.0
Batch = dict[str, np.ndarray]

# In float32 two orders of summation differ by about √k roundoffs of the largest term in a sum of k, and a gradient has
# come through some fifty such sums of up to 50,000: 6e-8 · √50,000 · √50 = 1e-4 of its largest element. A wrong factor,
# transpose or term is off by far more.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Model:
    """cls : the class, under one name in npora.models and in transformers
    targets, task : LoRA's; config : what differs from the family's own defaults; toy : a size to try things out with
    dropout : the fields of the config that are a probability of dropping something
    """

    cls: str
    targets: tuple[str, ...]
    task: str
    config: Mapping[str, Any]
    toy: Mapping[str, Any]
    dropout: tuple[str, ...]


def _bert(**config: Any) -> Model:
    toy = {"vocab_size": 31, "hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 2,
           "intermediate_size": 7}  # fmt: skip
    dropout = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    return Model("BertForSequenceClassification", ("query", "value"), "SEQ_CLS", config, toy, dropout)


MODELS = {
    "bert-base": _bert(),
    "minilm-l6": _bert(hidden_size=384, num_hidden_layers=6, intermediate_size=1536),
    "gpt2": Model(
        "GPT2LMHeadModel", ("c_attn",), "CAUSAL_LM",
        {"bos_token_id": None, "eos_token_id": None},  # so that no generation ends early
        {"vocab_size": 31, "n_embd": 12, "n_layer": 3, "n_head": 2, "n_positions": 24},
        ("resid_pdrop", "embd_pdrop", "attn_pdrop"),
    ),
    "t5-small": Model(
        "T5ForConditionalGeneration", ("q", "v"), "SEQ_2_SEQ_LM", {},
        {"vocab_size": 31, "d_model": 12, "d_kv": 5, "d_ff": 7, "num_layers": 3, "num_heads": 2},
        ("dropout_rate",),
    ),
    "smollm2-135m": Model(
        "LlamaForCausalLM", ("q_proj", "v_proj"), "CAUSAL_LM",
        {"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
         "num_attention_heads": 9, "num_key_value_heads": 3, "rms_norm_eps": 1e-5, "rope_theta": 100000.0,
         "max_position_embeddings": 8192, "tie_word_embeddings": True},
        {"vocab_size": 31, "hidden_size": 12, "intermediate_size": 7, "num_hidden_layers": 3, "num_attention_heads": 6,
         "num_key_value_heads": 3},
        ("attention_dropout",),
    ),
    "llama-1b": Model(  # 1.1 thousand million parameters: Llama 3.2 1B's layers, and half of its vocabulary
        "LlamaForCausalLM", ("q_proj", "v_proj"), "CAUSAL_LM",
        {"vocab_size": 65536, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
         "num_attention_heads": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-5, "rope_theta": 100000.0,
         "max_position_embeddings": 8192, "tie_word_embeddings": True},
        {"vocab_size": 31, "hidden_size": 16, "intermediate_size": 9, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2},
        ("attention_dropout",),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Workload:
    """kind : "train" (forward, backward, clipping, AdamW), "infer" (forward), "generate" (greedy, with a cache),
        "start" (a process, to the end of its first training step), "layer" (forward and backward of `model`, "linear"
        or "attention", whose sizes `config` gives)
    model : of MODELS; config : changes to its config
    batch, length : sequences and tokens of each; target : those of a decoder, or those to generate
    sentences : they are of unequal lengths, padded to `length`, or to the longest where that is 0
    checkpoint, text : a directory and a TSV to be used instead of what is drawn
    dropout : in the steps that are timed; the check of the gradients is always without
    tokens_at_once : of npora's micro-batches; 0 does not cut
    base : how npora's frozen weights lie in memory. The numbers of all peers' are those that this form has
    tolerance : by what share of its largest element a gradient may differ from a peer's
    """

    name: str
    title: str
    kind: str
    model: str
    batch: int
    length: int
    target: int = 0
    sentences: bool = False
    merged: bool = False
    dropout: float = 0.0
    rank: int = RANK
    tokens_at_once: int = 512
    tolerance: float = TOLERANCE
    base: str = "float32"
    config: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None
    text: str | None = None

    @property
    def dropouts(self) -> dict[str, float]:
        """The fields of the model's config that say how much it drops."""
        return dict.fromkeys(MODELS[self.model].dropout, self.dropout)

    def weights(self, folder: Path, form: str = "float32") -> Path:
        """Where the model is, in this form: a checkpoint, or what `prepare` wrote."""
        made = f"{self.model}-{zlib.crc32(repr((self.config, self.base)).encode())}"
        return Path(self.checkpoint or folder / (made if form == "float32" else f"{made}-{form}"))


def npora_class(workload: Workload) -> Any:
    """The model's class. Raises LookupError where npora has no such family."""
    import npora.models

    name = MODELS[workload.model].cls
    if not hasattr(npora.models, name):
        raise LookupError(f"npora.models has no {name}")
    return getattr(npora.models, name)


def config_of(workload: Workload) -> Any:
    """The model's config, with the family's defaults."""
    config = {**MODELS[workload.model].config, **workload.config, **workload.dropouts}
    return npora_class(workload).config_class(**config)


LAYER = {"embed_dim": 768, "num_heads": 12}
SST2 = {"kind": "train", "model": "minilm-l6", "batch": 16, "sentences": True, "dropout": 0.1}
STEP, PASSES = ": a training step", ": forward and backward"
GENERATE = {"kind": "generate", "model": "gpt2", "batch": 1, "length": 32, "target": 64}
WORKLOADS = [
    Workload("a", f"BERT-base, 16 × 128 tokens{STEP}", "train", "bert-base", 16, 128),
    Workload("a-1024", f"the same, npora's micro-batches twice as long{STEP}", "train", "bert-base", 16, 128,
             tokens_at_once=1024),
    Workload("a-uncut", f"the same, and npora does not cut the batch{STEP}", "train", "bert-base", 16, 128,
             tokens_at_once=0),
    Workload("b-128", f"SST-2 on MiniLM-L6, 16 sentences padded to 128{STEP}", length=128, **SST2),
    Workload("b-longest", f"SST-2 on MiniLM-L6, 16 sentences padded to the longest{STEP}", length=0, **SST2),
    Workload("c", f"GPT-2 small, 8 × 256 tokens, causal{STEP}", "train", "gpt2", 8, 256),
    # T5 does not scale its scores, and random weights make them large: in float32 npora's gradient and torch's are each
    # 1.7e-3 from the one in float64, in which both agree to 3e-7.
    Workload("d", f"T5-small, 16 × 64 → 32 tokens{STEP}", "train", "t5-small", 16, 64, target=32,
             tolerance=4 * TOLERANCE),
    Workload("e-unmerged", "BERT-base, 16 × 128 tokens: inference, LoRA beside W", "infer", "bert-base", 16, 128),
    Workload("e-merged", "BERT-base, 16 × 128 tokens: inference, merged", "infer", "bert-base", 16, 128, merged=True),
    Workload("e-generate", "GPT-2 small, 64 tokens after a prompt of 32, LoRA beside W", **GENERATE),
    Workload("e-generate-merged", "GPT-2 small, 64 tokens after a prompt of 32, merged", merged=True, **GENERATE),
    Workload("f", "MiniLM-L6, 16 sentences: a process from its start to the end of its first training step", length=0,
             **{**SST2, "kind": "start", "dropout": 0.0}),
    Workload("g-linear", f"LoRALinear 768 → 768 on 16 × 128 rows{PASSES}", "layer", "linear", 16, 128, config=LAYER),
    Workload("g-attention", f"self-attention of 12 heads, 768 wide, LoRA on q and v, 16 × 128{PASSES}", "layer",
             "attention", 16, 128, config=LAYER),
    Workload("h", f"a Llama of SmolLM2-135M's shape, 4 × 256 tokens, causal{STEP}", "train", "smollm2-135m", 4, 256),
    Workload("i", f"a Llama of SmolLM2-135M's shape, its base in bfloat16, 2 × 512 tokens{STEP}", "train",
             "smollm2-135m", 2, 512, base="bfloat16"),
    Workload("j", f"a Llama of 1.1 thousand million parameters in bfloat16, 2 × 512 tokens{STEP}", "train", "llama-1b",
             2, 512, base="bfloat16"),
]  # fmt: skip


def toy(workload: Workload) -> Workload:
    """The same at a size that takes no time, to try a machine out, or a change to these files."""
    config = {"embed_dim": 12, "num_heads": 2} if workload.kind == "layer" else MODELS[workload.model].toy
    length, target = min(workload.length, 9), min(workload.target, 4)
    return replace(
        workload, title=f"{workload.title}, at toy sizes", batch=min(workload.batch, 3), length=length, target=target,
        rank=2, config=config,
    )  # fmt: skip


def prepare(workload: Workload, folder: Path, count: int) -> None:
    """Write the model, unless it is there already, and `count` batches."""
    if workload.kind != "layer" and not workload.weights(folder, workload.base).exists():
        model = npora_class(workload)(config_of(workload), rng=0)
        if workload.base == "float32":
            model.save_pretrained(workload.weights(folder))
        else:
            save_rounded(model, {form: workload.weights(folder, form) for form in ("float32", workload.base)})
    rng = np.random.default_rng(0)
    arrays = {f"{i} {name}": a for i in range(count) for name, a in _batch(workload, rng, i).items()}
    np.savez(folder / f"{workload.name}.npz", **arrays)


def save_rounded(model: Any, places: Mapping[str, Path]) -> None:
    """Write a model in each of these forms, with the numbers that the last of them has."""
    from npora.files import save_file, write_json
    from npora.stored import HALF

    state = {name: HALF[[*places][-1]].rounded(array) for name, array in model.state_dict().items()}
    for form, place in places.items():
        place.mkdir()
        write_json(place / "config.json", model.config.to_dict())
        written = {name: HALF[form].rounded(array) if form in HALF else array[:] for name, array in state.items()}
        save_file(written, place / "model.safetensors", {"format": "pt"})


def load_batches(workload: Workload, folder: Path) -> list[Batch]:
    batches: dict[str, Batch] = {}
    with np.load(folder / f"{workload.name}.npz") as arrays:
        for key in arrays:
            number, name = key.split()
            batches.setdefault(number, {})[name] = arrays[key]
    return list(batches.values())


def _batch(workload: Workload, rng: np.random.Generator, number: int) -> Batch:
    b, t = workload.batch, workload.length
    if workload.kind == "layer":
        x, dy = rng.standard_normal((2, b, t, workload.config["embed_dim"]), dtype=np.float32)
        return {"x": x, "dy": dy}
    if workload.sentences:
        return _sentences(workload, rng, number)
    v = config_of(workload).vocab_size
    ids = rng.integers(2, v, (b, t))
    if workload.kind == "generate":
        return {"input_ids": ids}
    if workload.target:
        return {"input_ids": ids, "labels": rng.integers(2, v, (b, workload.target))}
    classes = MODELS[workload.model].task == "SEQ_CLS"
    return {"input_ids": ids, "labels": rng.integers(0, 2, b) if classes else ids}


def _sentences(workload: Workload, rng: np.random.Generator, number: int) -> Batch:
    """Sentences of the file, or as long as SST-2's are: 13 tokens in the mean, half of them under 10, and up to 64."""
    b, most = workload.batch, workload.length or 128
    if workload.text and workload.checkpoint:
        from npora import AutoTokenizer
        from npora.data import read_tsv

        tokenizer = AutoTokenizer.from_pretrained(workload.checkpoint)
        order = read_tsv(workload.text).shuffle(seed=42)
        rows = order.select(range(b * number, b * (number + 1)))
        ids = [tokenizer(row["sentence"], truncation=True, max_length=most)["input_ids"] for row in rows]
        labels = np.array([int(row["label"]) for row in rows])
    else:
        lengths = np.clip(rng.geometric(0.1, b) + 3, 4, min(64, most))
        ids = [rng.integers(2, config_of(workload).vocab_size, length).tolist() for length in lengths]
        labels = rng.integers(0, 2, b)
    width = workload.length or max(len(row) for row in ids)
    padded = np.array([row + [0] * (width - len(row)) for row in ids])
    mask = np.arange(width) < np.array([len(row) for row in ids])[:, None]
    return {"input_ids": padded, "attention_mask": mask.astype(np.int64), "labels": labels}


def plain(name: str) -> str:
    """A parameter's name as PEFT's files have it, without the adapter's."""
    return name.replace(".modules_to_save", "").replace(".default", "")


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The value of a parameter that no file holds: N(0, 0.02²), the same under the same name."""
    rng = np.random.default_rng(zlib.crc32(plain(name).encode()))
    return 0.02 * rng.standard_normal(shape, dtype=np.float32)
