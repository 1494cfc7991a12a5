"""Which layers have trained tokens: those that a config names, and what shares its matrix with one of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from npora.lora.adapter import Adapter
from npora.lora.config import PeftConfig
from npora.lora.match import bias_mode
from npora.lora.methods.trainable_tokens import TokensBeside, TrainableTokens, TrainableTokensConfig
from npora.lora.names import names_match
from npora.nn.embedding import Embedding
from npora.nn.init import Source
from npora.nn.linear import Conv1D, Linear


class Tokens(NamedTuple):
    """The tokens that a layer trains; tied_to : the path of the layer whose they are, where it shares its matrix."""

    ids: list[int]
    tied_to: str | None = None


def token_layers(view: Any, config: PeftConfig, targets: Sequence[str], saved: Sequence[str]) -> dict[str, Tokens]:
    """Return the layers that have trained tokens, beside the targets themselves, by path.

    view : a PlainView of the model

    Raises
    ------
    ValueError: a name that matches no embedding; a layer that the same config adapts or trains whole; trained biases,
    where such a layer has one.
    """
    if isinstance(config, TrainableTokensConfig):
        named, found = dict.fromkeys(targets, config.token_indices), dict[str, Tokens]()
    else:
        named = _named(view, getattr(config, "trainable_token_indices", None) or {})
        found = {path: Tokens(ids) for path, ids in named.items()}
    for path, ids in named.items():
        own = view.module(path)
        if not isinstance(own, Embedding):
            continue
        for other, module in view.modules_by_path.items():
            shares = getattr(view.module(other), "weight", None) is own.weight and view.module(other) is not own
            if shares and named.get(other, ids) == ids and not (other in named and isinstance(module, Embedding)):
                found[other] = Tokens(ids, path)
    for path, tokens in found.items():
        whole = [other for other in saved if path == other or path.startswith(other + ".")]
        if whole or (path in targets and not isinstance(config, TrainableTokensConfig)):
            does = "modules_to_save trains whole" if whole else "target_modules adapts too"
            what = path if tokens.tied_to is None else f"{path}, which shares the matrix of {tokens.tied_to},"
            raise ValueError(f"trainable_token_indices names rows of {what} that {does}: name it in one of the two")
        if bias_mode(config) != "none" and getattr(view.module(path), "bias", None) is not None:
            raise ValueError(
                f"trained tokens and bias={getattr(config, 'bias', None)!r} do not go together where {path}, which has "
                "the tokens' rows, has a bias: leave one of the two out"
            )
    return found


def _named(view: Any, tokens: Mapping[str, Sequence[int]] | Sequence[int]) -> dict[str, list[int]]:
    by_name = tokens if isinstance(tokens, Mapping) else {view.input_embeddings or "embed_tokens": tokens}
    found: dict[str, list[int]] = {}
    for name, ids in by_name.items():
        paths = [path for path in view.modules_by_path if names_match(name, path) and _has_rows(view.module(path))]
        if not paths:
            raise ValueError(f"trainable_token_indices: '{name}' matches no embedding of this model")
        found |= {path: list(ids) for path in paths if len(ids)}
    return found


def _has_rows(module: Any) -> bool:
    return isinstance(module, Embedding | Linear) and not isinstance(module, Conv1D)


def make_token_adapters(
    view: Any, tokens: Mapping[str, Tokens], made: Mapping[str, Adapter], rng: Source
) -> dict[str, Adapter]:
    """Make the adapters of layers with trained tokens. made : those of the targets, for what is tied to one."""
    found: dict[str, Adapter] = {}
    for path, (ids, tied_to) in sorted(tokens.items(), key=lambda item: item[1].tied_to is not None):
        base = view.module(path)
        if tied_to is None:
            found[path] = TokensBeside(base, TrainableTokensConfig(token_indices=ids), rng, path, {})
        else:
            source = found.get(tied_to, made.get(tied_to))
            assert isinstance(source, TrainableTokens)
            found[path] = source.tied(base)
    return found
