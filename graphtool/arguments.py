"""Report arguments of the wrong type."""

from __future__ import annotations

from reprlib import Repr

from graphtool.diagnostics import Diagnostic, rule

__all__ = ["bad_argument", "short_repr"]

_MERGE = 'graphtool.merge(teacher, student, {"image": "image"}, name_prefix="teacher_")'


@rule("GT248")
def bad_argument(name: str, value: object, expected: str, call: str = _MERGE) -> Diagnostic:
    """An argument is of a type that the call does not take; nothing was read or touched.

    Feeds, Values and parameters go by their names: a Variable has `.name`, a Value is found with
    `graphtool.read(program)`.
    """
    return Diagnostic(message=f"`{name}` is `{short_repr(value)}`; wanted {expected}", help=call)


class _ShortRepr(Repr):
    """Shorten long reprs; never touch Paddle objects, which crash once their Program is gone."""

    def repr_Value(self, value: object, _: int) -> str:  # noqa: N802  # the name `Repr` looks up
        """Return the name of the type. The repr of a Program is too long."""
        return f"<{type(value).__name__}>"

    repr_Operation = repr_Block = repr_OpOperand = repr_Program = repr_Value  # noqa: N815


_short_repr = _ShortRepr()


def short_repr(value: object) -> str:
    """Return a short, one-line repr of any argument."""
    # The repr of a Layer has several lines.
    return " ".join(_short_repr.repr(value).split())
