"""The mathematics without parameters: functions on arrays that return their value and their pullback.

Axis letters mean the same in every file: `b` batch, `t` query position, `s` key position or the rows that are read, `h`
query head, `g` key-value head, `d` head width, `i` in, `o` out, `m` model (hidden) width, `f` feed-forward width, `r`
rank, `v` vocabulary or classes, `c` choices or channels, `n` all leading axes as one, `k` what the line itself says.
The gradient of z is dz.
No function writes to an array that it was given; a pullback keeps only what it reads.
"""

from npora.nn.activation import ACTIVATIONS, gated, gelu, gelu_tanh, mish, quick_gelu, relu, relu2, silu, swiglu, tanh
from npora.nn.cross_entropy import cross_entropy
from npora.nn.dropout import dropout
from npora.nn.erf import erf
from npora.nn.loss import binary_cross_entropy, mse_loss
from npora.nn.norm import normalize, rms_normalize
from npora.nn.packed_attention import packed_attention
from npora.nn.preference import dpo_loss, odds_ratio_loss, target_log_probs
from npora.nn.rotary import frequencies, rotary, rotation
from npora.nn.rules import around, causal, everything, window
from npora.nn.scaled_attention import attention
from npora.nn.similarity import cosent_loss, cosine_similarity, multiple_negatives_ranking_loss, triplet_loss, unit
from npora.nn.softmax import log_softmax, softmax

__all__ = [
    "ACTIVATIONS", "around", "attention", "binary_cross_entropy", "causal", "cosent_loss", "cosine_similarity",
    "cross_entropy", "dpo_loss", "dropout", "erf", "everything", "frequencies", "gated", "gelu", "gelu_tanh",
    "log_softmax", "mish", "mse_loss", "multiple_negatives_ranking_loss", "normalize", "odds_ratio_loss",
    "packed_attention", "quick_gelu", "relu", "relu2", "rms_normalize", "rotary", "rotation", "silu", "softmax",
    "swiglu", "tanh", "target_log_probs", "triplet_loss", "unit", "window",
]  # fmt: skip
