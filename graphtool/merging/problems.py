"""What can be wrong with weights that are loaded, or input that is given, after a merge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from graphtool.arguments import short_repr
from graphtool.diagnostics import Diagnostic, Report, Severity, Where, listed, rule
from graphtool.graph import Shape, Value
from graphtool.text import path_argument, shell_command

__all__ = [
    "changed_folder",
    "no_weights",
    "not_fetched",
    "pairs_gone",
    "run_failed",
    "sequences_not_given",
    "unknown_feeds",
    "verify_call",
    "weights_are_the_students",
    "weights_misfit",
    "weights_missing",
]

_LISTED = 5


@rule("GT250")
def weights_missing(source: str, names: Sequence[str], total: int) -> Diagnostic:
    """What the teacher's weights are loaded from lacks some of its parameters.

    They are looked up under the teacher's own names, then under those that merging gave them.
    Nothing was loaded.
    """
    return Diagnostic(
        message=f"{source} lacks {len(names)} of the teacher's {total} parameters",
        where=tuple(Where(role="teacher", value=name) for name in names[:_LISTED]),
        help="print(merged.names)",
    )


@rule("GT251")
def weights_misfit(
    name: str, found: tuple[Shape | None, str | None], wanted: tuple[Shape | None, str | None]
) -> Diagnostic:
    """A weight has another shape or dtype than the teacher's parameter; nothing was loaded."""
    return Diagnostic(
        message=f"`{name}` is {_spelt(*found)} and the teacher wants {_spelt(*wanted)}",
        where=(Where(role="teacher", value=name, shape=wanted[0]),),
        help="load the weights that were saved with this teacher",
    )


@rule("GT252")
def unknown_feeds(names: Sequence[str], known: Sequence[str]) -> Diagnostic:
    """`verify(feed)` was given a name that the merged Program is not fed under."""
    listed = ", ".join(f"`{name}`" for name in known)
    return Diagnostic(
        message=f"no feed is called {', '.join(f'`{name}`' for name in names)}",
        notes=(f"the merged Program is fed {listed}",),
        help=verify_call(known),
    )


def verify_call(feeds: Sequence[str]) -> str:
    """Write the call that verifies on input of one's own."""
    return f"merged.verify({{{', '.join(f'{name!r}: array' for name in feeds)}}})"


@rule("GT254")
def no_weights(given: object) -> Diagnostic:
    """The teacher's weights come from a Scope, a mapping of arrays, or a file or folder of them."""
    return Diagnostic(
        message=f"`{short_repr(given)}` holds no weights; wanted a Scope, a mapping or a path",
        help='merged.load_teacher("teacher.pdiparams")',
    )


@rule("GT253")
def not_fetched(role: str, value: Value) -> Diagnostic:
    """`verify(fetch=...)` was given a Value that Paddle cannot fetch.

    Fetched are tensors of the whole program: not those inside of a loop or branch, which may run
    often or never, and no arrays of tensors.
    """
    return Diagnostic(
        message=f"the {role}'s `{value.name}` cannot be fetched",
        where=(Where(role=role, value=value.name, shape=value.shape),),
        help="merged.verify()",
    )


@rule("GT256")
def sequences_not_given(names: Sequence[str]) -> Diagnostic:
    """`verify` can generate numbers, but not sequences of their own lengths (LoD) to feed.

    Give them: `paddle.base.create_lod_tensor` makes one from an array and lengths.
    """
    tensors = ", ".join(
        f"{name!r}: paddle.base.create_lod_tensor(array, [lengths], place)" for name in names
    )
    return Diagnostic(
        message=f"{', '.join(f'`{name}`' for name in names)} takes sequences, which were not given",
        where=tuple(Where(role="merged", value=name) for name in names[:_LISTED]),
        help=f"merged.verify({{{tensors}}})",
    )


@rule("GT257")
def run_failed(
    what: str, reason: str, *, feeds: Sequence[str], given: bool, said: Report
) -> Diagnostic:
    """Paddle could not run one of the three programs that `verify` compares.

    Where the teacher or student alone fails, the input is none for that network: generated whole
    numbers are 0 and 1, maps have 32 x 32 pixels, and sequences 8 steps. Give input that is. What
    the merge warned of may be the cause as well: tensors in its Scope that are another network's.
    """
    doubts = [found for found in said if found.severity is Severity.WARNING]
    again = "merged.verify()  # on generated input" if given else verify_call(feeds)
    return Diagnostic(
        message=f"{what} does not run: {reason}",
        notes=tuple(f"the merge warned, {found.code}: {found.message}" for found in doubts),
        help="print(merged.report)" if doubts else again,
    )


@rule("GT255")
def weights_are_the_students(names: Sequence[str]) -> Diagnostic:
    """The Scope that the teacher's weights are loaded from holds the student's under their names.

    Both programs keep a tensor of one name, and the student trains the one that is there; under
    the name that merging gave the teacher's there is none. Nothing was loaded.
    """
    return Diagnostic(
        message=f"`{names[0]}` is the student's own in the Scope to load from",
        where=tuple(Where(role="teacher", value=name) for name in names[:_LISTED]),
        help="load the teacher's weights in a Scope of their own, or from a file",
    )


def _spelt(shape: Shape | None, dtype: str | None) -> str:
    return f"{dtype or 'of unknown dtype'} {'of unknown shape' if shape is None else list(shape)}"


@rule("GT618")
def changed_folder(path: str, files: Sequence[str]) -> Diagnostic:
    """Files of a merged program are not as they were saved: they were edited, damaged or exchanged.

    Such a folder is not loaded; a picture of it is drawn, with a warning. Its `pairs.toml` may be
    edited. Merge again, or copy the folder again from where it is whole.
    """
    return Diagnostic(
        message=f"changed since the merged program was saved: {listed(files, _LISTED)}",
        where=(Where(program=path),),
        help="graphtool merge TEACHER STUDENT -o DIR",
    )


@rule("GT637")
def pairs_gone(path: str, file: str, networks: Sequence[str]) -> Diagnostic:
    """The folder was saved with pairs, and their file is not there any more.

    What was merged is whole without it: it loads, and a picture of it shows no pairs. Put the file
    back, or have pairs suggested again.
    """
    folder = PurePath(path)
    originals = (path_argument(str(folder / network)) for network in networks)
    suggest = shell_command(
        "graphtool", "suggest-pairs", *originals, "-o", path_argument(str(folder / file))
    )
    return Diagnostic(
        message=f"the merged program was saved with pairs, and `{file}` is gone",
        severity=Severity.WARNING,
        where=(Where(program=path),),
        help=suggest,
    )
