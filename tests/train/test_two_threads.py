"""Two trainings at once, each on a thread of its own, have the bits of each alone, whatever BLAS does meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
WORK = """
import sys, tempfile, threading
import numpy as np
from npora import LoraConfig, Trainer, TrainingArguments, get_peft_model
from npora.models import BertConfig, BertForSequenceClassification
from npora.train.state import trainable

def examples(seed):
    rng = np.random.default_rng(seed)
    return [{"input_ids": rng.integers(1, 99, int(rng.integers(20, 60))).tolist(), "labels": i % 3} for i in range(24)]

def train(seed, folder, found):
    # Large enough for BLAS to divide a product among its threads, which changes its bits.
    size = BertConfig(vocab_size=99, hidden_size=192, num_hidden_layers=2, num_attention_heads=3, num_labels=3,
                      intermediate_size=384, max_position_embeddings=64)
    base = BertForSequenceClassification(size, rng=seed)
    model = get_peft_model(base, LoraConfig(r=3, target_modules="all-linear", task_type="SEQ_CLS"))
    args = TrainingArguments(f"{folder}/{seed}", max_steps=5, eval_strategy="steps", eval_steps=2, learning_rate=1e-2,
                             tokens_at_once=(0, 256)[seed % 2], save_strategy="steps", save_steps=2, disable_tqdm=True)
    run = Trainer(model, args, examples(seed), examples(seed + 9))
    run.train()
    losses = [entry["eval_loss"] for entry in run.state.log_history if "eval_loss" in entry]
    found[seed] = losses, [p.data.tobytes() for p in trainable(model).values()]

alone = {}
with tempfile.TemporaryDirectory() as folder:
    for seed in range(2):
        train(seed, folder, alone)
for _ in range(int(sys.argv[1])):
    both = {}
    with tempfile.TemporaryDirectory() as folder:
        threads = [threading.Thread(target=train, args=(seed, folder, both)) for seed in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert both == alone, "the bits are others"
print("the same bits")
"""


def test_two_trainings_at_once_have_the_bits_of_each_alone() -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "4"}
    done = subprocess.run([sys.executable, "-W", "error", "-c", WORK, "3"], capture_output=True, text=True, env=env)
    assert done.returncode == 0 and "the same bits" in done.stdout, done.stderr
