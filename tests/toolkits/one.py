"""One network, built by `to_static` and by graphtool in two ways: what each of them computes."""

from __future__ import annotations

import hashlib
import inspect
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import paddle

import graphtool as gt
from graphtool.backend.layer_weights import share_layer_tensors
from tests.toolkits.networks import Candidate, Input, seed

# To build a network, in the time of a processor.
SECONDS = 30
# How far float32 is off where one mode adds in another order than the other.
_RELATIVE, _ABSOLUTE = 2e-3, 2e-4

_Numbers = Sequence[np.ndarray[Any, Any]]


class UnlikeError(AssertionError):
    """What graphtool built is another network than the user's."""


def examine(candidate: Candidate) -> dict[str, str]:
    """Build a network in every way; return what became of each, as far as `to_static` builds it."""
    try:
        layer = candidate.made()
        layer.eval()
        weights = digests(layer)
        feed, takes = fed(layer, candidate.takes)
        wanted = _static(layer, feed, takes)
    except Exception as error:  # noqa: BLE001  # whatever Paddle and the network raise
        return {"to_static": f"fails: {last_line(error)}"}
    found: dict[str, str] = {}
    for way, source in (("Layer", layer), ("factory", candidate.make)):
        began = time.process_time()
        seed()
        inputs = [(one.name, one.shape, one.dtype) for one in takes]
        try:
            network = gt.from_layer(source, inputs, train=False, timeout=None)
            seconds = time.process_time() - began
            compare(way, network, feed, wanted, weights)
            found[way] = "equal" if seconds < SECONDS else f"TOOK {seconds:.0f} s"
        except gt.GraphtoolError as error:
            found[way] = f"refused {error.report.diagnostics[0].code}"
        except UnlikeError as error:
            found[way] = f"WRONG: {error}"
    return found


def last_line(error: BaseException) -> str:
    """Return what an error of Paddle's ends with, which says the most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1][:400] if lines else ''}"


def digests(layer: Any) -> dict[str, str]:
    """Return what each parameter and buffer of a Layer holds, as a digest."""
    return {name: _digest(value.numpy()) for name, value in layer.state_dict().items()}


def compare(
    way: str, network: Any, feed: Mapping[str, Any], wanted: _Numbers, weights: Mapping[str, str]
) -> None:
    """Run a Network's startup program and its Program, and compare all that comes of them."""
    scope, executor = paddle.static.Scope(), paddle.static.Executor(paddle.CPUPlace())
    paddle.enable_static()
    try:
        with paddle.static.scope_guard(scope):
            executor.run(network.startup)
            if way == "Layer":  # its weights are the user's, which `merge` brings
                share_layer_tensors(network, scope)
            if set(network.parameters) != set(weights):
                raise UnlikeError(f"weights: {sorted(set(weights) ^ set(network.parameters))[:3]}")
            held = {name: scope.find_var(own) for name, own in network.parameters.items()}
            unlike = [
                name
                for name, digest in weights.items()
                if held[name] is None or _digest(np.array(held[name].get_tensor())) != digest
            ]
            if unlike:
                raise UnlikeError(f"{len(unlike)} of {len(weights)} weights differ: {unlike[:3]}")
            found = executor.run(network.program, feed=dict(feed), fetch_list=_fetches(network))
    finally:
        paddle.disable_static()
    if [one.shape for one in found] != [one.shape for one in wanted]:
        shapes = [one.shape for one in found], [one.shape for one in wanted]
        raise UnlikeError(f"outputs of shapes {shapes[0]}, not {shapes[1]}")
    for place, (got, want) in enumerate(zip(found, wanted, strict=True)):
        if got.tobytes() != want.tobytes():
            off = float(np.nanmax(np.abs(got.astype("float64") - want.astype("float64"))))
            raise UnlikeError(f"output {place} is off by up to {off:.3g}")


def _fetches(network: Any) -> list[Any]:
    return [network.value(name) for name in network.fetches]


def _digest(array: np.ndarray[Any, Any]) -> str:
    content = np.ascontiguousarray(array).tobytes()
    return f"{array.dtype} {array.size} {hashlib.blake2b(content, digest_size=16).hexdigest()}"


def fed(
    layer: Any, takes: Sequence[tuple[Input, ...]]
) -> tuple[dict[str, np.ndarray[Any, Any]], tuple[Input, ...]]:
    """Return a batch of the first of these inputs that a Layer takes."""
    first, reasons = next(iter(inspect.signature(layer.forward).parameters)), []
    for one_way in takes:
        inputs = tuple(replace(one, name=one.name or first) for one in one_way)
        draw = np.random.default_rng(0)
        feed = {one.name: one.numbers(draw) for one in inputs}
        try:
            called(layer, feed)
        except Exception as error:  # noqa: BLE001  # whatever a network does with a picture too small
            reasons.append(last_line(error))
        else:
            return feed, inputs
    raise ValueError("; ".join(dict.fromkeys(reasons)))


def called(layer: Any, feed: Mapping[str, Any]) -> _Numbers:
    with paddle.no_grad():
        return _numbers(layer(**{name: paddle.to_tensor(one) for name, one in feed.items()}))


def _static(layer: Any, feed: Mapping[str, Any], takes: Sequence[Input]) -> _Numbers:
    """Return what the program computes that `to_static` makes, as `jit.save` would write it."""
    before = called(layer, feed)
    given = {one.name: paddle.static.InputSpec([None, *one.shape], one.dtype) for one in takes}
    arguments = list(inspect.signature(layer.forward).parameters.values())
    while arguments[-1].name not in given:
        arguments.pop()
    specs = [given.get(one.name, one.default) for one in arguments]
    built = paddle.jit.to_static(layer.forward, input_spec=specs, full_graph=True)
    values = [
        paddle.to_tensor(feed[one.name]) if one.name in feed else one.default for one in arguments
    ]
    with paddle.no_grad():
        found = _numbers(built(*values))
    # Where a forward asks for `numpy()`, there is one tensor more than in dynamic mode.
    for got, want in zip(found, before, strict=True) if len(found) == len(before) else ():
        np.testing.assert_allclose(got, want, _RELATIVE, _ABSOLUTE)
    return found


def _numbers(outputs: Any) -> _Numbers:
    """Return what is put out in the order of the user's own, where Paddle sorts dicts."""
    if isinstance(outputs, paddle.Tensor):
        return [outputs.numpy()]
    if isinstance(outputs, Mapping):
        outputs = tuple(outputs.values())
    if not isinstance(outputs, list | tuple):
        return []
    return [number for one in outputs for number in _numbers(one)]
