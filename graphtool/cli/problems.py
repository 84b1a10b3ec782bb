"""What can be wrong with a command line: GT600 and GT11x."""

from __future__ import annotations

from collections.abc import Sequence

from graphtool.cli._formatting import feed_text
from graphtool.diagnostics import Diagnostic, Severity, Where, listed, rule
from graphtool.lookalikes import near_notes, told_apart
from graphtool.paths import numbered_path
from graphtool.text import path_argument, shell_command, shell_option
from graphtool.version import UPGRADE

__all__ = [
    "alike_feeds",
    "feeds_needed",
    "folder_in_use",
    "no_such_operator",
    "no_such_stage",
    "no_such_value",
    "not_of_inspect",
    "recipe_exists",
    "unknown_code",
    "unknown_fields",
    "wrong_usage",
]

_LISTED = 8


@rule("GT600")
def wrong_usage(message: str, help: str) -> Diagnostic:
    """The command line asks for something that the command does not take; the exit status is 2.

    `graphtool COMMAND --help` lists what a command takes and shows examples.
    """
    return Diagnostic(message=message, help=help)


@rule("GT602")
def unknown_code(code: str, near: Sequence[str]) -> Diagnostic:
    """No diagnostic has this code or slug.

    A code is GT and three digits, as in `error[GT001] no-such-path`; `graphtool explain` without a
    code lists all of them.
    """
    return Diagnostic(
        message=f"no diagnostic is called `{code}`",
        notes=tuple(near_notes(code, near)),
        help=f"graphtool explain {near[0].split()[0]}" if near else "graphtool explain",
    )


@rule("GT604")
def recipe_exists(path: str) -> Diagnostic:
    """The recipe to write is there already; it is left as it is.

    Pairs may have been taken out of it by hand, and weights changed. `--force` replaces it.
    """
    return Diagnostic(
        message=f"`{path}` is there already, and may have been edited",
        help=f"--force, or {shell_option('-o', numbered_path(path))}",
    )


@rule("GT606")
def not_of_inspect(path: str) -> Diagnostic:
    """The file to write is there already, and `graphtool inspect` did not write it.

    A table or a graph of its own is replaced; that of somebody else is left as it is.
    """
    return Diagnostic(
        message=f"`{path}` is there already, and is nothing that `graphtool inspect` wrote",
        help=shell_option("-o", numbered_path(path)),
    )


@rule("GT603")
def feeds_needed(guesses: Sequence[str], likely: Sequence[tuple[str, str]]) -> Diagnostic:
    """Which student feed a teacher feed shares can't be guessed: say it with `--feed`.

    It is guessed where one student feed has the same name, or is the only one of that shape and
    dtype. `--feed TEACHER_FEED=STUDENT_FEED` is given once for each; a teacher feed that is mapped
    onto its own name with the prefix before it stays a feed of its own.
    """
    return Diagnostic(
        message="the feed map can't be guessed",
        notes=tuple(guesses) or ("one of the programs has no feeds",),
        help=" ".join(
            shell_option("--feed", feed_text(*pair)) for pair in likely or [("TEACHER", "STUDENT")]
        ),
    )


@rule("GT605")
def folder_in_use(path: str, names: Sequence[str], again: str | None) -> Diagnostic:
    """The folder for the demonstration holds something already; it is left as it is.

    `graphtool demo FOLDER` writes to a folder that is empty, or not there yet. Where it ran before,
    or was interrupted, `python FOLDER/demo.py` runs it again.
    """
    return Diagnostic(
        message=f"`{path}` is not empty: it holds {listed(names, _LISTED)}",
        help=again or shell_command("graphtool", "demo", path_argument(numbered_path(path))),
    )


@rule("GT103")
def unknown_fields(program: str, fields: Sequence[str]) -> Diagnostic:
    """The file has fields that this graphtool does not know; it is read without them.

    A newer Paddle may have written it. All that is shown is in the file, but a field passed over
    may matter to what the network computes.
    """
    shown = listed(fields, _LISTED, quote="")
    return Diagnostic(
        message=f"the file has fields that are not known: {shown}",
        severity=Severity.WARNING,
        where=(Where(program=program),),
        help=UPGRADE,
    )


@rule("GT110")
def no_such_operator(program: str, type: str, near: Sequence[str]) -> Diagnostic:
    """The program has no operator of the type that `--op` asks for.

    A type is written as in the program (`pd_op.relu`), without its dialect (`relu`), or as a
    pattern (`'conv*'`). PIR and legacy programs spell some types differently (`add` and
    `elementwise_add`): either spelling finds both.
    """
    return Diagnostic(
        message=f"the program has no operator of type `{type}`",
        where=(Where(program=program),),
        notes=tuple(near_notes(type, near)),
        help=f"{_inspect(program)} {shell_option('--op', near[0])}" if near else _inspect(program),
    )


@rule("GT111")
def no_such_stage(program: str, stage: int, known: range) -> Diagnostic:
    """The network has no stage of the number that `--stage` asks for.

    Stages are counted from 1, as in the reasons of `suggest-pairs`; a stem before them, which
    nobody pairs, is `--stage stem`. A network without feature maps, such as a transformer, has
    none.
    """
    numbers = [number for number in known if number]
    few = {0: "it has no stages", 1: "its only stage is 1"}
    said = few.get(len(numbers), f"its stages are 1 to {len(numbers)}")
    stem = ", behind the stem" if 0 in known else ""
    return Diagnostic(
        message=f"the network has no {'stem' if stage == 0 else f'stage {stage}'}: {said}{stem}",
        where=(Where(program=program),),
        help=_inspect(program),
    )


@rule("GT112")
def no_such_value(program: str, wanted: str, name: str, near: Sequence[str]) -> Diagnostic:
    """No Value of the program fits everything that was asked for.

    `--name` compares with names, legacy names, attribute paths and module paths, and `*` stands for
    any text; in `--shape`, `?` and -1 stand for any size, and the number of dims has to agree.
    Several of `--name`, `--shape`, `--op` and `--stage` have to hold together.
    """
    return Diagnostic(
        message=f"no Value has {wanted}",
        where=(Where(program=program),),
        notes=tuple(near_notes(name, near)),
        help=f"{_inspect(program)} --all",
    )


@rule("GT113")
def alike_feeds(program: str, name: str, other: str) -> Diagnostic:
    """Two names that a program is fed or fetched by look the same, and are not.

    They differ in a letter of another script, in one that cannot be seen, or as `l` and `1` do.
    Whoever reads or types one may mean the other: `--format json` writes every letter that is not
    ASCII by its number.
    """
    return Diagnostic(
        message=f"two feeds or fetches look the same: {told_apart(name, other)}",
        severity=Severity.WARNING,
        where=(Where(program=program),),
        help=f"{_inspect(program)} --format json",
    )


def _inspect(program: str) -> str:
    return shell_command("graphtool", "inspect", path_argument(program))
