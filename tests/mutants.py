"""Which files have mutants, and of which a sample takes them."""

from __future__ import annotations

# Rows for the tests, and what is said to who asks for help.
LEFT_OUT = ("npora/catalogue/", "npora/__main__.py", "npora/__init__.py")
# How the work is cut into pieces. Any cut gives the same values, as the tests of attention and of the vocabulary's loss
# show: another number here is slower, and no error.
CUTS = {
    "npora/nn/attention_plan.py": ("_runs", "_at_once", "_shared_out"),
    "npora/nn/vocabulary.py": ("_rows_at_once",),
}
# A sample takes a file where there is the package without which its tests are skipped.
NEEDS = {"npora/files/hub.py": "huggingface_hub"}
# The files that a sample takes mutants of.
_LAYERS = ("linear", "weighted", "embedding", "norm", "dropout", "softmax", "activation", "erf", "loss",
           "cross_entropy", "scaled_attention", "packed_attention", "attention_plan", "rules", "attention", "packing",
           "rotary", "vocabulary", "cache", "view", "residual", "patches",
           "contract", "evaluating", "grad_mode", "init", "misfit", "preference", "similarity", "targets")  # fmt: skip
_MODELS = ("tokens", "losses", "tasks", "multiple_choice", "images", "body", "pooled", "encoder_decoder", "relative",
           "rope", "windows", "generate/sampling", "generate/continuations", "generate/beam", "generate/generation",
           "generate/processors", "generate/stopping")  # fmt: skip
_METHODS = ("__init__", "adalora", "adalora_config", "adalora_ranks", "dora", "fourierft", "hira", "hra", "ia3",
            "ln_tuning", "loha", "lokr", "lora", "lora_biased", "miss", "oft", "road", "vera")  # fmt: skip
_FILES = ("__init__", "atomic", "cache", "digest", "gguf", "gguf_header", "gguf_writer", "hashes", "header", "hub",
          "journal", "json", "kinds", "lock", "picture", "refusal", "regular", "safetensors", "together", "weights",
          "writable")  # fmt: skip
_OPTIMIZERS = ("adam", "clip", "lora_fa", "lora_plus", "optimizer", "plateau", "schedule", "sgd")
SAMPLED = (
    *(f"npora/nn/{name}.py" for name in _LAYERS),
    *(f"npora/models/{name}.py" for name in _MODELS),
    *(f"npora/lora/{name}.py" for name in ("adapter", "adapted")),
    *(f"npora/lora/methods/{name}.py" for name in _METHODS),
    *(f"npora/machine/{name}.py" for name in ("blocks", "heap", "maps", "stored", "tiles")),
    "npora/stored/",
    *(f"npora/optim/{name}.py" for name in _OPTIMIZERS),
    "npora/models/families/",
    *(f"npora/files/{name}.py" for name in _FILES),
    "npora/metrics/",
)
