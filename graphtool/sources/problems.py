"""What can be wrong with a Layer or callable to build, or with what is no source: GT03x, GT04x."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from graphtool.arguments import short_repr
from graphtool.diagnostics import Diagnostic, Severity, listed, rule
from graphtool.text import path_argument, shell_command, shell_option, string_literal

if TYPE_CHECKING:
    from graphtool.sources._inputs import Input

__all__ = [
    "FROM_LAYER",
    "auto_cast_without_effect",
    "bad_callable_spec",
    "bad_input",
    "bad_input_spec",
    "callable_raised",
    "forward_failed",
    "from_layer_call",
    "inputs_not_used",
    "missing_input",
    "module_not_imported",
    "nameless_model",
    "no_such_attribute",
    "not_a_layer",
    "not_a_source",
    "outputs_left_out",
    "static_layer",
    "unknown_input",
    "wrong_type",
]

_MAX_OUTPUTS = 8
_INPUTS = "--input 3,224,224, or --input NAME=3,224,224:float32 for each input"


FROM_LAYER = 'gt.from_layer(layer, [("image", (3, 224, 224))])'


@rule("GT018")
def nameless_model() -> Diagnostic:
    """MODEL is an empty text, as a shell variable that was never set gives.

    The working directory is spelt `.`.
    """
    return Diagnostic(message="MODEL is empty", help="graphtool inspect .")


@rule("GT033")
def static_layer(layer: str, inputs: Sequence[Input]) -> Diagnostic:
    """The Layer was made in static mode, so its parameters live in the Program it was made in.

    Give the class, or a function that makes the Layer, which is called in dynamic mode; or make the
    Layer there, after `paddle.disable_static()`, before you hand it over.
    """
    return Diagnostic(
        message=f"the parameters of this `{layer}` belong to another static Program",
        help=from_layer_call(inputs, f"lambda: {layer}(...)"),
    )


@rule("GT034")
def forward_failed(
    layer: str, inputs: Sequence[Input], reason: str, frames: Sequence[str] = ()
) -> Diagnostic:
    """Building the network's Program failed while its `forward` ran.

    Most often an input has the wrong rank, size or dtype: the message is Paddle's, the notes are
    the lines of the network that were running. The Program is what `paddle.jit.to_static` makes of
    the Layer; Python that it cannot convert, `zip(..., strict=True)` say, stays as it is in a
    function marked `@paddle.jit.not_to_static`. A `forward` that does not return within 120 s is
    given up; `gt.from_layer(..., timeout=None)` waits.
    """
    shown = ", ".join(f"`{feed}`" for feed in inputs)
    return Diagnostic(
        message=f"`{layer}` cannot be built with the inputs {shown}",
        notes=(reason, *frames),
        help=_with_inputs(layer, [(feed.name or "", feed.spelling) for feed in inputs]),
    )


@rule("GT035")
def callable_raised(
    name: str, reason: str, frames: Sequence[str] = (), help: str | None = None
) -> Diagnostic:
    """The class or function that makes the network raised before it returned anything.

    The notes are the error and the lines of your code that were running, outermost first. It is
    called in dynamic mode and without arguments: where it needs some, write a function that gives
    them, and name that. One that does not return within 120 s is given up;
    `gt.from_layer(..., timeout=None)` waits.
    """
    return Diagnostic(
        message=f"`{name}` raised before it returned a network", notes=(reason, *frames), help=help
    )


@rule("GT036")
def bad_callable_spec(spec: str, near: str) -> Diagnostic:
    """A builder is named as `module:callable`, as Python imports it.

    The module is found from the working directory too: `nets/teacher.py` is `nets.teacher`. The
    callable is a Layer class, a function that returns a Layer, or one that returns a Program.
    """
    return Diagnostic(
        message=f"`{spec}` is no `module:callable`",
        help=_with_inputs(near, [("", "3,224,224")]),
    )


@rule("GT037")
def bad_input(text: str, dtypes: Sequence[str]) -> Diagnostic:
    """An input is spelt `3,224,224`, or `NAME=3,224,224:float32` where a network has several.

    It is the shape of one sample: the batch, of unknown size, is put before it. `?` is a dim of
    unknown size, `scalar` a sample without dims. The name is that of the parameter of `forward`;
    where that has a single one, it may be any, and is what the feed is called.
    """
    return Diagnostic(
        message=f"`{text}` is no input",
        notes=(f"dtypes: {', '.join(dtypes)}",),
        help=_INPUTS,
    )


@rule("GT038")
def module_not_imported(name: str, reason: str, frames: Sequence[str] = ()) -> Diagnostic:
    """The module of a `module:callable` does not import.

    It is looked for in the working directory, then where Python looks. The notes are the lines of
    your code that were running, outermost first.
    """
    return Diagnostic(
        message=f"module `{name}` does not import",
        notes=(reason, *frames),
        help=shell_command("python", "-c", f"import {name}"),
    )


@rule("GT039")
def no_such_attribute(
    module: str, name: str, near: Sequence[str] = (), inputs: Sequence[str] = ()
) -> Diagnostic:
    """The module of a `module:callable` has nothing of that name.

    The note gives the classes and functions in it whose names are nearest.
    """
    return Diagnostic(
        message=f"module `{module}` has no `{name}`",
        notes=(f"nearest: {', '.join(f'`{other}`' for other in near)}",) if near else (),
        help=" ".join(
            (_inspect(f"{module}:{near[0]}"), *(shell_option("--input", text) for text in inputs))
        )
        if near
        else None,
    )


@rule("GT040")
def wrong_type(
    name: str, found: str, wanted: str = "a `paddle.nn.Layer` or a Program"
) -> Diagnostic:
    """A builder is a Layer class, or a function that returns a Layer or a Program; this is not.

    A function that returns several things, or nothing, needs a small one around it that returns the
    Layer alone.
    """
    return Diagnostic(message=f"`{name}` gives a `{found}`; wanted {wanted}")


@rule("GT041")
def missing_input(
    name: str, missing: Sequence[str], given: Mapping[str, str] | None = None
) -> Diagnostic:
    """A Layer is built with an input for each parameter of its `forward`: give their shapes.

    Give the shape of one sample: the batch is put before it. Parameters that have a default may be
    left out.
    """
    known = given or {}
    shapes = {**known, **dict.fromkeys(missing, "3,224,224")} or {"": "3,224,224"}
    only = next(iter(shapes.values()))
    listed = ", ".join(f"`{parameter}`" for parameter in missing)
    if known:
        message = f"`{name}` needs the shape of {listed} too"
    else:
        message = f"`{name}` is a Layer: the shapes of its inputs are needed"
    return Diagnostic(
        message=message,
        notes=(f"its forward takes {listed}",) if missing and not known else (),
        help=_with_inputs(name, list(shapes.items()) if len(shapes) > 1 else [("", only)]),
    )


@rule("GT042")
def unknown_input(
    name: str, stray: Sequence[str], parameters: Sequence[str], wanted: Mapping[str, str]
) -> Diagnostic:
    """An input is named as no parameter of the network's `forward`, or there are too many inputs.

    The name in `--input NAME=3,224,224` is that of a parameter of `forward`, and each parameter
    takes one input. From Python, InputSpecs may have names of their own where they are given in the
    order of the parameters; so may the only input of a `forward` with one parameter: that is then
    what the feed is called.
    """
    listed = ", ".join(f"`{parameter}`" for parameter in parameters)
    return Diagnostic(
        message=f"`{name}` has no place for the input {', '.join(f'`{text}`' for text in stray)}",
        notes=(
            f"its forward takes {listed}{', each once' if len(parameters) > 1 else ''}"
            if parameters
            else "its forward takes none",
        ),
        help=_with_inputs(name, list(wanted.items())),
    )


@rule("GT043")
def outputs_left_out(name: str, outputs: Sequence[str]) -> Diagnostic:
    """The network returns things besides tensors; a Program has no place for them.

    What is listed is a number, a text or an object that `forward` returned as it was: it is no
    fetch of the Program that was built. None is not listed.
    """
    shown = listed(outputs, _MAX_OUTPUTS, quote="")
    return Diagnostic(
        message=f"what `{name}` returns besides tensors is left out: {shown}",
        severity=Severity.NOTE,
    )


@rule("GT044")
def inputs_not_used(name: str) -> Diagnostic:
    """A `module:callable` that gives a Program has the feeds of that: `--input` is left aside."""
    return Diagnostic(
        message=f"`{name}` gives a Program, which has its own feeds: the inputs given are not used",
        severity=Severity.NOTE,
    )


@rule("GT046")
def not_a_source(found: str) -> Diagnostic:
    """What is to be read is no path, Program or Graph.

    A Layer is built into a Program first: `gt.from_layer` takes it with the shapes of its inputs.
    """
    return Diagnostic(
        message=f"a `{found}` cannot be read: wanted a path, a Program, or what has one",
        help=FROM_LAYER,
    )


@rule("GT047")
def bad_input_spec(given: object, wanted: Sequence[Input] = ()) -> Diagnostic:
    """An item of `input_spec` describes no input.

    An item is the shape of one sample, `(3, 224, 224)`, before which a batch of unknown size is
    put; `(name, shape)` or `(name, shape, dtype)`, where the name is that of a parameter of
    `forward`; or a `paddle.static.InputSpec`, whose shape has the batch. Dims are whole numbers,
    None or -1 where they are not known.
    """
    return Diagnostic(
        message=f"`input_spec` has `{short_repr(given)}`; wanted a shape, `(name, shape)`, "
        "`(name, shape, dtype)` or an InputSpec",
        help=from_layer_call(wanted),
    )


@rule("GT048")
def not_a_layer(found: str, inputs: Sequence[Input]) -> Diagnostic:
    """`gt.from_layer` takes a Layer, or a class or function that makes one."""
    return Diagnostic(
        message=f"a `{found}` is no Layer, nor a class or function that makes one",
        help=from_layer_call(inputs),
    )


@rule("GT055")
def auto_cast_without_effect(dtype: str) -> Diagnostic:
    """The network was built inside of `paddle.amp.auto_cast`, which casts nothing here.

    In dynamic mode Paddle switches it off on a CPU. In static mode it casts to bfloat16 there, in
    Layers that were made in dynamic mode as well, and refuses float16.
    """
    return Diagnostic(
        message=f"`auto_cast` to {dtype} has no effect in dynamic mode on this device: "
        "the network is built without casts",
        severity=Severity.WARNING,
        help='paddle.enable_static()  # then, with paddle.amp.auto_cast(dtype="bfloat16"): '
        "gt.from_layer(...)",
    )


def _is_named(network: str) -> bool:
    """Tell `module:callable`, which a command takes, from what Python calls a class or function."""
    return ":" in network


def from_layer_call(inputs: Sequence[Input], layer: str = "layer") -> str:
    """Spell the call that builds a Layer with these inputs, an image where there are none."""
    if not inputs:
        return FROM_LAYER
    return _built(layer, [(feed.name or "", feed.spelling) for feed in inputs])


def _with_inputs(network: str, inputs: Sequence[tuple[str, str]]) -> str:
    """Spell a network with its inputs, by names where there are any, as it was asked for."""
    if not _is_named(network):
        return _built("layer", inputs)
    texts = (f"{name}={shape}" if name else shape for name, shape in inputs)
    return " ".join((_inspect(network), *(shell_option("--input", text) for text in texts)))


def _built(layer: str, inputs: Sequence[tuple[str, str]]) -> str:
    return f"gt.from_layer({layer}, [{', '.join(_item(*each) for each in inputs)}])"


def _item(name: str, shape: str) -> str:
    """Spell what `--input` takes as an item of `input_spec`: `("mask", (128,), "int64")`."""
    dims, _, dtype = shape.partition(":")
    sizes = [] if dims == "scalar" else dims.replace("?", "None").split(",")
    spelt = f"({', '.join(sizes)}{',' * (len(sizes) == 1)})"
    if not (name or dtype):
        return spelt
    kind = f", {string_literal(dtype)}" if dtype else ""
    return f"({string_literal(name)}, {spelt}{kind})"


def _inspect(model: str) -> str:
    return shell_command("graphtool", "inspect", path_argument(model))
