"""What a call is given that is of a type which it does not take."""

from __future__ import annotations

from reprlib import Repr

from graphtool.diagnostics import Diagnostic, rule

__all__ = ["bad_argument", "shown"]

_MERGE = 'graphtool.merge(teacher, student, {"image": "image"}, name_prefix="teacher_")'


@rule("GT248")
def bad_argument(name: str, given: object, wanted: str, call: str = _MERGE) -> Diagnostic:
    """An argument is of a type that the call does not take; nothing was read or touched.

    Feeds, Values and parameters go by their names: a Variable has `.name`, a Value is found with
    `graphtool.read(program)`.
    """
    return Diagnostic(message=f"`{name}` is `{shown(given)}`; wanted {wanted}", help=call)


class _Brief(Repr):
    """Shortens what is long, and asks nothing of what crashes once its Program is gone."""

    def repr_Value(self, given: object, _: int) -> str:  # noqa: N802  # `Repr` looks for the name
        """Return the type's name; PIR's operations and Blocks are no safer, Programs are long."""
        return f"<{type(given).__name__}>"

    repr_Operation = repr_Block = repr_OpOperand = repr_Program = repr_Value  # noqa: N815


_brief = _Brief()


def shown(given: object) -> str:
    """Write an argument of any type in a line, as Python does, in short."""
    # A Layer's own text has several lines.
    return " ".join(_brief.repr(given).split())
