"""What the experiments train: a small GPT that learns another alphabet, or a real BERT that learns to judge sentences.

Sorting. A row is five of eight letters, a bar, and the same letters sorted; a GPT-2 of three layers learns that on the
spot, in a second or two. Then its weights are frozen, and an adapter has to sort by another order of the letters: the
loss is the mean cross-entropy of the five places behind the bar, and accuracy the share of these places that are right.

Sentences. A BERT in Hugging Face's layout, and SST-2's train.tsv and dev.tsv, as 09_the_recipe_on_bert.py has them:
accuracy is that on dev.tsv. Needs the extra `hf`.
"""

import sys
import time

import figure
import numpy as np

import npora
from npora import LoraConfig, get_peft_model, no_grad
from npora.models import GPT2Config, GPT2LMHeadModel
from npora.optim import AdamW, clip_grad_norm

LETTERS, LENGTH, BAR = 8, 5, 8


def options(what, **numbers):
    """The arguments of an experiment that can be made with real sentences too."""
    found = figure.options(what, "MODEL train.tsv dev.tsv: sentences, not sorting", **numbers)
    if len(found.files) not in (0, 3):
        sys.exit(f"say no file, or MODEL train.tsv dev.tsv; got {len(found.files)}")
    return found


class Job:
    """A Job is a frozen model with something to learn.

    layers : how many the model has; attention, feed_forward : the names of the matrices there; rate : of LoRA
    """

    def adapted(self, r=8, alpha=16, targets=None, layers=None):
        """A fresh copy of the model, with LoRA on the named matrices of the given layers, or of all."""
        config = LoraConfig(
            r=r, lora_alpha=alpha, target_modules=targets or self.attention + self.feed_forward,
            layers_to_transform=layers, task_type=self.task_type,
        )  # fmt: skip
        return get_peft_model(self.model(), config, seed=0)

    def fit(self, model, steps, rate=None, after_step=lambda step: None):
        """Train what is not frozen; return the processor's seconds that a step takes, in the median."""
        npora.set_num_threads(1)  # the time of one thread is comparable
        rate = self.rate if rate is None else rate
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = AdamW(trained, lr=rate, weight_decay=0.0)
        seconds = []
        for step, batch in zip(range(steps), self.batches(), strict=False):
            begin = time.process_time()
            optimizer.param_groups[0]["lr"] = rate * min(1, (step + 1) / 20, 2 - 2 * step / steps)  # up, and down
            _, backward = model(**batch)
            optimizer.zero_grad()
            backward()
            clip_grad_norm(trained, 1.0)
            optimizer.step()
            seconds.append(time.process_time() - begin)
            after_step(step + 1)
        return float(np.median(seconds))


class Sorting(Job):
    layers, attention, feed_forward, rate, task_type = 3, ["c_attn"], ["c_fc", "c_proj"], 1e-2, "CAUSAL_LM"

    def __init__(self, pretraining=150):
        sizes = {"n_embd": 32, "n_layer": self.layers, "n_head": 4, "n_positions": 2 * LENGTH + 1}
        no_dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        self.config = GPT2Config(vocab_size=LETTERS + 1, initializer_range=0.1, **sizes, **no_dropout)
        self.order = np.arange(LETTERS)
        model = GPT2LMHeadModel(self.config, rng=0)
        self.fit(model, pretraining, rate=5e-3)
        self.weights = {name: parameter.data.copy() for name, parameter in model.named_parameters()}
        self.right_before = self.accuracy(model)
        self.order = np.random.default_rng(5).permutation(LETTERS)  # the new alphabet

    def model(self):
        model = GPT2LMHeadModel(self.config, rng=0)
        for name, parameter in model.named_parameters():
            parameter.data = self.weights[name].copy()
        return model

    def rows(self, count, rng):
        letters = rng.integers(0, LETTERS, (count, LENGTH))
        place = np.argsort(self.order)  # of each letter in the alphabet
        words = np.take_along_axis(letters, place[letters].argsort(axis=1), axis=1)
        return np.hstack([letters, np.full((count, 1), BAR), words])  # [b,t]

    def batches(self):
        rng = np.random.default_rng(1)
        while True:
            ids = self.rows(48, rng)
            yield {"input_ids": ids, "labels": np.where(np.arange(2 * LENGTH + 1) > LENGTH, ids, -100)}

    def accuracy(self, model):
        ids = self.rows(300, np.random.default_rng(2))
        with no_grad():
            predicted = model(ids)[0].logits.argmax(-1)
        return float((predicted[:, LENGTH:-1] == ids[:, LENGTH + 1 :]).mean())


class Sentences(Job):
    attention, feed_forward = ["query", "value"], ["intermediate.dense", "output.dense"]
    rate, task_type = 1e-3, "SEQ_CLS"

    def __init__(self, folder, train, dev):
        from npora.data import read_tsv

        self.folder = folder
        try:
            self.tokenizer = npora.AutoTokenizer.from_pretrained(folder)
            self.layers = self.model().config.num_hidden_layers
            self.train, self.dev = read_tsv(train), read_tsv(dev)
        except (OSError, ImportError) as error:
            sys.exit(f"the model and the sentences cannot be read: {error}")

    def model(self):
        return npora.AutoModelForSequenceClassification.from_pretrained(self.folder, num_labels=2, seed=0)

    def encoded(self, rows):
        batch = self.tokenizer(
            [row["sentence"] for row in rows], padding=True, truncation=True, max_length=128, return_tensors="np"
        )
        return {**batch, "labels": np.array([int(row["label"]) for row in rows])}

    def batches(self):
        rng = np.random.default_rng(0)
        while True:
            yield self.encoded([self.train[int(k)] for k in rng.integers(0, len(self.train), 32)])

    def accuracy(self, model):
        right = 0
        with no_grad():
            for start in range(0, len(self.dev), 64):
                batch = self.encoded([self.dev[k] for k in range(start, min(start + 64, len(self.dev)))])
                right += int((model(**batch)[0].logits.argmax(-1) == batch["labels"]).sum())
        return right / len(self.dev)


def job(files=(), pretraining=150):
    """The Job of these files, MODEL train.tsv dev.tsv, or that of sorting where there are none."""
    return Sentences(*files) if files else Sorting(pretraining)
