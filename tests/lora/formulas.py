"""What each method makes of a layer's W and b, written once more in plain NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from npora import LoraConfig


def scaled(config: LoraConfig) -> float:
    r, alpha = config.rank_pattern.get("dense", config.r), config.alpha_pattern.get("dense", config.lora_alpha)
    return alpha / (r**0.5 if config.use_rslora else r)


# W′ and b′ of each method, from W, the base's own W₀, b, the tensors and the config.
FORMULAS: dict[str, Any] = {
    "LoRA": lambda W, W0, b, t, c: (W + scaled(c) * t["B"] @ t["A"], b),
    "HRA": lambda W, W0, b, t, c: (
        W @ np.linalg.multi_dot([np.eye(len(u)) - 2 * np.outer(u, u) / (u @ u) for u in t["U"].T]),
        b,
    ),
    "DoRA": lambda W, W0, b, t, c: (
        (t["m"] / np.linalg.norm(W0 + scaled(c) * t["B"] @ t["A"], axis=1))[:, None]
        * (W + scaled(c) * t["B"] @ t["A"]),
        b,
    ),
    "DoRANorm": lambda W, W0, b, t, c: (
        (t["m"] / np.linalg.norm(W + scaled(c) * t["B"] @ t["A"], axis=1))[:, None] * (W + scaled(c) * t["B"] @ t["A"]),
        b,
    ),
    "LoHa": lambda W, W0, b, t, c: (W + c.alpha / c.r * (t["W1a"] @ t["W1b"]) * (t["W2a"] @ t["W2b"]), b),
    "HiRA": lambda W, W0, b, t, c: (W + W0 * (t["B"] @ t["A"]), b),
    "VeRA": lambda W, W0, b, t, c: (
        W + np.diag(t["b"]) @ t["B"][: len(W)] @ np.diag(t["d"]) @ t["A"][:, : W.shape[1]],
        b,
    ),
    "IA3": lambda W, W0, b, t, c: (W * t["l"], b if c.feedforward_modules else b * t["l"][:, 0]),
}
