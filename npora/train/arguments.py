"""TrainingArguments: the names and defaults of transformers' Trainer."""

from __future__ import annotations

import math
from dataclasses import InitVar, dataclass

from npora.nn.readable import Readable
from npora.train.micro_batches import TOKENS_AT_ONCE

SCHEDULES = ("constant", "constant_with_warmup", "linear", "cosine")
_STRATEGIES = ("no", "steps", "epoch")


@dataclass
class TrainingArguments(Readable):
    """How a model is trained.

    output_dir : where log.jsonl and the folders checkpoint-N go
    num_train_epochs : may be a fraction; max_steps, where it is positive, wins
    learning_rate, weight_decay, adam_beta1, adam_beta2, adam_epsilon : AdamW's. Biases and norms do not decay
    lr_scheduler_type : constant, linear or cosine, after warmup_steps (below 1 a share of all steps) of warm-up
    gradient_accumulation_steps : so many batches make one step; the gradient is that of the one large batch
    tokens_at_once : a batch of more tokens is cut into micro-batches, a thread for each, with the same gradient; 0
        never cuts
    max_grad_norm : global L2 norm to clip at; 0 does not clip
    eval_strategy, save_strategy : "no", "steps" (every eval_steps, save_steps) or "epoch"
    save_total_limit : how many checkpoints are kept, the best one always among them
    logging_steps : how often the loss goes to the terminal; log.jsonl has every step
    load_best_model_at_end : by metric_for_best_model, "loss" unless given; greater_is_better follows from its name
    seed : of the order of the rows and of dropout; data_seed, where it is given, of the order alone

    `evaluation_strategy` and `warmup_ratio` are taken under these former names too.

    Raises
    ------
    ValueError: a value that makes no sense, with the values that do.
    """

    output_dir: str = "trainer_output"
    per_device_train_batch_size: int = 8
    per_device_eval_batch_size: int = 8
    num_train_epochs: float = 3.0
    max_steps: int = -1
    learning_rate: float = 5e-5
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    lr_scheduler_type: str = "linear"
    warmup_steps: float = 0
    gradient_accumulation_steps: int = 1
    tokens_at_once: int = TOKENS_AT_ONCE
    eval_strategy: str = "no"
    eval_steps: int | None = None
    save_strategy: str = "steps"
    save_steps: int = 500
    save_total_limit: int | None = None
    logging_steps: int = 500
    load_best_model_at_end: bool = False
    metric_for_best_model: str | None = None
    greater_is_better: bool | None = None
    seed: int = 42
    data_seed: int | None = None
    disable_tqdm: bool = False
    evaluation_strategy: InitVar[str | None] = None
    warmup_ratio: InitVar[float | None] = None

    def __post_init__(self, evaluation_strategy: str | None, warmup_ratio: float | None) -> None:
        if evaluation_strategy is not None:
            self.eval_strategy = evaluation_strategy
        if warmup_ratio is not None:
            self._require(0 <= warmup_ratio < 1, "warmup_ratio must lie in [0, 1)", warmup_ratio)
            self.warmup_steps = self.warmup_steps or warmup_ratio
        if self.eval_steps is None:
            self.eval_steps = self.logging_steps
        for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps",
                     "eval_steps", "save_steps", "logging_steps"):  # fmt: skip
            value = getattr(self, name)
            self._require(type(value) is int and value >= 1, f"{name} must be a whole number of at least 1", value)
        self._require(type(self.tokens_at_once) is int and self.tokens_at_once >= 0,
                      "tokens_at_once must be a whole number, 0 for any", self.tokens_at_once)  # fmt: skip
        for name in ("learning_rate", "weight_decay", "max_grad_norm", "warmup_steps"):
            value = getattr(self, name)
            self._require(0 <= value < math.inf, f"{name} must not be negative", value)
        self._require(self.max_steps > 0 or self.num_train_epochs > 0, "num_train_epochs must be positive",
                      self.num_train_epochs)  # fmt: skip
        for name, known in (("eval_strategy", _STRATEGIES), ("save_strategy", _STRATEGIES),
                            ("lr_scheduler_type", SCHEDULES)):  # fmt: skip
            self._require(getattr(self, name) in known, f"{name} must be one of {', '.join(known)}",
                          getattr(self, name))  # fmt: skip
        if self.load_best_model_at_end:
            self._check_best()

    def _check_best(self) -> None:
        self._require(self.eval_strategy == self.save_strategy != "no",
                      "load_best_model_at_end needs eval_strategy and save_strategy to be the same, steps or epoch",
                      (self.eval_strategy, self.save_strategy))  # fmt: skip
        if self.save_strategy == "steps":
            self._require(self.save_steps % (self.eval_steps or 1) == 0,
                          "load_best_model_at_end needs save_steps to be a multiple of eval_steps",
                          (self.save_steps, self.eval_steps))  # fmt: skip

    @staticmethod
    def _require(holds: bool, what: str, value: object) -> None:
        if not holds:
            raise ValueError(f"TrainingArguments: {what}; got {value!r}")

    def best_metric(self) -> tuple[str, bool]:
        """The metric's name, with its `eval_`, and whether more of it is better."""
        name = self.metric_for_best_model or "loss"
        greater = not name.endswith("loss") if self.greater_is_better is None else self.greater_is_better
        return name if name.startswith("eval_") else f"eval_{name}", greater

    def steps(self, rows: int) -> tuple[int, int]:
        """How many steps an epoch of so many rows has, and how many all the training has."""
        batches = math.ceil(rows / self.per_device_train_batch_size)
        per_epoch = math.ceil(batches / self.gradient_accumulation_steps)
        return per_epoch, self.max_steps if self.max_steps > 0 else math.ceil(self.num_train_epochs * per_epoch)

    def num_warmup_steps(self, steps: int) -> int:
        return math.ceil(self.warmup_steps * steps) if self.warmup_steps < 1 else int(self.warmup_steps)
