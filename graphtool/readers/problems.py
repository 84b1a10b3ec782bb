"""What can be wrong with a model that is to be read: GT0xx."""

from __future__ import annotations

from collections.abc import Sequence

from graphtool.diagnostics import Diagnostic, Where, rule

__all__ = ["bad_program_json", "empty_file", "no_such_path", "not_json", "unknown_version"]


@rule("GT001")
def no_such_path(path: str, near: Sequence[str] = ()) -> Diagnostic:
    """MODEL names a file or folder that does not exist.

    A MODEL is a path (`.json`, `.pdmodel`, a folder that holds one, or `__model__`) or `module:callable`.
    """
    notes = tuple(f"there is `{name}`" for name in near)
    return Diagnostic(message=f"`{path}` does not exist", notes=notes)


@rule("GT002")
def empty_file(path: str) -> Diagnostic:
    """The file has no content, as an interrupted copy or save leaves it."""
    return Diagnostic(
        message="the file is empty",
        where=(Where(program=path),),
        help="save or copy the model again",
    )


@rule("GT003")
def not_json(path: str, reason: str) -> Diagnostic:
    """The file ends in `.json` but its text is no JSON, most often since it was cut off."""
    return Diagnostic(
        message=f"the text is not JSON: {reason}",
        where=(Where(program=path),),
        help="save or copy the model again",
    )


@rule("GT004")
def bad_program_json(path: str, reason: str) -> Diagnostic:
    """The JSON is no Paddle program, or is not laid out as Paddle lays one out.

    A program saved by Paddle 3 is an object with `base_code` (magic `pir`) and `program`.
    """
    return Diagnostic(message=reason, where=(Where(program=path),))


@rule("GT005")
def unknown_version(path: str, version: object, newest: int) -> Diagnostic:
    """The file says that it is of a version of the format that this graphtool has never seen.

    It is not read: a field that changed its meaning would give wrong answers in silence.
    """
    return Diagnostic(
        message=f"the file is of PIR format version {version}; this graphtool knows versions up to {newest}",
        where=(Where(program=path),),
        help="pip install --upgrade paddle-graphtool",
    )
