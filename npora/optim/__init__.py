"""Optimisers: SGD, Adam, AdamW, and LoRA's own, LoRA+ and LoRA-FA; clipping and schedules."""

from npora.optim.adam import Adam, AdamW
from npora.optim.clip import clip_grad_norm
from npora.optim.lora_fa import LoraFAOptimizer, create_lorafa_optimizer
from npora.optim.lora_plus import create_loraplus_optimizer
from npora.optim.optimizer import Optimizer
from npora.optim.plateau import ReduceLROnPlateau
from npora.optim.schedule import get_schedule
from npora.optim.sgd import SGD

__all__ = [
    "SGD", "Adam", "AdamW", "LoraFAOptimizer", "Optimizer", "ReduceLROnPlateau", "clip_grad_norm",
    "create_lorafa_optimizer", "create_loraplus_optimizer", "get_schedule",
]  # fmt: skip
