"""Which of the adapters count: one, several in their order, or none for a while."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from npora.lora.adapted import Adapted
from npora.lora.adapters import Adapters

_SWITCHING = threading.RLock()  # a block that was let go of ends when it is collected, maybe within another's


class Switching(Adapters):
    """This is a base with its adapters by name, of which some are active, and which can be its base again."""

    def set_adapter(self, adapter_name: str | Sequence[str], inference_mode: bool = False) -> None:
        """Make an adapter the active and trainable one; frozen with `inference_mode`, here or in its config.

        adapter_name : or several: each changes what those before it made of a layer, so that LoRA's add up; a module
            that is trained whole can be of one of them alone

        Raises
        ------
        ValueError: none, one that there is not, or two of which one replaces what the other is on.
        RuntimeError: one is merged. Nothing is then changed.
        """
        names = [adapter_name] if isinstance(adapter_name, str) else list(dict.fromkeys(adapter_name))
        if not names:
            raise ValueError("set_adapter() takes a name, or several; for none, use disable_adapter()")
        for name in names:
            self._refuse_unknown(name)
        self._refuse_merged("set_adapter()")
        whole: dict[str, str] = {}
        for name in names:
            for path in self._saved_paths(name):
                if path in whole:
                    raise ValueError(f"adapters '{whole[path]}' and '{name}' both train {path} whole: activate one")
                whole[path] = name
        for _, layer in self.lora_layers():
            layer.check_that_none_replaces(layer.on_this_layer(names))
        for name, config in self.peft_config.items():
            self._requires_grad(name, name in names and not (inference_mode or config.inference_mode))
        for module in self._switches():
            if isinstance(module, Adapted):
                module.active_adapters = module.on_this_layer(names)
            else:
                module.active_adapter = next((name for name in names if name in module.modules_to_save), None)
        self._active = names

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """Within this block the model is its base again, bit for bit: adapters, trained heads and biases are off.

        Blocks may lie in each other, or be run by several threads: the adapter is on again after the last of them.
        What it trains can be saved, loaded and merged within the block too.
        """
        block = object()
        with _SWITCHING:
            self._off.append(block)
            if len(self._off) == 1:
                self._were_off = {id(module) for module in self._switches() if module.disable_adapters}
                self._biases.switch_off()
                for module in self._switches():
                    module.disable_adapters = True
        try:
            yield
        finally:
            with _SWITCHING:
                self._off = [other for other in self._off if other is not block]
                if not self._off:
                    for module in self._switches():
                        module.disable_adapters = id(module) in self._were_off
                    self._biases.switch_on()
