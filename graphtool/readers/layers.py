"""Build a Layer of the dynamic graph into a static Program of its own, and read that."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

from graphtool.arguments import bad_argument
from graphtool.diagnostics import ReadError, Report, UsageError, warn
from graphtool.graph import Graph, Operator, Origin, dims_agree
from graphtool.readers import problems
from graphtool.readers._attribution import Attribution, flatten, identity
from graphtool.readers._inputs import (
    Input,
    arguments_of,
    as_inputs,
    check_inputs,
    named_inputs,
)
from graphtool.readers._legacy import operator_ids, read_legacy, variable_of
from graphtool.readers._messages import TIMEOUT, Attempt, brief, user_frames
from graphtool.readers._paddle import in_mode, is_legacy, load_paddle, one_at_a_time
from graphtool.readers._pir import ValueKey, walk_pir
from graphtool.readers._surroundings import dynamic_room, layer_mode, static_room
from graphtool.readers.counters import count_past, user_names
from graphtool.readers.layer_weights import (
    Initialisation,
    held_names,
    hold_layer,
    is_dynamic,
    note_read,
    without_initialisers,
)
from graphtool.readers.live import LiveProgram
from graphtool.readers.parameter_attributes import take_from_layer

__all__ = [
    "Network",
    "build_made",
    "build_network",
    "from_layer",
    "handed_over",
    "in_evaluation",
    "is_program",
]

# Layers, Programs, Values and InputSpecs are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any

# What Paddle says of `paddle.static.data` and its like in dynamic mode (2.6 to 3.3).
_NEEDS_STATIC_MODE = "only supported in static graph mode"

_CONVOLUTIONS = frozenset({"conv2d", "conv3d", "depthwise_conv2d"})
_TRANSPOSED = frozenset({"conv2d_transpose", "conv3d_transpose", "depthwise_conv2d_transpose"})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Network:
    """A Layer built into a Program: what an Executor needs, and the Graph with attribute paths.

    `layer` is the Layer that was built; `parameters` maps the names of its `state_dict()` to
    those of the Variables. Of a student from a folder these are known and the Layer is not: None.
    Where a class or factory made the Layer, `startup` sets the weights that its constructor gave
    it, or those that the Layer has got since: what it has when `startup` is asked for. Where the
    Layer was handed over, it leaves them alone. As long as neither that `startup` was asked for nor
    `load_parameters` called, `merge` brings the weights of the Layer.
    """

    live: LiveProgram
    initialisation: Initialisation
    layer: _Paddle
    feeds: tuple[str, ...]
    fetches: tuple[str, ...]
    parameters: Mapping[str, str]

    @property
    def program(self) -> _Paddle:
        """The main Program."""
        return self.live.program

    @property
    def startup(self) -> _Paddle:
        """The startup program."""
        return self.initialisation.program()

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
    timeout: float | None = TIMEOUT,
) -> Network:
    """Build a Layer, or what a class or factory makes, into a static Program of its own.

    Each item of `input_spec` is a `paddle.static.InputSpec`, which holds the batch, or the shape of
    one sample, or `(name, shape, dtype)`: a batch of unknown size is put before those. A class or
    factory is called in dynamic mode. The Program is what `paddle.jit.to_static` makes of the
    Layer, which is left as it was, with its training flags and Paddle's mode. A constructor or a
    forward that takes longer than `timeout` seconds is given up; None waits for ever. Inside of a
    `paddle.amp.auto_cast` that casts nothing it warns: GT055.

    Raises ReadError: GT033 for a Layer made in static mode, GT034 where its forward fails, GT035
    where the factory does, GT040 where it makes no Layer; GT034 and GT035 also after `timeout`.
    Raises UsageError: GT041 where an input is missing, GT042 where `forward` has no place for one,
    GT047 for what describes no input, GT048 for what makes no Layer, GT248.
    """
    paddle = load_paddle()
    _warn_of_no_effect()
    seconds = cast("object", timeout)
    numeric = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if seconds is not None and not (numeric and cast("float", seconds) > 0):
        wanted = "a number of seconds, or None"
        raise UsageError(bad_argument("timeout", timeout, wanted, problems.FROM_LAYER))
    inputs, name = as_inputs(input_spec), _name(layer)
    if not callable(layer):
        raise UsageError(problems.not_a_layer(type(layer).__name__, inputs))
    if isinstance(layer, paddle.nn.Layer):
        network = build_made(layer, inputs, name=name, train=train, timeout=timeout)
    else:
        network = build_network(layer, inputs, name=name, train=train, timeout=timeout)
    if isinstance(network, LiveProgram):
        raise ReadError(problems.wrong_type(name, "Program", "a `paddle.nn.Layer`"))
    count_past(network.program, user_names(network.graph))
    return network


def _warn_of_no_effect() -> None:
    """Warn inside of a `paddle.amp.auto_cast` that casts nothing, as in dynamic mode on a CPU."""
    core = load_paddle().base.core
    if not hasattr(core, "_get_amp_attrs"):  # Paddle 2.6 takes no static Program in it at all.
        return
    # `paddle.amp.auto_cast` is the function; its module knows what was asked for.
    asked = sys.modules["paddle.amp.auto_cast"].amp_state()
    is_on = core._get_amp_attrs()._amp_level != core.AmpLevel.O0  # noqa: SLF001
    if asked and asked.get("enable") and asked.get("level") != "O0" and not is_on:
        warn(problems.auto_cast_without_effect(str(asked.get("dtype"))))


def build_made(
    layer: _Paddle,
    inputs: Sequence[Input],
    *,
    name: str,
    train: bool,
    timeout: float | None = TIMEOUT,
) -> Network:
    """Build a Layer that was handed over."""
    with in_mode(static=False):
        return _built(layer, inputs, name=name, train=train, timeout=timeout, starts=False)


def in_evaluation(network: Network) -> Network:
    """Build the Layer of a Network again, with no `training` flag set.

    Its `eval()` is not called: one that fuses the weights of its Layer has stale ones there.
    Raises ReadError: GT034 where its forward fails.
    """
    values = [network.graph.values[name] for name in network.feeds]
    inputs = [
        Input(one.shape or (), one.dtype or "float32", one.name, renaming=True) for one in values
    ]
    name = network.graph.source
    with in_mode(static=False):
        return _built(network.layer, inputs, name=name, train=None, timeout=None, starts=False)


def build_network(
    factory: Callable[[], _Paddle],
    inputs: Sequence[Input],
    *,
    name: str,
    train: bool,
    timeout: float | None = TIMEOUT,
) -> Network | LiveProgram:
    """Build the Layer that a factory makes in dynamic mode.

    A factory may return a Network instead, which is read as it is, or a Program; one that needs
    static mode for that is called again there.
    """
    attempt, made = Attempt(timeout), None
    with dynamic_room():
        with attempt:
            made = factory()
        if attempt.error is None and not isinstance(made, Network) and not is_program(made):
            return _built(made, inputs, name=name, train=train, timeout=timeout, starts=True)
    if attempt.error is not None and _NEEDS_STATIC_MODE in str(attempt.error):
        attempt = Attempt(timeout)
        with static_room(), attempt:
            made = factory()
    if attempt.error is not None:
        reason, frames = _reason(attempt.error), user_frames(attempt.error)
        raise ReadError(problems.callable_raised(name, reason, frames, _wrapping(name, factory)))
    if isinstance(made, Network):
        return handed_over(made)
    if is_program(made):
        return LiveProgram.of(made)
    raise ReadError(
        problems.static_layer(type(made).__name__, inputs)
        if isinstance(made, load_paddle().nn.Layer)
        else problems.wrong_type(name, type(made).__name__)
    )


def handed_over(network: Network) -> LiveProgram:
    """Return what a Network has; the weights of its Layer are in the global Scope then."""
    hold_layer(network, load_paddle().static.global_scope())
    return network.live


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


def _built(
    layer: _Paddle,
    inputs: Sequence[Input],
    *,
    name: str,
    train: bool | None,
    timeout: float | None,
    starts: bool,
) -> Network:
    """Build a Layer of dynamic mode; where it `starts`, the startup program sets its weights.

    Raises as `from_layer` does.
    """
    if not isinstance(layer, load_paddle().nn.Layer):
        raise ReadError(problems.wrong_type(name, type(layer).__name__))
    if not all(map(is_dynamic, layer.parameters())):
        raise ReadError(problems.static_layer(type(layer).__name__, inputs))
    check_inputs(name, layer, inputs)
    attempt, network = Attempt(timeout), None
    with attempt:
        network = _traced(layer, inputs, train=train, starts=starts)
    if network is None or attempt.error is not None:
        assert attempt.error is not None
        reason, frames = _reason(attempt.error), user_frames(attempt.error)
        raise ReadError(problems.forward_failed(name, inputs, reason, frames))
    wrong = _misfit(network.graph) or (None if network.fetches else "it returns no tensor")
    if wrong is not None:
        raise ReadError(problems.forward_failed(name, inputs, wrong))
    graph = replace(network.graph, source=name)
    return replace(network, live=replace(network.live, graph=graph))


def _misfit(graph: Graph) -> str | None:
    """Name the first convolution whose filter is for another number of channels, if any.

    A filter is `[out, in / groups, …]`, that of a transposed convolution `[in, out / groups, …]`.
    """
    for operator in graph.operators.values():
        if operator.kind in _CONVOLUTIONS | _TRANSPOSED:
            found, wanted = _channels(graph, operator)
            if not dims_agree(found, wanted):
                return (
                    f"{_called(graph, operator)} reads {found} channels; its filter is for {wanted}"
                )
    return None


def _called(graph: Graph, operator: Operator) -> str:
    layer = graph.values[operator.results[0]].layer
    return f"`{operator.name}`" if layer is None else f"`{operator.name}` of `{layer}`"


def _channels(graph: Graph, operator: Operator) -> tuple[int, int]:
    """Return how many channels a convolution reads, and how many its filter is for; -1: unknown."""
    shapes = [graph.values[name].shape for name in operator.operands[:2] if name is not None]
    groups = operator.attributes.get("groups", 1)
    read, weights = shapes if len(shapes) == 2 else (None, None)
    if not read or not weights or len(read) != len(weights) or not isinstance(groups, int):
        return -1, -1
    last = str(operator.attributes.get("data_format")).endswith("C")
    wanted = weights[0] if operator.kind in _TRANSPOSED else weights[1] * groups
    return read[-1 if last else 1], wanted


def _traced(
    layer: _Paddle, inputs: Sequence[Input], *, train: bool | None, starts: bool
) -> Network:
    paddle = load_paddle()
    named = named_inputs(layer, inputs)
    specs = {
        name: paddle.static.InputSpec(list(feed.shape), feed.dtype, name, stop_gradient=True)
        for name, feed in named.items()
    }
    positional, by_keyword = arguments_of(layer, named)
    root = _root(layer)
    attribution = Attribution()
    with layer_mode(layer, train=train), attribution.watching(layer):
        built = paddle.jit.to_static(
            root.forward,
            input_spec=[
                [specs[name] for name in positional],
                {name: specs[name] for name in by_keyword},
            ],
            full_graph=True,
        ).concrete_program
    outputs = built.outputs
    if isinstance(outputs, list) and len(built.outputs) == 1:
        outputs = built.outputs[0]
    main, fed = built.main_program, list(flatten(built.inputs[1:]))
    if is_legacy(main):
        for variable in fed:  # As `data` does: the Program alone says what it is fed then.
            variable.desc.set_need_check_feed(True)
    take_from_layer(main, layer)
    note_read(layer, built)
    startup = without_initialisers(built.startup_program, held_names(layer))
    live, names = _annotated(main, attribution)
    entering = tuple(names[identity(value)][0] for value in fed)
    leaving = tuple(names[identity(value)][-1] for value in flatten(outputs))
    graph = _with_ends(live.graph, entering, leaving)
    report = _outputs_report(type(layer).__name__, outputs)
    return Network(
        live=replace(live, graph=replace(graph, report=report)),
        initialisation=Initialisation(startup, layer if starts else None),
        layer=layer,
        feeds=entering,
        fetches=leaving,
        parameters={name: value.name for name, value in layer.state_dict().items()},
    )


def _root(layer: _Paddle) -> _Paddle:
    """Put a Layer around it, for only a Layer that is called is named in module paths."""
    base: _Paddle = load_paddle().nn.Layer

    class Root(base):
        def __init__(self) -> None:
            base.__init__(self)
            self.layer = layer

        def forward(self, positional: _Paddle, by_keyword: _Paddle) -> _Paddle:
            return self.layer(*positional, **by_keyword)

    return Root()


def _with_ends(graph: Graph, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Graph:
    values = dict(graph.values)
    for name in feeds:
        values[name] = replace(values[name], origin=Origin.FEED)
    return replace(graph, values=values, feeds=feeds, fetches=fetches)


def _outputs_report(layer: str, outputs: _Paddle) -> Report:
    others = tuple(_left_out(outputs))
    return Report((problems.outputs_left_out(layer, others),) if others else ())


def _left_out(outputs: _Paddle, path: str = "") -> Iterator[str]:
    """Name what is neither a tensor nor None nor a list, tuple or dict of such: `["a"][2]: int`."""
    if outputs is None or hasattr(outputs, "stop_gradient"):
        return
    if isinstance(outputs, dict):
        listed = cast("Mapping[_Paddle, _Paddle]", outputs).items()
    elif isinstance(outputs, list | tuple):
        listed = enumerate(cast("Sequence[_Paddle]", outputs))
    else:
        yield f"`{path}`: {type(outputs).__name__}" if path else type(outputs).__name__
        return
    for key, item in listed:
        yield from _left_out(item, f"{path}[{key!r}]")


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
    # A Layer may answer to any name, with anything.
    name = getattr(layer, "__name__", None)
    return name if isinstance(name, str) else type(layer).__name__
