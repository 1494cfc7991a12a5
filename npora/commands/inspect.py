"""Say what an adapter does to each layer: singular values, effective rank, size beside W, directions.

Without the base's weights it is said of plain LoRA what its own tensors tell. With --base, of any method, ‖ΔW‖/‖W‖, how
much of ΔW's subspace of the inputs lies among as many of W's top directions (overlap, beside what chance gives), and by
how much it makes stronger what W does along them (amplified): the measures of the LoRA paper's section 7. A norm is the
matrix diag(γ). Biases that the method changes are told apart.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from npora.commands.loading import load
from npora.commands.tasks import TASKS
from npora.lora import PeftConfig, adapter_directory
from npora.lora.measures import Measures, of_file, of_model, similarity

_SHOWN = 8  # singular values of a layer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("adapter", metavar="ADAPTER", help="an adapter, the --output of finetune, or org/name on the hub")
    add("--base", metavar="DIR", help="the model that it was trained on: a directory, or org/name on the hub")
    add("--with", dest="other", metavar="OTHER", help="another adapter: how similar the subspaces of the two are")
    add("--plot", metavar="FILE", help="draw the singular values (extra `plot`)")


def run(options: argparse.Namespace) -> None:
    if options.plot:
        from npora.files.picture import check_picture

        check_picture(options.plot)
    found, others = _measured(options)
    if not found:
        raise ValueError(f"{options.adapter} changes no layer's matrix")
    width = max(map(len, found))
    print(f"{'layer':{width}}  {_HEAD if options.base else _SHORT}")
    for path, measures in found.items():
        print(f"{path:{width}}  {_line(measures)}")
    if changed := {path: measures.bias for path, measures in found.items() if measures.bias is not None}:
        print(f"\n{'layer':{width}}  ‖b′ − b‖/‖b‖")
        for path, change in changed.items():
            print(f"{path:{width}}  {change:.4f}")
    if options.other:
        shared = [path for path in found if path in others]
        if not shared:
            raise ValueError(f"{options.adapter} and {options.other} have no layer in common")
        print(f"\n{'layer':{width}}  similar  chance")
        for path in shared:
            one, other = found[path].directions, others[path].directions
            if len(one) and len(other):
                chance = max(len(one), len(other)) / one.shape[1]
                print(f"{path:{width}}  {similarity(one, other):7.3f}  {chance:6.3f}")
    if options.plot:
        from npora.lora.pictures import spectra

        spectra(
            {path: one.values for path, one in found.items()}, f"singular values of {options.adapter}", options.plot
        )


def _measured(options: argparse.Namespace) -> tuple[Mapping[str, Measures], Mapping[str, Measures]]:
    """Measure the adapter, and the other one where there is one, by their layers' paths."""
    directories = [adapter_directory(name) for name in (options.adapter, options.other) if name is not None]
    if options.base is None:
        both = [dict(of_file(directory, PeftConfig.from_pretrained(directory))) for directory in directories]
    else:
        options.model, options.quantize = options.base, None  # in the form that it was trained on
        model = load(options, tuple(TASKS)).model
        both = [dict(of_model(model))]
        if options.other is not None:
            model.load_adapter(directories[1], "other")
            both.append(dict(of_model(model, "other")))
    return both[0], both[1] if len(both) > 1 else {}


_SHORT = "rank  effective   ‖ΔW‖  σ"
_HEAD = "rank  effective   ‖ΔW‖  ‖ΔW‖/‖W‖  overlap  chance  amplified  σ"


def _line(measures: Measures) -> str:
    values = measures.values
    shown = " ".join(f"{value:.3g}" for value in values[:_SHOWN]) + (" …" if len(values) > _SHOWN else "")
    line = f"{len(values):4d}  {measures.effective_rank:9.2f}  {measures.norm:5.3g}"
    if measures.relative is not None:
        overlap = "      –" if measures.overlap is None else f"{measures.overlap:7.3f}"
        amplified = "        –" if measures.amplification is None else f"{measures.amplification:9.3g}"
        line += f"  {measures.relative:8.4f}  {overlap}  {measures.chance:6.3f}  {amplified}"
    return f"{line}  {shown}"
