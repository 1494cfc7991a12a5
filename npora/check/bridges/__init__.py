"""Gradients of other frameworks as npora's functions, `y, backward = f(*inputs)` of NumPy's arrays, so that gradcheck
has the same verdicts, names and blame for them. Each imports its framework when it is first used.

torch_function(f)       a torch.autograd.Function, any differentiable function of tensors, or a torch.nn.Module
jax_vjp(f)              any function of JAX's, with a custom_vjp or without
autograd_function(f)    a function written with autograd.numpy (HIPS autograd)

A plain pair of functions needs no bridge: gradcheck(f, x, vjp=g).
"""

from npora.check.bridges.jax import jax_vjp
from npora.check.bridges.of_autograd import autograd_function
from npora.check.bridges.torch import torch_function

__all__ = ["autograd_function", "jax_vjp", "torch_function"]
