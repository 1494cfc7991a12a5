"""npora against torch with PEFT on SST-2: the rows (b) of compare.py, on a checkpoint and a file of one's own.

    python examples/benchmarks/sst2_vs_peft.py --model DIR --train train.tsv [--steps 100] [--rounds 3]

Needs the extras `hf` and `parity`. Both take the same steps, with dropout, on the same sentences in the same order, so
that their mean losses agree but for what dropout draws.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

import compare
from workloads import WORKLOADS


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="a BERT: config.json, model.safetensors, tokenizer.json")
    parser.add_argument("--train", required=True, help="a TSV with the columns sentence and label")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    own = parser.parse_args()
    asked = [f"--steps={own.steps}", f"--rounds={own.rounds}", "--sides=npora,PEFT,floor"]
    options = compare.parser().parse_args(asked)
    rows = [workload for workload in WORKLOADS if workload.name.startswith("b")]
    return compare.compare([replace(row, checkpoint=own.model, text=own.train) for row in rows], options)


if __name__ == "__main__":
    sys.exit(main())
