"""Layers: a value and its hand-derived pullback, under one contract."""

from npora.nn import functional
from npora.nn.attention import MultiHeadAttention
from npora.nn.cache import Cache, LayerCache
from npora.nn.cross_entropy import cross_entropy
from npora.nn.dropout import Dropout
from npora.nn.embedding import Embedding
from npora.nn.grad_mode import held, holding, is_grad_enabled, no_grad
from npora.nn.linear import Conv1D, Linear
from npora.nn.loss import binary_cross_entropy, mse_loss
from npora.nn.module import Module, Parameter, checkpoint
from npora.nn.norm import CentredRMSNorm, LayerNorm, RMSNorm
from npora.nn.packing import Packing, Padding
from npora.nn.residual import stack
from npora.nn.vocabulary import projected_cross_entropy

__all__ = [
    "Cache", "CentredRMSNorm", "Conv1D", "Dropout", "Embedding", "LayerCache", "LayerNorm", "Linear", "Module",
    "MultiHeadAttention", "Packing", "Padding", "Parameter", "RMSNorm", "binary_cross_entropy", "checkpoint",
    "cross_entropy", "functional", "held", "holding", "is_grad_enabled", "mse_loss", "no_grad",
    "projected_cross_entropy", "stack",
]  # fmt: skip
