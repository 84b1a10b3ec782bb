"""Ranks of `python -m paddle.distributed.launch`: one Program, one start, one mean of gradients."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import count, zip_longest
from typing import cast

from graphtool.backend.layer_weights import map_set_parameters
from graphtool.backend.optimizers import average_over_ranks, broadcast_from_first, rank_store
from graphtool.backend.paddle import Paddle, load_paddle
from graphtool.diagnostics import Diagnostic, GraphtoolError, Where, rule
from graphtool.graph import Graph, Operator, Origin
from graphtool.text import escaped_bounded
from graphtool.training.program_info import ancestors

__all__ = [
    "average_gradients",
    "broadcast_start",
    "describe",
    "rank_count",
    "ranks_not_joined",
    "require_equal",
]

_PLAIN = (bool, int, float, str)
_PARTS = ("_learning_rate", "_grad_clip", "regularization")
# Each rank may draw random numbers of its own, has a device of its own, and one may print more.
_OWN = frozenset({"seed", "fix_seed", "place", "verbose"})
# Names that Paddle generates, and counts on each rank by itself.
_NAMES = frozenset({"name", "var_name"})
# Attributes that begin with the batch size where the Program was built for one.
_SHAPES = frozenset({"shape", "value"})
# Each comparison has keys of its own in the store.
_comparisons = count()


@rule("GT537")
def ranks_not_joined(ranks: int) -> Diagnostic:
    """The script runs on several ranks that were not connected, so each would train on its own.

    Under PIR, connect them in dynamic mode: call `init_parallel_env`, then `enable_static`.
    """
    return Diagnostic(
        message=f"{ranks} ranks were launched, and `init_parallel_env` was not called",
        help="paddle.distributed.init_parallel_env(), before paddle.enable_static()",
    )


@rule("GT546")
def unequal_ranks(ranks: Mapping[int, Sequence[str]]) -> Diagnostic:
    """The ranks would train different Programs, so their gradients cannot be averaged.

    `gt.minimize` compares what computes the loss (operators with their operands and attributes),
    all parameters of the Program with their shapes, which of them are trained, and the optimizer
    with its settings. Operators are numbered without those that the loss does not need. Initial
    values, seeds, batch size and data may differ, and so may everything beside the loss. Parameters
    are compared by name; Paddle numbers names in the order of creation. Nothing was added to any
    Program.
    """
    first, *others = sorted(ranks)
    other = next(rank for rank in others if ranks[rank] != ranks[first])
    pairs = zip_longest(ranks[first], ranks[other], fillvalue="nothing more")
    lines = next(pair for pair in pairs if pair[0] != pair[1])
    return Diagnostic(
        message=f"rank {first} and rank {other} would train different Programs",
        where=tuple(
            Where(role=f"rank {rank}", value=escaped_bounded(line))
            for rank, line in zip((first, other), lines, strict=True)
        ),
        help="with paddle.utils.unique_name.guard(): build the same on every rank, "
        "paddle.distributed.get_rank() only for its share of the data",
    )


def rank_count() -> int:
    """Return how many ranks were launched, 1 where none were."""
    return load_paddle().distributed.get_world_size()


def average_gradients(gradients: Paddle) -> list[tuple[Paddle, Paddle]]:
    """Replace each gradient by its mean over all ranks.

    The order is that of the parameters' names: PIR lists parameters in an order that differs from
    process to process, and ranks that exchange them in different orders wait for each other.
    """
    ordered = sorted(gradients, key=lambda pair: pair[0].name)
    return [(parameter, average_over_ranks(gradient)) for parameter, gradient in ordered]


def broadcast_start(startup: Paddle, names: Collection[str]) -> None:
    """Let a startup program give every rank the first one's values of the named Variables.

    A second call for the same Variables changes nothing.
    """
    setters = [
        op
        for op in startup.global_block().ops
        if op.name() == "builtin.set_parameter"
        and op.str_attr("parameter_name") in names
        and op.operand_source(0).get_defining_op().name() != "pd_op.broadcast"
    ]
    map_set_parameters(startup, setters, broadcast_from_first)


def require_equal(own: Sequence[str]) -> None:
    """Wait until all ranks have come here, and compare what they are about to train.

    `own` describes it in lines. The ranks compare digests in the store that Paddle's launch makes,
    and read each other's lines only if the digests differ.

    Raises GraphtoolError on all ranks: GT546 if they differ.
    """
    rank, everyone, store = load_paddle().distributed.get_rank(), range(rank_count()), rank_store()
    text, key = "\n".join(own).encode(), f"graphtool/minimize/{next(_comparisons)}"
    store.set(f"{key}/text/{rank}", zlib.compress(text))
    store.set(f"{key}/digest/{rank}", sha256(text).digest())
    # The store waits for what is not there yet; where a rank is lost, the launcher stops all.
    if len({store.get(f"{key}/digest/{one}") for one in everyone}) == 1:
        return
    texts = {one: zlib.decompress(store.get(f"{key}/text/{one}")).decode() for one in everyone}
    store.set(f"{key}/read/{rank}", b"1")
    # The store ends with the first rank, which leaves last.
    for one in everyone if rank == 0 else ():
        store.get(f"{key}/read/{one}")
    raise GraphtoolError(unequal_ranks({one: text.split("\n") for one, text in texts.items()}))


def describe(
    graph: Graph,
    loss: str,
    optimizer: Paddle,
    *,
    trained: Collection[str],
    no_gradient: Collection[str],
    runs: int,
) -> list[str]:
    """Describe what computes a loss, all parameters, which are trained, and by which optimizer.

    Each thing has a line, in an order that all ranks have. A rank may compute more than the loss,
    so Operators are numbered anew, by kind. It may have a batch size of its own: the first dim is
    left out where the feeds have a fixed one.
    """
    lines = list(_settings("optimizer", optimizer))
    if runs > 1:
        lines.append(f"gradients of {runs} runs")
    for value in sorted(graph.parameters, key=lambda value: value.name):
        shape = "?" if value.shape is None else list(value.shape)
        use = "learns" if value.name in trained else "frozen"
        lines.append(f"parameter `{value.name}` {shape} {value.dtype}, {use}")
    found = ancestors(graph, [loss])
    names, kinds = {name: name for name in found}, Counter[str]()
    operators: list[tuple[str, Operator]] = []
    for operator in graph.operators.values():
        # PIR lists parameters in no order.
        origins = {graph.values[name].origin for name in operator.results}
        if found.isdisjoint(operator.results) or Origin.PARAMETER in origins:
            continue
        name = f"{operator.kind}_{kinds[operator.kind]}"
        kinds[operator.kind] += 1
        operators.append((name, operator))
        names |= {result: result.replace(operator.name, name, 1) for result in operator.results}
    shapes = (graph.values[name].shape for name in graph.feeds if name in found)
    fixed_batch = any(shape and shape[0] >= 0 for shape in shapes)
    for name, operator in operators:
        operands = ", ".join("-" if one is None else names[one] for one in operator.operands)
        line = f"operator `{name}` ({operands})"
        for key, value in sorted(operator.attributes.items()):
            if fixed_batch and key in _SHAPES and isinstance(value, tuple) and value:
                line += f" {key}={('batch', *value[1:])!r}"
            elif key not in _OWN:
                line += f" {key}={value!r}"
        lines.append(line)
    lines.append(f"loss `{names[loss]}`")
    lines += sorted(f"no gradient for `{names[name]}`" for name in no_gradient if name in names)
    return lines


def _settings(name: str, part: Paddle) -> Iterator[str]:
    """Yield what an optimizer, or a part of one, was made with: class, numbers, parts."""
    yield f"{name} {type(part).__name__}"
    for key, value in sorted(cast("dict[str, Paddle]", vars(part)).items()):
        inner = f"{name}.{key.strip('_')}"
        if isinstance(value, _PLAIN) and key.strip("_") not in _OWN | _NAMES:
            yield f"{inner} = {value!r}"
        elif key in _PARTS and value is not None:
            yield from _settings(inner, value)
