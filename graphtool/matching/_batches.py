"""Batches for two networks: the user's samples, checked against the feeds, or random ones."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import TYPE_CHECKING, Any, TypeAlias

from graphtool.diagnostics import Diagnostic, PairError, Where, counted, listed
from graphtool.graph import UNKNOWN_DIM, Shape, Value, shapes_agree
from graphtool.matching import evidence_problems as problems
from graphtool.matching._cka import LEAST_SAMPLES
from graphtool.matching._samples import ONLY, RANDOM, Arrays, count_of, name_of, samples_of
from graphtool.text import string_literal

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Batch", "NetworkFeeds", "batches_of"]

# What the user's code yields: anything, before it is checked.
_Given: TypeAlias = Any
_Array: TypeAlias = "np.ndarray[Any, Any]"

_SEED = 20260
# Random maps have this height and width, random sequences this length, where the feed has none.
_SIDE, _LENGTH = 64, 16
# Random ids are valid for any embedding of two entries or more.
_IDS = 2
_BATCH_SIZE = 32
_ONE_SAMPLE = "the batch axis is missing: the first axis counts the samples"
# The kinds of NumPy arrays that may be fed, by dtype without its size.
_KINDS = {"float": "f", "int": "iu", "uint": "iu", "bool": "b"}


@dataclass(frozen=True, slots=True)
class NetworkFeeds:
    """A network that reads samples: its role, source and feeds."""

    role: str
    source: str
    feeds: tuple[Value, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """The feeds of both networks for one batch, and the number of samples."""

    teacher: Arrays
    student: Arrays
    count: int


def batches_of(
    source: _Given, readers: tuple[NetworkFeeds, NetworkFeeds], *, batches: int, size: int | None
) -> Iterator[Batch]:
    """Yield at most `batches` batches; `size` applies to sources that are not batched yet.

    Later batches of fewer than four samples are skipped: data sets end in one.

    `source` has passed `check_samples`. Raises PairError: GT370, GT372, GT256.
    """
    name, number, most = name_of(source), 0, min(batches, sys.maxsize)
    for number, given in enumerate(islice(_given(source, readers, size), most), 1):
        _check_names(given, readers)
        teacher, student = (_feed_of(given, reader, number) for reader in readers)
        samples = count_of({**teacher, **student}, name)
        if samples >= LEAST_SAMPLES:
            yield Batch(teacher=teacher, student=student, count=samples)
        elif number == 1:
            raise PairError(_too_few(samples, f"batch 1 of `{name}`"))
    if not number:
        raise PairError(problems.no_evidence(f"`{name}` yields no batch"))


def _given(
    source: _Given, readers: tuple[NetworkFeeds, NetworkFeeds], size: int | None
) -> Iterator[Arrays]:
    size = size or _fixed_batch_size(readers) or _BATCH_SIZE
    if isinstance(source, str) and source == RANDOM:
        return _random_samples(readers, size)
    return samples_of(source, size)


def _fixed_batch_size(readers: tuple[NetworkFeeds, NetworkFeeds]) -> int | None:
    """Return the batch size that a network is fixed to, None where any is possible.

    Raises PairError: GT372 if it is too small.
    """
    for reader in readers:
        for feed in reader.feeds:
            if feed.shape and feed.shape[0] != UNKNOWN_DIM:
                if feed.shape[0] < LEAST_SAMPLES:
                    where = f"a batch of feed `{feed.name}` of the {reader.role}"
                    call = f"paddle.static.data({string_literal(feed.name)}, [-1, ...])"
                    raise PairError(_too_few(feed.shape[0], where, call))
                return feed.shape[0]
    return None


def _too_few(
    count: int, where: str, help: str = 'numpy.save("samples.npy", images[:128])'
) -> Diagnostic:
    message = f"{where} has {counted(count, 'sample')}: unbiased CKA takes at least {LEAST_SAMPLES}"
    return problems.unusable_evidence(message, help=help)


def _random_samples(readers: tuple[NetworkFeeds, NetworkFeeds], size: int) -> Iterator[Arrays]:
    """Yield random samples endlessly; feeds that correspond get the same ones."""
    feeds = list(_corresponding_feeds(*readers))
    for number in count(1):
        samples: dict[str, _Array] = {}
        for place, (names, shape, dtype) in enumerate(feeds):
            array = _random_array((size, *shape[1:]), dtype, number, place)
            samples.update(dict.fromkeys(names, array))
        yield samples


def _corresponding_feeds(
    teacher: NetworkFeeds, student: NetworkFeeds
) -> Iterator[tuple[tuple[str, str], Shape, str]]:
    """Yield feeds that correspond by name, or else by position, with a shape that fits both.

    Raises PairError: GT372 if no shape does.
    """
    unmatched = {feed.name: feed for feed in student.feeds}
    for feed in teacher.feeds:
        of_student = unmatched.pop(feed.name, None)
        of_student = of_student or unmatched.pop(next(iter(unmatched), ""), feed)
        if not shapes_agree(feed.shape, of_student.shape) or feed.dtype != of_student.dtype:
            text = problems.shape_text(feed.shape, feed.dtype)
            given = f"{text}, as `{feed.name}` of the teacher is"
            line = _separate_feeds(student, feed, of_student)
            raise PairError(_misfit(student, of_student, given, help=line))
        dims = zip(feed.shape or (), of_student.shape or (), strict=True)
        shape = tuple(dim if dim != UNKNOWN_DIM else other for dim, other in dims)
        yield (feed.name, of_student.name), shape, feed.dtype or "float32"
    for feed in unmatched.values():
        yield (feed.name, feed.name), feed.shape or (), feed.dtype or "float32"


def _separate_feeds(student: NetworkFeeds, teacher_feed: Value, student_feed: Value) -> str:
    """Return the line that gives incompatible feeds separate samples."""
    if teacher_feed.name != student_feed.name:
        return problems.savez_call(teacher_feed.name, student_feed.name)
    name, shape = (
        string_literal(f"{student.role}_{student_feed.name}"),
        list(student_feed.shape or ()),
    )
    return f'paddle.static.data({name}, {shape}, "{student_feed.dtype}")'


def _random_array(shape: Shape, dtype: str, number: int, place: int) -> _Array:
    import numpy as np

    random = np.random.default_rng([_SEED, number, place])
    default = _SIDE if len(shape) == 4 else _LENGTH
    dims = [default if dim == UNKNOWN_DIM else dim for dim in shape]
    if dtype.startswith(("int", "uint", "bool")):
        return random.integers(0, _IDS, dims).astype(dtype)
    return random.standard_normal(dims).astype(dtype)


def _check_names(given: Arrays, readers: tuple[NetworkFeeds, NetworkFeeds]) -> None:
    """Refuse a batch without an array for each feed; a single feed may have an unnamed array.

    Raises PairError: GT256.
    """
    feeds = dict.fromkeys(feed.name for reader in readers for feed in reader.feeds)
    for reader in readers:
        names = [feed.name for feed in reader.feeds]
        missing = [name for name in names if name not in given]
        if missing and not (len(names) == 1 and ONLY in given):
            known = listed(tuple(given)) if any(given) else "one array without a name"
            raise PairError(
                problems.feeds_not_given(
                    f"no samples for {listed(missing)} of the {reader.role}",
                    (Where(role=reader.role, program=reader.source),),
                    help=problems.savez_call(*feeds),
                    notes=(f"given: {known}",),
                )
            )


def _feed_of(given: Arrays, reader: NetworkFeeds, number: int) -> dict[str, _Array]:
    """Return the feed of a network from a batch, checked.

    Raises PairError: GT372.
    """
    return {
        feed.name: _checked(given[feed.name if feed.name in given else ONLY], feed, reader, number)
        for feed in reader.feeds
    }


def _checked(array: _Array, feed: Value, reader: NetworkFeeds, number: int) -> _Array:
    import numpy as np

    dtype = feed.dtype or str(array.dtype)
    same_kind = array.dtype.kind in _KINDS.get(dtype.rstrip("0123456789"), "")
    if not same_kind or not shapes_agree(tuple(array.shape), feed.shape):
        given = problems.shape_text(tuple(array.shape), str(array.dtype))
        is_one_sample = feed.shape is not None and array.ndim == len(feed.shape) - 1
        notes = (_ONE_SAMPLE,) if is_one_sample else ()
        fix = _suggested_fix(array, feed, dtype=None if same_kind else dtype)
        raise PairError(_misfit(reader, feed, given, notes=notes, help=fix))
    converted = np.ascontiguousarray(array, dtype=dtype)
    finite = np.isfinite(converted) if converted.dtype.kind == "f" else None
    if finite is not None and not finite.all():
        sample = int(np.argwhere(~finite)[0][0]) + 1
        place = Where(role=reader.role, program=reader.source, value=feed.name)
        raise PairError(
            problems.unusable_evidence(
                f"the samples have a NaN or an infinity: batch {number}, sample {sample}, both "
                "from 1",
                (place,),
                help="numpy.argwhere(~numpy.isfinite(images))",
            )
        )
    return converted


def _suggested_fix(array: _Array, feed: Value, *, dtype: str | None) -> str | None:
    """Return code that converts images to a dtype and to NCHW; None where neither is needed."""
    shape = tuple(array.shape)
    is_misfit = len(shape) == 4 and not shapes_agree(shape, feed.shape)
    is_nhwc = is_misfit and shapes_agree((shape[0], shape[3], *shape[1:3]), feed.shape)
    steps = ".transpose(0, 3, 1, 2)" if is_nhwc else ""
    steps += f'.astype("{dtype}")' if dtype else ""
    return f"images{steps}" if steps else None


def _misfit(
    reader: NetworkFeeds,
    feed: Value,
    given: str,
    *,
    notes: Sequence[str] = (),
    help: str | None = None,
) -> Diagnostic:
    expected = problems.shape_text(feed.shape, feed.dtype)
    place = Where(role=reader.role, program=reader.source, value=feed.name, shape=feed.shape)
    return problems.unusable_evidence(
        f"feed `{feed.name}` of the {reader.role}: wanted {expected}, given {given}",
        (place,),
        notes=notes,
        help=help or problems.savez_call(feed.name),
    )
