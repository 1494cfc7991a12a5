"""The recipe of a user of PEFT and transformers, with its imports changed and its forward calls unpacked.

    python examples/04_finetune_bert.py MODEL_DIR train.tsv dev.tsv OUTPUT_DIR [MAX_STEPS]

MODEL_DIR is a BERT in Hugging Face's layout (config.json, model.safetensors, tokenizer.json); the TSVs have the columns
sentence and label. Needs the extra `hf`.
"""

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

directory, train_file, dev_file, output_dir = sys.argv[1:5]
max_steps = int(sys.argv[5]) if len(sys.argv) > 5 else -1

tokenizer = AutoTokenizer.from_pretrained(directory)
model = AutoModelForSequenceClassification.from_pretrained(directory, num_labels=2)
config = LoraConfig(
    r=8, lora_alpha=16, target_modules=["query", "value"], lora_dropout=0.1, bias="none", task_type="SEQ_CLS"
)
model = get_peft_model(model, config)
model.print_trainable_parameters()


def encode(row):
    return {**tokenizer(row["sentence"], truncation=True, max_length=128), "labels": int(row["label"])}


def compute_metrics(prediction):
    return {"accuracy": np.mean(prediction.predictions.argmax(-1) == prediction.label_ids)}


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

base = AutoModelForSequenceClassification.from_pretrained(directory, num_labels=2)
again = PeftModel.from_pretrained(base, output_dir)
with no_grad():
    for sentence in ("The movie was absolutely wonderful!", "A dull, lifeless mess."):
        output, _ = again(**tokenizer(sentence, return_tensors="np"))
        print(output.logits.argmax(-1).item(), sentence)
