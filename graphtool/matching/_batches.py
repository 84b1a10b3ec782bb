"""Samples for two networks, batch by batch: from files, from code, or random."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from itertools import count, islice
from os import PathLike, fspath
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from graphtool.diagnostics import Diagnostic, PairError, UsageError, Where
from graphtool.graph import UNKNOWN, Shape, Value, shapes_agree
from graphtool.matching import evidence_problems as problems
from graphtool.matching._cka import LEAST_SAMPLES
from graphtool.readers._builder import is_callable_spec
from graphtool.readers._messages import Attempt, brief, user_frames

if TYPE_CHECKING:
    import numpy as np

__all__ = ["RANDOM", "Batch", "Reader", "batches_of", "name_of"]

# What the user's code yields is not known before it runs.
_Given: TypeAlias = Any
_Array: TypeAlias = "np.ndarray[Any, Any]"
_Arrays: TypeAlias = "Mapping[str, np.ndarray[Any, Any]]"

RANDOM = "random"
# The one array that comes without a name.
_ONLY = ""
_SEED = 20260
_SIDE, _LENGTH = 64, 16
# Ids of any embedding with two entries or more.
_IDS = 2
_USUAL = 32
# By dtype without its size: the kinds of numpy arrays that may be fed.
_KINDS = {"float": "f", "int": "iu", "uint": "iu", "bool": "b"}


@dataclass(frozen=True, slots=True)
class Reader:
    """A network that samples are for, and its feeds."""

    role: str
    source: str
    feeds: tuple[Value, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """What both networks are fed, and how many samples that is."""

    teacher: _Arrays
    student: _Arrays
    count: int


def batches_of(
    source: _Given, readers: tuple[Reader, Reader], *, batches: int, size: int | None
) -> Iterator[Batch]:
    """Yield at most so many batches; `size` is for sources that are no batches yet.

    A later batch of fewer than four samples, as data sets end in, is passed over.

    Raises UsageError: GT370. Raises PairError: GT371 to GT375, GT377.
    """
    number = 0
    for number, given in enumerate(islice(_given(source, readers, size), batches), 1):
        teacher, student = (_fitted(given, reader, number) for reader in readers)
        samples = _samples({**teacher, **student}, name_of(source))
        if samples >= LEAST_SAMPLES:
            yield Batch(teacher=teacher, student=student, count=samples)
        elif number == 1:
            raise PairError(_too_few(samples, "batch 1"))
    if not number:
        raise PairError(problems.evidence_source_failed(name_of(source), "yields no batch"))


def _given(source: _Given, readers: tuple[Reader, Reader], size: int | None) -> Iterator[_Arrays]:
    wanted = size or _fixed_batch(readers) or _USUAL
    if isinstance(source, str | PathLike):
        return _named(fspath(cast("str | PathLike[str]", source)), readers, wanted)
    if isinstance(source, Mapping) or hasattr(source, "shape"):
        return _slices(_arrays(source, "samples"), wanted, "samples")
    return _yielded(name_of(source), source)


def _fixed_batch(readers: tuple[Reader, Reader]) -> int | None:
    """Return the batch that a network is fixed to, None where any will do.

    Raises PairError: GT374 where it is too small.
    """
    for reader in readers:
        for feed in reader.feeds:
            if feed.shape and feed.shape[0] != UNKNOWN:
                if feed.shape[0] < LEAST_SAMPLES:
                    where = f"a batch of feed `{feed.name}` of the {reader.role}"
                    call = f'paddle.static.data("{feed.name}", [-1, ...])'
                    raise PairError(_too_few(feed.shape[0], where, call))
                return feed.shape[0]
    return None


def _too_few(
    count: int, where: str, help: str = 'numpy.save("samples.npy", images[:128])'
) -> Diagnostic:
    return problems.too_few_samples(count, LEAST_SAMPLES, where, help)


def name_of(source: _Given) -> str:
    """Return what samples are called: a path, `random`, or the name of a function or class."""
    if isinstance(source, str | PathLike):
        return fspath(cast("str | PathLike[str]", source))
    return getattr(source, "__name__", type(source).__name__)


def _named(source: str, readers: tuple[Reader, Reader], size: int) -> Iterator[_Arrays]:
    path = Path(source)
    if source == RANDOM:
        return _drawn(readers, size)
    if path.suffix in (".npy", ".npz"):
        return _slices(_read(path), size, source)
    if not is_callable_spec(source):
        raise UsageError(problems.no_evidence_source(source))
    return _yielded(source, _imported(source))


def _read(path: Path) -> _Arrays:
    """Read a file of arrays; nothing in it is unpickled."""
    import numpy as np

    try:
        held = np.load(path, mmap_mode="r" if path.suffix == ".npy" else None, allow_pickle=False)
        if isinstance(held, np.ndarray):
            return {_ONLY: cast("_Array", held)}
        with held:
            arrays: dict[str, _Array] = {name: held[name] for name in held.files}
            return arrays
    except OSError as error:
        reason = error.strerror or str(error)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = brief(str(error)) or type(error).__name__
    raise PairError(problems.unreadable_evidence(str(path), reason))


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


def _failure(source: str, what: str, error: BaseException) -> Diagnostic:
    reason = f"{type(error).__name__}: {brief(str(error))}"
    return problems.evidence_source_failed(source, f"{what}: {reason}", user_frames(error))


def _yielded(name: str, source: _Given) -> Iterator[_Arrays]:
    """Yield what a function, or anything to iterate over, gives."""
    batches = _iterator(name, source)
    nothing = object()
    while True:
        given: _Given = nothing
        attempt = Attempt()
        with _users_code(), attempt:
            given = next(batches, nothing)
        if attempt.error is not None:
            raise PairError(_failure(name, "raises", attempt.error))
        if given is nothing:
            return
        yield _arrays(_alone(given), name)


def _iterator(name: str, source: _Given) -> Iterator[_Given]:
    attempt = Attempt()
    with _users_code(), attempt:
        made: _Given = source() if callable(source) else source
        return iter(made)
    assert attempt.error is not None
    raise PairError(_failure(name, "gives nothing to iterate over", attempt.error))


def _alone(given: _Given) -> _Given:
    """Take the only one out of a list of tensors, as a DataLoader yields."""
    if not isinstance(given, list | tuple):
        return given
    listed = cast("list[_Given]", given)
    return listed[0] if len(listed) == 1 else listed


def _arrays(given: _Given, source: str) -> _Arrays:
    import numpy as np

    if isinstance(given, Mapping):
        named = cast("Mapping[_Given, _Given]", given)
        return {str(name): np.asarray(array) for name, array in named.items()}
    if hasattr(given, "shape"):
        return {_ONLY: np.asarray(given)}
    kind: str = type(given).__name__
    reason = f"gives `{kind}`, which is neither an array nor a dict of arrays"
    raise PairError(problems.evidence_source_failed(source, reason))


def _samples(arrays: _Arrays, source: str) -> int:
    """Return how many samples arrays have, all of them the same.

    Raises PairError: GT377 where they differ.
    """
    counts = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"`{name}` {count}" for name, count in counts.items())
        reason = f"has arrays with different numbers of samples: {shown}"
        raise PairError(problems.evidence_source_failed(source, reason))
    return next(iter(counts.values()), 0)


def _slices(arrays: _Arrays, size: int, source: str) -> Iterator[_Arrays]:
    """Yield so many samples after another; what is left at the end is too few for a batch."""
    samples = _samples(arrays, source)
    size = min(size, samples)
    if size < LEAST_SAMPLES:
        raise PairError(_too_few(size, f"`{source}`"))
    for start in range(0, samples - size + 1, size):
        yield {name: array[start : start + size] for name, array in arrays.items()}


def _drawn(readers: tuple[Reader, Reader], size: int) -> Iterator[_Arrays]:
    """Yield random samples without end; feeds of both networks that go together get the same."""
    sources = list(_common_feeds(*readers))
    for number in count(1):
        drawn: dict[str, _Array] = {}
        for place, (names, shape, dtype) in enumerate(sources):
            drawn.update(dict.fromkeys(names, _numbers((size, *shape[1:]), dtype, number, place)))
        yield drawn


def _common_feeds(teacher: Reader, student: Reader) -> Iterator[tuple[tuple[str, str], Shape, str]]:
    """Yield what goes together, by name or else by place, with the shape that fits both.

    Raises PairError: GT372 where there is none.
    """
    spare = {feed.name: feed for feed in student.feeds}
    for feed in teacher.feeds:
        other = spare.pop(feed.name, None) or spare.pop(next(iter(spare), ""), feed)
        if not shapes_agree(feed.shape, other.shape) or feed.dtype != other.dtype:
            given = f"{problems.shown(feed.shape, feed.dtype)}, as `{feed.name}` of the teacher is"
            raise PairError(_misfit(student, other, given))
        dims = zip(feed.shape or (), other.shape or (), strict=True)
        shape = tuple(b if a == UNKNOWN else a for a, b in dims)
        yield (feed.name, other.name), shape, feed.dtype or "float32"
    for feed in spare.values():
        yield (feed.name, feed.name), feed.shape or (), feed.dtype or "float32"


def _numbers(shape: Shape, dtype: str, number: int, place: int) -> _Array:
    import numpy as np

    random = np.random.default_rng([_SEED, number, place])
    usual = _SIDE if len(shape) == 4 else _LENGTH
    dims = [usual if dim == UNKNOWN else dim for dim in shape]
    if dtype.startswith(("int", "uint", "bool")):
        return random.integers(0, _IDS, dims).astype(dtype)
    return random.standard_normal(dims).astype(dtype)


def _fitted(given: _Arrays, reader: Reader, number: int) -> dict[str, _Array]:
    """Take what a network is fed out of a batch, once it is seen to fit.

    Raises PairError: GT372, GT373, GT375.
    """
    alone = next(iter(given.values())) if len(given) == len(reader.feeds) == 1 else None
    found = {feed.name: given.get(feed.name, alone) for feed in reader.feeds}
    missing = [name for name, array in found.items() if array is None]
    if missing:
        raise PairError(problems.feeds_not_given(reader.role, reader.source, missing, tuple(given)))
    return {
        feed.name: _checked(array, feed, reader, number)
        for feed in reader.feeds
        if (array := found[feed.name]) is not None
    }


def _checked(array: _Array, feed: Value, reader: Reader, number: int) -> _Array:
    import numpy as np

    dtype = feed.dtype or str(array.dtype)
    same_kind = array.dtype.kind in _KINDS.get(dtype.rstrip("0123456789"), "")
    if not same_kind or not shapes_agree(tuple(array.shape), feed.shape):
        given = problems.shown(tuple(array.shape), str(array.dtype))
        raise PairError(_misfit(reader, feed, given))
    taken = np.ascontiguousarray(array, dtype=dtype)
    finite = np.isfinite(taken) if taken.dtype.kind == "f" else None
    if finite is not None and not finite.all():
        sample = int(np.argwhere(~finite)[0][0]) + 1
        place = Where(role=reader.role, program=reader.source, value=feed.name)
        raise PairError(problems.not_finite(place, batch=number, sample=sample, what="samples"))
    return taken


def _misfit(reader: Reader, feed: Value, given: str) -> Diagnostic:
    wanted = problems.shown(feed.shape, feed.dtype)
    return problems.evidence_misfit(reader.role, reader.source, feed, wanted=wanted, given=given)
