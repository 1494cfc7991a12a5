"""Draw the loss, the learning rate and the metrics of one or several runs, also while they go on.

A run's folder is the --output of finetune, or a Trainer's output_dir. Needs the extra `plot`.
"""

from __future__ import annotations

import argparse

from npora.files.picture import check_picture
from npora.train.pictures import draw_runs
from npora.train.runs import read_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folders", nargs="+", metavar="DIR", help="a run's folder")
    add("--output", default="runs.png", metavar="FILE", help="the picture: .png, .svg or .pdf")


def run(options: argparse.Namespace) -> None:
    check_picture(options.output)
    draw_runs([read_run(folder) for folder in options.folders], options.output)
    print(options.output)
