# %% [markdown]
"""One frozen model, several adapters: switched, compared, merged, saved.

A model with LoRA computes with W + s B A in its target layers. W is the same whichever A and B stand beside it, and its
bytes never change: so one base serves many tasks, an adapter that is switched off has never been there, and merging can
be undone exactly.

The tasks are about two digits a and b, read as `[1, a + 2, b + 2]`: is a the greater, and does a + b carry?
"""

# %%
import glob
import os
import tempfile

import numpy as np

from npora import LoraConfig, PeftModel, get_peft_model, no_grad
from npora.models import BertConfig, BertForSequenceClassification
from npora.optim import AdamW

sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 64}
no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
config = BertConfig(vocab_size=12, max_position_embeddings=3, initializer_range=0.2, **sizes, **no_dropout)
a, b = (part.ravel() for part in np.indices((10, 10)))
ids = np.stack([np.ones_like(a), a + 2, b + 2], axis=1)  # [b,t]
TASKS = {"greater": (a > b).astype(np.int64), "carry": (a + b > 9).astype(np.int64)}


# %%
def adapter():
    return LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="SEQ_CLS")


def logits(ids=ids):
    with no_grad():
        return model(ids)[0].logits


# %%
base = BertForSequenceClassification(config, rng=0)  # pretend that it was pretrained
frozen = base.bert.embeddings.word_embeddings.weight.data.tobytes()
before = base(ids)[0].logits
model = get_peft_model(base, adapter(), adapter_name="greater")
model.add_adapter("carry", adapter())
model.print_trainable_parameters()  # of the active adapter

# %%
# Each is trained by itself, with its head: what is not active is frozen.
for name, labels in TASKS.items():
    model.set_adapter(name)
    optimizer = AdamW([parameter for parameter in model.parameters() if parameter.requires_grad], lr=1e-2)
    for _ in range(60):
        output, backward = model(ids, labels=labels)
        optimizer.zero_grad()
        backward()
        optimizer.step()
    print(f"{name}: loss {output.loss:.3f}")

# %%
# Compared: every adapter on every task. An adapter knows its own task, and the base knows neither.
print("\nright answers  " + "".join(f"{task:>10}" for task in TASKS))
right = {}
for name in TASKS:
    model.set_adapter(name)
    right[name] = [(logits().argmax(-1) == labels).mean() for labels in TASKS.values()]
    print(f"{name:15}" + "".join(f"{share:10.0%}" for share in right[name]))
with model.disable_adapter():
    assert logits().tobytes() == before.tobytes()  # switched off: the base, bit for bit
print("switched off: the base, bit for bit\n")
assert right["greater"][0] > 0.9 and right["carry"][1] > 0.9

# %%
# Merged: one matrix W + s B A for each target. Unmerged: the same bits as before, since W was not written to.
# (Of one short text: a long one is not multiplied by A and by B, but forms the merged matrix anyway.)
beside = logits(ids[:1])
model.merge_adapter()
print("|merged − beside| ≤", np.abs(logits(ids[:1]) - beside).max(), "of", np.abs(beside).max())
model.unmerge_adapter()
assert logits(ids[:1]).tobytes() == beside.tobytes()
assert base.bert.embeddings.word_embeddings.weight.data.tobytes() == frozen

# %%
# Saved: each adapter is two files, which PEFT reads too. They load onto another copy of the base.
with tempfile.TemporaryDirectory() as folder:
    model.save_pretrained(folder)
    print("saved:", *sorted(os.path.relpath(file, folder) for file in glob.glob(f"{folder}/**/*.*", recursive=True)))
    fresh = BertForSequenceClassification(config, rng=0)
    loaded = PeftModel.from_pretrained(fresh, os.path.join(folder, "carry"))
    assert loaded(ids)[0].logits.tobytes() == logits().tobytes()
    alone = loaded.merge_and_unload()  # a plain model again, with the adapter in its matrices
    assert np.allclose(alone(ids)[0].logits, logits(), atol=1e-4)
print(type(alone).__name__, "needs no adapter now")
