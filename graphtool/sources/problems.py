"""What can be wrong with code that builds a network, or with what is no source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from graphtool.diagnostics import Diagnostic, Severity, listed, rule
from graphtool.text import inspect_command, shell_option, string_literal

if TYPE_CHECKING:
    from graphtool.sources.inputs import Input

__all__ = [
    "FROM_LAYER",
    "SAMPLE",
    "auto_cast_without_effect",
    "bad_input",
    "build_command",
    "code_failed",
    "from_layer_call",
    "not_a_network",
    "not_a_source",
    "outputs_left_out",
]

FROM_LAYER = 'gt.from_layer(layer, [("image", (3, 224, 224))])'
# The shape of a sample in helps.
SAMPLE = "3,224,224"
_MAX_OUTPUTS = 8


@rule("GT034", replaces=("GT035", "GT038"))
def code_failed(message: str, notes: Sequence[str], help: str | None = None) -> Diagnostic:
    """The module, the constructor or the `forward` of the network raised, or took too long.

    The notes are the error and the lines of your code that were running, outermost first. A module
    is looked up in the working directory first, then where Python looks. A class or function is
    called in dynamic mode without arguments: if it needs some, write a function that passes them.

    A `forward` fails most often because an input has the wrong rank, size or dtype. It is converted
    by `paddle.jit.to_static`: move what cannot be converted, such as `zip(..., strict=True)`, to a
    function marked `@paddle.jit.not_to_static`. A constructor or `forward` that takes more than
    120 s is aborted; `gt.from_layer(..., timeout=None)` waits.
    """
    return Diagnostic(message=message, notes=tuple(notes), help=help)


@rule("GT036", replaces=("GT033", "GT039", "GT040", "GT046", "GT048"))
def not_a_network(
    message: str, *, notes: tuple[str, ...] = (), help: str | None = None
) -> Diagnostic:
    """The source is not a network, nor code that builds one.

    A network is a path, a Program, an object that has one, or code as `module:callable`: a Layer
    class, or a function that returns a Layer or a Program and nothing else. The module is named as
    Python imports it (`nets/teacher.py` is `nets.teacher`) and is also found from the working
    directory.

    Build a Layer with `gt.from_layer`, which takes it with the shapes of its inputs. The parameters
    of a Layer that was made in static mode belong to another Program: pass the class, or a
    function, instead, or make the Layer after `paddle.disable_static()`.
    """
    return Diagnostic(message=message, notes=notes, help=help)


def not_a_source(source: object) -> Diagnostic:
    """Report an object that is neither a path nor a live network."""
    return not_a_network(
        f"cannot read a `{type(source).__name__}`; wanted a path, a Program, or an object with one",
        help=FROM_LAYER,
    )


@rule("GT037", replaces=("GT041", "GT042", "GT044", "GT047"))
def bad_input(
    message: str,
    *,
    notes: tuple[str, ...] = (),
    help: str | None = None,
    severity: Severity = Severity.ERROR,
) -> Diagnostic:
    """An input of the network is missing, malformed, or one that it does not have.

    Give each parameter of `forward` without a default the shape of one sample; a batch of unknown
    size is prepended. `--input` takes `3,224,224`, or `NAME=3,224,224:float32` if there are
    several; `?` is a dim of unknown size, `scalar` a sample without dims. An item of `input_spec`
    is a shape, `(name, shape)`, `(name, shape, dtype)`, or an InputSpec, whose shape includes the
    batch.

    Names are those of the parameters. If there is one parameter, or InputSpecs are in the order of
    the parameters, other names are allowed and become those of the feeds. A Program has its own
    feeds, so inputs are ignored.
    """
    return Diagnostic(message=message, severity=severity, notes=notes, help=help)


@rule("GT043")
def outputs_left_out(name: str, outputs: Sequence[str]) -> Diagnostic:
    """The network returns values that are not tensors, which a Program cannot fetch.

    Numbers, strings and other objects that `forward` returns are listed; None is not.
    """
    shown = listed(outputs, _MAX_OUTPUTS, quote="")
    return Diagnostic(
        message=f"`{name}` returns values that are not tensors, which are left out: {shown}",
        severity=Severity.NOTE,
    )


@rule("GT055")
def auto_cast_without_effect(dtype: str) -> Diagnostic:
    """The network was built inside `paddle.amp.auto_cast`, which has no effect here.

    In dynamic mode Paddle disables it on a CPU. In static mode it casts to bfloat16 on a CPU, also
    in Layers that were made in dynamic mode, and rejects float16.
    """
    return Diagnostic(
        message=f"`auto_cast` to {dtype} has no effect in dynamic mode on this device: "
        "the network is built without casts",
        severity=Severity.WARNING,
        help='paddle.enable_static()  # then, with paddle.amp.auto_cast(dtype="bfloat16"): '
        "gt.from_layer(...)",
    )


def from_layer_call(inputs: Sequence[Input], layer: str = "layer") -> str:
    """Return the call that builds a Layer with these inputs, an image if there are none."""
    if not inputs:
        return FROM_LAYER
    return _built(layer, [(feed.name or "", feed.spelling) for feed in inputs])


def build_command(network: str, inputs: Sequence[tuple[str, str]]) -> str:
    """Return what builds a network with inputs: a command for `module:callable`, else a call."""
    if ":" not in network:
        return _built("layer", inputs)
    texts = (f"{name}={shape}" if name else shape for name, shape in inputs)
    return " ".join((inspect_command(network), *(shell_option("--input", text) for text in texts)))


def _built(layer: str, inputs: Sequence[tuple[str, str]]) -> str:
    return f"gt.from_layer({layer}, [{', '.join(_item(*each) for each in inputs)}])"


def _item(name: str, shape: str) -> str:
    """Return an input of `--input` as an item of `input_spec`: `("mask", (128,), "int64")`."""
    dims, _, dtype = shape.partition(":")
    sizes = [] if dims == "scalar" else dims.replace("?", "None").split(",")
    spelt = dims if dims == "SHAPE" else f"({', '.join(sizes)}{',' * (len(sizes) == 1)})"
    if not (name or dtype):
        return spelt
    kind = f", {string_literal(dtype)}" if dtype else ""
    return f"({string_literal(name)}, {spelt}{kind})"
