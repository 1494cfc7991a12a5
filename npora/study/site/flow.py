"""What a forward and its backward compute, statement by statement: a graph, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from npora.study.site.numbers import NUMBER, Numbers
from npora.study.site.sources import Definition, Page
from npora.study.site.symbols import SHAPE, is_shape

Function = ast.FunctionDef | ast.Lambda
_MOVED = {"np.add.at", "np.subtract.at", "np.maximum", "np.add", "np.copyto"}  # calls that write to an argument


@dataclass(frozen=True)
class Node:
    """A value. kind : "given" to the function, "kept" from forward, a "step", or an "out" """

    label: str
    code: str
    shape: str
    line: int
    kind: str
    reads: tuple[int, ...] = ()
    numbers: tuple[str, ...] = ()


@dataclass
class Flow:
    """The nodes of a function, each behind those that it reads."""

    nodes: list[Node] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)  # the latest node of each name


def flows_of(numbers: Numbers, definition: Definition, symbols: Mapping[str, str]) -> tuple[Flow, Flow] | None:
    """(forward, backward) of a function, or of the first method that defines its own backward: `forward`, where it
    does. None where none does."""
    for outer in _functions(numbers.page, definition):
        inner = _backward_of(outer)
        if inner is not None:
            reader = _Reader(numbers, symbols)
            forward = reader.forward(outer)
            loops = {
                line
                for n in ast.walk(outer)
                if isinstance(n, ast.For)
                for line in range(n.lineno, (n.end_lineno or 0) + 1)
            }
            backward = _used(reader.backward(inner, outer, forward), loops)
            kept = [node.label for node in backward.nodes if node.kind == "kept"]
            both = _used(forward, loops, kept), backward
            return both if all(flow.nodes for flow in both) else None
    return None


def _functions(page: Page, definition: Definition) -> list[ast.FunctionDef]:
    node = next(n for n in page.tree.body if getattr(n, "name", "") == definition.name)
    inside = node.body if isinstance(node, ast.ClassDef) else [node]
    found = [n for n in inside if isinstance(n, ast.FunctionDef)]
    return sorted(found, key=lambda n: (n.name != "forward", n.lineno))


def _backward_of(outer: ast.FunctionDef) -> Function | None:
    """The pullback that its last return gives."""
    inner = {n.name: n for n in outer.body if isinstance(n, ast.FunctionDef)}
    last = outer.body[-1]
    if isinstance(last, ast.Return) and isinstance(last.value, ast.Tuple):
        given = last.value.elts[-1]
        if isinstance(given, ast.Lambda):
            return given
        if isinstance(given, ast.Name):
            return inner.get(given.id)
    return None


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        if isinstance(statement, ast.If | ast.For | ast.With):
            if isinstance(statement, ast.For):
                yield statement
            yield from _statements(statement.body)
            yield from _statements(getattr(statement, "orelse", []))
        elif not isinstance(statement, ast.FunctionDef | ast.Raise):
            yield statement


class _Reader:
    def __init__(self, numbers: Numbers, symbols: Mapping[str, str]) -> None:
        self.comments, self.symbols = numbers.comments, symbols

    def forward(self, function: ast.FunctionDef) -> Flow:
        flow = Flow()
        for name in _arguments(function):
            self._add(flow, [name], None, function.lineno, "given")
        for statement in _statements(function.body):
            if isinstance(statement, ast.Return) and isinstance(statement.value, ast.Tuple):
                if statement.value.elts[1:]:
                    self._out(flow, statement.value.elts[:-1], statement, ["y"])
            else:
                self._statement(flow, statement)
        return flow

    def backward(self, function: Function, outer: ast.FunctionDef, forward: Flow) -> Flow:
        """What forward has made is `kept` here, where it is read."""
        flow = Flow()
        for name, at in forward.names.items():
            if not name.startswith("back"):
                flow.names[name] = len(flow.nodes)
                flow.nodes.append(replace(forward.nodes[at], label=name, kind="kept", reads=(), code="", numbers=()))
        for argument in function.args.args:
            self._add(flow, [argument.arg], None, function.lineno, "given")
        wanted = [f"d{name}" for name in _arguments(outer, "Array")] or [f"d{name}" for name in _arguments(outer)]
        if isinstance(function, ast.Lambda):
            self._out(flow, [function.body], function, wanted)
            return flow
        for statement in _statements(function.body):
            if isinstance(statement, ast.Return) and statement.value is not None:
                value = statement.value
                parts = value.elts if isinstance(value, ast.Tuple) else [value]
                self._out(flow, parts, statement, wanted)
            else:
                self._statement(flow, statement)
        return flow

    def _statement(self, flow: Flow, statement: ast.stmt) -> None:
        line = statement.end_lineno or statement.lineno
        if isinstance(statement, ast.Assign):
            target, value = statement.targets[0], statement.value
            pairs = [(target, value)]
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                pairs = list(zip(target.elts, value.elts, strict=True))
            shapes = self._shapes(line, len(pairs))
            found = [(_written(t), v, shape) for (t, v), shape in zip(pairs, shapes, strict=True)]
            reads = [self._reads(flow, value) for _, value, _ in found]  # all before any is written
            code = ""
            if isinstance(target, ast.Subscript):  # what is not written to stays
                reads = [(*reads[0], *(flow.names[name] for name in found[0][0] if name in flow.names))]
                code = ast.unparse(statement)
            for (names, value, shape), own in zip(found, reads, strict=True):
                self._add(flow, names, value, line, "step", shape, own, code)
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            self._add(flow, _written(statement.target), statement.value, line, "step", self._shapes(line, 1)[0])
        elif isinstance(statement, ast.AugAssign):
            names = _written(statement.target)
            both = (*self._reads(flow, statement.value), *(flow.names[n] for n in names if n in flow.names))
            self._add(
                flow, names, statement.value, line, "step", self._shapes(line, 1)[0], both, ast.unparse(statement)
            )
        elif isinstance(statement, ast.For):
            self._add(flow, _written(statement.target), statement.iter, statement.lineno, "step")
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            self._call(flow, statement.value, line)

    def _call(self, flow: Flow, call: ast.Call, line: int) -> None:
        """What adds to a parameter's grad, or writes to an array."""
        called = ast.unparse(call.func)
        if called.endswith((".accumulate", ".add")) and self._reads(flow, call):
            owner = called.rpartition(".")[0].removeprefix("self.")
            label = f"{owner}.grad" if owner != "self" else "grad"
            self._add(flow, [label], call, line, "out", self._shapes(line, 1)[0])
        elif (called in _MOVED or called.endswith(".append")) and call.args:
            first = call.args[0] if called in _MOVED else call.func
            out = next((k.value for k in call.keywords if k.arg == "out"), first)
            names = [n.id for n in ast.walk(out) if isinstance(n, ast.Name)][:1]
            self._add(flow, names, call, line, "step", self._shapes(line, 1)[0])
        elif called.startswith("back"):
            self._add(flow, [called.removeprefix("back_")], call, line, "out")

    def _out(self, flow: Flow, parts: list[ast.expr], at: ast.Return | ast.Lambda, wanted: list[str]) -> None:
        line = at.end_lineno or at.lineno
        shapes = self._shapes(line, len(parts))
        for number, (part, shape) in enumerate(zip(parts, shapes, strict=True)):
            place = flow.names.get(part.id) if isinstance(part, ast.Name) else None
            if place is not None and flow.nodes[place].kind in ("step", "out"):
                flow.nodes[place] = replace(flow.nodes[place], kind="out")
            elif not isinstance(part, ast.Constant):
                label = wanted[number] if number < len(wanted) else "and"
                self._add(flow, [f"return {label}"], part, line, "out", shape or self._shape_of(label))

    def _add(
        self, flow: Flow, names: list[str], value: ast.expr | None, line: int, kind: str, shape: str = "",
        reads: tuple[int, ...] | None = None, code: str = "",
    ) -> None:  # fmt: skip
        shown = [name for name in names if not name.startswith("back")] or names
        reads = self._reads(flow, value) if reads is None and value is not None else reads or ()
        if kind == "step" and not reads:
            kind = "given"
        label = ", ".join(shown).removeprefix("return ")
        code = code or ("" if value is None else ast.unparse(value))
        numbers = tuple(NUMBER.findall(self.comments.get(line, ""))) if kind in ("step", "out") else ()
        shape = shape or (self._shape_of(label) if len(shown) == 1 else "")
        for name in names:
            flow.names[name] = len(flow.nodes)
        flow.nodes.append(Node(label, code, shape, line, kind, tuple(dict.fromkeys(reads)), numbers))

    def _reads(self, flow: Flow, value: ast.expr) -> tuple[int, ...]:
        names = [n.id for n in ast.walk(value) if isinstance(n, ast.Name)]
        return tuple(dict.fromkeys(flow.names[name] for name in names if name in flow.names))

    def _shapes(self, line: int, count: int) -> list[str]:
        """The shapes in a line's comment: one for each value, or the last for the only one."""
        found = [f"[{inside}]" for inside in SHAPE.findall(self.comments.get(line, "")) if is_shape(inside)]
        if count == 1:
            return found[-1:] or [""]
        return found if len(found) == count else [""] * count

    def _shape_of(self, name: str) -> str:
        """By the docstring; a gradient has the shape of what it is of."""
        for known in (name, name.removeprefix("d")):
            if (says := self.symbols.get(known, "")).startswith("["):
                return says.partition(" ")[0]
        return ""


