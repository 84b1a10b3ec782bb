"""Build a Layer of dynamic mode into a new static Program, and read that."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from graphtool.arguments import bad_argument
from graphtool.backend.generators import advance_counters, counted_names
from graphtool.backend.layer_weights import (
    Initialisation,
    is_dynamic_parameter,
    layer_tensor_names,
    record_traced_tensors,
    remove_initialisers,
    share_layer_tensors,
)
from graphtool.backend.live import LiveProgram
from graphtool.backend.optimizers import copy_from_layer
from graphtool.backend.paddle import (
    Paddle,
    in_mode,
    ineffective_auto_cast,
    load_paddle,
    program_lock,
)
from graphtool.diagnostics import ReadError, UsageError, warn
from graphtool.graph import UNKNOWN_DIM, Graph, dims_agree
from graphtool.sources import problems
from graphtool.sources.inputs import Input, as_inputs, matched_inputs
from graphtool.sources.tracing import isolated_dynamic_mode, isolated_static_mode, trace
from graphtool.sources.user_code import TIMEOUT, Attempt, error_notes

__all__ = [
    "Network",
    "build_network",
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
    network = build_network(layer, inputs, name=name, train=train, timeout=timeout)
    if isinstance(network, LiveProgram):
        message = f"`{name}` returns a `Program`; wanted a `paddle.nn.Layer`"
        raise ReadError(problems.not_a_network(message))
    advance_counters(network.program, counted_names(network.graph))
    return network


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
        return _build(network.layer, inputs, name=name, train=None, timeout=None)


def build_network(
    source: Paddle,
    inputs: Sequence[Input],
    *,
    name: str,
    train: bool,
    timeout: float | None = TIMEOUT,
) -> Network | LiveProgram:
    """Build a given Layer, whose startup program leaves its weights alone, or what a factory makes.

    A factory is called in dynamic mode. It may also return a Network or a Program, which is read
    unchanged. If it needs static mode, it is called again in that.
    """
    if isinstance(source, load_paddle().nn.Layer):
        with in_mode(static=False):
            return _build(source, inputs, name=name, train=train, timeout=timeout)
    attempt, made = Attempt(timeout), None
    with isolated_dynamic_mode():
        with attempt:
            made = source()
        if attempt.error is None and not isinstance(made, Network) and not is_program(made):
            network = _build(made, inputs, name=name, train=train, timeout=timeout)
            return replace(network, initialisation=replace(network.initialisation, layer=made))
    if attempt.error is not None and _NEEDS_STATIC_MODE in str(attempt.error):
        attempt = Attempt(timeout)
        with isolated_static_mode(), attempt:
            made = source()
    if attempt.error is not None:
        message, wrapper = f"calling `{name}` failed", _wrapper_help(name, source)
        raise ReadError(problems.code_failed(message, error_notes(attempt.error), wrapper))
    if isinstance(made, Network):
        return live_program_of(made)
    if is_program(made):
        return LiveProgram.of(made)
    raise _not_a_layer(name, made, inputs)


def _not_a_layer(name: str, made: Paddle, inputs: Sequence[Input]) -> ReadError:
    kind = type(made).__name__
    if not isinstance(made, load_paddle().nn.Layer):
        message = f"`{name}` returns a `{kind}`; wanted a `paddle.nn.Layer` or a Program"
        return ReadError(problems.not_a_network(message))
    message = f"the parameters of this `{kind}` belong to another static Program"
    call = problems.from_layer_call(inputs, f"lambda: {kind}(...)")
    return ReadError(problems.not_a_network(message, help=call))


def live_program_of(network: Network) -> LiveProgram:
    """Return the Program of a Network, and put the weights of its Layer into the global Scope."""
    share_layer_tensors(network, load_paddle().static.global_scope())
    return network.live


def _wrapper_help(name: str, factory: Callable[..., Paddle]) -> str | None:
    """Return the wrapper to write for a factory that needs arguments, None if it needs none."""
    try:
        inspect.signature(factory).bind()
    except TypeError:
        path = name.replace(":", ".")
        made = path if path.replace(".", "").isidentifier() else "Net"
        return f"write a function without arguments: def net(): return {made}(...)"
    except ValueError:  # Not every function written in C has a signature.
        pass
    return None


def is_program(made: Paddle) -> bool:
    """Return whether an object is a Program of either kind."""
    return hasattr(made, "global_block")


def _build(
    layer: Paddle, inputs: Sequence[Input], *, name: str, train: bool | None, timeout: float | None
) -> Network:
    """Build a Layer of dynamic mode; its startup program leaves the weights alone.

    Raises as `from_layer` does.
    """
    is_layer = isinstance(layer, load_paddle().nn.Layer)
    if not is_layer or not all(map(is_dynamic_parameter, layer.parameters())):
        raise _not_a_layer(name, layer, inputs)
    positional, by_keyword = matched_inputs(name, layer, inputs)
    attempt, network = Attempt(timeout), None
    with attempt:
        concrete, live = trace(layer, positional, by_keyword, train=train)
        copy_from_layer(live.program, layer)
        record_traced_tensors(layer, concrete)
        startup = remove_initialisers(concrete.startup_program, layer_tensor_names(layer))
        network = Network(
            live=replace(live, graph=replace(live.graph, source=name)),
            initialisation=Initialisation(startup, None),
            layer=layer,
            feeds=live.graph.feeds,
            fetches=live.graph.fetches,
            parameters={key: value.name for key, value in layer.state_dict().items()},
        )
    if attempt.error is not None:
        # Paddle raises a ValueError for shapes that an operator refuses.
        is_shape = isinstance(attempt.error, ValueError)
        raise _forward_failed(name, inputs, *error_notes(attempt.error), is_shape=is_shape)
    assert network is not None
    mismatch = _channel_mismatch(network.graph)
    if mismatch is not None:
        raise _forward_failed(name, inputs, mismatch, is_shape=True)
    if not network.fetches:
        raise _forward_failed(name, inputs, "it returns no tensor")
    return network


def _forward_failed(
    name: str, inputs: Sequence[Input], *notes: str, is_shape: bool = False
) -> ReadError:
    """Report a build that failed; if it `is_shape`, the help leaves the shapes to be filled in."""
    shown = ", ".join(f"`{feed}`" for feed in inputs)
    if any(_may_have_two_batches(feed) for feed in inputs):
        # `(None, 3, 8, 8)`, as an InputSpec has it.
        notes = (*notes, "the batch is added to a shape: leave it out")
        inputs = [
            replace(feed, shape=feed.shape[1:]) if _may_have_two_batches(feed) else feed
            for feed in inputs
        ]
        is_shape = False
    items = [(feed.name or "", "SHAPE" if is_shape else feed.spelling) for feed in inputs]
    command = problems.build_command(name, items)
    message = f"`{name}` cannot be built with the inputs {shown}"
    return ReadError(problems.code_failed(message, notes, command))


def _may_have_two_batches(feed: Input) -> bool:
    return feed.shape[1:2] == (UNKNOWN_DIM,)


def _layer_name(layer: Paddle) -> str:
    # A Layer may define `__getattr__` and return anything.
    name = getattr(layer, "__name__", None)
    return name if isinstance(name, str) else type(layer).__name__


def _channel_mismatch(graph: Graph) -> str | None:
    """Describe the first convolution whose filter does not fit the channels of its input, if any.

    Paddle 3 builds such a convolution, and fails when it runs. A filter is `[out, in / groups, …]`,
    that of a transposed convolution `[in, out / groups, …]`.
    """
    for operator in graph.operators.values():
        if operator.kind not in _CONVOLUTIONS | _TRANSPOSED:
            continue
        shapes = [graph.values[name].shape for name in operator.operands[:2] if name is not None]
        groups = operator.attributes.get("groups", 1)
        read, filters = shapes if len(shapes) == 2 else (None, None)
        if not read or not filters or len(read) != len(filters) or not isinstance(groups, int):
            continue
        is_channels_last = str(operator.attributes.get("data_format")).endswith("C")
        actual = read[-1 if is_channels_last else 1]
        expected = filters[0] if operator.kind in _TRANSPOSED else filters[1] * groups
        if not dims_agree(actual, expected) and UNKNOWN_DIM not in filters:
            layer = graph.values[operator.results[0]].layer
            of_layer = "" if layer is None else f" of `{layer}`"
            reads = f"`{operator.name}`{of_layer} reads {actual} channels"
            return f"{reads}; its filter is for {expected}"
    return None
