"""What a merge gives: one Program, and the way from the names of both networks to its Values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias

from graphtool.checks import MergePlan
from graphtool.diagnostics import MergeError, ReadError, Report
from graphtool.graph import Graph
from graphtool.merging import verify
from graphtool.merging._backend import Extent, Joined, Scopes, handed_out
from graphtool.merging._failures import paddle_failures
from graphtool.merging._interrupts import heed_interrupt
from graphtool.merging._provenance import Provenance, from_source
from graphtool.merging._scope import hand_over
from graphtool.merging._weights import weights_from
from graphtool.readers import problems as reading
from graphtool.readers.layers import Network
from graphtool.readers.live import LiveProgram
from graphtool.readers.registry import note, noted
from graphtool.selectors import check_selector, find, is_unknown_name, misplaced, renamed
from graphtool.text import bounded, named

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Merged", "inherited_by", "merged_of", "register", "value_of"]

# Programs, Values and Scopes are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Merged:
    """A student's Program with a frozen teacher in it; keeps alive what Values need to live.

    `plan` says what was merged and how it was renamed, `report` what the checks found. `before` is
    the student as it was, `source` the teacher, `originals` their Programs for `verify`; `network`
    is the student where it was handed over as a Network, whose Layer knows its parameters' names.
    `provenance` is what the teacher's weights came from.
    """

    plan: MergePlan
    report: Report
    scopes: Scopes
    place: _Paddle | None
    joined: Joined
    before: LiveProgram
    source: LiveProgram
    originals: tuple[_Paddle, _Paddle]
    provenance: Provenance
    network: Network | None = None

    @property
    def program(self) -> _Paddle:
        """The student's Program, which has the teacher in it."""
        return self.before.program

    @cached_property
    def live(self) -> LiveProgram:
        """The merged Program as it was after the merge, at the latest when first asked for."""
        return self.joined.live or LiveProgram.of(self.program)

    @property
    def graph(self) -> Graph:
        """The Graph of `live`."""
        return self.live.graph

    @property
    def prefix(self) -> str:
        """What was put before the teacher's names."""
        return self.plan.prefix

    @property
    def feed_map(self) -> Mapping[str, str]:
        """Teacher feed names -> the names that the merged Program is fed under."""
        return dict((*self.plan.feed_map, *self.plan.own_feeds))

    @cached_property
    def names(self) -> Mapping[str, str]:
        """Old -> new names of the teacher's parameters, feeds and other Variables."""
        return {**dict(self.plan.renames), **dict(self.plan.stand_ins), **self.feed_map}

    @cached_property
    def values(self) -> Mapping[str, str]:
        """Names of the teacher's Values -> names of the same Values in `graph`."""
        if self.joined.names:
            return self.joined.names
        names = {key: name for name, key in self.live.keys.items()}
        return {old: names[key] for old, key in self.joined.keys.items() if key in names}

    @property
    def teachers(self) -> tuple[Merged, ...]:
        """All merges into this Program so far, in order."""
        return _registered(self.program)

    def teacher(self, selector: str) -> _Paddle:
        """Return the Paddle Value, or Variable, of the teacher that a selector means.

        Every selector of the teacher's own Graph is one, with or without the prefix before it.

        Raises ReadError: GT101 with the nearest names, GT102 with the candidates, GT031 where the
        Value has left the Program since.
        """
        try:
            name = self.teacher_name(selector)
        except ReadError as error:
            raise self._students(selector, error) from None
        if self.joined.names:
            return self.live.value(self.merged_name(name))
        return self._teacher.value(name)

    @cached_property
    def _teacher(self) -> LiveProgram:
        # Keys hold where names could move: when operations of the merged Program are pruned.
        return replace(self.source, program=self.program, keys=self.joined.keys)

    def student(self, selector: str) -> _Paddle:
        """Return the Paddle Value, or Variable, of the student that a selector means.

        Names as they were before the merge come first, then those of what was added since. What
        teachers brought is never meant, whatever it is called in the merged Program.

        Raises ReadError: GT101, GT102 and GT031, as `teacher` does.
        """
        try:
            return self.before.value(selector)
        except ReadError as error:
            if not is_unknown_name(error):
                raise
            added = self._added(selector)
            if added is None:
                raise self._teachers(selector, error) from None
            return added

    def _students(self, selector: str, error: ReadError) -> ReadError:
        """Say so where a name that the teacher lacks is the student's."""
        with suppress(ReadError):
            name = find(self.before.graph, selector).name
            call = f"merged.student({selector!r})"
            return misplaced(error, selector, name, having="student", help=call)
        return error

    def _teachers(self, selector: str, error: ReadError) -> ReadError:
        """Say so where a name that the student lacks is a teacher's."""
        for merged in (self, *self.teachers):
            with suppress(ReadError):
                name = merged.teacher_name(selector)
                call = f"merged.teacher({selector!r})"
                return misplaced(error, selector, name, having="teacher", help=call)
        return error

    def _added(self, selector: str) -> _Paddle | None:
        """Return what was added since under a name, None where there is nothing of the user's."""
        now = LiveProgram.of(self.program)
        try:
            name = find(now.graph, selector).name
        except ReadError:
            return None
        teachers = (self, *self.teachers)
        return None if any(merged.brought(now, name) for merged in teachers) else now.value(name)

    def brought(self, now: LiveProgram, name: str) -> bool:
        """Tell whether a Value of the Program as it is now came with this teacher."""
        if self.joined.keys:
            return now.keys[name] in self._brought
        return name in self._brought

    @cached_property
    def _brought(self) -> frozenset[object]:
        return frozenset((self.joined.keys or self.joined.names).values())

    def teacher_name(self, selector: str) -> str:
        """Return the name in the teacher's Graph that a selector means, prefix or not.

        The result of a fetch is what was fetched.

        Raises ReadError: GT101, GT102.
        """
        check_selector(selector)
        graph = self.source.graph
        bare = selector.removeprefix(self.prefix)
        known = graph.values.keys()
        meant = selector if selector in known else bare
        try:
            return handed_out(graph, find(graph, meant).name)
        except ReadError as error:
            raise renamed(error, selector) from None

    def merged_name(self, name: str) -> str:
        """Return the name in `graph` of a Value that the teacher's Graph calls `name`.

        Raises ReadError: GT031 where the merged Program does not have it.
        """
        new = self.values.get(name)
        if new is None:
            raise ReadError(reading.value_gone(self.source.graph.source, name))
        return new

    def load_teacher(self, source: _Paddle | Mapping[str, _Paddle] | str | PathLike[str]) -> None:
        """Load the teacher's weights under their new names; earlier ones are replaced.

        `source` is a Scope, a mapping from names (old or new) to arrays, or the path of a combined
        parameter file, of a folder with one file for each or of a `.pdparams`. All of them are
        loaded or none.

        Raises MergeError: GT250 where some are missing, GT251 where shape or dtype differ, GT255
        where a Scope holds the student's under their names, GT258 where Paddle fails. Raises
        UsageError: GT254 for another `source`. Raises GraphtoolError as `load_parameters` does for
        a bad file: GT001, GT010, GT240, GT500 to GT504.
        """
        with paddle_failures(MergeError, "load_teacher"), ExitStack() as undo:
            found = weights_from(source, self.plan, self.source, self.scopes.student)
            tensors = found.tensors()
            # The startup program of the caller's Scope may run again, and write the buffers.
            copied = frozenset(tensors if found.scope is source else ())
            hand_over(tensors, self.scopes.student, place=self.place, copied=copied, undo=undo)
            undo.callback(setattr, self.provenance, "look", self.provenance.look)
            origin = from_source(source, found, self.plan, self.source, self.scopes.student)
            self.provenance.look = origin.look
            heed_interrupt()
            undo.pop_all()

    def verify(
        self,
        feed: Mapping[str, _Paddle] | None = None,
        fetch: tuple[str, ...] | None = None,
    ) -> verify.Verification:
        """Run clones of both originals and of the merged Program, and compare their Values.

        Each runs once in a private Scope, under the same seed, on `feed` (by the names that the
        merged Program is fed under) or on generated input; what of the weights is not initialised
        is generated too. Both sides compute with the tensors of the merged Program's Scope. The
        teacher's weights are compared apart, with the Scope, file, Layer or folder that they came
        from as that is now: where the teacher has been trained on, they differ. Those for which
        that cannot be (shared memory, a mapping, a file that is gone) are said to be not checked:
        what is returned is false then, and its `equal` tells of all that was compared.
        Gradients are not compared. `fetch` picks
        Values by selector, all forward ones where None. Variables and random state of the user's
        stay byte for byte as they are. Generated whole numbers are 0 and 1; where an operator takes
        them for lengths or offsets that don't fit, Paddle may end the process: give a `feed` then.

        Raises MergeError: GT252 for a feed that the merged Program doesn't have, GT253 for a Value
        that cannot be fetched, GT256 for sequences (LoD) that were not given, GT257 where Paddle
        doesn't run one of the three. Raises UsageError: GT248 for what is no array or no name.
        Raises ReadError: GT101, GT102 and GT031, as `teacher` does.
        """
        return verify.verify(self, feed, fetch)

    def __deepcopy__(self, _: object) -> Merged:
        # Paddle 2.6 copies what a Program carries before it runs what AdamW moves.
        return self

    def __rich__(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        theirs, ours = self.source.graph, self.before.graph
        title = Text(f"merged into {bounded(ours.source)}")
        table = Table("", "teacher", "in the merged Program", title=title)
        frozen = f"{bounded(self.prefix)}*, frozen"
        table.add_row("program", Text(bounded(theirs.source)), Text(frozen))
        table.add_row("operators", str(len(theirs.operators)), f"beside {len(ours.operators)}")
        table.add_row("parameters", str(len(self.plan.weights)), self.plan.parameters.value)
        for old, new in self.feed_map.items():
            table.add_row("feed", Text(named(old)), Text(named(new)))
        for found in self.report:
            table.add_row(found.severity.value, found.code, Text(bounded(found.message)))
        return table

    def __repr__(self) -> str:
        theirs, ours = self.source.graph, self.before.graph
        feeds = ", ".join(f"{named(old)} -> {named(new)}" for old, new in self.feed_map.items())
        return (
            f"Merged({bounded(theirs.source)}: {len(theirs.operators)} operators, "
            f"{len(self.plan.weights)} parameters as {bounded(self.prefix)}*, into "
            f"{bounded(ours.source)}: {len(ours.operators)} operators; fed {feeds}; "
            f"{len(self.report)} diagnostics)"
        )


def merged_of(program: _Paddle) -> Merged | None:
    """Return the last merge into a Program, None where there was none."""
    merges = _registered(program)
    return merges[-1] if merges else None


def register(merged: Merged, inherited: tuple[Merged, ...] = ()) -> Merged:
    """Let the Program know of a merge, so that the next one is checked against it.

    `inherited` are merges that it has from the Program of which it is a clone.
    """
    merges = (*inherited, *_registered(merged.program), merged)
    note(merged.program, merges, [new for _, new in merged.plan.weights])
    return merged


def value_of(selector: str, merges: Iterable[Merged], *others: Callable[[str], _Paddle]) -> _Paddle:
    """Return the Value that a selector means: with a teacher's prefix that teacher's.

    Else, or where that teacher has none of the name, it is what one of the others finds, asked in
    order. An empty prefix, which every name has, tells nothing.

    Raises ReadError: GT102, GT031, and GT101 as the first that was asked said it.
    """
    fitting = [one for one in merges if one.prefix and selector.startswith(one.prefix)]
    longest_first = sorted(fitting, key=lambda one: -len(one.prefix))
    unknown: list[ReadError] = []
    for look_up in (*(one.teacher for one in longest_first), *others):
        try:
            return look_up(selector)
        except ReadError as error:  # noqa: PERF203  # the next one is asked
            if not is_unknown_name(error):
                raise
            unknown.append(error)
    raise unknown[0]


def inherited_by(student: LiveProgram) -> tuple[Merged, ...]:
    """Return merges into the Program of which the student's is a clone, as merges into that one."""
    merges: tuple[Merged, ...] = noted(student.program)
    return tuple(
        _moved(merged, student) for merged in merges if merged.program is not student.program
    )


def _moved(merged: Merged, live: LiveProgram) -> Merged:
    """Return a merge whose Values are those of a clone: names hold there, ids of operations not."""
    graph, there = merged.before.graph, live.graph.values
    return replace(
        merged,
        before=replace(
            live,
            graph=graph,
            keys={name: key for name, key in live.keys.items() if name in graph.values},
        ),
        joined=Joined(
            names={old: new for old, new in merged.values.items() if new in there},
            live=live,
            extent=Extent.of(live.program),
        ),
    )


def _registered(program: _Paddle) -> tuple[Merged, ...]:
    merges: tuple[Merged, ...] = noted(program)
    # Paddle's clone() copies the attribute; the Values are those of the original.
    return tuple(merged for merged in merges if merged.program is program)
