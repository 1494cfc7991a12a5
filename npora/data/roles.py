"""Which token ends a text, pads it, stands for the unknown: attributes that name tokens, and their ids."""

from __future__ import annotations

from typing import Any

ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class _Token:
    """The token that has this role, or None. Another may be assigned, of those in the vocabulary."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.role = name

    def __get__(self, tokenizer: Any, owner: type | None = None) -> str | None:
        token: str | None = tokenizer.special_tokens_map.get(self.role)
        return token

    def __set__(self, tokenizer: Any, token: str | None) -> None:
        if token is None:
            tokenizer.special_tokens_map.pop(self.role, None)
            return
        if tokenizer.backend.token_to_id(token) is None:
            raise ValueError(f"{self.role} must be in the tokenizer's vocabulary, and {token!r} is not")
        tokenizer.special_tokens_map[self.role] = token


class _Id:
    """The id of the token that has this role, or None."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.role = name.removesuffix("_id")

    def __get__(self, tokenizer: Any, owner: type | None = None) -> int | None:
        token = tokenizer.special_tokens_map.get(self.role)
        return None if token is None else int(tokenizer.backend.token_to_id(token))

    def __set__(self, tokenizer: Any, number: int | None) -> None:
        token = None if number is None else tokenizer.backend.id_to_token(int(number))
        if token is None and number is not None:
            raise ValueError(f"{self.role}_id must be in the tokenizer's vocabulary, and {number} is not")
        setattr(tokenizer, self.role, token)


class Roles:
    """The tokens with a role, as attributes of a tokenizer that has `special_tokens_map` and `backend`."""

    bos_token, bos_token_id = _Token(), _Id()
    eos_token, eos_token_id = _Token(), _Id()
    unk_token, unk_token_id = _Token(), _Id()
    sep_token, sep_token_id = _Token(), _Id()
    pad_token, pad_token_id = _Token(), _Id()
    cls_token, cls_token_id = _Token(), _Id()
    mask_token, mask_token_id = _Token(), _Id()

    special_tokens_map: dict[str, str]
    backend: Any
    extra_special_tokens: list[str]

    @property
    def all_special_tokens(self) -> list[str]:
        """Each token that has a role, once, and the extra ones after them."""
        return list(dict.fromkeys([*self.special_tokens_map.values(), *self.extra_special_tokens]))

    @property
    def all_special_ids(self) -> list[int]:
        return [self.backend.token_to_id(token) for token in self.all_special_tokens]

    def add_special_tokens(self, tokens: dict[str, str]) -> int:
        """Give roles to tokens of the vocabulary, as in {"pad_token": "<|endoftext|>"}; 0, since none is new.

        Raises
        ------
        ValueError: a role that there is not; a token that the vocabulary, and so the model's embedding, does not have.
        """
        for role, token in tokens.items():
            if role not in ROLES:
                raise ValueError(f"roles are {', '.join(ROLES)}; got {role!r}")
            if self.backend.token_to_id(token) is None:
                raise ValueError(
                    f"{token!r} is not in the vocabulary, and the embedding of a pretrained model has no row for it: "
                    f"take a token that is, as in tokenizer.{role} = tokenizer.eos_token"
                )
            setattr(self, role, token)
        return 0
