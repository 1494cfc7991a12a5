"""Text to ids and back, called as a tokenizer of transformers is."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any

import numpy as np

from npora.data.backend import is_panic, said
from npora.data.batch_encoding import BatchEncoding, as_array, pad_lists
from npora.data.chat import ChatTemplates
from npora.data.roles import ROLES
from npora.data.texts import as_texts
from npora.data.vocabulary import Vocabulary
from npora.files import write_atomically, write_json

_TRUNCATIONS = {True: "longest_first", False: None, None: None, "do_not_truncate": None} | {
    name: name for name in ("longest_first", "only_first", "only_second")
}
_PADDED = ("input_ids", "token_type_ids", "attention_mask", "special_tokens_mask", "offset_mapping")
_ONE_AT_A_TIME = threading.Lock()  # how a backend cuts and what it puts around a text are settings of its own
_PROBES = (".", "a", "0")  # an empty text has no token between what goes before it and behind
_PADDINGS = {True: "longest", False: None, "longest": "longest", "max_length": "max_length", "do_not_pad": None}


class Tokenizer(ChatTemplates, Vocabulary):
    """Calls give a dict: input_ids, attention_mask, and token_type_ids where the model takes them.

    Attributes
    ----------
    pad_token, eos_token, … : str or None; pad_token_id, eos_token_id, … : int or None. Both may be assigned
    model_max_length : the most tokens the model takes, or None where its files do not say
    padding_side, truncation_side : "right" or "left"
    chat_template : as the files have it, for apply_chat_template
    """

    is_fast = True

    def __init__(
        self,
        backend: Any,
        special_tokens: Mapping[str, str] | None = None,
        *,
        model_max_length: int | None = None,
        padding_side: str = "right",
        truncation_side: str = "right",
        token_type_ids: bool = False,
        clean_up_tokenization_spaces: bool = False,
        extra_special_tokens: Iterable[str] = (),
        name_or_path: str = "",
        config: Mapping[str, Any] | None = None,
        chat_template: Any = None,
    ) -> None:
        """backend : a `tokenizers.Tokenizer`, or what has its methods; special_tokens : the token of each role;
        config : what tokenizer_config.json says beside all that, which save_pretrained writes again."""
        # A tokenizer.json may fix a length; how long a batch becomes is for the caller to say.
        backend.no_truncation()
        backend.no_padding()
        self.backend = backend
        self.special_tokens_map: dict[str, str] = {}
        for role, token in (special_tokens or {}).items():
            setattr(self, role, token)
        self.extra_special_tokens = list(extra_special_tokens)
        self.model_max_length = model_max_length
        self.padding_side = padding_side
        self.truncation_side = truncation_side
        self.clean_up_tokenization_spaces = clean_up_tokenization_spaces
        self.name_or_path = name_or_path
        self.chat_template = chat_template
        self._has_types = token_type_ids
        self._config = dict(config or {})

    @property
    def model_input_names(self) -> list[str]:
        return ["input_ids", *["token_type_ids"] * self._has_types, "attention_mask"]

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name_or_path!r}, {len(self):,} tokens, model_max_length="
            f"{self.model_max_length}, padding_side={self.padding_side!r}, special_tokens={self.special_tokens_map})"
        )

    def __call__(
        self,
        text: Any = None,
        text_pair: Any = None,
        text_target: Any = None,
        *,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        stride: int = 0,
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | None = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool | None = None,
        return_overflowing_tokens: bool = False,
        return_special_tokens_mask: bool = False,
        return_offsets_mapping: bool = False,
        return_length: bool = False,
        verbose: bool = True,
    ) -> BatchEncoding:
        """Encode one text (lists of ids) or several (lists of lists): a list, a column of a data set, an array of str.

        text_pair : the second text of each, or text has tuples of two
        text_target : what a sequence-to-sequence model is to say; beside text its ids are `labels`
        truncation : True or "longest_first", "only_first", "only_second": cut to max_length, or without one to
            model_max_length. max_length alone means True
        padding : True or "longest", or "max_length"
        is_split_into_words : text is a list of words, or lists of them
        return_tensors : "np" for int64 arrays [b,t], also of one text
        return_… : token_type_ids, attention_mask, special_tokens_mask, offset_mapping (characters), length

        Raises
        ------
        ValueError: an argument that means nothing, a length too small for the special tokens, padding without a
        pad_token, an array of different lengths.  TypeError: what is no text, with its place.
        """
        _check_tensors(return_tensors)
        if stride or return_overflowing_tokens:
            raise ValueError(
                "stride and return_overflowing_tokens are not supported: a text is cut, and what is cut off is not "
                "returned (npora.data.windows cuts a document for a language model)"
            )
        if text is None:
            text, text_target = text_target, None
        if text is None:
            raise ValueError("pass text, text_target or both")
        if max_length is not None and (not isinstance(max_length, Integral) or max_length < 0):
            raise ValueError(f"max_length must be a whole number of tokens, 0 or more; got {max_length!r}")
        if max_length is not None and truncation is None and padding is False:
            truncation = True
        limit = max_length if max_length is not None else self.model_max_length
        strategy, wanted = _truncation(truncation), _padding(padding, limit)
        if wanted == "longest" and max_length is not None and strategy is None:
            warnings.warn("max_length does nothing here without truncation=True or padding='max_length'", stacklevel=2)
        types = self._has_types if return_token_type_ids is None else return_token_type_ids
        fields = {"input_ids": "ids"} | {
            name: attribute
            for name, attribute, returned in (
                ("token_type_ids", "type_ids", types),
                ("attention_mask", "attention_mask", return_attention_mask is not False),
                ("special_tokens_mask", "special_tokens_mask", return_special_tokens_mask),
                ("offset_mapping", "offsets", return_offsets_mapping),
            )
            if returned
        }

        def encode(text: Any, pair: Any) -> BatchEncoding:
            texts, one = as_texts(text, pair, is_split_into_words)
            cut = None if limit is None or strategy is None else (limit, strategy)
            encodings = self._encode(texts, cut, add_special_tokens, is_split_into_words)
            values: dict[str, Any] = {name: [getattr(e, field) for e in encodings] for name, field in fields.items()}
            if wanted:
                length = limit if wanted == "max_length" else None
                values = self._padded(values, length, padding_side, pad_to_multiple_of)
            if return_length:
                values["length"] = [len(ids) for ids in values["input_ids"]]
            if return_tensors == "np":
                return BatchEncoding({key: as_array(lists) for key, lists in values.items()}, encodings)
            return BatchEncoding({key: v[0] for key, v in values.items()} if one else values, encodings)

        result = encode(text, text_pair)
        if text_target is not None:
            result["labels"] = encode(text_target, None)["input_ids"]
        return result

    encode_plus = batch_encode_plus = __call__

    def encode(self, text: Any, text_pair: Any = None, **options: Any) -> list[int]:
        """The ids of one text, as a call gives them."""
        return list(self(text, text_pair, **options)["input_ids"])

    def tokenize(self, text: str, pair: str | None = None, add_special_tokens: bool = False) -> list[str]:
        return self(text, pair, add_special_tokens=add_special_tokens).tokens()

    def encode_parts(self, text: str) -> tuple[list[int], list[int], list[tuple[int, int]]]:
        """The ids that go before a text, those of the text alone, and from where to where its characters each has."""
        ids, places = self.encode_spans(text)
        with _ONE_AT_A_TIME:
            around = self.backend.encode(text)
            masks = [around.special_tokens_mask]
            if 0 not in masks[0]:
                masks += [self.backend.encode(probe).special_tokens_mask for probe in _PROBES]
            before = around.ids[: next((mask.index(0) for mask in masks if 0 in mask), 0)]
        return list(before), ids, places

    def encode_spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """The ids of a text alone, and from where to where its characters each has."""
        (text,), _ = as_texts(text, None)
        with _ONE_AT_A_TIME:
            processor, self.backend.post_processor = self.backend.post_processor, None
            try:  # some processors cut the spaces off the places of tokens
                encoding = self.backend.encode(text)
            finally:
                self.backend.post_processor = processor
        return list(encoding.ids), list(encoding.offsets)

    def _encode(self, texts: list[Any], cut: tuple[int, str] | None, special: bool, words: bool) -> list[Any]:
        with _ONE_AT_A_TIME:
            return self._encode_alone(texts, cut, special, words)

    def _encode_alone(self, texts: list[Any], cut: tuple[int, str] | None, special: bool, words: bool) -> list[Any]:
        if cut is not None:
            self.backend.enable_truncation(cut[0], strategy=cut[1], direction=self.truncation_side)
        try:
            split = {"is_pretokenized": True} if words else {}
            encodings = list(self.backend.encode_batch(texts, add_special_tokens=special, **split))
        except BaseException as error:  # the package raises bare Exceptions, and its panics are not even those
            if cut is not None and "runcat" in str(error):
                what = f"max_length={cut[0]} leaves too little of the text that {cut[1]} cuts"
                raise ValueError(f"{what}: {error}") from None
            if type(error) is not Exception and not is_panic(error):
                raise
            name = f" of {self.name_or_path}" if self.name_or_path else ""
            raise ValueError(f"this tokenizer{name} cannot encode the text: {said(error)}") from None
        finally:
            self.backend.no_truncation()
        if cut is not None and any(len(encoding.ids) > cut[0] for encoding in encodings):  # then none was cut at all
            raise ValueError(f"max_length={cut[0]} leaves no room beside the special tokens of a text")
        return encodings

    def _padded(self, values: Any, length: int | None, side: str | None, multiple: int | None) -> dict[str, Any]:
        if self.pad_token_id is None:
            raise ValueError(
                "this tokenizer has no token to pad with; give it one, as in tokenizer.pad_token = tokenizer.eos_token"
            )
        fill: dict[str, Any] = {"input_ids": self.pad_token_id, "special_tokens_mask": 1, "offset_mapping": (0, 0)}
        return pad_lists(values, fill, length, side or self.padding_side, multiple)

    def pad(
        self,
        encoded_inputs: Any,
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
    ) -> BatchEncoding:
        """Pad what calls gave: a list of their results, or one result of several texts. Labels are left as they are.

        Raises
        ------
        ValueError: no input_ids; the examples differ in their keys; as a call.
        """
        _check_tensors(return_tensors)
        examples = encoded_inputs
        if not examples:
            raise ValueError("pad takes what calls of the tokenizer gave; got nothing")
        if not isinstance(examples, Mapping) and any(example.keys() != examples[0].keys() for example in examples):
            raise ValueError("the examples to pad must have the same keys")
        values = (
            dict(examples)
            if isinstance(examples, Mapping)
            else {key: [example[key] for example in examples] for key in examples[0]}
        )
        if "input_ids" not in values:
            raise ValueError(f"pad takes what a call of the tokenizer gives, with input_ids; got {', '.join(values)}")
        one = len(values["input_ids"]) > 0 and np.ndim(values["input_ids"][0]) == 0
        values = {key: [value] for key, value in values.items()} if one else values
        if return_attention_mask is not False and "attention_mask" not in values:
            values["attention_mask"] = [[1] * len(ids) for ids in values["input_ids"]]
        limit = max_length if max_length is not None else self.model_max_length
        wanted = _padding(padding, limit)
        if wanted:
            lists = {key: v for key, v in values.items() if key in _PADDED}
            length = limit if wanted == "max_length" else None
            values |= self._padded(lists, length, padding_side, pad_to_multiple_of)
        if return_tensors:
            return BatchEncoding({key: as_array(lists) for key, lists in values.items()})
        return BatchEncoding({key: lists[0] for key, lists in values.items()} if one else values)

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> None:
        """Write tokenizer.json and tokenizer_config.json, from which npora and transformers read this tokenizer."""
        os.makedirs(save_directory, exist_ok=True)
        dropped = ("added_tokens_decoder", "additional_special_tokens", "add_bos_token", "add_eos_token", *ROLES)
        config = {key: value for key, value in self._config.items() if key not in dropped}
        config |= {role: self.special_tokens_map.get(role) for role in ROLES} | {
            "model_max_length": self.model_max_length or int(1e30),
            "padding_side": self.padding_side,
            "truncation_side": self.truncation_side,
            "clean_up_tokenization_spaces": self.clean_up_tokenization_spaces,
            "model_input_names": self.model_input_names,
            "extra_special_tokens": self.extra_special_tokens,
        }
        config.setdefault("tokenizer_class", "PreTrainedTokenizerFast")
        if self.chat_template is not None:
            config["chat_template"] = self.chat_template
        write_atomically(os.path.join(save_directory, "tokenizer.json"), [self.backend.to_str(pretty=True).encode()])
        write_json(os.path.join(save_directory, "tokenizer_config.json"), config)


def _check_tensors(return_tensors: str | None) -> None:
    if return_tensors not in (None, "np"):
        raise ValueError(f"return_tensors must be 'np' or None; got {return_tensors!r}: npora is NumPy only")


def _truncation(truncation: bool | str | None) -> str | None:
    if truncation not in _TRUNCATIONS:
        raise ValueError(
            f"truncation must be True, False, 'longest_first', 'only_first' or 'only_second'; got {truncation!r}"
        )
    return _TRUNCATIONS[truncation]


def _padding(padding: bool | str, limit: int | None) -> str | None:
    if padding not in _PADDINGS:
        raise ValueError(f"padding must be True, False, 'longest' or 'max_length'; got {padding!r}")
    if _PADDINGS[padding] == "max_length" and limit is None:
        raise ValueError("padding='max_length' needs max_length: the tokenizer's files do not say one")
    return _PADDINGS[padding]
