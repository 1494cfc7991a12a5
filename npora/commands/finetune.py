"""Fine-tune a pretrained model on examples with LoRA or another method, and save the adapter.

--task classification learns the classes of sentences, or of pairs of them with --text-pair-column: numbers 0, 1, … or
names, with --num-labels 1 numbers to fit (regression). --task causal-lm learns texts, or with --prompt-column to
complete prompts with them, and of conversations (messages, as JSON) what the assistant says; --task seq2seq-lm learns
to answer prompts, with an encoder-decoder such as T5; --task token-classification learns a tag for each word (JSON with
the lists tokens and tags); --task multiple-choice learns which of several texts is right (a question, choices and the
number of the right one, or SWAG's columns); --task question-answering where in a text the answer to a question stands
(JSON with question, context and answers, or SQuAD's own files); --task image-classification what images show, with a
ViT (a folder with a folder of images for each class, which needs the extra image, or a .npz with the arrays images and
labels); --task dpo and --task orpo learn of two answers to a prompt which is the better (the columns prompt, chosen and
rejected, texts or messages); --task embedding draws sentence embeddings of texts that are alike together (the columns
anchor and positive, with negative too or not, or sentence1, sentence2 and score).

A checkpoint is saved each epoch, every ten minutes and on Ctrl-C, the two newest are kept, and --resume goes on.

Files are TSV, CSV, JSON or JSON lines, or .txt for causal-lm, each also with .gz behind its name. --output gets
adapter/, log.jsonl and the checkpoints.

Without --model and --train: pretrains a small GPT-2 on this Python's docstrings (a minute or two, once), adapts it to
Python source, and shows what that changed and what it did not. Needs no download, no file, nothing but NumPy.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from npora.commands import methods, output, starts
from npora.commands.chats import add_chat_template, choose_form, taught_ends
from npora.commands.encoding import encoded
from npora.commands.examples import add_columns, columns, columns_measured, length, read, refuse_idle_options
from npora.commands.forms import add_form, form_of
from npora.commands.labels import learn_classes
from npora.commands.loading import add_quantize, base_folder
from npora.commands.messages import say, seed
from npora.commands.tasks import TASKS, Classes, Task, is_plain
from npora.data import Dataset
from npora.files.picture import check_picture
from npora.lora import PeftModel
from npora.models.config import PROBLEM_TYPES
from npora.models.source import read_config
from npora.train import TrainingArguments, learning_rate_finder
from npora.train.arguments import ON_NONFINITE
from npora.train.embeddings import LOSSES
from npora.train.folder import checkpoints
from npora.train.interruption import Interrupted, Terminated
from npora.train.measure import frozen_sha256, peak_memory

_SCHEDULES = ("constant", "constant_with_warmup", "linear", "cosine", "inverse_sqrt")  # what needs no options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", metavar="DIR", help="a directory with config.json, model.safetensors and tokenizer.json, or org/"
        "name or org/name@revision on the hub")  # fmt: skip
    add_quantize(parser, "float32")
    add("--train", metavar="FILE", help="training examples: .tsv, .csv, .json, .jsonl or .txt, or one of them in .gz")
    add("--eval", metavar="FILE", help="examples to measure the accuracy or the perplexity on after each epoch")
    add("--output", default="npora-output", metavar="DIR", help="gets adapter/, log.jsonl and the checkpoints")
    add("--overwrite", action="store_true", help="remove the run that --output holds")
    add("--task", default="classification", choices=list(TASKS), help="what is learnt")
    add_columns(parser)
    add_chat_template(parser)
    add("--num-labels", type=int, metavar="N", help="classification: number of classes, 1 for a regression (default: "
        "as many as the training examples have)")  # fmt: skip
    add("--problem-type", choices=PROBLEM_TYPES, help="classification: regression learns numbers; with multi_label_"
        "classification a label is a list of 0 and 1, or of names, and a text may have several classes (default: one "
        "class each, or regression with --num-labels 1)")  # fmt: skip
    add("--max-train-rows", type=int, metavar="N", help="train on N examples drawn with the seed 42 (default: all)")
    lengths = ", ".join(f"{task.length} for {task.name}" for task in TASKS.values() if task.length)
    add("--max-length", type=int, metavar="N", help="the most tokens of a text; what causal-lm learns without prompts "
        "and what question-answering asks is cut into windows of so many, any other text to that length (default: "
        f"{lengths}, or what the model takes if that is less)")  # fmt: skip
    add("--cache", metavar="DIR", help="encode all examples once, into files in DIR, and read those as they are "
        "needed, in this run and in others of the same examples, tokenizer and length")  # fmt: skip
    methods.add_arguments(parser)
    add("--target-modules", nargs="+", metavar="NAME", help="which layers are adapted: names, or all-linear, or one "
        "regular expression for the whole path (default: the family's, as query and value of a BERT)")  # fmt: skip
    add("--batch-size", type=int, default=16, help="examples a step")
    add("--eval-batch-size", type=int, default=32, help="examples at once in evaluation")
    add("--gradient-accumulation-steps", type=int, default=1, help="batches a step")
    add("--epochs", type=float, default=3.0, help="passes over the training examples")
    add("--max-steps", type=int, default=-1, help="steps in all; wins over the epochs where it is positive")
    add("--learning-rate", type=float, default=5e-4, help="AdamW's")
    add("--weight-decay", type=float, default=0.0, help="AdamW's; biases and norms do not decay")
    add("--scheduler", default="linear", choices=_SCHEDULES, help="of the learning rate")
    add("--warmup-steps", type=float, default=0, help="below 1 a share of all steps; constant has none")
    add("--max-grad-norm", type=float, default=1.0, help="clips the gradient; 0 does not")
    add("--beta", type=float, metavar="B", help="dpo: how strongly the model is held to the one that it began as; "
        "orpo: the weight of the odds beside the chosen answer's own loss (default: 0.1)")  # fmt: skip
    add("--loss", choices=LOSSES, help="embedding: whether the other examples of a batch are the wrong answers, as of "
        "pairs and triplets; or a score is fitted, or its order alone (default: cosent where there are scores, else "
        "multiple-negatives-ranking)")  # fmt: skip
    add("--scale", type=float, metavar="S", help="embedding: of the cosines, but for triplet and cosine (default: 20)")
    add("--margin", type=float, metavar="M", help="embedding: of triplet (default: 5)")
    add_form(parser)
    add("--label-smoothing-factor", type=float, default=0.0, help="so much of each label is spread over all classes")
    add("--class-weights", nargs="+", metavar="W", help="classification, image-classification: how much a label "
        "of each class counts: a number for each in their order, or balanced, each as much as any other")  # fmt: skip
    add("--on-nonfinite", default="stop", choices=ON_NONFINITE, help="what becomes of a step whose loss or gradient is "
        "not finite: skip leaves its update out, ten in a row at most")  # fmt: skip
    add("--seed", type=seed, default=42, help="of the adapter, the head, the order and dropout")
    add("--save-strategy", default="epoch", choices=["no", "steps", "epoch"], help="when a checkpoint to resume from "
        "is saved; but for no also on Ctrl-C, after the step that it comes in")  # fmt: skip
    add("--save-steps", type=int, default=500, metavar="N", help="of --save-strategy steps")
    add("--save-minutes", type=float, default=10, metavar="N", help="save besides where the last checkpoint is so old")
    add("--save-total-limit", type=int, default=2, metavar="N", help="checkpoints that are kept, the newest ones; 0 "
        "keeps all")  # fmt: skip
    add("--resume", action="store_true", help="go on from the newest checkpoint in --output")
    add("--find-learning-rate", metavar="FILE", help="train nothing: take 100 steps whose rate grows from 1e-6 to 1, "
        "say where the loss falls fastest, and draw that in this picture (extra plot)")  # fmt: skip
    add("--logging-steps", type=int, default=20, help="a line of progress every so many steps")


def run(options: argparse.Namespace) -> None:
    if options.model is None and options.train is None:
        for name in sorted(options.given - {"output", "seed", "overwrite"}):
            raise ValueError(f"--{name.replace('_', '-')} needs --model and --train")
        from npora.commands import default_job  # a GPT-2, which no other run needs

        output.claim(options.output, overwrite=options.overwrite, demonstration=True)
        default_job.run(options.output, options.seed)
        return
    if options.model is None or options.train is None:
        given, missing = ("train", "model") if options.model is None else ("model", "train")
        raise ValueError(f"--{given} needs --{missing} too (or give neither, and see what LoRA is)")
    if options.resume and options.overwrite:
        raise ValueError("--resume goes on with the run in --output, and --overwrite removes it: choose one")
    if options.max_train_rows is not None and options.max_train_rows < 1:
        raise ValueError(f"--max-train-rows must be at least 1; got {options.max_train_rows}")
    if options.scheduler == "constant" and options.warmup_steps:
        raise ValueError("--warmup-steps does nothing with --scheduler constant: use constant_with_warmup")
    if "save_steps" in options.given and options.save_strategy != "steps":
        raise ValueError("--save-steps needs --save-strategy steps")
    for name in ("save_minutes", "save_total_limit"):
        if name in options.given and options.save_strategy == "no":
            raise ValueError(f"--{name.replace('_', '-')} does nothing with --save-strategy no")
    if options.find_learning_rate is not None:
        check_picture(options.find_learning_rate)
    if "eval_batch_size" in options.given and options.eval is None:
        raise ValueError("--eval-batch-size needs --eval")
    _train(options, TASKS[options.task])


def _train(options: argparse.Namespace, task: Task) -> None:
    refuse_idle_options(options, task, options.train, options.eval)
    args = _arguments(options)
    model, tokenizer, classes, examples, dev = _prepared(options, task, args)
    most = model.notes["max_length"]
    model.print_trainable_parameters()
    before = frozen_sha256(model)
    if dev is not None:
        dev = encoded(task, dev, tokenizer, most, options.eval, options.cache and os.path.join(options.cache, "eval"))
    methods.set_length(model.active_peft_config, args.steps(len(examples))[1])
    trainer = task.trainer(model, args, examples, dev, tokenizer, classes, model.notes["settings"])
    if options.find_learning_rate is not None:
        found = learning_rate_finder(trainer)
        found.plot(options.find_learning_rate)
        rate = found.suggestion()
        print(f"{'loss falls fastest':20} {'nowhere' if rate is None else f'at the rate {rate:.2g}'}")
        return
    output.claim(options.output, resume=options.resume, overwrite=options.overwrite)
    with _saying_how_to_go_on(options):
        result = trainer.train(resume_from_checkpoint=options.resume)
    metrics = next((entry for entry in reversed(trainer.state.log_history) if "eval_loss" in entry), None)
    adapter = output.adapter_of(options.output)
    model.save_pretrained(adapter)
    _summary(task, model, result.metrics, metrics, adapter, before)


@contextmanager
def _saying_how_to_go_on(options: argparse.Namespace) -> Iterator[None]:
    try:
        yield
    except (Interrupted, Terminated) as stop:
        rest = [argument for argument in options.arguments if argument not in ("--resume", "--overwrite")]
        what = f"interrupted; {stop.saved} is saved" if stop.saved else "interrupted at once"
        if checkpoints(options.output):
            say(f"npora: {what}. To go on from the newest checkpoint: {shlex.join(['npora', *rest, '--resume'])}")
        else:
            say(f"npora: {what}, and nothing was saved. To begin anew: {shlex.join(['npora', *rest, '--overwrite'])}")
        raise


def _prepared(
    options: argparse.Namespace, task: Task, args: TrainingArguments
) -> tuple[PeftModel, Any, Classes | None, Dataset, Dataset | None]:
    """The model with its adapter and the notes of this run, the tokenizer, the classes, what the model is given of the
    training's file, and the examples of the other."""
    # Errors now, and not after a model has been fetched.
    for path in filter(None, (options.train, options.eval)):
        if not task.finds(path):
            is_folder = os.path.isdir(path)
            raise FileNotFoundError(
                f"{path} is a folder: {task.name} reads a file" if is_folder else f"there is no file {path}"
            )
    if not options.overwrite:
        output.claim(options.output, resume=options.resume)
    settings = task.settings(options)
    folder = base_folder(options.model)
    found = columns(options, task, {}, options.train)
    fields: dict[str, Any] = {}
    classes = None
    if task.has_classes:
        asked = Classes(options.num_labels, problem_type=options.problem_type)
        classes, train = learn_classes(options.train, found, asked, read_config(folder), task)
        fields = {**classes.fields, "ignore_mismatched_sizes": True}
    else:
        train = read(task, options.train, found)
    dev = None
    if options.eval is not None:
        dev = read(task, options.eval, columns_measured(task, found, options.train, options.eval), classes)
    fields |= task.fields(settings)
    base = task.auto.from_pretrained(options.model, seed=options.seed, quantize=options.quantize, **fields)
    settings |= {**form_of(base), **task.settings_of(train)}
    tokenizer = task.preparer(options.model, base)
    choose_form(options, task, found, base, tokenizer, options.train)
    notes: dict[str, Any] = {}
    if found.conversational:
        notes = {"chat_template": tokenizer.chat_template, "end_token_ids": taught_ends(tokenizer, train)}
    # One name may also be a pattern, or all-linear.
    targets = options.target_modules
    config = methods.config_of(
        options, targets[0] if targets and len(targets) == 1 else targets, task.task_type, task.modules_to_save
    )
    most = length(task, options.max_length, None, base.config, tokenizer, task.length)
    chosen = train.shuffle(seed=42).select(range(min(options.max_train_rows or len(train), len(train))))
    cache = options.cache and os.path.join(options.cache, "train")
    examples = encoded(task, chosen, tokenizer, most, options.train, cache)
    if task.is_of_pairs:
        starts.refuse_data(config, task.name)
    model = starts.with_adapter(base, config, examples, tokenizer, args, options.start_batches)
    # Lines have no columns, and another file's are found where they are needed.
    noted = {"sample_by": found.sample_by} if is_plain(options.train) else asdict(found)
    model.notes.update(task=task.name, max_length=most, columns=noted, settings=settings, **notes)
    return model, tokenizer, classes, examples, dev


