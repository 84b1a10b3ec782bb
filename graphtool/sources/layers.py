"""Build a Layer of dynamic mode into a new static Program, and read that."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from graphtool.arguments import bad_argument
from graphtool.backend.errors import shortened_message
from graphtool.backend.generators import advance_counters, counted_names
from graphtool.backend.layer_weights import (
    Initialisation,
    is_dynamic_parameter,
    layer_tensor_names,
    record_traced_tensors,
    remove_initialisers,
    share_layer_tensors,
)
from graphtool.backend.legacy import operator_ids, read_legacy
from graphtool.backend.live import LiveProgram
from graphtool.backend.optimizers import copy_from_layer
from graphtool.backend.paddle import (
    Paddle,
    in_mode,
    ineffective_auto_cast,
    is_legacy,
    load_paddle,
    program_lock,
)
from graphtool.backend.pir import ValueKey, read_pir
from graphtool.diagnostics import ReadError, Report, UsageError, warn
from graphtool.graph import UNKNOWN_DIM, Graph, Operator, Origin, dims_agree, variable_of
from graphtool.sources import problems
from graphtool.sources._attribution import Attribution, flatten, value_id
from graphtool.sources._build_context import isolated_dynamic_mode, isolated_static_mode, layer_mode
from graphtool.sources._inputs import Input, arguments_of, as_inputs, check_inputs, named_inputs
from graphtool.sources.user_code import TIMEOUT, Attempt, user_frames

__all__ = [
    "Network",
    "build_factory",
    "build_layer",
    "evaluation_network",
    "from_layer",
    "is_program",
    "live_program_of",
]


# In Paddle's error about `paddle.static.data` and the like in dynamic mode (2.6 to 3.3).
_NEEDS_STATIC_MODE = "only supported in static graph mode"

_CONVOLUTIONS = frozenset({"conv2d", "conv3d", "depthwise_conv2d"})
_TRANSPOSED = frozenset({"conv2d_transpose", "conv3d_transpose", "depthwise_conv2d_transpose"})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Network:
    """A Layer built into a Program: what an Executor needs, and the Graph with attribute paths.

    `layer` is the Layer that was built, None for a student loaded from a folder. `parameters` maps
    the names of its `state_dict()` to those of the Variables. If a class or factory made the Layer,
    `startup` sets the weights that the Layer has when `startup` is read, at first those of its
    constructor; if a Layer was given, `startup` leaves the weights alone. Until `startup` is read
    or `load_parameters` called, `merge` takes the weights from the Layer.
    """

    live: LiveProgram
    initialisation: Initialisation
    layer: Paddle
    feeds: tuple[str, ...]
    fetches: tuple[str, ...]
    parameters: Mapping[str, str]

    @property
    def program(self) -> Paddle:
        """The main Program."""
        return self.live.program

    @property
    def startup(self) -> Paddle:
        """The startup program."""
        return self.initialisation.program()

    @property
    def graph(self) -> Graph:
        """The Graph of the main Program."""
        return self.live.graph

    def value(self, selector: str) -> Paddle:
        """Return the Paddle Value or Variable that a selector means, as `LiveProgram.value`."""
        return self.live.value(selector)

    def __repr__(self) -> str:
        return f"Network({self.graph!r})"


@program_lock()
def from_layer(
    layer: Paddle | Callable[[], Paddle],
    input_spec: Sequence[Paddle],
    *,
    train: bool = True,
    timeout: float | None = TIMEOUT,
) -> Network:
    """Build a Layer, or what a class or factory makes, into a new static Program.

    Each item of `input_spec` is a `paddle.static.InputSpec`, which includes the batch, or the shape
    of one sample, or `(name, shape, dtype)`: a batch of unknown size is prepended to these. A class
    or factory is called in dynamic mode. The Program is built by `paddle.jit.to_static`. The Layer,
    its training flags and Paddle's mode do not change. A constructor or forward that takes longer
    than `timeout` seconds is aborted; None waits forever. Inside a `paddle.amp.auto_cast` without
    effect it warns: GT055.

    Raises ReadError: GT034 if the forward or the factory fails or exceeds `timeout`, GT036 for a
    Layer made in static mode, or if the factory makes no Layer. Raises UsageError: GT036 if `layer`
    cannot make a Layer, GT037 for an invalid item of `input_spec`, a missing input, or one without
    a parameter of `forward`, GT248.
    """
    paddle = load_paddle()
    dtype = ineffective_auto_cast()
    if dtype is not None:
        warn(problems.auto_cast_without_effect(dtype))
    seconds = cast("object", timeout)
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if seconds is not None and not (is_number and cast("float", seconds) > 0):
        expected = "a number of seconds, or None"
        raise UsageError(bad_argument("timeout", timeout, expected, problems.FROM_LAYER))
    inputs, name = as_inputs(input_spec), _layer_name(layer)
    if not callable(layer):
        kind = type(layer).__name__
        message = f"a `{kind}` is not a Layer, nor a class or function that makes one"
        raise UsageError(problems.not_a_network(message, help=problems.from_layer_call(inputs)))
    if isinstance(layer, paddle.nn.Layer):
        network = build_layer(layer, inputs, name=name, train=train, timeout=timeout)
    else:
        network = build_factory(layer, inputs, name=name, train=train, timeout=timeout)
    if isinstance(network, LiveProgram):
        message = f"`{name}` returns a `Program`; wanted a `paddle.nn.Layer`"
        raise ReadError(problems.not_a_network(message))
    advance_counters(network.program, counted_names(network.graph))
    return network


def build_layer(
    layer: Paddle,
    inputs: Sequence[Input],
    *,
    name: str,
    train: bool,
    timeout: float | None = TIMEOUT,
) -> Network:
    """Build a given Layer; its startup program leaves its weights alone."""
    with in_mode(static=False):
        return _build(layer, inputs, name=name, train=train, timeout=timeout, has_startup=False)


def evaluation_network(network: Network) -> Network:
    """Build the Layer of a Network again, with no `training` flag set.

    Its `eval()` is not called: one that fuses weights would fuse those of the Layer, not the
    trained ones. Raises ReadError: GT034 if its forward fails.
    """
    values = [network.graph.values[name] for name in network.feeds]
    inputs = [
        Input(one.shape or (), one.dtype or "float32", one.name, renaming=True) for one in values
    ]
    name = network.graph.source
    with in_mode(static=False):
        return _build(network.layer, inputs, name=name, train=None, timeout=None, has_startup=False)


def build_factory(
    factory: Callable[[], Paddle],
    inputs: Sequence[Input],
    *,
    name: str,
    train: bool,
    timeout: float | None = TIMEOUT,
) -> Network | LiveProgram:
    """Build the Layer that a factory makes in dynamic mode.

    A factory may also return a Network or a Program, which is read unchanged. If it needs static
    mode, it is called again in that.
    """
    attempt, made = Attempt(timeout), None
    with isolated_dynamic_mode():
        with attempt:
            made = factory()
        if attempt.error is None and not isinstance(made, Network) and not is_program(made):
            return _build(made, inputs, name=name, train=train, timeout=timeout, has_startup=True)
    if attempt.error is not None and _NEEDS_STATIC_MODE in str(attempt.error):
        attempt = Attempt(timeout)
        with isolated_static_mode(), attempt:
            made = factory()
    if attempt.error is not None:
        reason, frames = _error_summary(attempt.error), user_frames(attempt.error)
        message, wrapper = f"calling `{name}` failed", _wrapper_help(name, factory)
        raise ReadError(problems.code_failed(message, reason, frames, wrapper))
    if isinstance(made, Network):
        return live_program_of(made)
    if is_program(made):
        return LiveProgram.of(made)
    if isinstance(made, load_paddle().nn.Layer):
        raise _static_layer(made, inputs)
    raise _wrong_type(name, made)


def _static_layer(layer: Paddle, inputs: Sequence[Input]) -> ReadError:
    kind = type(layer).__name__
    message = f"the parameters of this `{kind}` belong to another static Program"
    call = problems.from_layer_call(inputs, f"lambda: {kind}(...)")
    return ReadError(problems.not_a_network(message, help=call))


def _wrong_type(name: str, made: Paddle) -> ReadError:
    message = f"`{name}` returns a `{type(made).__name__}`"
    return ReadError(problems.not_a_network(f"{message}; wanted a `paddle.nn.Layer` or a Program"))


def live_program_of(network: Network) -> LiveProgram:
    """Return the Program of a Network, and put the weights of its Layer into the global Scope."""
    share_layer_tensors(network, load_paddle().static.global_scope())
    return network.live


def _wrapper_help(name: str, factory: Callable[[], Paddle]) -> str | None:
    """Return the wrapper to write for a factory that needs arguments, None if it needs none."""
    if not _needs_arguments(factory):
        return None
    path = name.replace(":", ".")
    made = path if path.replace(".", "").isidentifier() else "Net"
    return f"write a function without arguments: def net(): return {made}(...)"


def _needs_arguments(factory: Callable[..., Paddle]) -> bool:
    try:
        inspect.signature(factory).bind()
    except TypeError:
        return True
    except ValueError:  # Not every function written in C has a signature.
        return False
    return False


def is_program(made: Paddle) -> bool:
    """Return whether an object is a Program of either kind."""
    return hasattr(made, "global_block")


def _build(
    layer: Paddle,
    inputs: Sequence[Input],
    *,
    name: str,
    train: bool | None,
    timeout: float | None,
    has_startup: bool,
) -> Network:
    """Build a Layer of dynamic mode; if `has_startup`, the startup program sets its weights.

    Raises as `from_layer` does.
    """
    if not isinstance(layer, load_paddle().nn.Layer):
        raise _wrong_type(name, layer)
    if not all(map(is_dynamic_parameter, layer.parameters())):
        raise _static_layer(layer, inputs)
    check_inputs(name, layer, inputs)
    attempt, network = Attempt(timeout), None
    with attempt:
        network = _trace(layer, inputs, train=train, has_startup=has_startup)
    if network is None or attempt.error is not None:
        assert attempt.error is not None
        reason, frames = _error_summary(attempt.error), user_frames(attempt.error)
        # Paddle raises a ValueError for shapes that an operator refuses.
        is_shape = isinstance(attempt.error, ValueError)
        raise _forward_failed(name, inputs, reason, frames, is_shape=is_shape)
    mismatch = _channel_mismatch(network.graph)
    if mismatch is not None:
        raise _forward_failed(name, inputs, mismatch, is_shape=True)
    if not network.fetches:
        raise _forward_failed(name, inputs, "it returns no tensor")
    graph = replace(network.graph, source=name)
    return replace(network, live=replace(network.live, graph=graph))


def _forward_failed(
    name: str,
    inputs: Sequence[Input],
    reason: str,
    frames: Sequence[str] = (),
    *,
    is_shape: bool = False,
) -> ReadError:
    """Report a build that failed; if it `is_shape`, the help leaves the shapes to be filled in."""
    shown = ", ".join(f"`{feed}`" for feed in inputs)
    if any(_may_have_two_batches(feed) for feed in inputs):
        # `(None, 3, 8, 8)`, as an InputSpec has it.
        frames = (*frames, "the batch is added to a shape: leave it out")
        inputs = [
            replace(feed, shape=feed.shape[1:]) if _may_have_two_batches(feed) else feed
            for feed in inputs
        ]
        is_shape = False
    shapes = ["SHAPE" if is_shape else feed.spelling for feed in inputs]
    names = [feed.name or "" for feed in inputs]
    command = problems.build_command(name, list(zip(names, shapes, strict=True)))
    message = f"`{name}` cannot be built with the inputs {shown}"
    return ReadError(problems.code_failed(message, reason, frames, command))


def _may_have_two_batches(feed: Input) -> bool:
    return feed.shape[1:2] == (UNKNOWN_DIM,)


def _trace(
    layer: Paddle, inputs: Sequence[Input], *, train: bool | None, has_startup: bool
) -> Network:
    paddle = load_paddle()
    named = named_inputs(layer, inputs)
    specs = {
        name: paddle.static.InputSpec(list(feed.shape), feed.dtype, name, stop_gradient=True)
        for name, feed in named.items()
    }
    positional, by_keyword = arguments_of(layer, named)
    root = _root_layer(layer)
    attribution = Attribution()
    with layer_mode(layer, train=train), attribution.recording(layer):
        concrete = paddle.jit.to_static(
            root.forward,
            input_spec=[
                [specs[name] for name in positional],
                {name: specs[name] for name in by_keyword},
            ],
            full_graph=True,
        ).concrete_program
    outputs = concrete.outputs
    if isinstance(outputs, list) and len(concrete.outputs) == 1:
        outputs = concrete.outputs[0]
    program, inputs_built = concrete.main_program, list(flatten(concrete.inputs[1:]))
    if is_legacy(program):
        # `paddle.static.data` does the same: it marks the feeds in the Program itself.
        for variable in inputs_built:
            variable.desc.set_need_check_feed(True)
    copy_from_layer(program, layer)
    record_traced_tensors(layer, concrete)
    startup = remove_initialisers(concrete.startup_program, layer_tensor_names(layer))
    live, names = _annotated(program, attribution)
    feeds = tuple(names[value_id(value)][0] for value in inputs_built)
    fetches = tuple(names[value_id(value)][-1] for value in flatten(outputs))
    values = dict(live.graph.values)
    for name in feeds:
        values[name] = replace(values[name], origin=Origin.FEED)
    others = tuple(_non_tensors(outputs))
    report = Report((problems.outputs_left_out(type(layer).__name__, others),) if others else ())
    graph = replace(live.graph, values=values, feeds=feeds, fetches=fetches, report=report)
    return Network(
        live=replace(live, graph=graph),
        initialisation=Initialisation(startup, layer if has_startup else None),
        layer=layer,
        feeds=feeds,
        fetches=fetches,
        parameters={name: value.name for name, value in layer.state_dict().items()},
    )


def _root_layer(layer: Paddle) -> Paddle:
    """Wrap a Layer in another: module paths have only Layers that are called."""
    base: Paddle = load_paddle().nn.Layer

    class Root(base):
        def __init__(self) -> None:
            base.__init__(self)
            self.layer = layer

        def forward(self, positional: Paddle, by_keyword: Paddle) -> Paddle:
            return self.layer(*positional, **by_keyword)

    return Root()


def _non_tensors(outputs: Paddle, path: str = "") -> Iterator[str]:
    """Yield the outputs of `forward` that are not tensors, with their paths: `["a"][2]: int`.

    None, and lists, tuples and dicts of tensors, are skipped.
    """
    if outputs is None or hasattr(outputs, "stop_gradient"):
        return
    if isinstance(outputs, dict):
        items = cast("Mapping[Paddle, Paddle]", outputs).items()
    elif isinstance(outputs, list | tuple):
        items = enumerate(cast("Sequence[Paddle]", outputs))
    else:
        yield f"`{path}`: {type(outputs).__name__}" if path else type(outputs).__name__
        return
    for key, item in items:
        yield from _non_tensors(item, f"{path}[{key!r}]")


def _annotated(
    program: Paddle, attribution: Attribution
) -> tuple[LiveProgram, Mapping[str, list[str]]]:
    """Read a Program with attribute paths; also return names of Values by `value_id`."""
    if is_legacy(program):
        graph = read_legacy(program)
        ids, names = operator_ids(program, graph), _values_by_variable(graph)
        keys: Mapping[str, ValueKey] = {}
    else:
        walk = read_pir(program)
        graph, ids, keys = walk.graph, walk.ids, walk.keys
        names = {address: [name] for address, name in walk.names.items()}
    graph = attribution.annotate(graph, ids, names)
    return LiveProgram(program=program, graph=graph, keys=keys), names


def _values_by_variable(graph: Graph) -> dict[str, list[str]]:
    """Map each Variable of a legacy Graph to the Values that it held, in program order."""
    names: dict[str, list[str]] = {}
    for name in graph.values:
        names.setdefault(variable_of(name, graph), []).append(name)
    return names


def _error_summary(error: BaseException) -> str:
    text = shortened_message(str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _layer_name(layer: Paddle) -> str:
    # A Layer may define `__getattr__` and return anything.
    name = getattr(layer, "__name__", None)
    return name if isinstance(name, str) else type(layer).__name__


def _channel_mismatch(graph: Graph) -> str | None:
    """Describe the first convolution whose filter does not fit the channels of its input, if any.

    Paddle 3 builds such a convolution, and fails when it runs.
    """
    for operator in graph.operators.values():
        if operator.kind in _CONVOLUTIONS | _TRANSPOSED:
            actual, expected = _channels(graph, operator)
            if not dims_agree(actual, expected):
                layer = graph.values[operator.results[0]].layer
                of_layer = "" if layer is None else f" of `{layer}`"
                return (
                    f"`{operator.name}`{of_layer} reads {actual} channels; "
                    f"its filter is for {expected}"
                )
    return None


def _channels(graph: Graph, operator: Operator) -> tuple[int, int]:
    """Return how many channels a convolution reads and how many its filter is for, -1 if unknown.

    A filter is `[out, in / groups, …]`, that of a transposed convolution `[in, out / groups, …]`.
    """
    shapes = [graph.values[name].shape for name in operator.operands[:2] if name is not None]
    groups = operator.attributes.get("groups", 1)
    input_shape, filter_shape = shapes if len(shapes) == 2 else (None, None)
    if not input_shape or not filter_shape or len(input_shape) != len(filter_shape):
        return -1, -1
    if not isinstance(groups, int):
        return -1, -1
    is_channels_last = str(operator.attributes.get("data_format")).endswith("C")
    is_transposed = operator.kind in _TRANSPOSED
    expected = filter_shape[0] if is_transposed else filter_shape[1] * groups
    return input_shape[-1 if is_channels_last else 1], expected
