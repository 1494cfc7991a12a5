# %% [markdown]
"""The LoRA paper's GPT-2 task: restaurants described in words (E2E NLG; Novikova et al., 2017; Hu et al., 2021).

    python examples/10_e2e_on_gpt2.py [--data DIR] [--tokenizer FOLDER]

A small GPT-2 of our own first learns the descriptions as plain text, ℓ = −mean log p(x_k | x₁ … x_{k−1}). Then it is
frozen, and an adapter learns to write the description of a meaning representation, which is a line such as
`name : The Vaults | Type : pub | price : more than £ 30`: the same loss, and the mean goes over the description alone.

DIR has e2e/train.txt and e2e/valid.txt, lines of `meaning representation||description`: they are in the LoRA paper's
repository, https://github.com/microsoft/LoRA, at examples/NLG/data. FOLDER has the tokenizer.json of GPT-2; a name on
the hub, openai-community/gpt2, does too. Takes some minutes on two cores. Needs the extra `hf`.
"""

# %%
import argparse
import hashlib
import os
import sys
import tempfile

import numpy as np

from npora import AutoTokenizer, LoraConfig, Trainer, TrainingArguments, get_peft_model
from npora.data import Dataset, encode_completion
from npora.models import GPT2Config, GPT2LMHeadModel

# %%
# In a notebook, say first: sys.argv = ["", "--data", "DIR"]
parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
add = parser.add_argument
add("--data", default=os.environ.get("NPORA_DATA", "data"), metavar="DIR", help="has e2e/train.txt and e2e/valid.txt")
add("--tokenizer", metavar="FOLDER", help="of GPT-2, or a name on the hub; DIR/tokenizers/gpt2 unless given")
add("--width", type=int, default=128, help="of the model")
add("--layers", type=int, default=3)
add("--r", type=int, default=16, help="rank of the adapter")
add("--pretraining-steps", type=int, default=300)
add("--steps", type=int, default=300, help="of the adaptation")
add("--batch-size", type=int, default=32)
add("--held-out", type=int, default=200, help="lines of valid.txt to measure the loss on")
add("--samples", type=int, default=4, help="descriptions to write at the end")
add("--seed", type=int, default=0)
options = parser.parse_args()


# %%
def pairs(name):
    """Lines of a file as (meaning representation, description)."""
    path = os.path.join(options.data, "e2e", name)
    if not os.path.isfile(path):
        sys.exit(f"there is no file {path}; the head of this example says where to get it (--data DIR)")
    with open(path, encoding="utf-8") as file:
        return [tuple(part.strip() for part in line.split("||")) for line in file]


def frozen_sha256(model):
    """A fingerprint of every number that is not trained."""
    frozen = [parameter.data for parameter in model.parameters() if not parameter.requires_grad]
    return hashlib.sha256(b"".join(values.tobytes() for values in frozen)).hexdigest()


# %%
train, valid = pairs("train.txt"), pairs("valid.txt")
try:
    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer or os.path.join(options.data, "tokenizers", "gpt2"))
except (OSError, ImportError) as error:
    sys.exit(f"the tokenizer of GPT-2 cannot be read (--tokenizer): {error}")
held_out = [valid[i] for i in np.random.default_rng(options.seed).permutation(len(valid))[: options.held_out]]
START = tokenizer.eos_token  # <|endoftext|> stands before every text and after it, as where GPT-2 was trained


# %%
def plain(pair):
    ids = tokenizer.encode(START + pair[1] + START)
    return {"input_ids": ids, "labels": ids}


def task(pair):
    return encode_completion(tokenizer, pair[0] + START, pair[1])


# %%
def fit(model, encode, steps, learning_rate):
    """Train, and print the loss on held-out lines before, during and after."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=options.batch_size, per_device_eval_batch_size=100,
            max_steps=steps, learning_rate=learning_rate, lr_scheduler_type="cosine", warmup_steps=0.05,
            eval_strategy="steps", eval_steps=max(steps // 6, 1), logging_steps=max(steps // 6, 1),
            save_strategy="no", seed=options.seed,
        )  # fmt: skip
        # As many rows as the steps take: encoding all of them would be most of a short run.
        chosen = np.random.default_rng(options.seed).permutation(len(train))[: steps * options.batch_size]
        rows = Dataset(encode(train[i]) for i in chosen)
        trainer = Trainer(model, arguments, rows, Dataset(encode(pair) for pair in held_out))
        curve = [(0, trainer.evaluate()["eval_loss"])]
        trainer.train()
    curve += [(entry["step"], entry["eval_loss"]) for entry in trainer.state.log_history if "eval_loss" in entry]
    print("  step  held-out loss (nats a token)")
    for step, loss in curve:
        print(f"{step:6}  {loss:6.3f}  {'=' * round(6 * loss)}")


# %%
model = GPT2LMHeadModel(
    GPT2Config(
        vocab_size=len(tokenizer), n_positions=128, n_embd=options.width, n_layer=options.layers, n_head=4,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    ),
    rng=options.seed,
)  # fmt: skip
count = sum(parameter.size for parameter in model.parameters())
print(f"A GPT-2 of {count:,} parameters learns the descriptions as plain text:")
fit(model, plain, options.pretraining_steps, 2e-3)

# %%
config = LoraConfig(
    r=options.r, lora_alpha=2 * options.r, target_modules=["c_attn", "c_proj", "c_fc"], task_type="CAUSAL_LM"
)
model = get_peft_model(model, config, seed=options.seed)
frozen = frozen_sha256(model)
print("\nFrozen, it learns to describe a meaning representation:")
model.print_trainable_parameters()
fit(model, task, options.steps, 5e-3)
assert frozen_sha256(model) == frozen
print("the frozen weights are the same to the last bit")

# %%
for meaning, description in held_out[: options.samples]:
    prompt = tokenizer(meaning + START, return_tensors="np")["input_ids"]  # [1,t]
    ids = model.generate(prompt, max_new_tokens=60)
    written = tokenizer.decode(ids[0, prompt.shape[1] :], skip_special_tokens=True)
    print(f"\n{meaning}\n  written: {written}\n  a human: {description}")
