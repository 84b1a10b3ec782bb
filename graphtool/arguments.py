"""Report arguments of the wrong type or with impossible values."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from os import PathLike, fsencode, fspath
from pathlib import Path
from reprlib import Repr
from typing import TypeGuard, cast

from graphtool.diagnostics import Diagnostic, UsageError, rule

__all__ = ["are_texts", "bad_argument", "is_text", "path_of", "short_repr"]

_MERGE = 'graphtool.merge(teacher, student, {"image": "image"}, name_prefix="teacher_")'


_OLD_CODES = "GT249 GT254 GT350 GT358 GT407 GT408 GT410 GT411 GT530 GT625 GT629"


@rule("GT248", replaces=_OLD_CODES.split())
def bad_argument(name: str, value: object, expected: str, call: str = _MERGE) -> Diagnostic:
    """An argument has a wrong type or an impossible value; nothing was read or changed.

    Feeds, Values and parameters go by name: a Variable has `.name`, and `graphtool.read(program)`
    lists Values. Tensors of dynamic mode and NumPy arrays are not part of a Program: feed them.

    A Report that is drawn comes from `check_merge` or `check_pairs`. Around a focus all operators
    are drawn, so its only level is `op`.
    """
    return Diagnostic(message=f"`{name}` is `{short_repr(value)}`; wanted {expected}", help=call)


def is_text(given: object) -> TypeGuard[str]:
    """Return whether an argument is text that UTF-8 can encode: without lone surrogates."""
    return isinstance(given, str) and not any("\ud800" <= one <= "\udfff" for one in given)


def are_texts(given: object) -> TypeGuard[Sequence[str]]:
    """Return whether an argument is a list or tuple of texts, and not a single one."""
    if not isinstance(given, list | tuple):
        return False
    return all(isinstance(one, str) for one in cast("Sequence[object]", given))


def path_of(path: object, call: str, argument: str = "path") -> Path:
    """Return the path that an argument of a call is.

    Raises UsageError: GT248 for anything that the operating system takes for no path.
    """
    given: object = path
    if isinstance(path, PathLike):
        given = fspath(cast("PathLike[str]", path))
    if isinstance(given, str) and given and "\0" not in given:
        # A lone surrogate has no encoding.
        with suppress(UnicodeEncodeError):
            fsencode(given)
            return Path(given)
    raise UsageError(bad_argument(argument, cast("object", path), "a path", call))


class _ShortRepr(Repr):
    """Shorten long reprs; never touch Paddle objects, which crash once their Program is gone."""

    def repr_Value(self, value: object, _: int) -> str:  # noqa: N802  # the name `Repr` looks up
        """Return the name of the type. The repr of a Program is too long."""
        return f"<{type(value).__name__}>"

    def repr_instance(self, x: object, level: int) -> str:
        """Return the name of the type instead of an address."""
        if type(x).__repr__ is object.__repr__:
            return f"<{type(x).__name__}>"
        return super().repr_instance(x, level)

    repr_Operation = repr_Block = repr_OpOperand = repr_Program = repr_Value  # noqa: N815


_short_repr = _ShortRepr()


def short_repr(value: object) -> str:
    """Return a short, one-line repr of any argument."""
    # The repr of a Layer has several lines.
    return " ".join(_short_repr.repr(value).split())
