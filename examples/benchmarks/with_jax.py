"""BERT's training step in JAX, compiled as a whole: forward, backward by jax.grad, clipping, AdamW."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from workloads import ALPHA, LEARNING_RATE, MAX_NORM, Batch, Workload, config_of, drawn

from npora.files import load_file

HEAD = "base_model.model.classifier."


def start(workload: Workload, folder: Path) -> tuple[Any, Any]:
    config, s = config_of(workload), ALPHA / workload.rank
    heads, layers, eps = config.num_attention_heads, config.num_hidden_layers, config.layer_norm_eps
    d, r = config.hidden_size, workload.rank
    W = {name: jnp.asarray(array) for name, array in load_file(workload.weights(folder) / "model.safetensors").items()}
    shapes = {HEAD + "weight": (config.num_labels, d), HEAD + "bias": (config.num_labels,)}
    for i in range(layers):
        for target in ("query", "value"):
            name = f"base_model.model.bert.encoder.layer.{i}.attention.self.{target}."
            shapes |= {name + "lora_A.weight": (r, d), name + "lora_B.weight": (d, r)}
    values = {name: jnp.asarray(drawn(name, shape)) for name, shape in shapes.items()}

    def linear(W: Any, lora: Any, name: str, x: Any) -> Any:
        y = x @ W[name + ".weight"].T + W[name + ".bias"]
        A, B = (lora.get(f"base_model.model.{name}.lora_{side}.weight") for side in "AB")
        return y if A is None else y + s * (x @ A.T) @ B.T

    def norm(W: Any, name: str, x: Any) -> Any:
        x = x - x.mean(-1, keepdims=True)
        return x / jnp.sqrt((x * x).mean(-1, keepdims=True) + eps) * W[name + ".weight"] + W[name + ".bias"]

    def loss(lora: Any, W: Any, ids: Any, labels: Any) -> Any:
        (b, t), e = ids.shape, "bert.embeddings."
        h = W[e + "word_embeddings.weight"][ids] + W[e + "position_embeddings.weight"][:t]
        h = norm(W, e + "LayerNorm", h + W[e + "token_type_embeddings.weight"][0])  # [b,t,d]
        for i in range(layers):
            name = f"bert.encoder.layer.{i}."
            q, k, v = (
                linear(W, lora, f"{name}attention.self.{part}", h).reshape(b, t, heads, -1)
                for part in ("query", "key", "value")
            )
            p = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", q, k) / np.float32(np.sqrt(q.shape[-1])))
            a = linear(W, lora, name + "attention.output.dense", jnp.einsum("bhts,bshd->bthd", p, v).reshape(b, t, -1))
            h = norm(W, name + "attention.output.LayerNorm", h + a)
            f = jax.nn.gelu(linear(W, lora, name + "intermediate.dense", h), approximate=False)
            h = norm(W, name + "output.LayerNorm", h + linear(W, lora, name + "output.dense", f))
        pooled = jnp.tanh(linear(W, lora, "bert.pooler.dense", h[:, 0]))
        logits = jax.nn.log_softmax(pooled @ lora[HEAD + "weight"].T + lora[HEAD + "bias"])
        return -jnp.take_along_axis(logits, labels[:, None], axis=1).mean()

    @jax.jit
    def update(state: Any, W: Any, ids: Any, labels: Any) -> Any:
        lora, m, v, t = state
        value, g = jax.value_and_grad(loss)(lora, W, ids, labels)
        size = jnp.sqrt(sum(jnp.vdot(x, x) for x in jax.tree.leaves(g)))
        g = jax.tree.map(lambda x: x * jnp.minimum(1, MAX_NORM / (size + 1e-6)), g)
        m = jax.tree.map(lambda m, x: 0.9 * m + 0.1 * x, m, g)
        v = jax.tree.map(lambda v, x: 0.999 * v + 0.001 * x * x, v, g)
        up = jax.tree.map(lambda m, v: m / (1 - 0.9**t) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8), m, v)
        return value, (jax.tree.map(lambda x, u: x - LEARNING_RATE * u, lora, up), m, v, t + 1)

    gradients = jax.jit(jax.value_and_grad(loss))
    state = [(values, *(jax.tree.map(jnp.zeros_like, values) for _ in "mv"), 1.0)]

    def check(batch: Batch) -> dict[str, Any]:
        value, g = gradients(values, W, batch["input_ids"], batch["labels"])
        return {name: np.asarray(array) for name, array in {"loss": value, **g}.items()}

    def step(batch: Batch) -> float:
        value, state[0] = update(state[0], W, batch["input_ids"], batch["labels"])
        return float(value)

    return check, step
