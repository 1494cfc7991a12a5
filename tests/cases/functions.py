"""The functions without parameters."""

from __future__ import annotations

import numpy as np

from npora.nn import functional as F
from tests.cases.case import Case, draw

KEY_MASK = np.array([[True, True, False, True, False], [True, False, False, True, False]])
TARGETS = np.array([2, -100, 0, 3, 3])
CERTAIN = draw(5, 4) + 30 * np.eye(4)[TARGETS.clip(0)]  # p − 1 is about e⁻³⁰: nothing of it is left beside 1
TURN = F.rotation(np.array([0, 7, 2, 2]), F.frequencies(6, 50.0), np.float64)
SIGNS = np.sign(draw(3, 5))
YES = draw(3, 5, seed=1) > 0.1  # in any sign of the logits
SMOOTHED = {"targets": TARGETS, "label_smoothing": 0.1}

CASES = [
    Case("relu", lambda: F.relu, (draw(3, 5),), row_wise=True),
    Case("tanh", lambda: F.tanh, (draw(3, 5),), row_wise=True),
    Case("silu", lambda: F.silu, (3 * draw(3, 5),), row_wise=True),
    Case("silu, far from zero", lambda: F.silu, (500 * draw(3, 5),), row_wise=True),
    Case("gelu", lambda: F.gelu, (2 * draw(3, 5),), row_wise=True),
    Case("gelu_tanh", lambda: F.gelu_tanh, (2 * draw(3, 5),), row_wise=True),
    Case("softmax", lambda: F.softmax, (draw(3, 5),), row_wise=True),
    Case("softmax, masked", lambda: F.softmax, (draw(2, 5),), {"mask": KEY_MASK}),
    Case("softmax, huge logits", lambda: F.softmax, (800 + draw(3, 5),), row_wise=True),
    Case("log_softmax", lambda: F.log_softmax, (draw(3, 5),), row_wise=True),
    Case("log_softmax, huge logits", lambda: F.log_softmax, (800 + draw(3, 5),), row_wise=True),
    Case("normalize", lambda: F.normalize, (draw(3, 5),), {"eps": 1e-2}, row_wise=True),
    Case("dropout", lambda: F.dropout, (draw(3, 5),), {"p": 0.3, "rng": np.random.default_rng(2)}),
    Case("cross_entropy", lambda: F.cross_entropy, (draw(5, 4),), {"targets": TARGETS}),
    Case("cross_entropy, huge logits", lambda: F.cross_entropy, (800 + draw(5, 4),), {"targets": TARGETS}),
    Case("cross_entropy, certain", lambda: F.cross_entropy, (CERTAIN,), {"targets": TARGETS}),
    Case("cross_entropy, smoothed", lambda: F.cross_entropy, (draw(5, 4),), SMOOTHED),
    Case("binary_cross_entropy", lambda: F.binary_cross_entropy, (3 * draw(3, 5),), {"targets": YES}),
    Case("binary_cross_entropy, certain", lambda: F.binary_cross_entropy, (30 * SIGNS,), {"targets": SIGNS > 0}),
    Case("rms_normalize", lambda: F.rms_normalize, (draw(3, 5),), {"eps": 1e-2}, row_wise=True),
    Case("rotary", lambda: F.rotary, (draw(4, 12),), {"turn": TURN, "heads": 2}),
    Case("mse_loss", lambda: F.mse_loss, (draw(3, 5),), {"target": draw(3, 5, seed=1)}),
    Case("attention", lambda: F.attention, (draw(2, 3, 4, 6), draw(2, 3, 5, 6), draw(2, 3, 5, 7))),
    Case(
        "attention, everything",
        lambda: lambda q, k, v, bias, **kw: F.attention(q, k, v, bias=bias, **kw),
        (draw(2, 3, 4, 6), draw(2, 3, 5, 6), draw(2, 3, 5, 7), draw(3, 1, 5)),
        {
            "mask": KEY_MASK[:, None, None], "scale": 0.7, "dropout_p": 0.3, "rng": np.random.default_rng(3),
        },
    ),
]  # fmt: skip
