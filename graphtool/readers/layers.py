"""Build a Layer of the dynamic graph into a static Program of its own, and read that."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from graphtool.diagnostics import Diagnostic, ReadError, Report, UsageError
from graphtool.graph import Graph, Origin
from graphtool.readers import problems
from graphtool.readers._attribution import Attribution, flatten, identity
from graphtool.readers._channels import misfit
from graphtool.readers._inputs import (
    Input,
    as_inputs,
    check_inputs,
    named_inputs,
    takes_by_keyword,
)
from graphtool.readers._legacy import operator_ids, read_legacy, variable_of
from graphtool.readers._messages import Attempt, brief, user_frames
from graphtool.readers._outputs import left_out
from graphtool.readers._paddle import in_mode, is_legacy, load_paddle, one_at_a_time
from graphtool.readers._pir import ValueKey, walk_pir
from graphtool.readers._precision import warn_of_no_effect
from graphtool.readers._surroundings import layer_mode, no_silent_branches, room
from graphtool.readers.counters import count_past, user_names
from graphtool.readers.layer_weights import (
    held_names,
    hold_layer,
    is_dynamic,
    is_foreign,
    note_read,
    without_initialisers,
)
from graphtool.readers.live import LiveProgram
from graphtool.readers.parameter_attributes import take_from_layer
from graphtool.readers.tensors import held_tensors

__all__ = ["Network", "build_made", "build_network", "from_layer", "handed_over", "is_program"]

# Layers, Programs, Values and InputSpecs are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Network:
    """A Layer built into a Program: what an Executor needs, and the Graph with attribute paths.

    `layer` is the Layer that was built; `parameters` maps the names of its `state_dict()` to
    those of the Variables. `startup` initialises a network that a class or factory made in static
    mode. One that was made in dynamic mode (handed over as a Layer, built through `to_static`, or
    made by a factory that loads weights) has its weights in `layer`: there `startup` leaves them
    alone, and `merge` brings those that the Scope does not have yet.
    """

    live: LiveProgram
    startup: _Paddle
    layer: _Paddle
    feeds: tuple[str, ...]
    fetches: tuple[str, ...]
    parameters: Mapping[str, str]

    @property
    def program(self) -> _Paddle:
        """The main Program."""
        return self.live.program

    @property
    def graph(self) -> Graph:
        """The Graph of the main Program."""
        return self.live.graph

    def value(self, selector: str) -> _Paddle:
        """Return the Paddle Value or Variable that a selector means, as `LiveProgram.value`."""
        return self.live.value(selector)

    def __repr__(self) -> str:
        return f"Network({self.graph!r})"


@one_at_a_time()
def from_layer(
    layer: _Paddle | Callable[[], _Paddle],
    input_spec: Sequence[_Paddle],
    *,
    train: bool = True,
) -> Network:
    """Build a Layer, or what a class or factory makes, into a static Program of its own.

    Each item of `input_spec` is a `paddle.static.InputSpec`, which holds the batch, or the shape of
    one sample, or `(name, shape, dtype)`: a batch of unknown size is put before those. The Layer,
    its training flags and Paddle's mode are left as they were. A factory is called in static mode,
    and again in dynamic mode where it loads weights, which the Layer then holds. Inside of a
    `paddle.amp.auto_cast` that casts nothing it warns: GT055.

    Raises ReadError: GT033 for a Layer made in static mode, GT034 where its forward fails, GT035
    where the factory does, GT040 where it makes no Layer, GT051 where the weights that it loads
    would be lost. Raises UsageError: GT041 where an input is missing, GT042 where `forward` has no
    place for one, GT047 for what describes no input, GT048 for what makes no Layer, GT248.
    """
    paddle = load_paddle()
    warn_of_no_effect()
    inputs, name = as_inputs(input_spec), _name(layer)
    if not callable(layer):
        raise UsageError(problems.not_a_layer(type(layer).__name__, inputs))
    if isinstance(layer, paddle.nn.Layer):
        network = build_made(layer, inputs, name=name, train=train)
    else:
        network = _with_what_it_loads(layer, inputs, name=name, train=train)
    if isinstance(network, LiveProgram):
        raise ReadError(problems.wrong_type(name, "Program", "a `paddle.nn.Layer`"))
    count_past(network.program, user_names(network.graph))
    return network


def build_made(layer: _Paddle, inputs: Sequence[Input], *, name: str, train: bool) -> Network:
    """Build a Layer that was made in dynamic mode, through `to_static`."""
    _require_inputs(name, layer, inputs)
    attempt = Attempt()
    with attempt, in_mode(static=False):
        return _finished(name, inputs, _traced(layer, inputs, train=train))
    assert attempt.error is not None
    raise ReadError(_refusal(name, inputs, attempt.error, attempt.error))


def build_network(
    factory: Callable[[], _Paddle], inputs: Sequence[Input], *, name: str, train: bool
) -> Network | LiveProgram:
    """Build the Layer that a factory makes: in static mode, where that fails through `to_static`.

    A factory may return a Program instead, or a Network, which is read as it is.
    """
    plain = _Try(name=name, inputs=inputs, train=train, static=True)
    network = plain.run(factory)
    if network is not None:
        return network
    dynamic = _Try(name=name, inputs=inputs, train=train, static=False)
    network = dynamic.run(factory)
    if network is not None:
        return network
    assert plain.error is not None
    assert dynamic.error is not None
    if not (plain.made or dynamic.made):
        reason, frames = _reason(dynamic.error), user_frames(dynamic.error)
        raise ReadError(problems.callable_raised(name, reason, frames, _wrapping(name, factory)))
    raise ReadError(_refusal(name, inputs, dynamic.error, plain.error))


def handed_over(network: Network) -> LiveProgram:
    """Return what a Network has; the weights of its Layer are in the global Scope then."""
    hold_layer(network, load_paddle().static.global_scope())
    return network.live


def _with_what_it_loads(
    factory: Callable[[], _Paddle], inputs: Sequence[Input], *, name: str, train: bool
) -> Network | LiveProgram:
    """Build what a factory makes; in dynamic mode where it loads weights, which stay in the Layer.

    In static mode they go to the global Scope, where a startup program draws them anew.
    """
    # Not a `private_scope`: what was called may have kept the Scope.
    scope = load_paddle().static.Scope()
    with load_paddle().static.scope_guard(scope):
        made = build_network(factory, inputs, name=name, train=train)
    loaded = held_tensors(scope, made.parameters.values()) if isinstance(made, Network) else {}
    scope.erase(list(loaded))
    if not loaded:
        return made
    again = _Try(name=name, inputs=inputs, train=train, static=False)
    network = again.run(factory)
    if network is not None:
        return network
    assert again.error is not None
    raise ReadError(problems.weights_lost(name, _reason(again.error), user_frames(again.error)))


def _wrapping(name: str, factory: Callable[[], _Paddle]) -> str | None:
    """Return the function to write around what needs arguments, None where it needs none."""
    if not _needs_arguments(factory):
        return None
    spelt = name.replace(":", ".")
    made = spelt if spelt.replace(".", "").isidentifier() else "Net"
    return f"write a function without arguments: def net(): return {made}(...)"


def _needs_arguments(factory: Callable[..., _Paddle]) -> bool:
    try:
        inspect.signature(factory).bind()
    except TypeError:
        return True
    except ValueError:  # Not all that is written in C has a signature.
        return False
    return False


def is_program(made: _Paddle) -> bool:
    """Tell a Program of either kind."""
    return hasattr(made, "global_block")


@dataclass(kw_only=True)
class _Try:
    name: str
    inputs: Sequence[Input]
    train: bool
    static: bool
    made: bool = False
    error: Exception | SystemExit | None = None

    def run(self, factory: Callable[[], _Paddle]) -> Network | LiveProgram | None:
        attempt = Attempt()
        with attempt, room(static=self.static) as (main, startup):
            layer = factory()
            self.made = True
            if is_program(layer):
                return LiveProgram.of(layer)
            if isinstance(layer, Network):
                return handed_over(layer)
            _require_inputs(self.name, layer, self.inputs)
            network = (
                _called(layer, self.inputs, main, startup, train=self.train)
                if self.static
                else _traced(layer, self.inputs, train=self.train)
            )
            return _finished(self.name, self.inputs, network)
        self.error = attempt.error
        return None


def _require_inputs(name: str, layer: _Paddle, inputs: Sequence[Input]) -> None:
    if not isinstance(layer, load_paddle().nn.Layer):
        raise ReadError(problems.wrong_type(name, type(layer).__name__))
    check_inputs(name, layer, inputs)


def _refusal(
    name: str, inputs: Sequence[Input], error: BaseException, plain: BaseException
) -> Diagnostic:
    # The frames of code that `to_static` rewrote are worth less than those of the plain build.
    frames = user_frames(plain) or user_frames(error)
    return problems.forward_failed(name, inputs, _reason(error), frames)


def _called(
    layer: _Paddle,
    inputs: Sequence[Input],
    main: _Paddle,
    startup: _Paddle,
    *,
    train: bool,
) -> Network:
    paddle = load_paddle()
    if is_foreign(layer, main):
        raise ReadError(problems.static_layer(type(layer).__name__, inputs))
    attribution = Attribution()
    with layer_mode(layer, train=train), attribution.watching(layer):
        named = named_inputs(layer, inputs)
        feeds = {
            name: paddle.static.data(name, list(feed.shape), feed.dtype)
            for name, feed in named.items()
        }
        with no_silent_branches(main):
            outputs = layer(**feeds) if takes_by_keyword(layer, named) else layer(*feeds.values())
    return _network(layer, main, startup, list(feeds.values()), outputs, attribution)


def _traced(layer: _Paddle, inputs: Sequence[Input], *, train: bool) -> Network:
    paddle = load_paddle()
    if not all(map(is_dynamic, layer.parameters())):
        raise ReadError(problems.static_layer(type(layer).__name__, inputs))
    named = named_inputs(layer, inputs)
    specs = {
        name: paddle.static.InputSpec(list(feed.shape), feed.dtype, name)
        for name, feed in named.items()
    }
    by_keyword = takes_by_keyword(layer, named)
    root = _root(layer, by_keyword=by_keyword)
    attribution = Attribution()
    with layer_mode(layer, train=train), attribution.watching(layer):
        built = paddle.jit.to_static(
            root.forward,
            input_spec=[specs if by_keyword else list(specs.values())],
            full_graph=True,
        ).concrete_program
    feeds = list(flatten(built.inputs[1:]))
    outputs = built.outputs
    if isinstance(outputs, list) and len(built.outputs) == 1:
        outputs = built.outputs[0]
    take_from_layer(built.main_program, layer)
    note_read(layer, built)
    startup = without_initialisers(built.startup_program, held_names(layer))
    return _network(layer, built.main_program, startup, feeds, outputs, attribution)


def _root(layer: _Paddle, *, by_keyword: bool) -> _Paddle:
    """Put a Layer around it, for only a Layer that is called is named in module paths."""
    base: _Paddle = load_paddle().nn.Layer

    class ByPosition(base):
        def __init__(self) -> None:
            base.__init__(self)
            self.layer = layer

        def forward(self, inputs: _Paddle) -> _Paddle:
            return self.layer(*inputs)

    class ByKeyword(ByPosition):
        def forward(self, inputs: _Paddle) -> _Paddle:
            return self.layer(**inputs)

    return ByKeyword() if by_keyword else ByPosition()


def _network(
    layer: _Paddle,
    main: _Paddle,
    startup: _Paddle,
    feeds: Sequence[_Paddle],
    outputs: _Paddle,
    attribution: Attribution,
) -> Network:
    live, names = _annotated(main, attribution)
    entering = tuple(names[identity(value)][0] for value in feeds)
    leaving = tuple(names[identity(value)][-1] for value in flatten(outputs))
    graph = _with_ends(live.graph, entering, leaving)
    report = _outputs_report(type(layer).__name__, outputs)
    return Network(
        live=replace(live, graph=replace(graph, report=report)),
        startup=startup,
        layer=layer,
        feeds=entering,
        fetches=leaving,
        parameters={name: value.name for name, value in layer.state_dict().items()},
    )


def _with_ends(graph: Graph, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Graph:
    values = dict(graph.values)
    for name in feeds:
        values[name] = replace(values[name], origin=Origin.FEED)
    return replace(graph, values=values, feeds=feeds, fetches=fetches)


def _outputs_report(layer: str, outputs: _Paddle) -> Report:
    others = tuple(left_out(outputs))
    return Report((problems.outputs_left_out(layer, others),) if others else ())


def _finished(name: str, inputs: Sequence[Input], network: Network) -> Network:
    """Name a Network after what was asked for, once it is seen that its convolutions can run."""
    wrong = misfit(network.graph)
    if wrong is not None:
        raise ReadError(problems.forward_failed(name, inputs, wrong))
    graph = replace(network.graph, source=name)
    return replace(network, live=replace(network.live, graph=graph))


def _annotated(
    program: _Paddle, attribution: Attribution
) -> tuple[LiveProgram, Mapping[str, list[str]]]:
    if is_legacy(program):
        graph = read_legacy(program)
        ids, names = operator_ids(program, graph), _writes(graph)
        keys: Mapping[str, ValueKey] = {}
    else:
        walk = walk_pir(program)
        graph, ids, keys = walk.graph, walk.ids, walk.keys
        names = {address: [name] for address, name in walk.names.items()}
    graph = attribution.annotate(graph, ids, names)
    return LiveProgram(program=program, graph=graph, keys=keys), names


def _writes(graph: Graph) -> dict[str, list[str]]:
    """Map each Variable of a legacy Graph to the Values that it held, in program order."""
    writes: dict[str, list[str]] = {}
    for name in graph.values:
        writes.setdefault(variable_of(name, graph), []).append(name)
    return writes


def _reason(error: BaseException) -> str:
    text = brief(str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _name(layer: _Paddle) -> str:
    return getattr(layer, "__name__", type(layer).__name__)
