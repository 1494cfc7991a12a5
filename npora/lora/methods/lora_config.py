"""LoraConfig: PEFT's fields, names and defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar, Literal

from npora.lora.methods.lora_unsupported import UnsupportedFields, refuse_altered_base, refuse_new_start
from npora.lora.methods.trainable_tokens import checked_ids
from npora.lora.names import by_pattern
from npora.lora.starts import SETTINGS, start_of
from npora.lora.starts.corda import CordaConfig
from npora.lora.starts.eva import EvaConfig
from npora.lora.starts.loftq import check_loftq
from npora.lora.starts.lora_ga import LoraGAConfig


@dataclass
class LoraConfig(UnsupportedFields):
    """A LoraConfig says which layers a LoRA adapter goes on, its rank and its scale (Hu et al., 2021). They may be
    embeddings too.

    r : the rank
    lora_alpha : the update is scaled by s = lora_alpha / r (by lora_alpha / √r with `use_rslora`, Kalajdzievski 2023)
    lora_dropout : probability of dropping an input of the adapter, in training
    bias : which biases of the base train too: "none", "all", "lora_only" (those of the targets)
    init_lora_weights : True: A ~ U(±1/√in), B = 0; "gaussian": A ~ N(0, 1/r²), B = 0; False: B is drawn like A;
        "orthogonal", "pissa", "pissa_niter_N" (N turns of a randomised decomposition), "olora", "loftq" (on a quantised
        base): see `starts/`; "eva", "corda", "lora_ga", of data: see `initialize_lora_eva_weights`,
        `preprocess_corda`, `preprocess_loraga`
    eva_config, corda_config, lora_ga_config : the settings of these three, or dicts of their fields
    loftq_config : of "loftq": {"loftq_bits": 4 or 8, "loftq_iter": 1}
    use_dora : train the lengths of W's rows apart from their directions (DoRA, Liu et al., 2024)
    dora_norm_grad : with use_dora, on linear layers: let the gradient go through the lengths of W + s B A too, which
        are constants to it otherwise; npora's own, and in a file where it is True
    lora_bias : B has a bias, which is merged into the layer's own; not with use_dora, nor on an embedding, and on a
        layer that has none itself it cannot be merged
    trainable_token_indices : the ids of tokens whose embeddings are trained too, as of the page
        `methods/trainable_tokens.py`: a list for the model's own embedding, or {name of an embedding: list}
    layers_to_transform, layers_pattern : only these layers, counted by the first number in a path, or by the number
        after `layers_pattern`
    rank_pattern, alpha_pattern : {regular expression for the end of a path: r or lora_alpha}; the first that fits wins

    target_modules, exclude_modules, modules_to_save, task_type and the rest are PeftConfig's.

    Raises
    ------
    ValueError: a value that makes no sense, or a field of PEFT's that npora does not support, by its name.
    TypeError: a field that there is not, with the name that was meant.
    """

    meaning: ClassVar[tuple[str, ...]] = (
        "r", "lora_alpha", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern",
        "trainable_token_indices",
    )  # fmt: skip
    beginning: ClassVar[tuple[str, ...]] = (
        "init_lora_weights", "corda_config", "eva_config", "loftq_config", "lora_ga_config", "ensure_weight_tying",
        "megatron_core", "qalora_group_size",
    )  # fmt: skip
    own: ClassVar[tuple[str, ...]] = ("dora_norm_grad",)
    meant: ClassVar[Mapping[str, str]] = {
        **UnsupportedFields.meant,
        "rank": "r", "lora_r": "r", "lora_rank": "r", "alpha": "lora_alpha", "scaling": "lora_alpha",
        "dropout": "lora_dropout", "rslora": "use_rslora", "dora": "use_dora", "init_weights": "init_lora_weights",
    }  # fmt: skip

    r: int = 8
    lora_alpha: float = 8
    lora_dropout: float = 0.0
    fan_in_fan_out: bool = False
    bias: Literal["none", "all", "lora_only"] = "none"
    use_rslora: bool = False
    init_lora_weights: bool | str = True
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    rank_pattern: dict[str, int] = field(default_factory=dict)
    alpha_pattern: dict[str, float] = field(default_factory=dict)
    use_dora: bool = False
    eva_config: EvaConfig | dict[str, Any] | None = None
    corda_config: CordaConfig | dict[str, Any] | None = None
    lora_ga_config: LoraGAConfig | dict[str, Any] | None = None
    _: KW_ONLY
    loftq_config: dict[str, Any] | None = field(default_factory=dict)
    lora_bias: bool = False
    dora_norm_grad: bool = False
    trainable_token_indices: list[int] | dict[str, list[int]] | None = None
    peft_type: str = "LORA"

    def __post_init__(self) -> None:
        super().__post_init__()
        tokens = self.trainable_token_indices
        if isinstance(tokens, Mapping):
            named = {name: checked_ids(f"trainable_token_indices[{name!r}]", ids) for name, ids in tokens.items()}
            self.trainable_token_indices = named
        elif tokens is not None:
            self.trainable_token_indices = checked_ids("trainable_token_indices", tokens)

    def check_new(self) -> None:
        super().check_new()
        refuse_new_start(self.init_lora_weights)
        for name, (field_name, kind) in SETTINGS.items():
            begins = self.init_lora_weights == name
            setattr(self, field_name, kind.of(getattr(self, field_name), field_name, name, begins))
        if self.loftq_config and self.init_lora_weights != "loftq":
            raise ValueError("loftq_config is for init_lora_weights='loftq'; leave it out")
        check_loftq(self.loftq_config)
        start = start_of(self.init_lora_weights)
        if self.lora_bias and (self.use_dora or self.init_lora_weights not in (True, False)):
            other = "use_dora=True" if self.use_dora else f"init_lora_weights={self.init_lora_weights!r}"
            raise ValueError(
                f"lora_bias=True is for plain LoRA, as in PEFT; got {other} with it: leave one of them out"
            )
        if self.dora_norm_grad and not self.use_dora:
            raise ValueError("dora_norm_grad=True says how DoRA is trained: pass use_dora=True too, or leave it out")
        if start is not None and start.is_kept and self.use_dora:
            raise ValueError(
                f"use_dora=True with init_lora_weights={self.init_lora_weights!r}: DoRA's lengths are those of W, of "
                "which this start takes a part away; leave one of the two out"
            )
        ranks = (self.r, *(self.rank_pattern.values() if isinstance(self.rank_pattern, dict) else ()))
        if self.init_lora_weights == "orthogonal" and any(isinstance(r, int) and r % 2 for r in ranks):
            raise ValueError(f"init_lora_weights='orthogonal' needs even ranks; got {', '.join(map(str, ranks))}")

    def complete(self, model: Any) -> None:
        super().complete(model)
        check_loftq(self.loftq_config, model)
        waits = self.init_lora_weights == "eva"
        self.waits_for = "initialize_lora_eva_weights(model, batches)" if waits else ""

    def check_loaded(self, directory: str, is_trainable: bool) -> None:
        refuse_altered_base(self.init_lora_weights, directory, is_trainable)

    def rank_and_scaling(self, path: str) -> tuple[int, float]:
        """Return r and s of the layer at a path, by the first pattern that fits, else the config's own r and α."""
        r, alpha = self.rank_and_alpha(path)
        return r, alpha / r**0.5 if self.use_rslora else alpha / r

    def rank_and_alpha(self, path: str) -> tuple[int, float]:
        """Return r and α of the layer at a path, as rank_and_scaling does."""
        return by_pattern(self.rank_pattern, path, self.r), by_pattern(self.alpha_pattern, path, self.lora_alpha)
