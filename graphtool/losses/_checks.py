"""What can be said against the parts of a loss before anything of it is built."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from graphtool.diagnostics import Diagnostic, GraphtoolError, ReadError, UsageError, Where
from graphtool.graph import UNKNOWN, Graph
from graphtool.loss_names import named_losses
from graphtool.losses import pair_problems as problems
from graphtool.losses._ends import of_probabilities
from graphtool.losses._learning import learns
from graphtool.losses._networks import Networks
from graphtool.losses._parts import Part
from graphtool.losses.adapters import Adapter, parse_adapter
from graphtool.matching import End, Pair
from graphtool.matching.problems import unknown_loss

__all__ = ["check_label", "check_options", "check_parts", "require_options"]


def check_parts(networks: Networks, parts: Sequence[Part]) -> Iterator[Diagnostic]:
    """Yield all that stands against the losses and adapters of pairs."""
    for part in parts:
        if part.loss not in named_losses():
            yield unknown_loss(f"pairs[{part.places[0]}].loss", part.loss, tuple(named_losses()))
        for pair in part.pairs:
            lost = tuple(_lost(networks, pair))
            yield from lost
            if lost or not _is_known(networks, pair):
                continue
            if pair.adapter is not None:
                yield from _misfits(_Fitted(networks, part, pair, pair.adapter))
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


@dataclass(frozen=True, slots=True)
class _Fitted:
    networks: Networks
    part: Part
    pair: Pair
    adapter: str

    def where(self, role: str, end: End) -> Where:
        plan = self.networks.merged.plan
        graph = plan.teacher if role == "teacher" else plan.student
        return Where(role=role, program=graph.source, value=end.name, shape=end.shape)


def _misfits(fitted: _Fitted) -> Iterator[Diagnostic]:
    try:
        adapter = parse_adapter(fitted.adapter)
    except GraphtoolError as error:
        yield from error.report
        return
    pair = fitted.pair
    if not learns(fitted.networks.merged.student(pair.student.name)):
        yield problems.fixed_value(fitted.adapter, fitted.where("student", pair.student))
    if adapter.layer is not None:
        yield from _wrong_channels(fitted, adapter, adapter.layer)
        loss = named_losses().get(fitted.part.loss)
        if loss is not None and loss.of_any_channels:
            yield problems.adapter_for_nothing(fitted.part.name, fitted.part.loss, fitted.adapter)


def _wrong_channels(fitted: _Fitted, adapter: Adapter, layer: str) -> Iterator[Diagnostic]:
    known = fitted.networks.channels(fitted.pair)
    where = [
        fitted.where("teacher", fitted.pair.teacher),
        fitted.where("student", fitted.pair.student),
    ]
    if UNKNOWN in known:
        for channels, place in zip(known, where, strict=True):
            if channels == UNKNOWN:
                yield problems.adapter_misfit(layer, "one whose channels are known", place)
        return
    teacher, student = known
    given, made = adapter.channels or (student, teacher)
    instead = fitted.adapter.replace(f"{given}->{made}", f"{student}->{teacher}")
    text = fitted.adapter
    if given != student:
        yield problems.adapter_misfit(text, f"{given} channels", where[1], instead=instead)
    if made != teacher:
        has, wanted = (f"`{where[0].value}` has {teacher}", where[0]), f"{made} channels"
        yield problems.adapter_misfit(text, wanted, where[1], instead=instead, brought=has)


def require_options(given: object) -> None:
    """Refuse options that are no mapping from names to mappings.

    Raises UsageError GT358.
    """
    tables = list(cast("Mapping[object, object]", given).values()) if _is_table(given) else [given]
    if given is None or all(map(_is_table, tables)):
        return
    wanted, example = "a mapping to mappings", 'options={"kl": {"temperature": 4.0}}'
    raise UsageError(problems.wrong_argument("options", given, wanted, example))


def _is_table(given: object) -> bool:
    return isinstance(given, Mapping)


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
    if known is None:
        return ()
    parameters = inspect.signature(known.build).parameters.values()
    return tuple(one.name for one in parameters if one.kind is one.KEYWORD_ONLY)
