"""The registry of methods: which one a config means for a layer. Those with a narrower condition stand first.

A new method is a file here with its config and its Adapter (`adapter.py` says what either writes, `loha.py` is such a
page), a line in METHODS, its type in PeftType (`lora/names.py`), and its config's name in `npora.lora` and `npora`. Its
`samples` are its rows in `npora gradcheck`, in the contracts, and in what is compared with PEFT; a row in
`tests/lora/test_offers.py` says which of the seam's offers it uses. Where its forward asks its base for base(x) alone,
`calls_alone = True` spares forming a matrix beside other adapters.
"""

from __future__ import annotations

from npora.lora.adapter import Adapter
from npora.lora.config import PeftConfig
from npora.lora.methods.adalora import AdaLoRA
from npora.lora.methods.dora import DoRA
from npora.lora.methods.dora_norm import DoRANorm
from npora.lora.methods.fourierft import FourierFT
from npora.lora.methods.hira import HiRA
from npora.lora.methods.hra import HRA
from npora.lora.methods.ia3 import IA3
from npora.lora.methods.ln_tuning import LNTuning
from npora.lora.methods.loha import LoHa
from npora.lora.methods.lokr import LoKr
from npora.lora.methods.lora import LoRA
from npora.lora.methods.lora_biased import BiasedLoRA
from npora.lora.methods.lora_embedding import DoRAEmbedding, LoRAEmbedding
from npora.lora.methods.lora_started import StartedLoRA
from npora.lora.methods.miss import MiSS, MiSSBat
from npora.lora.methods.oft import OFT
from npora.lora.methods.road import RoAd
from npora.lora.methods.trainable_tokens import TrainableTokens
from npora.lora.methods.vera import VeRA
from npora.nn.module import Module

METHODS: tuple[type[Adapter], ...] = (
    DoRANorm, DoRA, StartedLoRA, BiasedLoRA, LoRA, DoRAEmbedding, LoRAEmbedding, AdaLoRA, VeRA, LoHa, LoKr, HiRA,
    MiSSBat, MiSS, FourierFT, IA3, OFT, HRA, RoAd, LNTuning, TrainableTokens,
)  # fmt: skip


def method_of(config: PeftConfig, base: Module) -> type[Adapter] | None:
    """Return the method that this config means for this layer, and None where it means none."""
    return next((method for method in METHODS if method.fits(config, base)), None)


def methods_of(config: PeftConfig) -> list[type[Adapter]]:
    """Return the methods that this kind of config can mean."""
    return [method for method in METHODS if method.config_class is type(config)]


def adaptable(config: PeftConfig) -> list[str]:
    """Name the kinds of layers that an adapter of this config can go on, by their classes."""
    return list(dict.fromkeys(kind.__name__ for method in methods_of(config) for kind in method.adapts))
