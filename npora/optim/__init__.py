"""Optimisers: SGD, Adam, AdamW; clipping and schedules."""

from npora.optim.adam import Adam, AdamW
from npora.optim.clip import clip_grad_norm
from npora.optim.optimizer import Optimizer
from npora.optim.plateau import ReduceLROnPlateau
from npora.optim.schedule import get_schedule
from npora.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "ReduceLROnPlateau", "clip_grad_norm", "get_schedule"]
