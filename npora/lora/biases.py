"""An adapter may train biases of the base in place: here is what they were before, and are while it is off."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from npora.nn.module import Array, Parameter


class TrainedBiases:
    """This remembers each trained bias's array of the base, which the bias holds while the adapter is off."""

    def __init__(self) -> None:
        self._base: dict[str, tuple[Parameter, Array]] = {}
        self._aside: dict[str, Array] | None = None

    def __bool__(self) -> bool:
        return bool(self._base)

    def remember(self, biases: Iterable[tuple[str, Parameter]]) -> None:
        """Take these as trained from now on; what they hold is the base's."""
        self._base.update((name, (parameter, parameter.data)) for name, parameter in biases)

    def base_values(self) -> Mapping[int, Array]:
        """Return the base's arrays by the parameter's id, since one may have several names."""
        return {id(parameter): array for parameter, array in self._base.values()}

    def switch_off(self) -> None:
        self._aside = {name: parameter.data for name, (parameter, _) in self._base.items()}
        for parameter, array in self._base.values():
            parameter.data = array

    def switch_on(self) -> None:
        for name, array in (self._aside or {}).items():
            self._base[name][0].data = array
        self._aside = None

    @contextmanager
    def on(self) -> Iterator[None]:
        """Within this block they hold what is trained, be the adapter on or off: to be saved, loaded, merged."""
        if self._aside is None:
            yield
            return
        self.switch_on()
        try:
            yield
        finally:
            self.switch_off()

    def give_back(self) -> None:
        """Let the biases hold the base's values for good."""
        for parameter, array in self._base.values():
            parameter.data = array
        self.let_go()

    def let_go(self) -> None:
        """Forget the base's values: the biases keep what they hold."""
        self._base, self._aside = {}, None
