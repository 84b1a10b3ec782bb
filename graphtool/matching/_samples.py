"""Samples as the user has them, batch by batch: from files, arrays, functions and loaders."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from os import PathLike, fspath
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from graphtool.diagnostics import Diagnostic, PairError, UsageError
from graphtool.matching import evidence_problems as problems
from graphtool.readers._kinds import check_kind
from graphtool.readers._messages import Attempt, brief, user_frames
from graphtool.readers._spelling import is_callable_spec

if TYPE_CHECKING:
    import numpy as np

__all__ = ["ONLY", "RANDOM", "Arrays", "check_samples", "count_of", "name_of", "samples_of"]

# What the user's code yields is not known before it runs.
_Given: TypeAlias = Any
Arrays: TypeAlias = "Mapping[str, np.ndarray[Any, Any]]"

RANDOM = "random"
# The one array that comes without a name.
ONLY = ""
_ENDINGS = ".npy", ".npz"


def check_samples(source: _Given) -> None:
    """Refuse a text that names no samples, before networks are opened; nothing is read or run.

    Raises UsageError: GT370. Raises PairError: GT371 for a file that can't be opened. Raises
    ReadError: GT017.
    """
    if not isinstance(source, str | PathLike) or source == RANDOM:
        return
    name = fspath(cast("str | PathLike[str]", source))
    path = Path(name)
    if path.suffix not in _ENDINGS:
        if not is_callable_spec(name):
            raise UsageError(problems.no_evidence_source(name))
        return
    try:
        check_kind(path)
        path.open("rb").close()
    except OSError as error:
        raise PairError(_unreadable(path, error.strerror or str(error))) from None


def _unreadable(path: Path, reason: str) -> Diagnostic:
    return problems.unreadable_evidence(str(path), reason, there=path.exists())


def samples_of(source: _Given, size: int) -> Iterator[Arrays]:
    """Yield arrays by name, `size` samples of them after another where they are no batches yet.

    `source` has passed `check_samples`. Raises PairError: GT371, GT377.
    """
    if isinstance(source, str | PathLike):
        return _named(fspath(cast("str | PathLike[str]", source)), size)
    return _held(name_of(source), source, size)


def name_of(source: _Given) -> str:
    """Return what samples are called: a path, `random`, or the name of a function or class."""
    if isinstance(source, str | PathLike):
        return fspath(cast("str | PathLike[str]", source))
    if _is_whole(source):
        return "samples"
    return getattr(source, "__name__", type(source).__name__)


def _named(source: str, size: int) -> Iterator[Arrays]:
    path = Path(source)
    if path.suffix in _ENDINGS:
        return _slices(_read(path), size, source)
    return _held(source, _imported(source), size)


def _read(path: Path) -> Arrays:
    """Read a file of arrays; nothing in it is unpickled."""
    from graphtool.matching._array_files import read_archive, read_array

    try:
        return {ONLY: read_array(path)} if path.suffix == ".npy" else read_archive(path)
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError as error:
        reason = str(error)
    raise PairError(_unreadable(path, reason))


def _imported(spec: str) -> _Given:
    attempt = Attempt()
    with _users_code(), attempt:
        return resolve_name(spec)
    assert attempt.error is not None
    raise PairError(_failure(spec, "can't be imported", attempt.error))


@contextmanager
def _users_code() -> Generator[None]:
    """Look in the working directory first, and keep stdout for results."""
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        sys.path[:] = before


def _failure(source: str, what: str, error: BaseException, place: Sequence[str] = ()) -> Diagnostic:
    reason = f"{type(error).__name__}: {brief(str(error))}"
    # The first frame is of this module, which called.
    trace = error.__traceback__ and error.__traceback__.tb_next
    frames = user_frames(error.with_traceback(trace)) or place
    return problems.evidence_source_failed(source, f"{what}: {reason}", frames)


def _held(name: str, source: _Given, size: int) -> Iterator[Arrays]:
    """Yield the batches of an array, a dict of arrays, a function, or anything to iterate over."""
    place = _place(source)
    made = _called(name, source) if callable(source) else source
    if _is_whole(made):
        return _slices(_arrays(made, name, place), size, name)
    return _yielded(name, made, place)


def _is_whole(source: _Given) -> bool:
    """Tell samples that are no batches yet."""
    return isinstance(source, Mapping) or hasattr(source, "shape")


def _place(source: _Given) -> tuple[str, ...]:
    """Return where a function is defined: `data.py:12 in batches`."""
    code: _Given = getattr(source, "__code__", None)
    if code is None:
        return ()
    return (f"{Path(code.co_filename).name}:{code.co_firstlineno} in {code.co_name}",)


def _called(name: str, source: _Given) -> _Given:
    attempt = Attempt()
    with _users_code(), attempt:
        return source()
    assert attempt.error is not None
    raise PairError(_failure(name, "raises", attempt.error, _place(source)))


def _yielded(name: str, source: _Given, place: Sequence[str]) -> Iterator[Arrays]:
    """Yield the batches of what is iterated over; `place` is where the user made it."""
    batches = _iterator(name, source, place)
    nothing = object()
    while True:
        given: _Given = nothing
        attempt = Attempt()
        with _users_code(), attempt:
            given = next(batches, nothing)
        if attempt.error is not None:
            raise PairError(_failure(name, "raises", attempt.error, place))
        if given is nothing:
            return
        yield _arrays(_alone(given), name, place)


def _iterator(name: str, source: _Given, place: Sequence[str]) -> Iterator[_Given]:
    attempt = Attempt()
    with _users_code(), attempt:
        return iter(source)
    assert attempt.error is not None
    raise PairError(_failure(name, "gives nothing to iterate over", attempt.error, place))


def _alone(given: _Given) -> _Given:
    """Take the only one out of a list of tensors, as a DataLoader yields."""
    if not isinstance(given, list | tuple):
        return given
    listed = cast("list[_Given]", given)
    return listed[0] if len(listed) == 1 else listed


def _arrays(given: _Given, source: str, place: Sequence[str]) -> Arrays:
    import numpy as np

    if isinstance(given, Mapping):
        named = cast("Mapping[_Given, _Given]", given)
        return {str(name): np.asarray(array) for name, array in named.items()}
    if hasattr(given, "shape"):
        return {ONLY: np.asarray(given)}
    kind: str = type(given).__name__
    reason = f"gives `{kind}`, which is neither an array nor a dict of arrays"
    raise PairError(problems.evidence_source_failed(source, reason, place))


def count_of(arrays: Arrays, source: str) -> int:
    """Return how many samples arrays have, all of them the same.

    Raises PairError: GT377 where they differ.
    """
    counts = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"`{name}` {count}" for name, count in counts.items())
        reason = f"has arrays with different numbers of samples: {shown}"
        raise PairError(problems.evidence_source_failed(source, reason))
    return next(iter(counts.values()), 0)


def _slices(arrays: Arrays, size: int, source: str) -> Iterator[Arrays]:
    """Yield so many samples after another; what is left at the end is too few for a batch."""
    samples = count_of(arrays, source)
    size = min(size, samples) or 1
    for start in range(0, samples - size + 1, size):
        yield {name: array[start : start + size] for name, array in arrays.items()}
