"""PyTorch's functions and modules, with the gradients that its autograd makes of their backwards."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from npora.check.bridges.need import need
from npora.check.inputs import WrittenTo, and_dy
from npora.check.trees import leaves, with_leaves
from npora.check.verdict.blame import Call
from npora.check.verdict.comparison import dtype_of
from npora.nn import Module, Parameter
from npora.nn.module import Array

Returned = tuple[Any, Callable[..., Any]]


def torch_function(f: Any, *, seed: int | None = None) -> Any:
    """Return f as a function of NumPy's arrays, which gradcheck takes; a torch.nn.Module as a Module of npora's.

        gradcheck(torch_function(MyFunction), x, W)
        gradcheck(torch_function(my_module), x, blame=True)

    f : a subclass of torch.autograd.Function, whose `apply` is called; a torch.nn.Module, whose parameters are named as
        torch names them, and trained where they require a gradient; or any function of tensors
    seed : torch's random numbers begin with it at each call, so that dropout drops the same; None leaves them alone

    Arrays become tensors of their dtype; what f writes to them is found as in any function of NumPy's. Where f does not
    take complex tensors the check is by differences.

    Raises
    ------
    ImportError: torch is not installed.  TypeError: f cannot be called.
    """
    need("torch", "pip install torch")
    import torch

    if isinstance(f, torch.nn.Module):
        return TorchModule(f, seed)
    is_function: bool = isinstance(f, type) and issubclass(f, torch.autograd.Function)
    if is_function:
        name, apply = f.__name__, f.apply
        skipped = 0 if f.setup_context is not torch.autograd.Function.setup_context else 1
        parameters = list(inspect.signature(f.forward).parameters.values())[skipped:]
        signature: inspect.Signature | None = inspect.Signature(parameters)
    elif callable(f):
        name, apply, signature = getattr(f, "__name__", type(f).__name__), f, _signature(f)
    else:
        raise TypeError(f"expected a torch.autograd.Function, a torch.nn.Module or a function; got {type(f).__name__}")

    def function(*inputs: Any, **keywords: Any) -> Returned:
        y, pull = _differentiated(name, apply, inputs, keywords, {}, seed)
        return y, lambda *dy: pull(*dy)[0]

    function.__name__ = name
    if signature is not None:
        vars(function)["__signature__"] = signature
    vars(function)["second"] = lambda: torch_function(_gradient_of(apply, signature), seed=seed)
    return function


def _gradient_of(f: Callable[..., Any], signature: inspect.Signature | None) -> Callable[..., Any]:
    """(*inputs, dy) → the inputs' gradients, which torch can differentiate again; dy is a tuple."""
    import torch

    def gradient(*given: Any, **keywords: Any) -> Any:
        inputs, upstream = given[:-1], given[-1]
        tensors = [x for _, x in leaves(inputs) if isinstance(x, torch.Tensor)]
        if any(x.is_complex() for x in tensors):
            raise RuntimeError("a gradient is taken at real numbers")
        wanted = [x if x.requires_grad else x.requires_grad_() for x in tensors if x.is_floating_point()]
        with torch.enable_grad():
            outputs = [y for _, y in leaves(f(*inputs, **keywords)) if isinstance(y, torch.Tensor)]
            pairs = zip([y for y in outputs if y.is_floating_point()], upstream, strict=True)
            ends, dy = zip(*((y, w) for y, w in pairs if y.requires_grad), strict=True)
            found = torch.autograd.grad(ends, wanted, dy, create_graph=True, allow_unused=True)
        return tuple(torch.zeros_like(x) if g is None else g for g, x in zip(found, wanted, strict=True))

    if signature is not None:
        vars(gradient)["__signature__"] = and_dy(signature)
    return gradient


