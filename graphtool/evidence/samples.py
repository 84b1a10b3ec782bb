"""Read samples from arrays, files, functions and loaders, and check them against feeds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from itertools import count, islice
from os import PathLike, fspath
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from graphtool.backend.errors import shortened_message
from graphtool.diagnostics import Call, Diagnostic, PairError, UsageError, Where, counted, listed
from graphtool.evidence import problems
from graphtool.graph import UNKNOWN_DIM, Value, shapes_agree
from graphtool.merging.verify import feeds_not_given
from graphtool.paths import list_command
from graphtool.readers.files import check_not_special
from graphtool.sources.model_spec import is_callable_spec
from graphtool.sources.user_code import Attempt, user_frames
from graphtool.text import string_literal

if TYPE_CHECKING:
    import numpy as np

    from graphtool.evidence.networks import Runner

__all__ = ["LEAST_SAMPLES", "RANDOM", "SEED", "batches_of", "check_samples", "read_arrays"]

# What the user's code yields: anything, before it is checked.
_Given: TypeAlias = Any
_Array: TypeAlias = "np.ndarray[Any, Any]"
_Arrays: TypeAlias = "Mapping[str, np.ndarray[Any, Any]]"
_T = TypeVar("_T")

RANDOM = "random"
SEED = 20260
# The unbiased estimator divides by n - 3.
LEAST_SAMPLES = 4
# The name of the only, unnamed array.
_ONLY = ""
_ENDINGS = ".npy", ".npz"
_BATCH_SIZE = 32
# An archive may expand to this many bytes, and beyond that by this factor.
_MOST_EXPANDED, _MOST_GROWTH = 256 << 20, 20
_ONE_SAMPLE = "the batch axis is missing: the first axis counts the samples"
_NOT_NUMERIC = "it holds no arrays of numbers, as `numpy.save` writes them"
# Random maps have this height and width, random sequences this length, where the feed has none.
_SIDE, _LENGTH = 64, 16
# Random ids are valid for any embedding of two entries or more.
_IDS = 2
# The kinds of NumPy arrays that may be fed, by dtype without its size.
_KINDS = {"float": "f", "int": "iu", "uint": "iu", "bool": "b"}


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


def batches_of(
    source: _Given, runners: tuple[Runner, Runner], *, batches: int, size: int | None
) -> Iterator[tuple[tuple[_Arrays, _Arrays], int]]:
    """Yield the feeds of both networks and the number of samples, at most `batches` times.

    `size` applies to sources that are not batched yet. Later batches of fewer than four samples are
    skipped: data sets end in one.

    `source` has passed `check_samples`. Raises PairError: GT370, GT372, GT256.
    """
    _check_common_feeds(*runners)
    feeds_of_both = [feed for runner in runners for feed in runner.feeds]
    fixed = {feed.shape[0]: feed.name for feed in feeds_of_both if feed.shape}
    fixed.pop(UNKNOWN_DIM, None)
    size = size or next(iter(fixed), _BATCH_SIZE)
    if isinstance(source, str | PathLike):
        name = fspath(cast("str | PathLike[str]", source))
    elif _is_unbatched(source):
        name = "samples"
    else:
        name = getattr(source, "__name__", type(source).__name__)
    is_random = isinstance(source, str) and source == RANDOM
    given = _random(runners, size) if is_random else _given(source, name, size)
    number = 0
    for number, arrays in enumerate(islice(given, min(batches, sys.maxsize)), 1):
        feeds = _feeds(arrays, runners, 0, number), _feeds(arrays, runners, 1, number)
        samples = _count({**feeds[0], **feeds[1]}, name)
        if samples >= LEAST_SAMPLES:
            yield feeds, samples
        elif number == 1:
            least = f"unbiased CKA takes at least {LEAST_SAMPLES}"
            message = f"batch 1 of `{name}` has {counted(samples, 'sample')}: {least}"
            more = 'numpy.save("samples.npy", images[:128])'
            for feed in fixed.values():
                more = f"paddle.static.data({string_literal(feed)}, [-1, ...])"
            raise PairError(problems.unusable_evidence(message, help=more))
    if not number:
        raise PairError(problems.no_evidence(f"`{name}` yields no batch"))


def _check_common_feeds(teacher: Runner, student: Runner) -> None:
    """Refuse feeds of one name, which get the same array, if no array fits both.

    Raises PairError: GT372.
    """
    of_student = {feed.name: feed for feed in student.feeds}
    for feed in teacher.feeds:
        other = of_student.get(feed.name, feed)
        if not shapes_agree(feed.shape, other.shape):
            given = f"{problems.shape_text(feed.shape, feed.dtype)}, as that of the teacher"
            name, shape = string_literal(f"student_{feed.name}"), list(other.shape or ())
            typed = f'paddle.static.data({name}, {shape}, "{other.dtype}")'
            raise PairError(_misfit(student, other, given, (), typed))


def _random(runners: tuple[Runner, Runner], size: int) -> Iterator[_Arrays]:
    """Yield random samples endlessly; feeds that correspond by name or position get the same."""
    import numpy as np

    teacher, student = ({feed.name: feed for feed in runner.feeds} for runner in runners)
    others = iter([feed for name, feed in student.items() if name not in teacher])
    feeds = [(feed, student.get(name) or next(others, feed)) for name, feed in teacher.items()]
    feeds += [(feed, feed) for feed in others]
    for number in count(1):
        samples: dict[str, _Array] = {}
        for place, (feed, other) in enumerate(feeds):
            random = np.random.default_rng([SEED, number, place])
            shape = feed.shape or ()
            if shapes_agree(shape, other.shape):
                shape = tuple(map(max, shape, other.shape or ()))  # Unknown dims are -1.
            default = _SIDE if len(shape) == 4 else _LENGTH
            dims = [size, *(default if dim == UNKNOWN_DIM else dim for dim in shape[1:])]
            dtype = feed.dtype or "float32"
            if dtype.startswith(("int", "uint", "bool")):
                array = random.integers(0, _IDS, dims).astype(dtype)
            else:
                array = random.standard_normal(dims).astype(dtype)
            samples |= {feed.name: array, other.name: array}
        yield samples


def _given(source: _Given, name: str, size: int) -> Iterator[_Arrays]:
    """Yield the batches of a file, an array, a dict of arrays, a function, or an iterable."""
    if isinstance(source, str | PathLike):
        if Path(name).suffix in _ENDINGS:
            yield from _slices(read_arrays(Path(name)), size, name)
            return
        source = _call_users(lambda: resolve_name(name), f"`{name}` can't be imported")
    code: _Given = getattr(source, "__code__", None)
    place = ""
    if code is not None:
        place = f"{Path(code.co_filename).name}:{code.co_firstlineno} in {code.co_name}"
    if callable(source):
        source = _call_users(source, f"`{name}` raises", place)
    if _is_unbatched(source):
        yield from _slices(_arrays(source, name, place), size, name)
        return
    batches = _call_users(partial(iter, source), f"`{name}` gives nothing to iterate over", place)
    end: _Given = object()
    while (given := _call_users(partial(next, batches, end), f"`{name}` raises", place)) is not end:
        # A DataLoader yields lists, some with a single tensor.
        is_single = isinstance(given, list | tuple) and len(cast("list[_Given]", given)) == 1
        yield _arrays(given[0] if is_single else given, name, place)


def _is_unbatched(source: _Given) -> bool:
    """Return whether samples are an array or a dict of arrays, not batches."""
    return isinstance(source, Mapping) or hasattr(source, "shape")


def _call_users(call: Callable[[], _T], failure: str, place: str = "") -> _T:
    """Call the user's code, with the working directory first in `sys.path`, and no stdout.

    Raises PairError: GT370.
    """
    attempt, before = Attempt(), list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        # stdout is for results.
        with redirect_stdout(sys.stderr), attempt:
            return call()
    finally:
        sys.path[:] = before
    error = attempt.error
    assert error is not None
    reason = f"{type(error).__name__}: {shortened_message(str(error))}"
    # The first frame is this function's.
    trace = error.__traceback__ and error.__traceback__.tb_next
    frames = user_frames(error.with_traceback(trace)) or filter(None, (place,))
    raise PairError(problems.no_evidence(f"{failure}: {reason}", notes=tuple(frames)))


def _arrays(given: _Given, source: str, place: str) -> _Arrays:
    import numpy as np

    if isinstance(given, Mapping):
        by_name = cast("Mapping[_Given, _Given]", given)
        return {str(name): np.asarray(array) for name, array in by_name.items()}
    if hasattr(given, "shape"):
        return {_ONLY: np.asarray(given)}
    kind: str = type(given).__name__
    message = f"`{source}` gives `{kind}`, which is neither an array nor a dict of arrays"
    raise PairError(problems.no_evidence(message, notes=(place,) if place else ()))


def read_arrays(path: Path) -> _Arrays:
    """Read the numeric arrays of a `.npz` by name, or the unnamed one of a `.npy`; none is pickled.

    Raises PairError: GT370.
    """
    import numpy as np

    arrays: dict[str, _Given]
    try:
        loaded: _Given = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            arrays = {_ONLY: loaded}
        else:
            with loaded:
                size = path.stat().st_size
                expanded = sum(member.file_size for member in loaded.zip.infolist())
                if expanded > _MOST_EXPANDED + _MOST_GROWTH * size:
                    reason = f"its {size:,} bytes become {expanded:,}"
                    raise ValueError(f"{reason}; `numpy.savez` writes it uncompressed")
                arrays = dict(loaded.items())
    except Exception as error:  # noqa: BLE001  # NumPy, zipfile and the decoders raise many types
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        is_pickled = not reason or "pickle" in reason or "\n" in reason
        raise PairError(_unreadable(path, _NOT_NUMERIC if is_pickled else reason)) from None
    # NumPy returns the bytes of other members of an archive.
    arrays = {
        name: array
        for name, array in arrays.items()
        if isinstance(array, np.ndarray) and cast("_Given", array).dtype.kind in "biufc"
    }
    if not arrays:
        raise PairError(_unreadable(path, _NOT_NUMERIC))
    return arrays


def _count(arrays: _Arrays, source: str) -> int:
    """Return the number of samples in arrays.

    Raises PairError: GT370 if the arrays have different numbers.
    """
    counts = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"`{name}` {count}" for name, count in counts.items())
        message = f"`{source}` has arrays with different numbers of samples: {listed}"
        raise PairError(problems.no_evidence(message))
    return next(iter(counts.values()), 0)


def _slices(arrays: _Arrays, size: int, source: str) -> Iterator[_Arrays]:
    """Yield batches of `size` samples; the rest, too few for a batch, is dropped."""
    samples = _count(arrays, source)
    size = min(size, samples) or 1
    for start in range(0, samples - size + 1, size):
        yield {name: array[start : start + size] for name, array in arrays.items()}


def _feeds(
    given: _Arrays, runners: tuple[Runner, Runner], index: int, number: int
) -> dict[str, _Array]:
    """Return the feed of a network from a batch, checked; a single feed takes an unnamed array.

    Raises PairError: GT256, GT372.
    """
    import numpy as np

    runner = runners[index]
    where = Where(role=runner.role, program=runner.graph.source)
    savez = problems.savez_call(*dict.fromkeys(feed.name for one in runners for feed in one.feeds))
    missing = [feed.name for feed in runner.feeds if feed.name not in given]
    if missing and not (len(runner.feeds) == 1 and _ONLY in given):
        known = listed(tuple(given)) if any(given) else "one array without a name"
        message = f"no samples for {listed(missing)} of the {runner.role}"
        raise PairError(feeds_not_given(message, (where,), savez, notes=(f"given: {known}",)))
    feeds: dict[str, _Array] = {}
    for feed in runner.feeds:
        array = given[feed.name if feed.name in given else _ONLY]
        dtype, shape = feed.dtype or str(array.dtype), tuple(array.shape)
        is_same_kind = array.dtype.kind in _KINDS.get(dtype.rstrip("0123456789"), "")
        if not is_same_kind or not shapes_agree(shape, feed.shape):
            is_nhwc = (
                len(shape) == 4
                and not shapes_agree(shape, feed.shape)
                and shapes_agree((shape[0], shape[3], *shape[1:3]), feed.shape)
            )
            steps = ".transpose(0, 3, 1, 2)" if is_nhwc else ""
            steps += "" if is_same_kind else f'.astype("{dtype}")'
            is_one_sample = feed.shape is not None and len(shape) == len(feed.shape) - 1
            text = problems.shape_text(shape, str(array.dtype))
            notes = (_ONE_SAMPLE,) if is_one_sample else ()
            raise PairError(
                _misfit(runner, feed, text, notes, f"images{steps}" if steps else savez)
            )
        feeds[feed.name] = np.ascontiguousarray(array, dtype=dtype)
        if array.dtype.kind == "f" and not (finite := np.isfinite(feeds[feed.name])).all():
            sample = int(np.argwhere(~finite)[0][0]) + 1
            message = f"the samples have a NaN or an infinity: {problems.at(number, sample)}"
            found = "numpy.argwhere(~numpy.isfinite(images))"
            place = replace(where, value=feed.name)
            raise PairError(problems.unusable_evidence(message, (place,), help=found))
    return feeds


def _misfit(
    runner: Runner, feed: Value, given: str, notes: tuple[str, ...], help: str
) -> Diagnostic:
    expected = problems.shape_text(feed.shape, feed.dtype)
    place = Where(role=runner.role, program=runner.graph.source, value=feed.name, shape=feed.shape)
    return problems.unusable_evidence(
        f"feed `{feed.name}` of the {runner.role}: wanted {expected}, given {given}",
        (place,),
        notes=notes,
        help=help,
    )
