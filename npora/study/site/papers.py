"""From the paper to the line: each method's equation as its paper has it, npora's line, PEFT's file, what departs."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape

from npora.study.site.formulas import Typesetter
from npora.study.site.sources import Definition, Page

_SENTENCE = re.compile(r"(?<=[.:)])\s+(?=[A-Z(])")


@dataclass(frozen=True)
class Origin:
    """Where a method is from.

    paper, equation : who and where, and what stands there, in its letters
    line : what npora's line has that computes it
    peft : PEFT's file, under `peft/tuners`, and the class or function in it
    departs : where PEFT, or npora, does otherwise than the paper, beside what the docstring says of it
    """

    paper: str
    equation: str
    line: str
    peft: str
    departs: str = ""


_LAYER = "lora/layer.py: Linear"
ORIGINS: dict[str, Origin] = {
    "LoRA": Origin(
        "Hu et al., 2021, arXiv:2106.09685, equation 3", "h = W₀ x + ΔW x = W₀ x + B A x",
        "return y + matmul(s * u, B.T), backward", _LAYER,
        "The paper draws A from a normal distribution; PEFT draws it from U(±1/√i), and so does npora, unless "
        'init_lora_weights is "gaussian". Dropout is PEFT\'s, of what A is given; the base is given all of x.',
    ),
    "DoRA": Origin(
        "Liu et al., 2024, arXiv:2402.09353, equation 5", "W′ = m (W₀ + B A) / ‖W₀ + B A‖_c",
        "g = m / c", "lora/dora.py: DoraLinearLayer",
        "The paper speaks of the lengths of columns; PEFT takes those of the rows of W [o,i], one for each output. "
        "B A is scaled by s, as LoRA's.",
    ),
    "DoRANorm": Origin(
        "Liu et al., 2024, arXiv:2402.09353, equation 5, with 6 and 7 as its gradients",
        "W′ = m (W₀ + B A) / ‖W₀ + B A‖_c",
        "k = (-g * dm / c)[:, None]", "lora/dora.py: DoraLinearLayer",
        "PEFT has the paper's section 4.3 alone, where c is a constant.",
    ),
    "StartedLoRA": Origin(
        "Meng, Wang and Zhang, 2024, arXiv:2404.02948, for PiSSA", "Y = X W = X (Wʳᵉˢ + W_pri) = X (Wʳᵉˢ + A B)",
        "return y + (matmul(s * u, B.T) - matmul(s * u0, B0.T)), backward", "lora/layer.py: pissa_init",
    ),
    "BiasedLoRA": Origin(
        "no paper: PEFT's `lora_bias`", "h = W₀ x + b + s (B A x + c)",
        "return y + (matmul(s * u, B.T) + s * c), backward", _LAYER,
        "LoRA's paper has no bias in B.",
    ),
    "LoRAEmbedding": Origin(
        "Hu et al., 2021, arXiv:2106.09685, equation 3, where x is 1 at the id", "h = W₀ x + B A x",
        "return y + matmul(s * u, B.T), backward", "lora/layer.py: Embedding",
        "The paper adapts the matrices of attention alone.",
    ),
    "DoRAEmbedding": Origin(
        "Liu et al., 2024, arXiv:2402.09353, equation 5", "W′ = m (W₀ + B A) / ‖W₀ + B A‖_c",
        "return g * z, backward", "lora/dora.py: DoraEmbeddingLayer",
        "The paper adapts linear layers alone; PEFT takes a length for each feature, over all tokens.",
    ),
    "AdaLoRA": Origin(
        "Zhang et al., 2023, arXiv:2303.10512, equation 3", "W = W⁽⁰⁾ + Δ = W⁽⁰⁾ + P Λ Q",
        "return y + matmul(s * e * u, B.T), backward", "adalora/layer.py: SVDLinear",
    ),
    "VeRA": Origin(
        "Kopiczko et al., 2023, arXiv:2310.11454, equation 2", "h = W₀ x + ΔW x = W₀ x + Λ_b B Λ_d A x",
        "return y + v * lambda_b, backward", "vera/layer.py: Linear",
    ),
    "LoHa": Origin(
        "Hyeon-Woo et al., 2021, arXiv:2108.06098", "W = (X₁ Y₁ᵀ) ⊙ (X₂ Y₂ᵀ)",
        "return W + M1 * M2, b, backward", "loha/layer.py: LoHaLayer",
        "PEFT's ΔW is that W, and is scaled by α/r.",
    ),
    "LoKr": Origin(
        "Yeh et al., 2023, arXiv:2309.14859", "ΔW = C ⊗ (B A)",
        "return W + s * np.kron(W1, W2), b, backward", "lokr/layer.py: LoKrLayer",
    ),
    "HiRA": Origin(
        "Huang et al., 2025", "ΔW = W₀ ⊙ (B A)", "return W + W * P, b, backward", "hira/layer.py: Linear",
    ),
    "MiSS": Origin(
        "Kang and Yin, 2024, arXiv:2409.15371, equation 2", "y = W₀ x + expand(D) x",
        "return y + repeated(matmul(u, M), o), backward", "miss/layer.py: MissLinear",
    ),
    "MiSSBat": Origin(
        'Kang and Yin, 2024, arXiv:2409.15371, "bat"', "ΔW = W₀ D + D, block by block",
        "return W + (plus_one @ M).reshape(o, i), b, backward", "miss/layer.py: MissLinear",
    ),
    "FourierFT": Origin(
        "Gao et al., 2024, arXiv:2405.03003", "S = ifft2(F),  h = W₀ x + α ℜ(S) x",
        "return W + self.s * cosines(F), b, backward", "fourierft/layer.py: FourierFTLinear",
    ),
    "IA3": Origin(
        "Liu et al., 2022, arXiv:2205.05638", "softmax(Q (l_k ⊙ Kᵀ)/√d_k) (l_v ⊙ V),  (l_ff ⊙ γ(W₁ x)) W₂",
        "return z if by_input else z * scale, backward", "ia3/layer.py: Linear",
    ),
    "OFT": Origin(
        "Qiu et al., 2023, arXiv:2306.07280", "z = (R W⁰)ᵀ x,  Rᵀ R = R Rᵀ = I",
        "y, back_base = base(in_blocks(x, R))", "oft/layer.py: Linear",
    ),
    "HRA": Origin(
        "Yuan, Liu and Xu, 2024, arXiv:2405.17484", "z = W (H₁ H₂ ⋯ Hᵣ) x,  Hₖ = I − 2 uₖ uₖᵀ",
        "return W - product(E, U.T), b, backward", "hra/layer.py: HRALinear",
    ),
    "RoAd": Origin(
        "Liao and Monz, 2024, arXiv:2409.00119, equations 2 and 3",
        "z = R h,  of each pair  α [cos θ, −sin θ; sin θ, cos θ]",
        "return c * z + s * self.turned(z), backward", "road/layer.py: Linear",
    ),
    "LNTuning": Origin(
        "Zhao et al., 2023, arXiv:2312.11420", "y = γ ⊙ (x − μ)/σ + β",
        "y, backward = norm(x)", "ln_tuning/layer.py: LNTuningLayer",
    ),
    "TrainableTokens": Origin(
        "no paper: PEFT's `trainable_token_indices`", "E′ = E, but for the rows of the tokens",
        "return np.where(here[..., None], D[j], y), backward", "trainable_tokens/layer.py: TrainableTokensLayer",
        "There is no paper that it could depart from.",
    ),
}  # fmt: skip


def line_of(page: Page, definition: Definition, code: str) -> int:
    """The line of a definition that has this code. Raises LookupError where none has."""
    lines = page.text.splitlines()
    for number in range(definition.first, definition.last + 1):
        if code in lines[number - 1] and number not in definition.doc_lines:
            return number
    raise LookupError(f"{page.name}.py: no line of {definition.name} has {code!r}")


def departures(definition: Definition, origin: Origin) -> list[str]:
    """What the docstring says of PEFT and of the paper, sentence by sentence, and what is said of it here."""
    paragraphs = [" ".join(p.split()) for p in definition.doc.split("\n\n") if not p.startswith("    ")]
    told = [s for p in paragraphs for s in _SENTENCE.split(p) if re.search(r"\bPEFT\b|\b[Tt]he paper\b|which PEFT", s)]
    return [*told, *([origin.departs] if origin.departs else [])]


def paper_html(page: Page, definition: Definition, set_: Typesetter, code: Callable[[int], str]) -> str:
    """The section of a method's page; "" for what has none. code : the HTML of a line."""
    origin = ORIGINS.get(definition.name) if page.name.startswith("lora/methods/") else None
    if origin is None:
        return ""
    line = line_of(page, definition, origin.line)
    file, _, name = origin.peft.partition(": ")
    rows = {
        "The paper": f"{set_.line(origin.equation, formula=True)}<br>{set_.line(origin.paper)}",
        "npora": f'<code>{code(line).strip()}</code><br><a href="#L{line}">line {line}</a>',
        "PEFT": f"<code>peft/tuners/{escape(file)}</code>, <code>{escape(name)}</code>",
        "Where they part": "<br>".join(set_.line(told) for told in departures(definition, origin)),
    }
    listed = "".join(f"<dt>{term}</dt><dd>{says}</dd>" for term, says in rows.items())
    return f'<div class="paper"><h3>From the paper to the line: {escape(definition.name)}</h3><dl>{listed}</dl></div>'
