"""Batches for two networks: the user's samples once they are seen to fit, or random ones."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import TYPE_CHECKING, Any, TypeAlias

from graphtool.diagnostics import Diagnostic, PairError, Where
from graphtool.graph import UNKNOWN, Shape, Value, shapes_agree
from graphtool.matching import evidence_problems as problems
from graphtool.matching._cka import LEAST_SAMPLES
from graphtool.matching._samples import ONLY, RANDOM, Arrays, count_of, name_of, samples_of
from graphtool.text import literal

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Batch", "Reader", "batches_of"]

# What the user's code yields is not known before it runs.
_Given: TypeAlias = Any
_Array: TypeAlias = "np.ndarray[Any, Any]"

_SEED = 20260
_SIDE, _LENGTH = 64, 16
# Ids of any embedding with two entries or more.
_IDS = 2
_USUAL = 32
_ONE_SAMPLE = "the batch axis is missing: the first axis counts the samples"
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

    teacher: Arrays
    student: Arrays
    count: int


def batches_of(
    source: _Given, readers: tuple[Reader, Reader], *, batches: int, size: int | None
) -> Iterator[Batch]:
    """Yield at most so many batches; `size` is for sources that are no batches yet.

    A later batch of fewer than four samples, as data sets end in, is passed over.

    `source` has passed `check_samples`. Raises PairError: GT371 to GT375, GT377.
    """
    name, number, most = name_of(source), 0, min(batches, sys.maxsize)
    for number, given in enumerate(islice(_given(source, readers, size), most), 1):
        _check_names(given, readers)
        teacher, student = (_fitted(given, reader, number) for reader in readers)
        samples = count_of({**teacher, **student}, name)
        if samples >= LEAST_SAMPLES:
            yield Batch(teacher=teacher, student=student, count=samples)
        elif number == 1:
            raise PairError(_too_few(samples, f"batch 1 of `{name}`"))
    if not number:
        raise PairError(problems.evidence_source_failed(name, "yields no batch"))


def _given(source: _Given, readers: tuple[Reader, Reader], size: int | None) -> Iterator[Arrays]:
    wanted = size or _fixed_batch(readers) or _USUAL
    if isinstance(source, str) and source == RANDOM:
        return _drawn(readers, wanted)
    return samples_of(source, wanted)


def _fixed_batch(readers: tuple[Reader, Reader]) -> int | None:
    """Return the batch that a network is fixed to, None where any will do.

    Raises PairError: GT374 where it is too small.
    """
    for reader in readers:
        for feed in reader.feeds:
            if feed.shape and feed.shape[0] != UNKNOWN:
                if feed.shape[0] < LEAST_SAMPLES:
                    where = f"a batch of feed `{feed.name}` of the {reader.role}"
                    call = f"paddle.static.data({literal(feed.name)}, [-1, ...])"
                    raise PairError(_too_few(feed.shape[0], where, call))
                return feed.shape[0]
    return None


def _too_few(
    count: int, where: str, help: str = 'numpy.save("samples.npy", images[:128])'
) -> Diagnostic:
    return problems.too_few_samples(count, LEAST_SAMPLES, where, help)


def _drawn(readers: tuple[Reader, Reader], size: int) -> Iterator[Arrays]:
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
            raise PairError(_misfit(student, other, given, help=_apart(student, feed, other)))
        dims = zip(feed.shape or (), other.shape or (), strict=True)
        shape = tuple(b if a == UNKNOWN else a for a, b in dims)
        yield (feed.name, other.name), shape, feed.dtype or "float32"
    for feed in spare.values():
        yield (feed.name, feed.name), feed.shape or (), feed.dtype or "float32"


def _apart(reader: Reader, feed: Value, other: Value) -> str:
    """Write how feeds that can't have the same samples get some of their own."""
    if feed.name != other.name:
        return problems.saving(feed.name, other.name)
    shape = list(other.shape or ())
    return f'paddle.static.data({literal(f"{reader.role}_{other.name}")}, {shape}, "{other.dtype}")'


def _numbers(shape: Shape, dtype: str, number: int, place: int) -> _Array:
    import numpy as np

    random = np.random.default_rng([_SEED, number, place])
    usual = _SIDE if len(shape) == 4 else _LENGTH
    dims = [usual if dim == UNKNOWN else dim for dim in shape]
    if dtype.startswith(("int", "uint", "bool")):
        return random.integers(0, _IDS, dims).astype(dtype)
    return random.standard_normal(dims).astype(dtype)


def _check_names(given: Arrays, readers: tuple[Reader, Reader]) -> None:
    """Refuse a batch without an array for each feed; one that has no name does for a single feed.

    Raises PairError: GT373.
    """
    feeds = dict.fromkeys(feed.name for reader in readers for feed in reader.feeds)
    for reader in readers:
        names = [feed.name for feed in reader.feeds]
        missing = [name for name in names if name not in given]
        if missing and not (len(names) == 1 and ONLY in given):
            found = problems.feeds_not_given(
                reader.role, reader.source, missing, tuple(given), tuple(feeds)
            )
            raise PairError(found)


def _fitted(given: Arrays, reader: Reader, number: int) -> dict[str, _Array]:
    """Take what a network is fed out of a batch, once it is seen to fit.

    Raises PairError: GT372, GT375.
    """
    return {
        feed.name: _checked(given[feed.name if feed.name in given else ONLY], feed, reader, number)
        for feed in reader.feeds
    }


def _checked(array: _Array, feed: Value, reader: Reader, number: int) -> _Array:
    import numpy as np

    dtype = feed.dtype or str(array.dtype)
    same_kind = array.dtype.kind in _KINDS.get(dtype.rstrip("0123456789"), "")
    if not same_kind or not shapes_agree(tuple(array.shape), feed.shape):
        given = problems.shown(tuple(array.shape), str(array.dtype))
        one = feed.shape is not None and array.ndim == len(feed.shape) - 1
        notes = (_ONE_SAMPLE,) if one else ()
        mend = _mended(array, feed, dtype=None if same_kind else dtype)
        raise PairError(_misfit(reader, feed, given, notes=notes, help=mend))
    taken = np.ascontiguousarray(array, dtype=dtype)
    finite = np.isfinite(taken) if taken.dtype.kind == "f" else None
    if finite is not None and not finite.all():
        sample = int(np.argwhere(~finite)[0][0]) + 1
        place = Where(role=reader.role, program=reader.source, value=feed.name)
        raise PairError(problems.not_finite(place, batch=number, sample=sample, what="samples"))
    return taken


def _mended(array: _Array, feed: Value, *, dtype: str | None) -> str | None:
    """Write how images get a dtype, and their channels to the front; None where neither helps."""
    shape = tuple(array.shape)
    is_last = len(shape) == 4 and not shapes_agree(shape, feed.shape)
    is_moved = is_last and shapes_agree((shape[0], shape[3], *shape[1:3]), feed.shape)
    steps = ".transpose(0, 3, 1, 2)" if is_moved else ""
    steps += f'.astype("{dtype}")' if dtype else ""
    return f"images{steps}" if steps else None


def _misfit(
    reader: Reader,
    feed: Value,
    given: str,
    *,
    notes: Sequence[str] = (),
    help: str | None = None,
) -> Diagnostic:
    return problems.evidence_misfit(
        reader.role,
        reader.source,
        feed,
        wanted=problems.shown(feed.shape, feed.dtype),
        given=given,
        notes=notes,
        help=help,
    )
