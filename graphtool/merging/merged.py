"""The result of a merge: the Program, and its Values by the names of both networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING

from graphtool.backend.errors import raise_paddle_errors_as
from graphtool.backend.joining import BlockSnapshot, ValueMap
from graphtool.backend.live import LiveProgram, merge_records, set_merge_records, value_gone
from graphtool.backend.paddle import Paddle
from graphtool.backend.tensors import assign_tensors
from graphtool.checks import MergePlan
from graphtool.diagnostics import Diagnostic, MergeError, ReadError, Report, Where, rule
from graphtool.graph import Graph
from graphtool.interrupts import raise_pending_interrupt
from graphtool.matching import Pair
from graphtool.merging import verify
from graphtool.merging._teacher import Provenance, find_weights
from graphtool.ops import fetched_value
from graphtool.selectors import (
    check_selector,
    find,
    is_unknown_name,
    with_owning_role,
    with_selector,
)
from graphtool.sources.layers import Network
from graphtool.text import escaped_bounded, printed_name

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Merged", "inherited_merges", "merged_of", "register", "value_of", "wrong_program"]


@rule("GT340", replaces=("GT341", "GT359", "GT533"))
def wrong_program(
    message: str,
    where: Sequence[Where] = (),
    *,
    notes: Sequence[str] = (),
    help: str = "with paddle.static.program_guard(merged.program, startup):",
) -> Diagnostic:
    """A Value, a name or a loss does not belong to the current main Program.

    Build losses and minimize them inside the `program_guard` of the merged Program, on Values that
    `merged.teacher(name)` and `merged.student(name)` return. Names are found only in a Program with
    a merged teacher; Values need none. A legacy Program on Paddle 3 also needs
    `paddle.pir_utils.OldIrGuard()`.

    Under PIR, a loss over a Value of another Program, of a clone, or from inside a branch or loop
    would be built, and crash or give nothing later. If the Program of a loss was deleted, or the
    operator of the loss removed, build the loss again.

    Use the student's startup program in the guard, or a new one for adapters, which leaves loaded
    weights alone: run it before training.
    """
    return Diagnostic(message=message, where=tuple(where), notes=tuple(notes), help=help)


@dataclass(kw_only=True, eq=False, repr=False)
class Merged:
    """A student's Program with a frozen teacher merged into it.

    It keeps alive the Programs that its Values belong to. `plan` holds what was merged and the new
    names, `report` the Diagnostics of the checks, `scope` the student's tensors. `before` is the
    student before the merge, `source` the teacher, and `originals` are clones of their Programs
    (teacher, student) for `verify`. `network` is the student if it was given as a Network, whose
    Layer knows its parameters' names. `provenance` is where the teacher's weights came from.
    `losses` records the pairs that `distill_loss` has built losses from, with their weights.
    """

    plan: MergePlan
    report: Report
    scope: Paddle
    place: Paddle | None
    joined: ValueMap
    before: LiveProgram
    source: LiveProgram
    originals: tuple[Paddle, Paddle]
    provenance: Provenance
    network: Network | None = None
    losses: list[Pair] = field(default_factory=list[Pair])

    @property
    def program(self) -> Paddle:
        """The student's Program, with the teacher merged into it."""
        return self.before.program

    @cached_property
    def live(self) -> LiveProgram:
        """The merged Program with its Graph, which is read at first access at the latest."""
        return self.joined.live or LiveProgram.of(self.program)

    @property
    def graph(self) -> Graph:
        """The Graph of `live`."""
        return self.live.graph

    @property
    def prefix(self) -> str:
        """The prefix of the teacher's names in the merged Program."""
        return self.plan.prefix

    @property
    def feed_map(self) -> Mapping[str, str]:
        """Teacher feed names -> feed names of the merged Program."""
        return dict((*self.plan.feed_map, *self.plan.unmapped_feeds))

    @cached_property
    def names(self) -> Mapping[str, str]:
        """Old -> new names of the teacher's parameters, feeds and other Variables."""
        return {**dict(self.plan.renames), **dict(self.plan.replacements), **self.feed_map}

    @cached_property
    def values(self) -> Mapping[str, str]:
        """Names of the teacher's Values -> their names in `graph`."""
        if self.joined.names:
            return self.joined.names
        names = {key: name for name, key in self.live.keys.items()}
        return {old: names[key] for old, key in self.joined.keys.items() if key in names}

    @property
    def teachers(self) -> tuple[Merged, ...]:
        """All merges into this Program so far, in order."""
        return _merges_into(self.program)

    def teacher(self, selector: str) -> Paddle:
        """Return the teacher's Paddle Value, or Variable, for a selector.

        Any selector of the teacher's own Graph is accepted, with or without the prefix.

        Raises ReadError: GT101 with the nearest names, GT102 with the candidates, GT031 if the
        Value was since removed from the Program.
        """
        try:
            name = self.teacher_name(selector)
        except ReadError as error:
            hinted = error
            with suppress(ReadError):
                owned = find(self.before.graph, selector).name
                call = f"merged.student({selector!r})"
                hinted = with_owning_role(error, selector, owned, having="student", help=call)
            raise hinted from None
        if self.joined.names:
            return self.live.value(self.merged_name(name))
        # Keys stay valid when pruning the merged Program renumbers its names.
        return replace(self.source, program=self.program, keys=self.joined.keys).value(name)

    def student(self, selector: str) -> Paddle:
        """Return the student's Paddle Value, or Variable, for a selector.

        Names from before the merge are tried first, then those added since. A teacher's Value is
        never returned, whatever its name in the merged Program.

        Raises ReadError: GT101, GT102 and GT031, as `teacher` does.
        """
        try:
            return self.before.value(selector)
        except ReadError as error:
            if not is_unknown_name(error):
                raise
            current = LiveProgram.of(self.program)
            merges = (self, *self.teachers)
            with suppress(ReadError):
                name = find(current.graph, selector).name
                if not any(merged.is_from_teacher(current, name) for merged in merges):
                    return current.value(name)
            hinted = error
            for merged in reversed(merges):
                with suppress(ReadError):
                    name = merged.teacher_name(selector)
                    call = f"merged.teacher({selector!r})"
                    hinted = with_owning_role(error, selector, name, having="teacher", help=call)
            raise hinted from None

    def is_from_teacher(self, current: LiveProgram, name: str) -> bool:
        """Return whether a Value of the current Program belongs to this teacher."""
        if self.joined.keys:
            return current.keys[name] in self.joined.keys.values()
        return name in self.joined.names.values()

    def teacher_name(self, selector: str) -> str:
        """Return the name in the teacher's Graph for a selector, with or without the prefix.

        For the result of a fetch it is the name of the fetched Value.

        Raises ReadError: GT101, GT102.
        """
        check_selector(selector)
        graph = self.source.graph
        unprefixed = selector.removeprefix(self.prefix)
        try:
            value = find(graph, selector if selector in graph.values else unprefixed)
            return fetched_value(graph, value.name)
        except ReadError as error:
            raise with_selector(error, selector) from None

    def merged_name(self, name: str) -> str:
        """Return the name in `graph` of a Value named `name` in the teacher's Graph.

        Raises ReadError: GT031 if the merged Program does not have it.
        """
        new = self.values.get(name)
        if new is None:
            raise ReadError(value_gone(self.source.graph.source, name))
        return new

    def load_teacher(self, source: Paddle | Mapping[str, Paddle] | str | PathLike[str]) -> None:
        """Load the teacher's weights under their new names, replacing the current ones.

        `source` is a Scope, a mapping from old or new names to arrays, or the path of a combined
        parameter file, of a folder with one file per parameter, or of a `.pdparams`. Either all
        weights are loaded or none.

        Raises MergeError: GT250 for missing weights, GT237 for another shape or dtype, GT202 if a
        Scope holds the student's weights under their names, GT258 if Paddle fails. Raises
        UsageError: GT248 for another `source`. Raises GraphtoolError as `load_parameters` does for
        a bad file: GT001, GT010, GT237, GT240, GT501, GT502.
        """
        with raise_paddle_errors_as(MergeError, "load_teacher"), ExitStack() as undo:
            scope, found = find_weights(source, self.plan, self.source, self.scope)
            tensors = {new: scope.find_var(name).get_tensor() for new, name in found.names.items()}
            # If the caller's startup program runs again, it writes the buffers of its Scope.
            copied = frozenset(tensors if scope is source else ())
            assign_tensors(tensors, self.scope, place=self.place, copied=copied, undo=undo)
            undo.callback(setattr, self, "provenance", self.provenance)
            self.provenance = found
            raise_pending_interrupt()
            undo.pop_all()

    def verify(
        self,
        feed: Mapping[str, Paddle] | None = None,
        fetch: tuple[str, ...] | None = None,
    ) -> verify.Verification:
        """Run clones of both originals and of the merged Program, and compare their Values.

        Each runs once in a private Scope, with the same seed, on `feed` (by the feed names of the
        merged Program) or on generated input. All three use the tensors of the merged Program's
        Scope; uninitialised weights are generated. `fetch` selects Values, all forward ones if
        None. Gradients are not compared. The user's Variables and random state stay byte for byte
        the same.

        The teacher's weights are also compared with the current content of the Scope, file, Layer
        or folder that they came from; they differ if the teacher was trained further. Weights that
        cannot be compared (shared memory, a mapping, a file that is gone) are reported as not
        checked. The result is then false, and its `equal` covers what was compared.

        Generated integers are 0 and 1. If an operator takes them for lengths or offsets that do
        not fit, Paddle may abort the process: pass a `feed` then.

        Raises MergeError: GT210 for an unknown feed, GT253 for a Value that cannot be fetched,
        GT256 for sequences (LoD) that were not given, GT258 if Paddle fails to run one of the
        three. Raises UsageError: GT248 for a feed that is not an array, or a name that is not a
        string. Raises ReadError: GT101, GT102 and GT031, as `teacher` does.
        """
        return verify.verify(self, feed, fetch)

    def __deepcopy__(self, _: object) -> Merged:
        # Paddle 2.6 deep-copies a Program's attributes before a run with AdamW.
        return self

    def __rich__(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        teacher, student = self.source.graph, self.before.graph
        title = Text(f"merged into {escaped_bounded(student.source)}")
        table = Table("", "teacher", "in the merged Program", title=title)
        frozen = f"{escaped_bounded(self.prefix)}*, frozen"
        table.add_row("program", Text(escaped_bounded(teacher.source)), Text(frozen))
        table.add_row("operators", str(len(teacher.operators)), f"beside {len(student.operators)}")
        table.add_row("parameters", str(len(self.plan.weights)), self.plan.parameters.value)
        for old, new in self.feed_map.items():
            table.add_row("feed", Text(printed_name(old)), Text(printed_name(new)))
        for found in self.report:
            table.add_row(found.severity.value, found.code, Text(escaped_bounded(found.message)))
        return table

    def __repr__(self) -> str:
        teacher, student = self.source.graph, self.before.graph
        feeds = ", ".join(
            f"{printed_name(old)} -> {printed_name(new)}" for old, new in self.feed_map.items()
        )
        return (
            f"Merged({escaped_bounded(teacher.source)}: {len(teacher.operators)} operators, "
            f"{len(self.plan.weights)} parameters as {escaped_bounded(self.prefix)}*, into "
            f"{escaped_bounded(student.source)}: {len(student.operators)} operators; fed {feeds}; "
            f"{len(self.report)} diagnostics)"
        )


def merged_of(program: Paddle) -> Merged | None:
    """Return the last merge into a Program, None if there was none."""
    merges = _merges_into(program)
    return merges[-1] if merges else None


def register(merged: Merged, inherited: tuple[Merged, ...] = ()) -> Merged:
    """Record a merge on its Program, so that the next one is checked against it.

    `inherited` holds merges into the Program that it was cloned from.
    """
    merges = (*inherited, *_merges_into(merged.program), merged)
    set_merge_records(merged.program, merges, [new for _, new in merged.plan.weights])
    return merged


def value_of(selector: str, merges: Iterable[Merged], *others: Callable[[str], Paddle]) -> Paddle:
    """Return the Value for a selector, from the teacher whose prefix it has if there is one.

    If that teacher does not know the name, the lookups in `others` are tried in order. An empty
    prefix is ignored: every name has it.

    Raises ReadError: GT102, GT031, and GT101 of the first lookup.
    """
    prefixed = [merged for merged in merges if merged.prefix and selector.startswith(merged.prefix)]
    longest_first = sorted(prefixed, key=lambda merged: -len(merged.prefix))
    unknown: list[ReadError] = []
    for lookup in (*(merged.teacher for merged in longest_first), *others):
        try:
            return lookup(selector)
        except ReadError as error:  # noqa: PERF203  # the next lookup is tried
            if not is_unknown_name(error):
                raise
            unknown.append(error)
    raise unknown[0]


def inherited_merges(clone: LiveProgram) -> tuple[Merged, ...]:
    """Return the merges into the Program that a student was cloned from, for the clone.

    A clone keeps names, but not operation ids.
    """
    merges: list[Merged] = []
    for merged in merge_records(clone.program):
        if merged.program is not clone.program:
            graph = merged.before.graph
            keys = {name: key for name, key in clone.keys.items() if name in graph.values}
            names = {old: new for old, new in merged.values.items() if new in clone.graph.values}
            joined = ValueMap(names=names, live=clone, extent=BlockSnapshot.of(clone.program))
            before = replace(clone, graph=graph, keys=keys)
            merges.append(replace(merged, before=before, joined=joined, losses=[*merged.losses]))
    return tuple(merges)


def _merges_into(program: Paddle) -> tuple[Merged, ...]:
    merges: tuple[Merged, ...] = merge_records(program)
    # Paddle's clone() copies the attribute, whose Values are the original's.
    return tuple(merged for merged in merges if merged.program is program)
