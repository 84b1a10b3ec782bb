"""Get at a network that is to run: its Program, and a Scope of its own with its parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from graphtool.diagnostics import Diagnostic, PairError, UsageError, Where
from graphtool.graph import Graph, Origin, ProgramKind, Value, keeps_shape
from graphtool.matching import evidence_problems as problems
from graphtool.paths import is_there
from graphtool.readers import Source, read
from graphtool.readers import problems as reading
from graphtool.readers._builder import build
from graphtool.readers._paddle import load_paddle, static_mode
from graphtool.readers._spelling import is_callable_spec
from graphtool.readers.layer_weights import holding_layer, load_layer
from graphtool.readers.layers import Network
from graphtool.readers.live import LiveProgram, deserialise, is_live, own_live, parse, program_of
from graphtool.readers.parameter_files import file_beside, parameters_beside
from graphtool.readers.registry import home_of
from graphtool.readers.tensors import (
    Tensor,
    copy_of,
    held_tensors,
    is_untouched,
    set_tensors,
    share_tensors,
)
from graphtool.readers.weights import ENDINGS, persistables, read_weights
from graphtool.structure import reaches_outside
from graphtool.text import as_path, command

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Opened", "check_apart", "open_network"]

# Programs and Scopes are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any

_ONE_NUMBER = "trained: biases, scales and shifts have one number throughout"
_SEED = 20260
_SET_STATE = 'net.set_state_dict(paddle.load("weights.pdparams"))'
_LOAD = 'gt.load_parameters(program, "weights.pdparams")'


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Opened:
    """A network, and what puts its parameters into a Scope.

    `fill` takes a Scope and the names that are needed, and returns those that were never loaded:
    `lack` says why, `help` how to load them. `scope` is the Scope of the user's that they come
    from, None where they come from elsewhere.
    """

    role: str
    live: LiveProgram
    fill: Callable[[_Paddle, Sequence[str]], Sequence[str]]
    lack: str
    help: str
    scope: _Paddle | None = None

    @property
    def graph(self) -> Graph:
        """The Graph of the Program, with the names that `read` gives for the same source."""
        return self.live.graph

    def bring_parameters(
        self, graph: Graph, scope: _Paddle, *, allow_random: bool
    ) -> list[Diagnostic]:
        """Put what a part of the Program keeps into a Scope, and return what there is to say of it.

        Raises PairError: GT376 where it was never loaded, unless random numbers are allowed; GT375
        where it is not finite. Raises GraphtoolError as `read_weights` does.
        """
        known = persistables(graph)
        names = list(known)
        lacking = set(self.fill(scope, names))
        missing = [name for name in names if name in lacking or not _fits(scope, known[name], name)]
        if not missing:
            self._check_finite(scope, names)
            if not is_untouched(scope, known):
                return []
        counts = len(missing or names), len(names)
        reason = f"loaded: {self.lack}" if missing else _ONE_NUMBER
        # What is there was loaded as it should be: it is the weights that are of no use.
        mend = self.help if missing else None
        said = problems.parameters_not_loaded(
            self.role, self.graph.source, counts, reason, help=mend, allowed=allow_random
        )
        if not allow_random:
            raise PairError(said)
        set_tensors(_drawn({name: known[name] for name in missing}), scope)
        return [said]

    def _check_finite(self, scope: _Paddle, names: Iterable[str]) -> None:
        """Refuse weights that are no numbers: a ReLU makes zeros of what comes out.

        Raises PairError: GT375.
        """
        import numpy as np

        for name in names:
            array = np.array(scope.find_var(name).get_tensor())
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                shape = tuple(array.shape)
                place = Where(role=self.role, program=self.graph.source, value=name, shape=shape)
                raise PairError(problems.not_finite(place, what="parameters", help=self.help))


def open_network(
    source: Source, role: str, *, inputs: Sequence[str] = (), scope: _Paddle | None = None
) -> Opened:
    """Open what `read` takes, except a Graph; a live Program has its parameters in `scope`.

    Raises ReadError as `read` does. Raises UsageError: GT046, GT379 for what does not run. Raises
    PairError: GT385 for a saved model that does more than compute.
    """
    load_paddle()
    if isinstance(source, Graph):
        raise UsageError(problems.nothing_to_run(role, source.source))
    if isinstance(source, str | PathLike):
        name = fspath(cast("str | PathLike[str]", source))
        if is_callable_spec(name) and not is_there(name):
            return _built(name, role, inputs)
        return _saved(name, role)
    if not is_live(source):
        raise UsageError(reading.not_a_source(type(source).__name__))
    live, home = own_live(source), home_of(program_of(source))
    usual = load_paddle().static.global_scope() if home is None else home
    layer = holding_layer(source, persistables(live.graph), scope)
    if layer is not None and home is None:
        return _of_layer(role, live, layer)
    return _of_scope(role, live, usual if scope is None else scope)


def check_apart(teacher: Opened, student: Opened, *, meant: bool) -> None:
    """Refuse two Programs that take parameters of one name from one Scope, which holds one of them.

    `meant` says that the user named the Scope of the teacher, too: then they may share what fits
    both.

    Raises PairError: GT384.
    """
    if teacher.scope is None or teacher.scope is not student.scope:
        return
    if teacher.live.program is student.live.program:
        return
    ours, theirs = _parameters(teacher.graph), _parameters(student.graph)
    common = [
        name
        for name, value in ours.items()
        if name in theirs and not (meant and value.shape == theirs[name].shape)
    ]
    if common:
        name = common[0]
        places = [
            Where(role=side.role, program=side.graph.source, value=name, shape=held[name].shape)
            for side, held in ((teacher, ours), (student, theirs))
        ]
        raise PairError(problems.one_scope_for_both(places, len(common)))


def _parameters(graph: Graph) -> dict[str, Value]:
    kept = persistables(graph).items()
    return {name: value for name, value in kept if value.origin is Origin.PARAMETER}


def _saved(path: str, role: str) -> Opened:
    """Open a saved model; the parameters that lie beside it are read when they are needed."""
    graph = read(path)
    outside = [one.type for one in graph.operators.values() if reaches_outside(one)]
    if outside:
        raise PairError(problems.reaching_outside(role, path, list(dict.fromkeys(outside))))
    if graph.kind is ProgramKind.PIR:
        live = deserialise(graph.source, graph)
    else:
        with static_mode(graph.kind):
            live = parse(graph.source)
            live = replace(live, graph=replace(live.graph, source=graph.source))

    def fill(scope: _Paddle, names: Sequence[str]) -> Sequence[str]:
        found = parameters_beside(graph.source, names, endings=ENDINGS)
        if found is None:
            return names
        weights = read_weights(found, graph)
        held = {weights.table.get(name, name): one for name, one in weights.tensors.items()}
        set_tensors({name: held[name] for name in names if name in held}, scope)
        return [name for name in names if name not in held]

    lack = "no file of parameters beside the model has them"
    return Opened(role=role, live=live, fill=fill, lack=lack, help=_put_beside(Path(graph.source)))


def _put_beside(model: Path) -> str:
    return command("cp", "WEIGHTS.pdiparams", as_path(str(file_beside(model))))


def _built(spec: str, role: str, inputs: Sequence[str]) -> Opened:
    """Build what a callable makes, and keep what it loads meanwhile."""
    own = load_paddle().static.Scope()
    built = build(spec, inputs, scope=own)
    if isinstance(built, Network):
        return _of_layer(role, built.live, built.layer)
    return replace(_of_scope(role, built, own), lack="the callable does not load them")


def _of_layer(role: str, live: LiveProgram, layer: _Paddle) -> Opened:
    def fill(scope: _Paddle, names: Sequence[str]) -> Sequence[str]:
        # All of it: a run reads what is not persistable, too.
        load_layer(layer, scope)
        return _lacking(scope, names)

    lack = "the Layer does not hold them"
    return Opened(role=role, live=live, fill=fill, lack=lack, help=_SET_STATE)


def _of_scope(role: str, live: LiveProgram, held: _Paddle) -> Opened:
    def fill(scope: _Paddle, names: Sequence[str]) -> Sequence[str]:
        return _copy(held, scope, names)

    argument = "teacher_scope" if role == "teacher" else "scope"
    lack = f"the Scope does not hold them, which `{argument}` may name"
    return Opened(role=role, live=live, fill=fill, lack=lack, help=_LOAD, scope=held)


def _copy(held: _Paddle, scope: _Paddle, names: Sequence[str]) -> list[str]:
    """Copy Variables from one Scope to another, and return the names of those not there."""
    found = held_tensors(held, names)
    share_tensors({name: copy_of(tensor) for name, tensor in found.items()}, scope)
    return [name for name in names if name not in found]


def _lacking(scope: _Paddle, names: Sequence[str]) -> list[str]:
    found = held_tensors(scope, names)
    return [name for name in names if name not in found]


def _fits(scope: _Paddle, value: Value, name: str) -> bool:
    """Tell a tensor of the Value's shape from one of another network with that name."""
    return keeps_shape(value, tuple(scope.find_var(name).get_tensor().shape()))


def _drawn(values: Mapping[str, Value]) -> dict[str, Tensor]:
    """Draw parameters at random, the same ones every time."""
    import numpy as np

    random = np.random.default_rng(_SEED)
    return {name: _random_tensor(value, random) for name, value in values.items()}


def _random_tensor(value: Value, random: np.random.Generator) -> Tensor:
    """Draw a tensor: a vector near 1, as it may be a variance, others as He et al. 2015 do.

    Source: Delving Deep into Rectifiers (arXiv 1502.01852), equation 10.
    """
    import numpy as np

    shape, dtype = value.shape or (), value.dtype or "float32"
    if len(shape) < 2:
        numbers = random.uniform(0.5, 1.5, shape)
    else:
        inputs = shape[0] if len(shape) == 2 else prod(shape[1:])
        numbers = random.normal(0.0, (2 / max(inputs, 1)) ** 0.5, shape)
    if dtype == "bfloat16":
        convert = load_paddle().base.data_feeder.convert_float_to_uint16
        return Tensor(convert(numbers.astype(np.float32)), dtype)
    return Tensor(numbers.astype(dtype), dtype)
