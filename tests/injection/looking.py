"""All that can be seen of Programs, Scopes and Paddle's global state."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import paddle

from graphtool.readers.program_desc import program_message

# The counter of a network's root grows with every network that the process builds.
_ROOT = re.compile(r'(struct_name:"/[A-Za-z0-9]+)_\d+/')


def state(*programs: Any, scopes: tuple[Any, ...] = ()) -> dict[str, Any]:
    """Look at Programs, Scopes and what is global; `identity` differs from build to build."""
    seen: dict[str, Any] = {}
    for at, program in enumerate(programs):
        look = _legacy if hasattr(program, "desc") else _pir
        seen |= {f"Program {at}: {key}": value for key, value in look(program).items()}
    for at, scope in enumerate(scopes):
        seen[f"Scope {at}"] = _held(scope)
    static = paddle.static
    defaults = static.default_main_program(), static.default_startup_program()
    return seen | {
        "identity of the default Programs": tuple(map(id, defaults)),
        "identity of the global Scope": id(static.global_scope()),
        "mode": (paddle.in_dynamic_mode(), paddle.framework.in_pir_mode()),
        "counters": dict(paddle.base.unique_name.generator.ids),
    }


def _pir(program: Any) -> dict[str, Any]:
    merges = getattr(program, "_graphtool_teachers", ())
    return {
        "text": _ROOT.sub(r"\1/", str(program)),
        "identity of the text": str(program),
        "identity of operations": list(_ids(program.global_block())),
        "identity of merges": tuple(map(id, merges)),
    }


def _ids(block: Any) -> Iterator[int]:
    for op in block.ops:
        yield op.id()
        for inner in op.blocks() if op.num_regions() else ():
            yield from _ids(inner)


def _legacy(program: Any) -> dict[str, Any]:
    own = getattr(program, "_name_generator", None)
    merges = getattr(program, "_graphtool_teachers", ())
    parameters = program.global_block().all_parameters()
    return {
        "description": _without_counts(program),
        "identity of the description": program.desc.serialize_to_string(),
        "identity of operators": [[id(op) for op in block.ops] for block in program.blocks],
        "identity of Variables": [
            {name: id(var) for name, var in block.vars.items()} for block in program.blocks
        ],
        "parameters": {one.name: _options(one) for one in parameters},
        "counters": dict(own.ids) if own is not None else None,
        "identity of merges": tuple(map(id, merges)),
    }


def _without_counts(program: Any) -> bytes:
    message = program_message()()
    message.ParseFromString(program.desc.serialize_to_string())
    for block in message.blocks:
        # Paddle keeps them in no order.
        block.vars.sort(key=lambda var: var.name)
        for op in block.ops:
            # Scopes of one name are counted by the process, and call stacks differ.
            told = {"op_callstack", "op_namescope"}
            kept = [one for one in op.attrs if one.name not in told]
            del op.attrs[:]
            op.attrs.extend(kept)
    return message.SerializeToString(deterministic=True)


def _options(parameter: Any) -> tuple[Any, ...]:
    options = {name: value for name, value in parameter.optimize_attr.items() if name[0] != "_"}
    return parameter.trainable, parameter.stop_gradient, str(options)


def _held(scope: Any) -> dict[str, Any]:
    return {name: _tensor(scope.find_var(name)) for name in sorted(scope.local_var_names())}


def _tensor(variable: Any) -> Any:
    try:
        tensor = variable.get_tensor()
    except (RuntimeError, ValueError):
        return "no tensor"
    if not tensor._is_initialized():
        return tensor.shape()
    return tensor.shape(), str(tensor._dtype()), np.array(tensor).tobytes()
