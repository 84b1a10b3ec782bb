"""Find the Values of a recipe again, in a Graph that may be another program by now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath

from graphtool.diagnostics import Diagnostic, ReadError, Where
from graphtool.graph import Graph, Value, shapes_agree
from graphtool.matching import problems
from graphtool.matching._schema import EndRecord, FeedRecord, ProgramRecord
from graphtool.matching.fingerprint import Fingerprint, fingerprints, program_fingerprint
from graphtool.matching.pairs import End, end_of
from graphtool.selectors import find
from graphtool.structure import kind_of, kind_of_type

__all__ = ["Found", "Side"]


@dataclass(frozen=True, slots=True)
class Found:
    """Where an end is now, None where it's gone, and what is to be said about it.

    One that `is_another` is another Value than the one that the pair was written for.
    """

    end: End | None
    said: tuple[Diagnostic, ...] = ()
    is_another: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A Graph with its fingerprints, and the program that the recipe was made from."""

    role: str
    graph: Graph
    record: ProgramRecord
    marks: Mapping[str, Fingerprint]
    names: Mapping[tuple[str, str], list[str]]
    same_sizes: bool

    @classmethod
    def of(cls, role: str, graph: Graph, record: ProgramRecord) -> Side:
        """Take the fingerprints of a Graph."""
        marks = fingerprints(graph)
        names: dict[tuple[str, str], list[str]] = {}
        for name, mark in marks.items():
            names.setdefault((mark.kind, mark.ancestors), []).append(name)
        return cls(
            role=role,
            graph=graph,
            record=record,
            marks=marks,
            names=names,
            same_sizes=_same_sizes(record.feeds, graph),
        )

    def remarks(self) -> Iterator[Diagnostic]:
        """Say so where the program is another one than the recipe's."""
        recorded = self.record.fingerprint
        if recorded is None or self._is_translated():
            return
        if recorded != program_fingerprint(self.graph, self.marks):
            yield problems.other_program(self.role, self.record.source, self.graph)

    def _is_translated(self) -> bool:
        """Tell the recipe's own legacy program, made PIR: its fingerprint as a whole is another."""
        translated = any(value.aliases for value in self.graph.values.values())
        return translated and self.record.source == PurePath(self.graph.source).name

    def find(self, end: EndRecord, place: str) -> Found:
        """Find an end by its fingerprint, or by its name, which may be any selector.

        The name alone decides where there is no fingerprint, or where the name was edited since.
        """
        mark = end.mark
        if mark is None:
            return self._named(end)
        if end.is_edited:
            return self._edited(end, place)
        candidates = self._best(end, self._alike(mark))
        if len(candidates) != 1:
            return Found(None, (self._stale(end, place, candidates),))
        name = candidates[0]
        if name == end.name or end.name in self.graph.values[name].aliases:
            return Found(self._end(name, end))
        moved = problems.moved_value(f"{place}.{self.role}", self.role, self.graph, end.name, name)
        return Found(self._end(name, end), (moved,))

    def _named(self, end: EndRecord) -> Found:
        try:
            return Found(self._end(find(self.graph, end.name).name, end))
        except ReadError as error:
            return Found(None, error.report.diagnostics)

    def _edited(self, end: EndRecord, place: str) -> Found:
        """Find an end by its name, and by nothing of what is said of the Value it named before."""
        found = self._named(EndRecord(name=end.name))
        if found.end is None:
            return found
        place = f"{place}.{self.role}"
        said = problems.edited_name(place, self.role, self.graph, end.name)
        return replace(found, said=(said,), is_another=True)

    def _end(self, name: str, recorded: EndRecord) -> End:
        """Describe the Value as it is now; its attribute path is kept where the Graph has none."""
        end = end_of(self.graph, self.graph.values[name])
        return end if end.layer is not None else replace(end, layer=recorded.layer)

    def _alike(self, mark: Fingerprint) -> list[str]:
        """List the Values that compute the same, of that shape unless inputs are of other sizes."""
        names = self.names.get((mark.kind, mark.ancestors), [])
        if not self.same_sizes:
            return names
        return [name for name in names if self.marks[name].has_shape_of(mark)]

    def _best(self, end: EndRecord, names: list[str]) -> list[str]:
        """Tell Values apart that compute the same: by module, name, attribute path, Operator."""
        makers = {name: self.graph.producer(name) for name in names}
        modules = {name: maker.module if maker else None for name, maker in makers.items()}
        kinds = {name: kind_of(maker) if maker else None for name, maker in makers.items()}
        if end.module is not None:
            names = _kept(names, (name for name in names if modules[name] == end.module))
        names = _kept(names, (name for name in names if name == end.name))
        if end.layer is not None:
            names = _kept(names, (x for x in names if self.graph.values[x].layer == end.layer))
        kind = None if end.op is None else kind_of_type(end.op)
        return _kept(names, (name for name in names if kinds[name] == kind))

    def _stale(self, end: EndRecord, place: str, candidates: list[str]) -> Diagnostic:
        now = self.graph.values.get(end.name)
        maker = None if now is None else self.graph.producer(end.name)
        return problems.stale_recipe(
            f"{place}.{self.role}",
            was=Where(
                role=f"recipe's {self.role}",
                program=self.record.source or None,
                value=end.name,
                shape=end.shape,
            ),
            was_type=end.op,
            now=Where(
                role=self.role,
                program=self.graph.source,
                value=None if now is None else now.name,
                shape=None if now is None else now.shape,
            ),
            now_type=None if maker is None else maker.type,
            alike=candidates,
        )


def _kept(names: list[str], narrower: Iterable[str]) -> list[str]:
    return list(narrower) or names


def _same_sizes(feeds: tuple[FeedRecord, ...], graph: Graph) -> bool:
    """Tell whether inputs may have the sizes that they had, taken by name or else by place."""
    for index, feed in enumerate(feeds):
        now = graph.values.get(feed.name) or _feed_at(graph, index)
        if now is not None and not shapes_agree(feed.shape, now.shape):
            return False
    return True


def _feed_at(graph: Graph, index: int) -> Value | None:
    return graph.values[graph.feeds[index]] if index < len(graph.feeds) else None