def _arguments(options: argparse.Namespace) -> TrainingArguments:
    weights = options.class_weights
    if weights is not None:
        weights = "balanced" if weights == ["balanced"] else [_weight(text) for text in weights]
    return TrainingArguments(
        output_dir=options.output,
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=options.eval_batch_size,
        num_train_epochs=options.epochs,
        max_steps=options.max_steps,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        lr_scheduler_type=options.scheduler,
        warmup_steps=options.warmup_steps,
        max_grad_norm=options.max_grad_norm,
        label_smoothing_factor=options.label_smoothing_factor,
        class_weights=weights,
        on_nonfinite=options.on_nonfinite,
        gradient_accumulation_steps=options.gradient_accumulation_steps,
        eval_strategy="no" if options.eval is None else "epoch",
        save_strategy=options.save_strategy,
        save_steps=options.save_steps,
        save_minutes=None if options.save_strategy == "no" else options.save_minutes,
        save_total_limit=options.save_total_limit or None,
        logging_steps=options.logging_steps,
        seed=options.seed,
    )


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--class-weights takes a number for each class, or balanced; got {text!r}") from None


def _summary(
    task: Task, model: PeftModel, training: Mapping[str, float], metrics: Mapping[str, float] | None, adapter: str,
    before: str,
) -> None:  # fmt: skip
    trained, everything = model.get_nb_trainable_parameters()
    after = frozen_sha256(model)
    size = sum(os.path.getsize(os.path.join(adapter, name)) for name in os.listdir(adapter))
    measured = {} if metrics is None else {**task.figures(metrics), "evaluation loss": f"{metrics['eval_loss']:.4f}"}
    lines = {
        **measured,
        "training loss": f"{training['train_loss']:.4f}",
        "trainable": f"{trained:,} of {everything:,} ({100 * trained / everything:.4f}%)",
        "training time": f"{training['train_runtime']:.1f} s",
        f"{task.unit} per second": f"{training['train_tokens_per_second']:,.0f}",
        "peak memory": f"{peak_memory() / 1e6:,.0f} MB",
        "adapter": f"{size / 1e3:,.1f} kB in {adapter}",
        "frozen bytes before": before,
        "frozen bytes after": after,
    }
    for name, value in lines.items():
        print(f"{name:20} {value}")
    if before != after:
        raise RuntimeError("the frozen weights have changed: their SHA-256 differs before and after the training")
