# %% [markdown]
"""The recipe of a user of PEFT and transformers, with its imports changed and its forward calls unpacked.

    python examples/09_the_recipe_on_bert.py MODEL train.tsv dev.tsv OUTPUT_DIR [MAX_STEPS]

MODEL is a BERT in Hugging Face's layout: a folder (config.json, model.safetensors, tokenizer.json), or a name on the
hub, as sentence-transformers/all-MiniLM-L6-v2, which the extra `hf` fetches. The TSVs have the columns sentence and
label, as those of SST-2 (https://dl.fbaipublicfiles.com/glue/data/SST-2.zip). Needs the extra `hf`.

What is learnt: logits z = W_c h + b_c of the first token's h, and the mean cross-entropy −log softmax(z)[label]. The
body that computes h is frozen, but for s B A beside the matrices of the queries and values in every layer; the head is
trained whole. It takes two minutes on two cores and ends at about 82 % of the 872 sentences of SST-2's dev.tsv.
"""

# %%
import os
import sys

import numpy as np

from npora import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LoraConfig,
    PeftModel,
    Trainer,
    TrainingArguments,
    get_peft_model,
    no_grad,
)
from npora.data import read_tsv

# %%
# In a notebook, say first: sys.argv = ["", "MODEL", "train.tsv", "dev.tsv", "out"]
if len(sys.argv) < 5:
    sys.exit("say which model, which rows and where to: MODEL train.tsv dev.tsv OUTPUT_DIR; see the head of this file")
directory, train_file, dev_file, output_dir = sys.argv[1:5]
max_steps = int(sys.argv[5]) if len(sys.argv) > 5 else -1
for file in (train_file, dev_file):
    if not os.path.isfile(file):
        sys.exit(f"there is no file {file}; the head of this example says where to get SST-2's")
try:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForSequenceClassification.from_pretrained(directory, num_labels=2)
except (OSError, ImportError) as error:
    sys.exit(f"the model cannot be read: {error}")

# %%
config = LoraConfig(
    r=8, lora_alpha=16, target_modules=["query", "value"], lora_dropout=0.1, bias="none", task_type="SEQ_CLS"
)
model = get_peft_model(model, config)
model.print_trainable_parameters()


# %%
def encode(row):
    return {**tokenizer(row["sentence"], truncation=True, max_length=128), "labels": int(row["label"])}


def compute_metrics(prediction):
    return {"accuracy": np.mean(prediction.predictions.argmax(-1) == prediction.label_ids)}


# %%
train, dev = read_tsv(train_file), read_tsv(dev_file)
arguments = TrainingArguments(
    output_dir=output_dir, per_device_train_batch_size=16, num_train_epochs=3, max_steps=max_steps,
    learning_rate=5e-4, eval_strategy="epoch", save_strategy="epoch", logging_steps=50,
)  # fmt: skip
trainer = Trainer(
    model=model,
    args=arguments,
    train_dataset=train.shuffle(seed=42).select(range(min(5000, len(train)))).map(encode),
    eval_dataset=dev.map(encode),
    processing_class=tokenizer,
    compute_metrics=compute_metrics,
)
trainer.train()
print(trainer.evaluate())
model.save_pretrained(output_dir)

# %%
base = AutoModelForSequenceClassification.from_pretrained(directory, num_labels=2)
again = PeftModel.from_pretrained(base, output_dir)
with no_grad():
    for sentence in ("The movie was absolutely wonderful!", "A dull, lifeless mess."):
        output, _ = again(**tokenizer(sentence, return_tensors="np"))
        print(output.logits.argmax(-1).item(), sentence)