class TorchModule(Module):
    """A torch.nn.Module as one of npora's: its parameters' values are here, and torch's own are left alone."""

    def __init__(self, module: Any, seed: int | None = None) -> None:
        self.module, self.seed = module, seed
        self.values = {
            name: Parameter(_array(p.cpu()).copy(), requires_grad=bool(p.requires_grad))
            for name, p in module.named_parameters()
        }
        self.__name__ = type(module).__name__

    def named_members(self) -> Iterator[tuple[str, Any]]:
        yield from self.values.items()

    def forward(self, *inputs: Any, **keywords: Any) -> Returned:
        y, pull = self._differentiated(inputs, keywords)

        def backward(*dy: Array) -> Any:
            of_inputs, of_values = pull(*dy)
            for name, gradient in of_values.items():
                if gradient is not None and self.values[name].requires_grad:
                    self.values[name].accumulate(gradient)
            return of_inputs

        return y, backward

    def _differentiated(self, inputs: Any, keywords: Any) -> Returned:
        import torch

        dtypes = {value.data.dtype for value in self.values.values()}
        dtype = _torch_dtype(dtypes.pop()) if len(dtypes) == 1 else None
        buffers = {
            name: b.to(dtype) if dtype is not None and b.is_floating_point() else b.clone()
            for name, b in self.module.named_buffers()
        }

        def called(*tensors: Any, **named: Any) -> Any:
            given = {name: named.pop(f"parameter {name}") for name in self.values}
            return torch.func.functional_call(self.module, {**buffers, **given}, tensors, named)

        values = {f"parameter {name}": value.data for name, value in self.values.items()}
        y, pull = _differentiated(self.__name__, called, inputs, keywords, values, self.seed)

        def named(*dy: Array) -> Any:
            of_inputs, of_values = pull(*dy)
            return of_inputs, {name.removeprefix("parameter "): g for name, g in of_values.items()}

        return y, named

    def calls_inside(self, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> list[tuple[str, Call]]:
        """Each module inside, with what it is called with, by its path; for blame."""
        calls: dict[str, Call] = {}
        paths = {id(module): path for path, module in self.module.named_modules()}

        def keep(module: Any, given: Any, named: Any, result: Any) -> None:
            path = paths[id(module)]
            inside = TorchModule(module, self.seed)
            for name, value in inside.values.items():
                value.data = self.values[f"{path}.{name}" if path else name].data
            calls.setdefault(path, (inside, _numpy(given), _numpy(named)))

        handles = [module.register_forward_hook(keep, with_kwargs=True) for module in self.module.modules()]
        try:
            self.forward(*inputs, **keywords)
        finally:
            for handle in handles:
                handle.remove()
        return list(calls.items())

    def __deepcopy__(self, memo: dict[int, Any]) -> TorchModule:
        twin = copy.copy(self)
        twin.values = copy.deepcopy(self.values, memo)
        return twin


def _differentiated(
    name: str, f: Callable[..., Any], inputs: Any, keywords: Any, values: dict[str, Array], seed: int | None
) -> tuple[Any, Callable[..., tuple[Any, dict[str, Any]]]]:
    """Call f with tensors. Returns its outputs as arrays, and backward(*dy) → the inputs' gradients, and those of the
    values, which f gets as keywords."""
    import torch

    def tensor(_: Any, x: Any) -> Any:
        if not isinstance(x, np.ndarray | np.generic):
            return x
        made = _tensor(x)
        return made.requires_grad_() if made.is_floating_point() and not made.is_complex() else made

    tensors, named = with_leaves(inputs, tensor), with_leaves(keywords, lambda _, x: _constant(x))
    parameters = {key: _tensor(value) for key, value in values.items()}
    is_complex = any(isinstance(x, np.ndarray) and x.dtype.kind == "c" for _, x in leaves((inputs, values)))
    for parameter in parameters.values():
        parameter.requires_grad_(not is_complex)
    # A leaf may not be written to in place: what f gets is one step further, so that a write can be told of.
    given = with_leaves(tensors, lambda _, x: x.clone() if isinstance(x, torch.Tensor) else x)
    try:
        with torch.set_grad_enabled(not is_complex), _seeded(seed):
            y = f(*given, **named, **parameters)
    except RuntimeError as error:
        if is_complex:  # which is how torch says that an operation takes no complex numbers
            raise TypeError(f"{name}: {error}") from None
        raise
    for (_, x), (_, seen) in zip(leaves(inputs), leaves(given), strict=True):
        if isinstance(x, np.ndarray) and not np.array_equal(x, _array(seen), equal_nan=True):
            raise WrittenTo(f"{name} writes to its input")
    outputs = [x for _, x in leaves(y) if isinstance(x, torch.Tensor) and (x.is_floating_point() or x.is_complex())]
    if not outputs:
        raise TypeError(f"{name} returned a {type(y).__name__}, expected tensors of floating-point numbers")

    def backward(*dy: Array) -> tuple[Any, dict[str, Any]]:
        pairs = [(o, _tensor(w).to(o.dtype)) for o, w in zip(outputs, dy, strict=True) if o.requires_grad]
        flat = [x for _, x in leaves(tensors) if isinstance(x, torch.Tensor) and x.requires_grad]
        wanted = [*flat, *parameters.values()]
        found: Any = [None] * len(wanted)
        if pairs and wanted:
            ends, upstream = zip(*pairs, strict=True)
            kept = [w.clone() for w in upstream]
            found = torch.autograd.grad(ends, wanted, upstream, retain_graph=True, allow_unused=True)
            if not all(torch.equal(w, k) or w.isnan().any() for w, k in zip(upstream, kept, strict=True)):
                raise WrittenTo(f"the backward of {name} writes to dy")
        arrays = iter([None if g is None else _array(g) for g in found])
        of_inputs = tuple(with_leaves(tensors, lambda _, x: next(arrays) if _is_wanted(x) else None))
        return of_inputs, {key: next(arrays) for key in parameters}

    def _is_wanted(x: Any) -> bool:
        return isinstance(x, torch.Tensor) and x.requires_grad

    arrays = tuple(_array(x) for x in outputs)
    return arrays if len(arrays) > 1 else arrays[0], backward


def _constant(x: Any) -> Any:
    return _tensor(x) if isinstance(x, np.ndarray | np.generic) else x


def _numpy(given: Any) -> Any:
    import torch

    return with_leaves(given, lambda _, x: _array(x).copy() if isinstance(x, torch.Tensor) else x)


def _torch_dtype(dtype: Any) -> Any:
    return _tensor(np.zeros((), dtype)).dtype


def _tensor(x: Any) -> Any:
    """An array's numbers. torch takes none of ml_dtypes' bfloat16, which go by way of float32."""
    import torch

    x = np.array(x)
    return torch.tensor(x.astype(np.float32)).bfloat16() if x.dtype.name == "bfloat16" else torch.tensor(x)


def _array(x: Any) -> Any:
    import torch

    x = x.detach()
    return x.float().numpy().astype(dtype_of("bfloat16")) if x.dtype == torch.bfloat16 else x.numpy()


@contextlib.contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    import torch

    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _signature(f: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(f)
    except (TypeError, ValueError):  # some of torch's own have none
        return None
