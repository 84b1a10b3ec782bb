"""What a call of `minimize` works on, found out before anything is added."""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from graphtool.arguments import bad_argument
from graphtool.diagnostics import UsageError
from graphtool.graph import Graph
from graphtool.readers._legacy import variable_of
from graphtool.readers._paddle import is_legacy, load_paddle
from graphtool.readers._pir import PirWalk, holds, walk_pir
from graphtool.readers.live import LiveProgram, read_program

__all__ = ["CALL", "Request", "is_pir_value"]

# Optimizers, Programs and Values are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any

CALL = "gt.minimize(optimizer, loss)"


def is_pir_value(value: _Paddle) -> bool:
    """Tell a Value of PIR, without asking it anything."""
    kind = getattr(load_paddle().pir, "Value", None)
    return kind is not None and isinstance(value, kind)


@dataclass(frozen=True)
class Request:
    """A call, and what it works on: looked at before anything is added."""

    optimizer: _Paddle
    loss: _Paddle
    startup_program: _Paddle | None
    parameters: Sequence[_Paddle | str] | None
    accumulate: int = 1

    @cached_property
    def program(self) -> _Paddle:
        if not is_pir_value(self.loss):
            return self.loss.block.program
        default = load_paddle().static.default_main_program()
        if self.startup_program is None or holds(default, self.loss):
            return default
        return next((one for one in _programs() if holds(one, self.loss)), default)

    @property
    def is_at_home(self) -> bool:
        """Tell whether the loss is of the default Program; of any, where a startup one is named."""
        if is_pir_value(self.loss):
            return self._walk is not None and self.loss.id in self._walk.names
        if self.startup_program is not None:
            return True
        return load_paddle().static.default_main_program() is self.program

    @cached_property
    def startup(self) -> _Paddle:
        given = self.startup_program
        return load_paddle().static.default_startup_program() if given is None else given

    @cached_property
    def graph(self) -> Graph:
        return self._walk.graph if self._walk else read_program(self.program)

    @cached_property
    def _walk(self) -> PirWalk | None:
        is_pir = is_pir_value(self.loss) and not is_legacy(self.program)
        return walk_pir(self.program) if is_pir else None

    @cached_property
    def loss_name(self) -> str:
        """The loss's name in the Graph: a legacy Variable's last write."""
        if self._walk:
            return self._walk.names[self.loss.id]
        writes = (name for name in self.graph.values if self.variable(name) == self.loss.name)
        return list(writes)[-1]

    def pir_names(self, values: Iterable[_Paddle]) -> list[str]:
        """Return the names of Values of PIR in the Graph."""
        return [self._walk.names[value.id] for value in values] if self._walk else []

    def variable(self, name: str) -> str:
        """Return a Value's Variable; under PIR a Value is one itself."""
        return name if self._walk else variable_of(name, self.graph)

    @cached_property
    def known(self) -> Mapping[str, _Paddle]:
        """All parameters of the Program, by name; PIR lists them in no order."""
        found = {one.name: one for one in self.program.global_block().all_parameters()}
        return dict(sorted(found.items()))

    def has(self, parameter: _Paddle) -> bool:
        """Tell a parameter of the Program; a Value of PIR is asked for its address alone."""
        if not is_pir_value(parameter):
            return getattr(parameter, "name", None) in self.known
        return parameter.id in {one.id for one in self.known.values()}

    @cached_property
    def asked(self) -> Sequence[_Paddle | str] | None:
        """What is to learn, as it was given to the call or to the optimizer; None for all."""
        listed = self.parameters or getattr(self.optimizer, "_parameter_list", None)
        return listed or None

    @property
    def given(self) -> list[_Paddle]:
        """What is to learn, as Paddle takes it."""
        asked = self.known.values() if self.asked is None else self.asked
        return [self.known[one] if isinstance(one, str) else one for one in asked]

    def passed_over(
        self, no_grad_set: Collection[_Paddle | str] | None
    ) -> Collection[_Paddle | str] | None:
        """Return what is to get no gradient as Paddle takes it, which knows no names under PIR.

        Raises UsageError GT248 for a Value of another Program. Raises ReadError: GT101, GT102,
        GT031.
        """
        if no_grad_set is None or self._walk is None:
            return no_grad_set
        for one in no_grad_set:
            if not isinstance(one, str) and getattr(one, "id", None) not in self._walk.names:
                wanted = "a Value of the loss's Program, or its name"
                raise UsageError(bad_argument("no_grad_set", one, wanted, CALL))
        live = LiveProgram(program=self.program, graph=self.graph, keys=self._walk.keys)
        return [live.value(one) if isinstance(one, str) else one for one in no_grad_set]

    @cached_property
    def learning(self) -> list[str]:
        """Names of what is to learn and is not frozen."""
        return [one.name for one in self.given if _learns(one)]

    @property
    def kept_elsewhere(self) -> list[str]:
        """Names of what is to learn of which the optimizer keeps something in another Program."""
        accumulators = getattr(self.optimizer, "_accumulators", {})
        kept = [held for by_name in accumulators.values() for held in by_name.items()]
        others = {name for name, held in kept if not self._is_here(held)}
        return [name for name in self.learning if name in others]

    def _is_here(self, held: _Paddle) -> bool:
        """Tell a Variable of this Program; a Value of PIR is asked for its address alone."""
        if is_pir_value(held):
            return self._walk is not None and held.id in self._walk.names
        return held.block.program is self.program

    @property
    def frozen(self) -> list[str]:
        """Names of what is to learn and is frozen."""
        return [one.name for one in self.given if not _learns(one)]


def _programs() -> list[_Paddle]:
    """List the Programs of PIR that live.

    A Value is not asked for its own: it crashes where that, or its operation, is gone.
    """
    kind = load_paddle().pir.Program
    # At once: a reference to a tuple that Python is still making would be an error of its.
    return [one for one in gc.get_objects() if type(one) is kind]


def _learns(parameter: _Paddle) -> bool:
    return not parameter.stop_gradient and bool(getattr(parameter, "trainable", True))
