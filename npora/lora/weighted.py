"""A new LoRA adapter made of others with weights: PEFT's `add_weighted_adapter`."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import fields
from numbers import Integral
from typing import Any

import numpy as np

from npora.lora.adapted import Adapted
from npora.lora.adapters import DEFAULT_SEED
from npora.lora.combine import (
    COMBINATIONS,
    ELECTED,
    ELEMENTWISE,
    PRUNED,
    Factors,
    clamped,
    combined,
    combined_factors,
    of_rank,
    side_by_side,
    singular,
    singular_of,
)
from npora.lora.config import PeftConfig
from npora.lora.fit import Plan
from npora.lora.match import target_paths
from npora.lora.merging import Merging
from npora.lora.methods.lora_config import LoraConfig
from npora.lora.saved import ModulesToSaveWrapper
from npora.lora.starts.doubled import kept_start
from npora.nn.embedding import Embedding
from npora.nn.linear import Linear


class Weighted(Merging):
    """This is a base with its adapters by name, of which others can be made."""

    def add_weighted_adapter(
        self,
        adapters: Sequence[str],
        weights: Sequence[float],
        adapter_name: str,
        combination_type: str = "svd",
        svd_rank: int | None = None,
        svd_clamp: float | None = None,
        svd_full_matrices: bool = True,
        svd_driver: str | None = None,
        density: float | None = None,
        majority_sign_method: str = "total",
        *,
        seed: int = DEFAULT_SEED,
    ) -> None:
        """Add an adapter, plain LoRA with s = 1 and not yet active, that is made of those of `adapters`.

        combination_type : `linear`, `magnitude_prune`, `dare_linear`, `ties`, `dare_ties` combine the A's and the B's
            apart, which must have one rank; `cat` puts them side by side; `svd`, `magnitude_prune_svd`, … combine the
            ΔW's, of any method, and cut what comes of it to `svd_rank`, or the highest rank there is (combine.py has
            the formulas)
        density : the share of numbers that pruning keeps
        svd_clamp : a quantile that holds the factors' numbers
        majority_sign_method : "total" or "frequency", by which the sign is elected
        svd_full_matrices, svd_driver : PEFT's, which change nothing here
        seed : draws what dare_… drops, for each layer by its path

        One adapter alone is scaled, and neither pruned nor elected, as in PEFT; with svd_rank it is cut to that. A
        module that one of them trains whole is a copy of that one's in the new adapter.

        Raises
        ------
        ValueError: an option without meaning here; ranks or methods that do not go together; a method that changes
        biases, or two that train one module whole. Nothing is then changed.
        """
        names, options = list(adapters), (combination_type, density, majority_sign_method)
        for name in names:
            self._refuse_unknown(name)
        if not names or len(names) != len(weights):
            raise ValueError(f"each adapter needs a weight: got {len(names)} adapters and {len(weights)} weights")
        if not np.isfinite(weights).all():
            raise ValueError(f"the weights must be finite; got {list(weights)}")
        _check(combination_type, svd_rank, svd_clamp, svd_driver, density, majority_sign_method)
        if len(names) == 1:
            options = ("svd" if combination_type.endswith("svd") else "linear", None, "total")
        layers = {path: [(name, w) for name, w in zip(names, weights, strict=True) if name in layer.adapters]
                  for path, layer in self.lora_layers()}  # fmt: skip
        rank = self._combined_rank(names, options[0], svd_rank)
        made = {
            path: of_rank(_of_layer(path, layer, layers[path], options, rank, svd_clamp, seed), rank)
            for path, layer in self.lora_layers() if layers[path]
        }  # fmt: skip
        config = self._combined_config(names, rank, list(made))
        self._check_place(adapter_name, config)
        whole = self._whole(names)
        self._install(adapter_name, config, Plan(list(made), list(whole)), seed)
        for path, layer in self.lora_layers():
            if path in made:
                new: Any = layer.adapters[adapter_name]
                new.B.data, new.A.data = (np.ascontiguousarray(part, layer.base_layer.dtype) for part in made[path][1:])
        for path, module in self.base_model.model.named_modules():
            if isinstance(module, ModulesToSaveWrapper) and path in whole:
                pairs = zip(*(module.modules_to_save[n].parameters() for n in (adapter_name, whole[path])), strict=True)
                for mine, theirs in pairs:
                    mine.data = theirs.data.copy()

    def _combined_rank(self, names: Sequence[str], combination: str, svd_rank: int | None) -> int:
        ranks = [_highest_rank(self.peft_config[name]) for name in names]
        if combination in ELEMENTWISE and len(set(ranks)) > 1:
            raise ValueError(
                f"{combination} combines adapters of one rank; got {', '.join(map(str, ranks))}: use cat or svd"
            )
        return sum(ranks) if combination == "cat" else int(svd_rank or max(ranks))

    def _whole(self, names: Sequence[str]) -> dict[str, str]:
        """Return the adapter that trains each module which one of these trains whole."""
        whole: dict[str, str] = {}
        for name in dict.fromkeys(names):
            for path in self._saved_paths(name):
                if path in whole:
                    raise ValueError(f"'{whole[path]}' and '{name}' both train {path} whole, which have no sum")
                whole[path] = name
        return whole

    def _combined_config(self, names: Sequence[str], rank: int, paths: list[str]) -> LoraConfig:
        """Return the first adapter's config with the targets of all, as PEFT writes it; with the paths themselves where
        that would mean others."""
        configs = [self.peft_config[name] for name in names]
        known = {f.name for f in fields(LoraConfig) if f.init} - {"peft_type"}
        shared = {key: value for key, value in vars(configs[0]).items() if key in known}
        saved = sorted({module for config in configs for module in config.modules_to_save or ()})
        plain = {"r": rank, "lora_alpha": rank, "rank_pattern": {}, "alpha_pattern": {}, "use_rslora": False,
                 "use_dora": False, "dora_norm_grad": False, "lora_bias": False, "trainable_token_indices": None,
                 "init_lora_weights": True, "modules_to_save": saved or None}  # fmt: skip
        targets = [config.target_modules for config in configs]
        if all(isinstance(target, list) for target in targets):
            union: Any = sorted({name for target in targets for name in target or ()})
        else:
            union = "|".join(f"({target})" for target in targets) if all(isinstance(t, str) for t in targets) else paths
        config = LoraConfig(**{**shared, **plain, "target_modules": union})
        if sorted(target_paths(self._view(), config, lenient=True)) != sorted(paths):
            alone = {
                "target_modules": paths,
                "exclude_modules": None,
                "layers_to_transform": None,
                "layers_pattern": None,
            }
            config = LoraConfig(**{**shared, **plain, **alone})
        return config


def _highest_rank(config: PeftConfig) -> int:
    highest = max([getattr(config, "r", 0), *(getattr(config, "rank_pattern", None) or {}).values()])
    return highest if kept_start(config) is None else 2 * highest


def _of_layer(
    path: str,
    layer: Adapted,
    chosen: Sequence[tuple[str, float]],
    options: Any,
    rank: int,
    clamp: float | None,
    seed: int,
) -> Factors:
    """Return what the chosen adapters of a layer come to."""
    combination, density, majority = options
    rng, weights = np.random.default_rng([seed, zlib.crc32(path.encode())]), [weight for _, weight in chosen]
    factors = [layer.adapters[name].factored() for name, _ in chosen]
    parts = [part for part in factors if part is not None]
    if len(parts) == len(factors):
        if combination in ELEMENTWISE:
            if len({len(part.A) for part in parts}) > 1:
                raise ValueError(f"{combination} combines adapters of one rank, and at {path} they have several")
            return combined_factors(combination, parts, weights, density, majority, rng)
        if combination == "cat":
            return side_by_side(parts, weights)
    elif combination in (*ELEMENTWISE, "cat"):
        name = next(name for (name, _), part in zip(chosen, factors, strict=True) if part is None)
        raise ValueError(f"adapter '{name}' is no plain LoRA at {path}, and has no A and B that {combination} could "
                         "combine: use svd")  # fmt: skip
    if combination == "svd" and len(parts) == len(factors):
        cut = singular_of(side_by_side(parts, weights)).cut(rank)
    else:
        if not isinstance(layer.base_layer, Linear | Embedding):
            raise ValueError(f"{path} is a {type(layer.base_layer).__name__}, where LoRA does not go")
        updates = [layer.get_delta_weight(name) for name, _ in chosen]
        for name, _ in chosen:
            if layer.bias_change(name) is not None:
                raise ValueError(f"adapter '{name}' changes the bias of {path}, which has no place in a ΔW")
        name = "linear" if combination == "svd" else combination.removesuffix("_svd")
        cut = singular(combined(name, updates, weights, density, majority, rng)).cut(rank)
    return cut if clamp is None else clamped(cut, clamp)


def _check(
    combination: str, rank: int | None, clamp: float | None, driver: str | None, density: float | None, majority: str
) -> None:
    """Raise ValueError where an option has no meaning here."""
    if combination not in COMBINATIONS:
        raise ValueError(f"combination_type {combination!r} is not one of {', '.join(COMBINATIONS)}")
    if driver is not None:
        raise ValueError(f"svd_driver={driver!r} names a way of a GPU; npora computes on the CPU: leave it out")
    is_svd = combination.endswith("svd")
    for name, value in (("svd_rank", rank), ("svd_clamp", clamp)):
        if value is not None and not is_svd:
            raise ValueError(f"{name} is for combinations by svd, and {combination} is none: leave it out")
    if rank is not None and (not isinstance(rank, Integral) or isinstance(rank, bool) or rank < 1):
        raise ValueError(f"svd_rank must be a whole number of at least 1; got {rank!r}")
    if clamp is not None and not 0 < clamp <= 1:
        raise ValueError(f"svd_clamp is a quantile in (0, 1]; got {clamp!r}")
    if density is not None and combination not in PRUNED:
        raise ValueError(f"density is for combinations that prune, and {combination} does not: leave it out")
    if combination in PRUNED and (density is None or not 0 < density <= 1):
        raise ValueError(f"{combination} needs a density in (0, 1], the share of numbers that it keeps; got {density}")
    if majority not in ("total", "frequency"):
        raise ValueError(f"majority_sign_method must be 'total' or 'frequency'; got {majority!r}")
    if majority != "total" and combination not in ELECTED:
        raise ValueError(f"majority_sign_method is for {', '.join(ELECTED)}: leave it out for {combination}")