def _arguments(function: ast.FunctionDef, kind: str = "") -> list[str]:
    """Those whose annotation has a word."""
    found = [a for a in function.args.args if a.arg not in ("self", "rng", "base")]
    return [a.arg for a in found if not kind or (a.annotation and kind in ast.unparse(a.annotation))]


def _written(target: ast.expr) -> list[str]:
    if isinstance(target, ast.Subscript | ast.Attribute):
        return [n.id for n in ast.walk(target) if isinstance(n, ast.Name)][:1]
    return [n.id for n in ast.walk(target) if isinstance(n, ast.Name)]


def _used(flow: Flow, loops: set[int], names: Sequence[str] = ()) -> Flow:
    """Without what nothing that comes out depends on, nor one of these names, nor the next turn of a loop."""
    needed = [at for at, node in enumerate(flow.nodes) if node.kind == "out" or (node.reads and node.line in loops)]
    needed += [flow.names[name] for name in names]
    seen: set[int] = set()
    while needed:
        if (at := needed.pop()) not in seen:
            seen.add(at)
            needed += flow.nodes[at].reads
    kept = sorted(seen)
    nodes = [replace(flow.nodes[at], reads=tuple(kept.index(r) for r in flow.nodes[at].reads)) for at in kept]
    return Flow(nodes, {name: kept.index(at) for name, at in flow.names.items() if at in seen})


def depth(flow: Flow) -> list[int]:
    """How far down each node stands: below all that it reads, and what is given right above its first reader."""
    found: list[int] = []
    for node in flow.nodes:
        found.append(1 + max((found[r] for r in node.reads), default=0))
    for at, node in enumerate(flow.nodes):
        if not node.reads:
            found[at] = min((found[k] - 1 for k, other in enumerate(flow.nodes) if at in other.reads), default=1)
    return found
