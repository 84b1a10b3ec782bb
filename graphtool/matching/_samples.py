"""Read samples batch by batch from files, arrays, functions and loaders."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from os import PathLike, fspath
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from graphtool.backend.errors import shortened_message
from graphtool.diagnostics import Call, Diagnostic, PairError, UsageError
from graphtool.matching import evidence_problems as problems
from graphtool.paths import list_command
from graphtool.readers.files import check_not_special
from graphtool.sources._model_spec import is_callable_spec
from graphtool.sources.user_code import Attempt, user_frames

if TYPE_CHECKING:
    import numpy as np

__all__ = ["ONLY", "RANDOM", "Arrays", "check_samples", "count_of", "name_of", "samples_of"]

# What the user's code yields: anything, before it is checked.
_Given: TypeAlias = Any
Arrays: TypeAlias = "Mapping[str, np.ndarray[Any, Any]]"

RANDOM = "random"
# The name of the only, unnamed array.
ONLY = ""
_ENDINGS = ".npy", ".npz"


def check_samples(source: _Given) -> None:
    """Refuse a source that names no samples, before networks are opened; nothing is read or run.

    Raises UsageError: GT370. Raises PairError: GT370 for a file that can't be opened. Raises
    ReadError: GT010.
    """
    if not isinstance(source, str | PathLike) or source == RANDOM:
        return
    name = fspath(cast("str | PathLike[str]", source))
    path = Path(name)
    if path.suffix not in _ENDINGS:
        if not is_callable_spec(name):
            message = f"`{name}` is not a .npy, .npz, module:callable or random"
            raise UsageError(problems.no_evidence(message, help=Call(None, evidence="samples.npz")))
        return
    try:
        check_not_special(path)
        path.open("rb").close()
    except OSError as error:
        raise PairError(_unreadable(path, error.strerror or str(error))) from None


def _unreadable(path: Path, reason: str) -> Diagnostic:
    if not path.exists():
        typed = list_command(path.parent)
    elif path.suffix == ".npy":
        typed = 'numpy.save("samples.npy", images)'
    else:
        typed = problems.savez_call("image")
    return problems.no_evidence(f"`{path}` can't be read as samples: {reason}", help=typed)


def samples_of(source: _Given, size: int) -> Iterator[Arrays]:
    """Yield batches of arrays by name; arrays that are not batched yet are cut into `size` samples.

    `source` has passed `check_samples`. Raises PairError: GT370.
    """
    if isinstance(source, str | PathLike):
        return _from_name(fspath(cast("str | PathLike[str]", source)), size)
    return _from_object(name_of(source), source, size)


def name_of(source: _Given) -> str:
    """Return the name of samples: a path, `random`, or the name of a function or class."""
    if isinstance(source, str | PathLike):
        return fspath(cast("str | PathLike[str]", source))
    if _is_unbatched(source):
        return "samples"
    return getattr(source, "__name__", type(source).__name__)


def _from_name(source: str, size: int) -> Iterator[Arrays]:
    path = Path(source)
    if path.suffix in _ENDINGS:
        return _slices(_read(path), size, source)
    return _from_object(source, _imported(source), size)


def _read(path: Path) -> Arrays:
    """Read a file of arrays without unpickling anything."""
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
    with _user_code(), attempt:
        return resolve_name(spec)
    assert attempt.error is not None
    raise PairError(_failure(spec, "can't be imported", attempt.error))


@contextmanager
def _user_code() -> Generator[None]:
    """Import from the working directory first, and redirect stdout, which is for results."""
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        sys.path[:] = before


def _failure(source: str, what: str, error: BaseException, place: Sequence[str] = ()) -> Diagnostic:
    reason = f"{type(error).__name__}: {shortened_message(str(error))}"
    # The first frame is this module's.
    trace = error.__traceback__ and error.__traceback__.tb_next
    frames = user_frames(error.with_traceback(trace)) or place
    return problems.no_evidence(f"`{source}` {what}: {reason}", notes=frames)


def _from_object(name: str, source: _Given, size: int) -> Iterator[Arrays]:
    """Yield the batches of an array, a dict of arrays, a function, or an iterable."""
    place = _definition(source)
    samples = _called(name, source) if callable(source) else source
    if _is_unbatched(samples):
        return _slices(_arrays(samples, name, place), size, name)
    return _batches(name, samples, place)


def _is_unbatched(source: _Given) -> bool:
    """Return whether samples are an array or a dict of arrays, not batches."""
    return isinstance(source, Mapping) or hasattr(source, "shape")


def _definition(source: _Given) -> tuple[str, ...]:
    """Return where a function is defined: `data.py:12 in batches`."""
    code: _Given = getattr(source, "__code__", None)
    if code is None:
        return ()
    return (f"{Path(code.co_filename).name}:{code.co_firstlineno} in {code.co_name}",)


def _called(name: str, source: _Given) -> _Given:
    attempt = Attempt()
    with _user_code(), attempt:
        return source()
    assert attempt.error is not None
    raise PairError(_failure(name, "raises", attempt.error, _definition(source)))


def _batches(name: str, source: _Given, place: Sequence[str]) -> Iterator[Arrays]:
    """Yield the batches of an iterable; `place` is where the user defined it."""
    batches = _iterator(name, source, place)
    end = object()
    while True:
        given: _Given = end
        attempt = Attempt()
        with _user_code(), attempt:
            given = next(batches, end)
        if attempt.error is not None:
            raise PairError(_failure(name, "raises", attempt.error, place))
        if given is end:
            return
        yield _arrays(_unwrapped(given), name, place)


def _iterator(name: str, source: _Given, place: Sequence[str]) -> Iterator[_Given]:
    attempt = Attempt()
    with _user_code(), attempt:
        return iter(source)
    assert attempt.error is not None
    raise PairError(_failure(name, "gives nothing to iterate over", attempt.error, place))


def _unwrapped(given: _Given) -> _Given:
    """Return the only tensor of a list, as a DataLoader yields."""
    if not isinstance(given, list | tuple):
        return given
    listed = cast("list[_Given]", given)
    return listed[0] if len(listed) == 1 else listed


def _arrays(given: _Given, source: str, place: Sequence[str]) -> Arrays:
    import numpy as np

    if isinstance(given, Mapping):
        by_name = cast("Mapping[_Given, _Given]", given)
        return {str(name): np.asarray(array) for name, array in by_name.items()}
    if hasattr(given, "shape"):
        return {ONLY: np.asarray(given)}
    kind: str = type(given).__name__
    message = f"`{source}` gives `{kind}`, which is neither an array nor a dict of arrays"
    raise PairError(problems.no_evidence(message, notes=place))


def count_of(arrays: Arrays, source: str) -> int:
    """Return the number of samples in arrays.

    Raises PairError: GT370 if the arrays have different numbers.
    """
    counts = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"`{name}` {count}" for name, count in counts.items())
        message = f"`{source}` has arrays with different numbers of samples: {listed}"
        raise PairError(problems.no_evidence(message))
    return next(iter(counts.values()), 0)


def _slices(arrays: Arrays, size: int, source: str) -> Iterator[Arrays]:
    """Yield batches of `size` samples; the rest, too few for a batch, is dropped."""
    samples = count_of(arrays, source)
    size = min(size, samples) or 1
    for start in range(0, samples - size + 1, size):
        yield {name: array[start : start + size] for name, array in arrays.items()}
