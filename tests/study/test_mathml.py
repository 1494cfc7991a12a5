"""Formulas as MathML: nothing of them is lost, and what is raised, lowered or under a root is so."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator
from xml.etree import ElementTree

from npora.study.site.formulas import Typesetter
from npora.study.site.mathml import is_formula, mathml, parts
from npora.study.site.papers import ORIGINS
from npora.study.site.sources import EQUATION, pages

PLAIN = Typesetter({}, {}, lambda n: f"<a>({n})</a>", lambda name: "")


def back(element: ElementTree.Element) -> str:
    """The formula that a MathML is of, with every index in braces and without spaces."""
    inside = [back(child) for child in element]
    if element.tag == "msqrt":
        return f"√{{{''.join(inside)}}}"
    if element.tag == "msub":
        return f"{inside[0]}_{{{inside[1]}}}"
    if element.tag == "msup":
        return f"{inside[0]}^{{{inside[1]}}}"
    if element.tag == "msubsup":
        return f"{inside[0]}_{{{inside[1]}}}^{{{inside[2]}}}"
    if element.tag in ("mi", "mn", "mo", "mtext"):
        return "".join(element.itertext()).replace(" ", "")
    return "".join(inside)


LOW = re.compile(r"_(?:\{([^}]*)\}|([^\W_]+?)(?=\W|$|[ᵀ′]))")
ROOT_OF = re.compile(r"[^\W\d_][\u0300-\u036f]*(?:_\w)?|\d+")


def braced(formula: str) -> str:
    """A formula as its author wrote it, in the form of `back`."""
    found, at = "", 0
    while at < len(formula):
        c, match = formula[at], None
        if kind := index(c):
            run = next("".join(run) for _, run in itertools.groupby(formula[at:], index))
            found, at = found + f"{kind}{{{unicodedata.normalize('NFKC', run)}}}", at + len(run)
        elif c == "′":
            found, at = found + "^{′}", at + 1
        elif c in "√^" and formula[at + 1] == "(":
            end = closing(formula, at + 1)
            found, at = found + f"{c}{{{braced(formula[at + 2 : end])}}}", end + 1
        elif c in "√^" and (match := ROOT_OF.match(formula, at + 1)):
            found, at = found + f"{c}{{{braced(match[0])}}}", match.end()
        elif c == "_" and not re.search(r"[A-Za-z]{3,}\w*$", formula[:at]) and (match := LOW.match(formula, at)):
            found, at = found + f"_{{{match[1] or match[2]}}}".replace(" ", ""), match.end()
        else:
            found, at = found + c.strip(" `"), at + 1
    found = re.sub(r"(\^\{[^{}]*\})(_\{[^{}]*\})", r"\2\1", found)
    return re.sub(r"(\^\{[^{}]*)\}\^\{", r"\1", found)


def index(c: str) -> str:
    form = unicodedata.decomposition(c)
    return "^" if form.startswith("<super>") else "_" if form.startswith("<sub>") else ""


def closing(formula: str, at: int) -> int:
    """Where the parenthesis ends that begins here."""
    depth = list(itertools.accumulate((c == "(") - (c == ")") for c in formula[at:]))
    return at + depth.index(0)


def formulas() -> Iterator[tuple[str, str]]:
    """Every formula that the pages set: of the docstrings, piece by piece, and of the papers."""
    for page in pages():
        for definition in page.definitions:
            for line in definition.doc.splitlines():
                if line.startswith("    ") or EQUATION.search(line):
                    for piece in re.split(r" {2,}", EQUATION.sub("", line).strip()):
                        if is_formula(piece):
                            yield f"{page.name} {definition.name}", piece
    for name, origin in ORIGINS.items():
        yield name, origin.equation


def test_nothing_of_a_formula_is_lost() -> None:
    found = list(formulas())
    assert len(found) > 280
    for place, formula in found:
        made = mathml(formula, PLAIN)
        read = "".join(back(ElementTree.fromstring(math)) for math in re.findall("<math.*?</math>", made))
        assert read == braced(formula), f"{place}: {formula}\n{made}"
        said = " ".join(ElementTree.fromstring(math).get("alttext", "") for math in re.findall("<math.*?</math>", made))
        assert said.split() == formula.split(), place


def set_(formula: str) -> str:
    return re.sub(r' alttext="[^"]*"', "", mathml(formula, PLAIN))


def test_what_is_lowered_raised_and_under_a_root() -> None:
    assert set_("dxₙᵀ") == (
        "<math><mrow><msubsup><mi>dx</mi><mrow><mi>n</mi></mrow><mrow><mi>T</mi></mrow></msubsup></mrow></math>"
    )
    assert "<msub><mi>W</mi><mrow><mi>k</mi></mrow></msub>" in set_("W_k = 1")
    assert "<msub><mi>z</mi><mrow><mi>k</mi><mo>,</mo><mi>n</mi></mrow></msub>" in set_("z_{k,n}")
    assert "<msup><mi>e</mi><mrow><mi>y</mi></mrow></msup>" in set_("e^y")
    assert "<msup><mi>c</mi><mrow><mi>k</mi><mo>/</mo><mn>255</mn></mrow></msup>" in set_("c^(k/255)")
    assert "<msqrt><mi>v</mi></msqrt><mo>+</mo>" in set_("√v + ε")
    assert "<msqrt><mi>N</mi>" in set_("√(N n)") and "(" not in set_("√(N n)")
    # What is raised behind a parenthesis belongs to all that is in it.
    assert set_("(A B)ᵀ").startswith('<math><mrow><msup><mrow><mo stretchy="false">(</mo><mi>A</mi>')
    assert "<msup><mi>W</mi><mrow><mo>′</mo></mrow></msup>" in set_("W′ = W")


def test_words_names_and_numbers() -> None:
    assert set_("log p") == '<math><mrow><mi class="f">log</mi><mspace width="0.28em"></mspace><mi>p</mi></mrow></math>'
    assert "<mtext>the</mtext>" in set_("x = the mean") and "<mtext>lora_A.weight</mtext>" in set_("x = lora_A.weight")
    assert "<mn>0.05</mn>" in set_("h = 0.05") and "<mtext><a>(2)</a></mtext>" in set_("x as in (2)")
    assert "<mtext><code>lr</code></mtext>" in set_("λ = `lr`")
    assert is_formula("dx = dy W") and is_formula("A ← A − lr dA") and not is_formula("what those before it made")
    assert not is_formula("the gradient of a frozen matrix = what there is of it in the layers above")


def test_what_stands_between_the_parts_of_a_formula() -> None:
    made = set_("dθ = α ⊙ (cos θ ⊙ ds) + β ⊙ dx W.")
    assert '</math><wbr><math><mrow><mo lspace="0.22em" rspace="0">+</mo><mspace width="0.22em">' in made
    assert '<mo lspace="0" rspace="0">.</mo>' in made and "<mo>−</mo><mi>x</mi>" in set_("y = −x")
    assert '</msup><mspace width="0.1em"></mspace><mi>' in set_("Wᵀ x")  # a script brings a gap of its own
    assert "<mtext>s</mtext>" in set_("y = f's pullback")  # no symbol


def test_symbols_in_prose() -> None:
    told = Typesetter({}, {"W": "[o,i]"}, lambda n: "", lambda name: "", frozenset("mxs"))
    assert told.line("m is not M") == "<i>m</i> is not M" and told.line("Llama-2-7B") == "Llama-2-7B"
    assert told.line("Σ_v q_v") == "Σ<sub><i>v</i></sub>\u00a0<i>q</i><sub><i>v</i></sub>"
    assert (
        told.line("q_tᵀ") == "<i>q</i><sub><i>t</i></sub><sup>T</sup>" and told.line("to at_target") == "to at_target"
    )
    assert told.line("as s = x m, a x") == "as <i>s</i>\u00a0=\u00a0<i>x</i>\u00a0<i>m</i>, a <i>x</i>"
    assert told.line("A Llama's W", formula=True).startswith("A Llama&#x27;s <abbr")


def test_a_symbol_in_a_formula_says_what_it_is() -> None:
    told = Typesetter({"o": "out"}, {"W": "[o,i] (out; in)"}, lambda n: "", lambda name: "")
    made = told.line("dW = W [o]", formula=True)
    assert '<mi><abbr title="W [o,i] (out; in)" tabindex="0"><i>W</i></abbr></mi>' in made
    assert 'title="dW: the gradient of W [o,i] (out; in)"' in made and 'title="axis o: out"' in made
    assert told.line('W as "gd_W"') == '<abbr title="W [o,i] (out; in)"><i>W</i></abbr> as &quot;gd_W&quot;'
    assert told.line("it is W", formula=True).startswith("it is <abbr")


def test_a_long_formula_can_be_broken_in_front_of_what_relates_adds_or_multiplies() -> None:
    assert parts("dB = s Σₙ dyₙ uₙᵀ") == ["dB = s Σₙ dyₙ uₙᵀ"]
    assert parts("dθ = α ⊙ (cos θ ⊙ ds − sin θ ⊙ dc) + β ⊙ dx = 0") == [
        "dθ = α ⊙ (cos θ ⊙ ds − sin θ ⊙ dc)", "+ β ⊙ dx", "= 0",
    ]  # fmt: skip
    assert parts("T(F)_jc = 1/(o i) Σ_pq F_pq cos(2π (p j/o + q c/i))") == [
        "T(F)_jc", "= 1/(o i)", "Σ_pq F_pq", "cos(2π (p j/o + q c/i))",
    ]  # fmt: skip
