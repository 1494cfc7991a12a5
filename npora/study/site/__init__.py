"""The pages of `npora study`, made from npora's own sources.

sources.py      which files are pages, and their definitions
numbers.py      equations of the docstrings, the lines that carry their numbers, and which of them miss the other
symbols.py      what a letter or a symbol is
formulas.py     a line of a docstring as HTML
mathml.py       a formula as MathML
prose.py        a docstring as HTML
code.py         code as HTML
verdicts.py     gradcheck's verdicts, kept as long as the sources that they depend on stay
experiments.py  V-curves, and training with planted errors
rules.py        what holds of optimisers, whose gradients are given
flow.py         what a forward and its backward compute, statement by statement
graph.py        a flow as a drawing
papers.py       from a method's paper to its line, and to PEFT
claims.py       what is said of LoRA, with lines and numbers
charts.py       curves as drawings
tables.py       verdicts as HTML
pages.py        a page
site.py         all pages, and where they are written
"""
