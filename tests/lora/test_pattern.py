"""Regular expressions that come from a file: what `re` says, with work that is bounded."""

from __future__ import annotations

import re
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npora import LoraConfig
from npora.lora import PeftConfig
from npora.lora.match import target_paths
from npora.lora.names import by_pattern
from npora.lora.pattern import fits_the_end, matches, number_after
from tests.tiny import tiny_bert

_ATOMS = ["a", "b", "ab", ".", r"\.", r"\d", r"\w", r"\W", r"\b", r"\B", "^", "$", r"\Z", "[ab]", "[^a.]", "[a-c0-9_]",
          r"[\d.]", "[]a]", "[a-]", "(?<=a)", "(?<!b)", r"\x61", "{", "}", "]"]  # fmt: skip
_REPEATED = ["*", "+", "?", "*?", "+?", "??", "{2}", "{1,2}", "{0,3}", "{2,}", "{,2}"]
EXPRESSIONS = st.recursive(
    st.sampled_from(_ATOMS),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"({'|'.join(parts)})"),
        st.tuples(inner, st.sampled_from(_REPEATED)).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
        st.tuples(st.sampled_from(["(?=", "(?!", "(?P<name>"]), inner).map(lambda pair: f"{pair[0]}{pair[1]})"),
    ),
    max_leaves=8,
)
PATHS = st.text("aab.0_", max_size=9)


@settings(max_examples=300)
@given(EXPRESSIONS, PATHS)
def test_an_expression_matches_what_it_matches_in_re(expression: str, path: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of [[, which may mean something else one day
        try:
            whole, end = re.compile(expression), re.compile(rf"(.*\.)?({expression})$")
        except re.error:
            return  # a name that stands twice, or a repetition of what cannot be repeated
    if whole.groupindex and end.groups > 9:
        return
    assert matches(expression, path) == (whole.fullmatch(path) is not None)
    assert fits_the_end(expression, path) == (end.match(path) is not None)


@pytest.mark.parametrize(
    "expression",
    [
        r"(([a-z.0-9_]+)+)+!",
        r"(.*)*x",
        r".*.*.*.*.*.*.*.*.*.*x",
        r"(a|a)*" * 30 + "x",
        r"(?:(?!visual).)*(?:q_proj|v_proj)!",
        "((((" * 10 + "a" + ")*)*)*)*" * 10 + "x",
        "(?:[a-z.0-9_]{0,1000}){0,1000}!",
    ],
)
def test_an_expression_on_which_re_would_hang_is_matched_or_refused_at_once(expression: str) -> None:
    path = "base_model.model.model.language_model.layers.31.self_attn.q_proj"
    try:
        assert not matches(expression, path)
    except ValueError as error:
        assert "takes more than 20,000 steps" in str(error)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("(q", "a ( is not closed"), ("q)", "a ) closes nothing"), ("*q", "has nothing to repeat"),
        ("a**", "a repetition repeats a repetition"), ("a{3,2}", "the repetition {3,2} is none"),
        ("[a", "a [ is not closed"), (r"(a)\1", "does not match a group again"), ("(?i)a", "the group (?i)"),
        ("a++", "does not read possessive"), ("\\", "a backslash at its end"), (r"\q", "\\q means nothing"),
        ("[b-a]", "the range of letters from b is none"), ("(" * 60 + ")" * 60, "more than 50 deep"),
        ("a" * 60_000, "at most 50,000 are read"), (r"\xg1", "is no letter"), ("(?P<1>a)", "a name that is none"),
    ],
)  # fmt: skip
def test_what_is_no_expression_is_refused_where_the_config_is_read(expression: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"^rank_pattern: the regular expression .* cannot be used: ") as error:
        PeftConfig.from_dict({"peft_type": "LORA", "rank_pattern": {expression: 2}})
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("expression", "meant"),
    [
        (r".*\.(query|value)", ["query", "value"]), (r"^(?!.*layer\.0).*(query)$", ["1.attention.self.query"]),
        (r"(?:(?!query|key).)*\.value", ["value"]), (r"bert\.encoder\.layer\.[01]\.attention\.self\.key", ["key"]),
    ],
)  # fmt: skip
def test_the_expressions_that_people_write_mean_what_they_mean_in_peft(expression: str, meant: list[str]) -> None:
    model = tiny_bert()
    config = LoraConfig(target_modules=expression)
    expected = [path for path, _ in model.named_modules() if path and re.fullmatch(expression, path)]
    assert target_paths(model, config) == expected and len(expected) in (1, 2, 4)
    assert all(path.endswith(tuple(meant)) for path in expected)


def test_a_layers_number_is_the_one_behind_its_name() -> None:
    path = "model.blocks.7.layers.3.mlp.12.up"
    assert number_after("layers", path) == 3 and number_after("mlp", path) == 12 and number_after("up", path) is None
    assert number_after("l.*s", path) == 3 and number_after(r"blocks|layers", path) == 7
    assert by_pattern({r"(layers\.3.*)+": 5, "up": 6}, path, 7) == 5


@given(st.text("aab.0_", min_size=1, max_size=5), PATHS)
def test_a_plain_name_is_matched_as_an_expression_too(name: str, path: str) -> None:
    assert fits_the_end(name, path) == (re.match(rf"(.*\.)?({name})$", path) is not None)


def test_a_config_may_hold_a_name_for_each_module_and_not_as_many_expressions() -> None:
    LoraConfig(target_modules=["query"], rank_pattern={f"layer.{i}.query": 2 for i in range(20_000)})
    with pytest.raises(ValueError, match="rank_pattern holds more than 500 regular expressions"):
        LoraConfig(target_modules=["query"], rank_pattern={f"layer.{i}.*query": 2 for i in range(501)})
