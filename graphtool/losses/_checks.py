"""What can be said against the parts of a loss before anything of it is built."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

from graphtool.checks.adapters import parse_adapter
from graphtool.checks.arguments import maps_to_mappings
from graphtool.diagnostics import Diagnostic, PairError, ReadError, UsageError
from graphtool.graph import Graph
from graphtool.loss_names import named_losses
from graphtool.losses import pair_problems as problems
from graphtool.losses._ends import of_probabilities
from graphtool.losses._networks import Networks
from graphtool.losses._parts import Part
from graphtool.matching import Pair

__all__ = ["check_label", "check_options", "check_parts", "require_options"]


def check_parts(networks: Networks, parts: Sequence[Part]) -> Iterator[Diagnostic]:
    """Yield what `check_pairs` cannot tell: what was lost since the merge, and doubts."""
    for part in parts:
        for pair in part.pairs:
            lost = tuple(_lost(networks, pair))
            yield from lost
            if lost or not _is_known(networks, pair):
                continue
            yield from _for_nothing(part, pair)
            if part.loss == "l2":
                merged = networks.merged
                ends = merged.teacher(pair.teacher.name), merged.student(pair.student.name)
                yield from of_probabilities(*ends)


def _lost(networks: Networks, pair: Pair) -> Iterator[Diagnostic]:
    """Find Values that have left the Program; names that never were are for `check_pairs`."""
    merged = networks.merged
    yield from _missed(merged.plan.teacher, merged.teacher, pair.teacher.name)
    yield from _missed(merged.plan.student, merged.student, pair.student.name)


def _missed(graph: Graph, find: Callable[[str], object], name: str) -> Iterator[Diagnostic]:
    if name not in graph.values:
        return
    try:
        find(name)
    except ReadError as error:
        yield from error.report


def _is_known(networks: Networks, pair: Pair) -> bool:
    plan = networks.merged.plan
    return pair.teacher.name in plan.teacher.values and pair.student.name in plan.student.values


def _for_nothing(part: Part, pair: Pair) -> Iterator[Diagnostic]:
    known = named_losses().get(part.loss)
    if known is None or not known.of_any_channels or pair.adapter is None:
        return
    with suppress(PairError):
        if parse_adapter(pair.adapter).layer is not None:
            yield problems.adapter_for_nothing(part.name, part.loss, pair.adapter)


def require_options(given: object) -> None:
    """Refuse options that are no mapping from names to mappings.

    Raises UsageError GT358.
    """
    if given is None or maps_to_mappings(given):
        return
    wanted, example = "a mapping to mappings", 'options={"kl": {"temperature": 4.0}}'
    raise UsageError(problems.wrong_argument("options", given, wanted, example))


def check_options(
    parts: Sequence[Part], options: Mapping[str, Mapping[str, object]]
) -> Iterator[Diagnostic]:
    """Yield options of losses and parts that are not there, or that a loss doesn't have."""
    known = dict.fromkeys(name for part in parts for name in (part.loss, part.name))
    for key, given in options.items():
        if key not in known:
            yield problems.unknown_part("options", key, tuple(known))
            continue
        loss = next(part.loss for part in parts if key in (part.loss, part.name))
        has = _options_of(loss)
        yield from (problems.unknown_option(loss, name, has) for name in given if name not in has)


def check_label(parts: Sequence[Part], label: object) -> Iterator[Diagnostic]:
    """Yield a problem where labels are given and no part takes any."""
    if label is not None and all(part.loss != "dkd" for part in parts):
        wanted = "None, for no pair has the loss `dkd`"
        yield problems.wrong_argument("label", label, wanted, "gt.distill_loss(merged, pairs)")


def _options_of(loss: str) -> tuple[str, ...]:
    """Return the names of the options that a loss takes."""
    known = named_losses().get(loss)
    return () if known is None else known.options
