"""What is always said of LoRA, each with the line that does it and the number that comes out when it is run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from npora.lora import LoraConfig, get_peft_model
from npora.nn import Linear, Module
from npora.nn.module import Array, Pullback
from npora.study.site.papers import line_of
from npora.study.site.sources import ROOT, read

CLAIMED = "lora/methods/lora", "LoRA"  # the page and the definition that this is said of
_SEAM = "lora/adapted", "Adapted"


@dataclass(frozen=True)
class Claim:
    """says : what is said; page, definition, code : where it is done; found : what came out; holds : as it is said"""

    says: str
    page: str
    definition: str
    code: str
    found: str
    holds: bool


class _Model(Module):
    def __init__(self, k: int, d: int) -> None:
        self.dense = Linear(k, d, bias=False, rng=0, dtype=np.float64)

    def forward(self, x: Array) -> tuple[Array, Pullback]:
        return self.dense(x)


def claims() -> Iterator[Claim]:
    """Run LoRA at d = k = 1,024 and r = 8, as it starts, with a B that was trained, and merged."""
    d = k = 1024
    r, rng = 8, np.random.default_rng(0)
    base = _Model(k, d)
    W = base.dense.weight.data.copy()
    model = get_peft_model(base, LoraConfig(r=r, lora_alpha=2 * r, target_modules=["dense"]))
    layer: Any = vars(model.get_base_model())["dense"]
    adapter = layer.adapters["default"]
    x = rng.standard_normal((2, k))
    start = np.abs(layer(x)[0] - x @ W.T).max()
    yield Claim(
        "B A = 0 at the start: the adapted layer is the layer", *CLAIMED, "B = np.zeros_like(B) if start else B",
        f"max |B A| = {np.abs(adapter.B.data @ adapter.A.data).max():g}, max |y − W x| = {start:.0e}",
        not adapter.B.data.any() and bool(adapter.A.data.any()) and start < 1e-12,
    )  # fmt: skip
    trained = sum(p.size for p in model.parameters() if p.requires_grad)
    yield Claim(
        "r (d + k) numbers are trained instead of d k: 16,384 instead of 1,048,576 at d = k = 1,024 and r = 8",
        *CLAIMED, "self.A, self.B = Parameter(A), Parameter(B)",
        f"{trained:,} are trained of A {list(adapter.A.shape)} and B {list(adapter.B.shape)}, W has {W.size:,}: "
        f"{W.size / trained:g} times fewer",
        trained == r * (d + k) == 16_384 and W.size == 1_048_576,
    )  # fmt: skip
    adapter.B.data = rng.standard_normal(adapter.B.shape)
    y = layer(x)[0]
    dW = layer.merged_linear().matrix - W
    rank = np.linalg.matrix_rank(dW @ rng.standard_normal((k, 2 * r)))
    apart = np.abs(dW - adapter.s * adapter.B.data @ adapter.A.data).max() / np.abs(dW).max()
    yield Claim(
        "ΔW = B A, times s = α/r: of rank r", *CLAIMED, "return W + self.s * product(B, A), b, backward",
        f"s = {adapter.s:g}; the rank of ΔW, as {2 * r} random directions show it, is {rank}, and ΔW − s B A is "
        f"{apart:.0e} of its largest number",
        apart < 1e-12 and rank == r,
    )  # fmt: skip
    plugged = np.abs(y - x @ (W + dW).T).max() / np.abs(y).max()
    yield Claim(
        "Plugged in, x goes through A and B beside W, and no d by k matrix is formed",
        *CLAIMED, "return y + matmul(s * u, B.T), backward",
        f"y − (W + ΔW) x is {plugged:.0e} of y; beside W's {d * k:,} multiplications a row there are {r * (d + k):,}",
        plugged < 1e-12,
    )  # fmt: skip
    model.merge_adapter()
    merged = np.abs(layer(x)[0] - y).max() / np.abs(y).max()
    model.unmerge_adapter()
    same = bool((layer.base_layer.weight.data == W).all())
    yield Claim(
        "Merged, it costs nothing: W′ = W + ΔW stands in W's place, and can be taken out again",
        *_SEAM, "return self._merged.forward(x)",
        f"merged and plugged in differ by {merged:.0e} of y; unmerged, W has {'the same' if same else 'other'} bits",
        merged < 1e-12 and same,
    )  # fmt: skip


def claims_html(found: list[Claim], address: Callable[[str], str]) -> str:
    """address : of a page's anchor, as `lora/adapted.html#L68`, from the page that this is for."""
    rows = []
    for claim in found:
        page = read(ROOT / f"{claim.page}.py")
        line = line_of(page, next(d for d in page.outer if d.name == claim.definition), claim.code)
        link = f'<a href="{escape(address(f"{claim.page}.html#L{line}"))}">{claim.page}.py, line {line}</a>'
        badge = '<b class="PASS">PASS</b>' if claim.holds else '<b class="FAIL">FAIL</b>'
        rows.append(
            f'<tr><th scope="row">{escape(claim.says)}</th><td><code>{escape(claim.code)}</code><br>{link}</td>'
            f"<td>{badge} {escape(claim.found)}</td></tr>"
        )
    return (
        '<div class="paper"><h3>What is said of LoRA</h3><div class="scroll" tabindex="0" role="region" '
        'aria-label="What is said of LoRA"><table class="said"><thead><tr><th scope="col">it is said</th>'
        '<th scope="col">the line</th><th scope="col">run, just now</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></div>"
    )
