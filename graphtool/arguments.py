"""What a call is given that is of a type which it does not take."""

from __future__ import annotations

from reprlib import repr as brief

from graphtool.diagnostics import Diagnostic, rule

__all__ = ["bad_argument"]

_MERGE = 'graphtool.merge(teacher, student, {"image": "image"}, name_prefix="teacher_")'


@rule("GT248")
def bad_argument(name: str, given: object, wanted: str, call: str = _MERGE) -> Diagnostic:
    """An argument is of a type that the call does not take; nothing was read or touched.

    Feeds, Values and parameters go by their names: a Variable has `.name`, a Value is found with
    `graphtool.read(program)`.
    """
    # A Program's own text has several lines.
    shown = " ".join(brief(given).split())
    return Diagnostic(message=f"`{name}` is `{shown}`; wanted {wanted}", help=call)
