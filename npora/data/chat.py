"""`apply_chat_template`: a conversation as the text, or the ids, that its model was made for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from npora.data.batch_encoding import BatchEncoding, as_array
from npora.data.template import Span, has_generation, render


class ChatTemplates:
    """What a tokenizer with a `chat_template` does with messages, with transformers' names."""

    chat_template: Any
    special_tokens_map: dict[str, str]
    __call__: Callable[..., BatchEncoding]

    def get_chat_template(self, chat_template: str | None = None, tools: Any = None) -> str:
        """The template, where there are several the one of that name, else tool_use where there are tools, else
        default.

        Raises
        ------
        ValueError: there is none.
        """
        own = self.chat_template
        if isinstance(own, list):
            own = {one["name"]: one["template"] for one in own}
        if isinstance(own, Mapping):
            if chat_template is not None:
                return str(own.get(chat_template, chat_template))
            for name in [*["tool_use"] * (tools is not None), "default"]:
                if name in own:
                    return str(own[name])
            raise ValueError(f"there are several chat templates and no default: pass chat_template, {' or '.join(own)}")
        if chat_template is not None:
            return chat_template
        if own is None:
            raise ValueError(
                "this tokenizer has no chat template: give it one, as in tokenizer.chat_template = "
                "open('chat_template.jinja').read(), or take the instruct or chat model of the family"
            )
        return str(own)

    def apply_chat_template(
        self,
        conversation: Any,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool | str = False,
        tokenize: bool = True,
        sanitize_control_tokens: bool = False,
        padding: bool | str = False,
        truncation: bool | str | None = False,
        max_length: int | None = None,
        return_tensors: str | None = None,
        return_dict: bool = True,
        return_assistant_tokens_mask: bool = False,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
        **variables: Any,
    ) -> Any:
        """The ids of a conversation, or of several: messages of `role` and `content` in the form of the model.

        tools : JSON schemas of functions; documents : dicts with title and text; both as the template reads them
        chat_template : another template, or the name of one of several
        add_generation_prompt : end where the assistant is to begin
        continue_final_message : end where the last message does, so that the model goes on with it
        tokenize : False returns the text; return_dict : False returns the ids alone
        padding, truncation, max_length, return_tensors, tokenizer_kwargs : as in a call. The template writes the tokens
            that begin and end a text; none is added
        return_assistant_tokens_mask : `assistant_masks` too, 1 at tokens between the template's {% generation %} marks;
            only few templates have them (`encode_chat` finds the assistant's tokens of any template)
        variables : what else the template reads, as enable_thinking

        Raises
        ------
        ValueError: no template; no message; a template that refuses the conversation; arguments that exclude each
        other; sanitize_control_tokens, which is not supported.  TypeError: a tool that is no schema, a message that is
        no dict.  ImportError: jinja2 is missing.
        """
        if sanitize_control_tokens:
            raise ValueError(
                "sanitize_control_tokens is not supported: take control tokens out of the messages, or load the "
                "tokenizer with split_special_tokens=True"
            )
        if continue_final_message and add_generation_prompt:
            raise ValueError("continue_final_message goes on with a message, add_generation_prompt begins one: choose")
        if return_assistant_tokens_mask and (continue_final_message or not (tokenize and return_dict)):
            raise ValueError(
                "return_assistant_tokens_mask needs tokenize=True and return_dict=True, and no continue_final_message"
            )
        for tool in tools or ():
            if not isinstance(tool, Mapping):
                raise TypeError(f"a tool is a JSON schema, a dict with type and function; got {type(tool).__name__}")
        template = self.get_chat_template(chat_template, tools)
        if return_assistant_tokens_mask and not has_generation(template):
            raise ValueError(
                "return_assistant_tokens_mask: this chat template does not say with {% generation %} what the "
                "assistant writes; npora.data.encode_chat finds it for any template"
            )
        if not len(conversation):
            raise ValueError("there is no message to apply a chat template to")
        several = not isinstance(conversation[0], Mapping)
        found = [
            render(
                template, messages, tools=tools, documents=documents, add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message, **{**self.special_tokens_map, **variables},
            )
            for messages in (conversation if several else [conversation])
        ]  # fmt: skip
        texts = [text for text, _ in found]
        if not tokenize:
            return texts if several else texts[0]
        options = {"return_offsets_mapping": True} if return_assistant_tokens_mask else {}
        encoded = self(
            texts if several else texts[0], padding=padding, truncation=truncation, max_length=max_length,
            add_special_tokens=False, return_tensors=return_tensors, **{**options, **(tokenizer_kwargs or {})},
        )  # fmt: skip
        if not return_dict:
            return encoded["input_ids"]
        if return_assistant_tokens_mask:
            places = encoded.pop("offset_mapping")  # (0, 0) at padding
            one = not (several or return_tensors)
            masks = [mask(s, at) for (_, s), at in zip(found, [places] if one else places, strict=True)]
            encoded["assistant_masks"] = masks[0] if one else as_array(masks) if return_tensors else masks
        return encoded


def mask(spans: Sequence[Span], offsets: Iterable[Span]) -> list[int]:
    """1 for each token with a character in one of the spans, else 0."""
    return [int(any(start < end and stop > begin for begin, end in spans)) for start, stop in offsets]
