"""Ranks of `python -m paddle.distributed.launch`: one Program, one start, one mean of gradients."""

from __future__ import annotations

import time
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import count, zip_longest
from typing import cast

from graphtool.backend.layer_weights import map_set_parameters
from graphtool.backend.optimizers import average_over_ranks, broadcast_from_first, rank_store
from graphtool.backend.paddle import Paddle, load_paddle
from graphtool.diagnostics import Diagnostic, GraphtoolError, Where, counted, rule
from graphtool.graph import Attribute, Graph, Operator, Origin
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
# Seconds between two looks into the store, and until all ranks have read each other's texts.
_PAUSE, _READING = 0.05, 5.0
# In the place of the digest.
_GAVE_UP = b"gave up"
# What Paddle's store raises once the first rank, which holds it, is gone.
_STORE_GONE = (RuntimeError, ValueError)
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


@rule("GT538", replaces=("GT545", "GT548"))
def lost_rank(message: str, ranks: Sequence[int]) -> Diagnostic:
    """Another rank ended, or did not come to `gt.minimize` in time.

    In `gt.minimize` each rank waits for all others, 300 seconds unless `rank_timeout` says
    otherwise, and compares what they are about to train. If one rank gives up, those that come
    later do too. The cause is in the log of the rank that is missing (`log/workerlog.N`, or in
    `--log_dir`).

    If a rank fails, before or after, the launcher stops all others. A rank that ends early without
    an error is noticed in the next step, by an error of Paddle's: give all ranks the same number of
    batches. With gloo (CPU), a rank that is busy for 30 seconds counts as lost: long work, such as
    an evaluation, has to be done on all ranks.
    """
    logs = " ".join(f"log/workerlog.{rank}" for rank in ranks)
    return Diagnostic(message=message, help=f"tail {logs}")


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
    unlike = [rank for rank in others if ranks[rank] != ranks[first]]
    sides = (first, unlike[0])
    pairs = zip_longest(ranks[sides[0]], ranks[sides[1]], fillvalue="")
    lines = next(pair for pair in pairs if pair[0] != pair[1])
    notes = [
        f"rank {rank} has "
        + " and ".join(
            counted(sum(line.startswith(f"{noun} ") for line in ranks[rank]), noun)
            for noun in ("operator", "parameter")
        )
        for rank in sides
    ]
    if len(unlike) > 1:
        notes.append(f"{len(unlike)} of {len(ranks)} ranks differ from rank {first}")
    # Parameters that are equal but for the name, which stands in backticks.
    unnamed = [line.split("`")[::2] for line in lines]
    only_name = lines[0].startswith("parameter ") and unnamed[0] == unnamed[1]
    network = "paddle.distributed.get_rank() only for its share of the data"
    return Diagnostic(
        message=f"rank {sides[0]} and rank {sides[1]} would train different Programs",
        where=tuple(
            Where(role=f"rank {rank}", value=escaped_bounded(line) if line else "nothing more")
            for rank, line in zip(sides, lines, strict=True)
        ),
        notes=tuple(notes),
        help="build within `with paddle.utils.unique_name.guard():` on every rank"
        if only_name
        else f"build the same on every rank: use {network}",
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


def require_equal(own: Sequence[str], limit: float) -> None:
    """Wait until all ranks have come here, and compare what they are about to train.

    `own` describes it in lines. The ranks compare digests in the store that Paddle's launch makes,
    and read each other's lines only if the digests differ.

    Raises GraphtoolError on all ranks: GT546 if they differ. Raises GraphtoolError: GT538 for ranks
    that have not come within `limit` seconds, or gave up.
    """
    rank, ranks = load_paddle().distributed.get_rank(), rank_count()
    me = f"rank {rank} of {ranks}"
    text = "\n".join(own).encode()
    prefix = f"graphtool/minimize/{next(_comparisons)}"
    everyone = range(ranks)
    try:
        store = rank_store()
        store.set(f"{prefix}/text/{rank}", zlib.compress(text))
        store.set(f"{prefix}/digest/{rank}", sha256(text).digest())
        if missing := _wait(store, f"{prefix}/came", rank, ranks, limit):
            store.set(f"{prefix}/digest/{rank}", _GAVE_UP)
            others = ", ".join(f"rank {one}" for one in missing)
            message = f"{me} waited {limit:g} seconds for {others} to come to `gt.minimize`"
            raise GraphtoolError(lost_rank(message, missing))
        digests = {one: store.get(f"{prefix}/digest/{one}") for one in everyone}
        if gave_up := [one for one in everyone if digests[one] == _GAVE_UP]:
            others = ", ".join(f"rank {one}" for one in gave_up)
            message = f"{me} came to `gt.minimize` after {others} had given up waiting for it"
            raise GraphtoolError(lost_rank(message, gave_up))
        if len(set(digests.values())) == 1:
            return
        texts = {one: zlib.decompress(store.get(f"{prefix}/text/{one}")) for one in everyone}
        # The store ends with the first rank, which may be about to end.
        _wait(store, f"{prefix}/read", rank, ranks, _READING)
    except _STORE_GONE:
        message = f"{me} waited in `gt.minimize` until rank 0 was gone, which holds Paddle's store"
        raise GraphtoolError(lost_rank(message, [0])) from None
    raise GraphtoolError(
        unequal_ranks({one: found.decode().split("\n") for one, found in texts.items()})
    )


def _wait(store: Paddle, key: str, rank: int, ranks: int, limit: float) -> list[int]:
    """Wait until every rank has come to a point, and return those that are late."""
    end = time.monotonic() + limit
    store.add(f"{key}/{rank}", 1)
    missing = list(range(ranks))
    # The store's own `get` and `wait` have no limit.
    while missing := [one for one in missing if not store.add(f"{key}/{one}", 0)]:
        if time.monotonic() > end:
            break
        time.sleep(_PAUSE)
    return missing


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
        attributes = (
            f" {key}={(_without_batch(key, value) if fixed_batch else value)!r}"
            for key, value in sorted(operator.attributes.items())
            if key not in _OWN
        )
        lines.append(f"operator `{name}` ({operands}){''.join(attributes)}")
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


def _without_batch(key: str, value: Attribute) -> Attribute:
    if key in _SHAPES and isinstance(value, tuple) and value:
        return ("batch", *value[1:])
    return value
