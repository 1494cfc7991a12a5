"""Errors planted on purpose, to see that they are caught, and named.

kinds.py       the table: each kind of error, where it can be, what it does, what the diagnosis must say
scene.py       where: a gradient, what is around it, and what is asked of it before
changes.py     what is done, where that takes more than an expression
planting.py    a copy of a layer with an error in one of its gradients
"""
