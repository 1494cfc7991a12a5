"""The graph of a forward and its backward: each value, what it is computed from, its shape and its equations."""

from __future__ import annotations

from npora.study.site.flow import Flow, _backward_of, _functions, depth, flows_of
from npora.study.site.graph import graph_html
from npora.study.site.numbers import NUMBER, Numbers
from npora.study.site.sources import ROOT, Page, pages
from npora.study.site.symbols import legend, symbols_of
from tests.study.test_site import Parsed

TEXT = '''
class Scaled(Linear):
    """y = g W x.    x [...,i]  W [o,i]  g [o]  →  y [...,o]

        dg = Σ dy z     (1)
        dx = W g dy     (2)
    """

    def helper(self):
        return 1

    def forward(self, x: Array, rng: Rng = None):
        W, g, never = self.W.data, self.g.data, self.never
        unused = x + 1
        z = matmul(x, W.T)  # [...,o]
        kept = z if self.g.requires_grad else None

        def backward(dy: Array):
            if kept is not None:
                self.g.accumulate((dy * kept).sum(axis=0))  # (1) [o]
            dz = dy * g
            dz[0] = 0
            dz += 1
            return matmul(dz, W)  # (2)

        return z * g, backward
'''


def flows(text: str) -> tuple[Flow, Flow] | None:
    page = Page("nn/scaled", text)
    return flows_of(Numbers(page), page.outer[0], symbols_of(page, page.outer[0], legend(ROOT)))


def told(flow: Flow) -> list[tuple[str, str, str, list[str], str]]:
    """(kind, label, shape, what it reads, its equations) of each node."""
    labels = [node.label for node in flow.nodes]
    return [(n.kind, n.label, n.shape, [labels[r] for r in n.reads], "".join(n.numbers)) for n in flow.nodes]


def test_the_graph_of_a_layer_is_its_statements() -> None:
    found = flows(TEXT)
    assert found is not None
    forward, backward = found
    assert told(forward) == [
        ("given", "x", "[...,i]", [], ""),
        ("given", "W", "[o,i]", [], ""),
        ("given", "g", "[o]", [], ""),
        ("step", "z", "[...,o]", ["x", "W"], ""),
        ("step", "kept", "", ["z"], ""),
        ("out", "y", "[...,o]", ["z", "g"], ""),
    ]
    assert told(backward) == [
        ("kept", "W", "[o,i]", [], ""),
        ("kept", "g", "[o]", [], ""),
        ("kept", "kept", "", [], ""),
        ("given", "dy", "[...,o]", [], ""),
        ("out", "g.grad", "[o]", ["dy", "kept"], "1"),
        ("step", "dz", "[...,o]", ["dy", "g"], ""),
        ("step", "dz", "[...,o]", ["dz"], ""),
        ("step", "dz", "[...,o]", ["dz"], ""),
        ("out", "dx", "[...,i]", ["dz", "W"], "2"),
    ]
    # What is given stands right above its first reader, all else below the last that it reads.
    assert depth(forward) == [1, 1, 2, 2, 3, 3] and depth(backward) == [4, 1, 1, 1, 2, 2, 3, 4, 5]
    lines = TEXT.splitlines()
    assert all(node.code.split("\n")[0] in lines[node.line - 1] for node in backward.nodes if node.kind == "step")


def test_a_function_with_a_lambda_and_several_gradients() -> None:
    short = "def f(x: Array, n: int, z: Array):\n    a = x * n\n    return a * z, lambda dy: (dy * z, dy * a)\n"
    found = flows(short.replace("(dy * z, dy * a)", "dy * z"))
    assert found is not None and told(found[1])[-1] == ("out", "dx", "", ["dy", "z"], "")
    several = (
        "def f(x: Array, n: int, z: Array):\n    def b(dy):\n        return dy * z, dy * x\n\n    return x * z, b\n"
    )
    found = flows(several)
    assert found is not None and [node[1] for node in told(found[1])] == ["x", "z", "dy", "dx", "dz"]
    called = "def f(x: Array):\n    y, back_f = g(x)\n\n    def back(dy):\n        back_f(dy)\n\n    return y, back\n"
    found = flows(called)
    assert found is not None and told(found[1]) == [
        ("given", "dy", "", [], ""), ("out", "f", "", ["dy"], ""),
    ]  # fmt: skip
    looped = (
        "def f(x: Array):\n    for k in range(3):\n        a = x * k\n        x = a + 1\n    return a, lambda dy: dy\n"
    )
    found = flows(looped)
    assert found is not None and told(found[0])[-1] == ("step", "x", "", ["a"], "")  # of the next turn
    assert told(found[1]) == [("given", "dy", "", [], ""), ("out", "dx", "", ["dy"], "")]
    assert flows("def f(x):\n    return g(x)\n") is None
    assert flows("def f(x):\n    y, backward = g(x)\n    return y, backward\n") is None


def test_each_numbered_line_of_a_pullback_is_in_its_graph() -> None:
    letters, found = legend(ROOT), 0
    for page in pages():
        numbers = Numbers(page)
        for definition in page.outer:
            both = flows_of(numbers, definition, symbols_of(page, definition, letters))
            if both is None:
                continue
            function = next(f for f in _functions(page, definition) if _backward_of(f) is not None)
            lines = range(function.lineno, (function.end_lineno or 0) + 1)
            wanted = {(line, n) for line in lines for n in NUMBER.findall(numbers.comments.get(line, ""))}
            here = {(node.line, n) for flow in both for node in flow.nodes for n in node.numbers}
            assert wanted <= here, f"{page.name}: {definition.name}: {wanted - here}"
            found += len(wanted)
    assert found > 130


def test_the_drawing_has_each_value_and_leads_to_its_line() -> None:
    page = Page("nn/scaled", TEXT)
    drawn = graph_html(Numbers(page), page.outer[0], symbols_of(page, page.outer[0], legend(ROOT)))
    parsed = Parsed(drawn)
    assert not parsed.wrong and parsed.tags["rect"] == 15 and parsed.tags["path"] == 13 and parsed.tags["figure"] == 2
    assert 'href="#L24"' in drawn and ">dx [...,i] (2)</text>" in drawn and ">matmul(dz, W)</text>" in drawn
    assert (
        graph_html(Numbers(Page("nn/f", "def f(x):\n    return g(x)\n")), Page("nn/f", "def f(x): pass").outer[0], {})
        == ""
    )
