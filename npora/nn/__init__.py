"""Layers: a value and its hand-derived pullback, under one contract."""

from npora.nn import functional
from npora.nn.attention import MultiHeadAttention
from npora.nn.dropout import Dropout
from npora.nn.embedding import Embedding
from npora.nn.linear import Linear
from npora.nn.loss import cross_entropy, mse_loss
from npora.nn.module import Module, Parameter, checkpoint, is_grad_enabled, no_grad
from npora.nn.norm import LayerNorm
from npora.nn.packing import Packing

__all__ = [
    "Dropout", "Embedding", "LayerNorm", "Linear", "Module", "MultiHeadAttention", "Packing", "Parameter",
    "checkpoint", "cross_entropy", "functional", "is_grad_enabled", "mse_loss", "no_grad",
]  # fmt: skip
