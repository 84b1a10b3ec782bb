"""Write the top-level Block of a Graph anew, one Operator after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from graphtool.graph import Attribute, Graph, Operator, Origin, Shape, Value
from tests.matching.rewrites.rewritten import Rewritten, with_operators

__all__ = ["Editor", "edited"]


@dataclass(slots=True)
class Editor:
    """Writes the top-level Block of a Graph anew, one Operator after the other."""

    graph: Graph
    operators: list[Operator] = field(default_factory=list[Operator])
    values: dict[str, Value] = field(default_factory=dict[str, Value])
    names: dict[str, str | None] = field(default_factory=dict[str, "str | None"])
    count: int = 0

    def __post_init__(self) -> None:
        self.values.update(self.graph.values)

    def keep(self, operator: Operator) -> None:
        self.operators.append(operator)

    def add(
        self,
        type: str,
        operands: Sequence[str | None],
        shape: Shape | None,
        *,
        result: str | None = None,
        **attributes: Attribute,
    ) -> str:
        """Write an Operator with one result, which may have the name of one that was there."""
        name = self._name(type)
        written = name if result is None else result
        dtype = None if result is None else self.graph.values[result].dtype
        self._write(name, written, shape, Origin.OPERATOR, dtype)
        self.operators.append(
            Operator(
                name=name,
                type=f"pd_op.{type}",
                index=None,
                block="",
                operands=tuple(operands),
                results=(written,),
                attributes=attributes,
            )
        )
        return written

    def parameter(self, shape: Shape) -> str:
        """Write a parameter; it stands where it is first read, which is no matter."""
        name = self._name("weight")
        self._write(name, name, shape, Origin.PARAMETER)
        self.operators.append(
            Operator(
                name=name,
                type="builtin.parameter",
                index=None,
                block="",
                operands=(),
                results=(name,),
            )
        )
        return name

    def done(self) -> Rewritten:
        return Rewritten(with_operators(self.graph, self.operators, self.values), self.names)

    def _name(self, stem: str) -> str:
        """Return a name that neither a Value nor an Operator has; another rewrite made some too."""
        while True:
            self.count += 1
            name = f"new_{stem}_{self.count}"
            if name not in self.values and name not in self.graph.operators:
                return name

    def _write(
        self, maker: str, name: str, shape: Shape | None, origin: Origin, dtype: str | None = None
    ) -> None:
        self.values[name] = Value(
            name=name, shape=shape, dtype=dtype or "float32", producer=maker, origin=origin
        )


def edited(graph: Graph, step: Callable[[Editor, Operator], None]) -> Editor:
    """Let `step` write each Operator of the top-level Block, as it is or otherwise."""
    editor = Editor(graph)
    for name in graph.blocks[""].operators:
        step(editor, graph.operators[name])
    return editor
