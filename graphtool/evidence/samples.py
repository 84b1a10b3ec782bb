"""Read samples from arrays, files, functions and loaders, and check them against feeds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from itertools import count, islice
from os import PathLike, fspath
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from graphtool.backend.errors import shortened_message
from graphtool.diagnostics import (
    Call,
    Diagnostic,
    PairError,
    Parts,
    Severity,
    UsageError,
    Where,
    counted,
    listed,
    rule,
)
from graphtool.graph import UNKNOWN_DIM, shape_text, shapes_agree
from graphtool.merging.verify import feeds_not_given
from graphtool.paths import list_command
from graphtool.readers.files import check_not_special
from graphtool.sources.inputs import is_callable_spec
from graphtool.sources.user_code import Attempt, user_frames, working_directory_first
from graphtool.text import string_literal

if TYPE_CHECKING:
    import numpy as np
    from typing_extensions import Unpack

    from graphtool.evidence.networks import Runner

__all__ = [
    "RANDOM",
    "SEED",
    "batches_of",
    "check_samples",
    "no_evidence",
    "random_samples",
    "read_arrays",
    "refuse_any",
    "unusable_evidence",
]

# What the user's code yields: anything, before it is checked.
_Given: TypeAlias = Any
_Array: TypeAlias = "np.ndarray[Any, Any]"
_Arrays: TypeAlias = "Mapping[str, np.ndarray[Any, Any]]"
_T = TypeVar("_T")

RANDOM = "random"
SEED = 20260
# The unbiased estimator divides by n - 3.
_LEAST_SAMPLES = 4
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


@rule("GT370", replaces=("GT371", "GT377", "GT379"))
def no_evidence(message: str, **parts: Unpack[Parts]) -> Diagnostic:
    """The samples cannot be found, read or iterated over, or the network cannot run.

    Samples come from a `.npy`, a `.npz`, `module:callable` or `random`, in Python also from an
    array, a dict of arrays, a function, or anything that yields batches, such as a DataLoader. A
    `.npy` holds samples for networks with one feed, a `.npz` an array for each feed, by name.
    `numpy.save` and `numpy.savez` write both. Nothing is unpickled, and a `.npz` that unpacks to
    many times its size is refused.

    `module:callable` is called without arguments and yields batches: arrays whose first axis counts
    the samples, or dicts of arrays by feed name. `random` draws the same numbers every time.

    A Graph has no parameters and cannot run: pass what it was read from, a path,
    `module:callable`, a Program or a Network.
    """
    return Diagnostic(message=message, **parts)


@rule("GT372", replaces=("GT374", "GT375"))
def unusable_evidence(message: str, **parts: Unpack[Parts]) -> Diagnostic:
    """The samples do not fit a feed, a batch is too small, or a number is NaN or infinite.

    The first axis counts the samples, the others are those of the feed. Integers do not fit a
    floating-point feed: normalise images that are bytes. Each feed gets the array of its name, so
    feeds that need different arrays need different names.

    Unbiased CKA takes at least 4 samples per batch, because its estimator divides by n - 3; 32 or
    more are better. A network that was exported with a fixed batch takes no other.

    A NaN or an infinity is reported at the first place in program order: in the samples, the
    parameters, or a feature map, where it comes from numbers that are too large.
    """
    return Diagnostic(message=message, **parts)


@rule("GT383")
def random_samples() -> Diagnostic:
    """Random samples show how similar the networks are on noise, not on your data."""
    return Diagnostic(
        message="random samples: CKA compares the networks on noise, not on your data",
        severity=Severity.NOTE,
        help=Call(None, evidence="samples.npz"),
    )


def check_samples(source: _Given) -> None:
    """Refuse a source that names no samples, before networks are opened; nothing is read or run.

    Raises UsageError: GT370. Raises PairError: GT370 for a file that can't be opened. Raises
    ReadError: GT010.
    """
    name = _text_of(source)
    if name is None or source == RANDOM:
        return
    path = Path(name)
    if path.suffix not in _ENDINGS:
        if not is_callable_spec(name):
            message = f"`{name}` is not a .npy, .npz, module:callable or random"
            raise UsageError(no_evidence(message, help=Call(None, evidence="samples.npz")))
        return
    try:
        check_not_special(path)
        path.open("rb").close()
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from None


def _text_of(source: _Given) -> str | None:
    """Return a path, `module:callable` or `random` as text, None for any other source."""
    is_text = isinstance(source, str | PathLike)
    return fspath(cast("str | PathLike[str]", source)) if is_text else None


def _unreadable(path: Path, reason: str, feeds: Sequence[str] = ("image",)) -> PairError:
    fix = _example(feeds) if path.exists() else list_command(path.parent)
    return PairError(no_evidence(f"`{path}` can't be read as samples: {reason}", help=fix))


def _example(feeds: Sequence[str]) -> str:
    """Return a line that writes samples for some feeds to a file."""
    if all(name.isidentifier() for name in feeds):
        arrays = ", ".join(f"{name}=images" for name in feeds)
    else:
        arrays = f"**{{{', '.join(f'{string_literal(name)}: images' for name in feeds)}}}"
    return f'numpy.savez("samples.npz", {arrays})'


def batches_of(
    source: _Given, runners: tuple[Runner, Runner], *, batches: int
) -> Iterator[tuple[tuple[_Arrays, _Arrays], int]]:
    """Yield the feeds of both networks and the number of samples, at most `batches` times.

    Samples that do not come in batches are cut into batches of 32, or of the size that a network is
    fixed to. Later batches of fewer than four samples are skipped: data sets end in one.

    `source` has passed `check_samples`. Raises PairError: GT370, GT372, GT256.
    """
    feeds = [feed for runner in runners for feed in runner.feeds]
    fixed = next((feed for feed in feeds if feed.shape and feed.shape[0] != UNKNOWN_DIM), None)
    size = fixed.shape[0] if fixed is not None and fixed.shape else _BATCH_SIZE
    given = _Samples(source, tuple(dict.fromkeys(feed.name for feed in feeds)), size)
    is_random = _text_of(source) == RANDOM
    all_batches = _random(runners, size) if is_random else given.batches()
    number = 0
    for number, arrays in enumerate(islice(all_batches, min(batches, sys.maxsize)), 1):
        both = tuple(_feeds(arrays, runner, given.feeds, number) for runner in runners)
        samples = given.count({**both[0], **both[1]})
        if samples >= _LEAST_SAMPLES:
            yield (both[0], both[1]), samples
        elif number == 1:
            least = f"unbiased CKA takes at least {_LEAST_SAMPLES}"
            message = f"batch 1 of `{given.name}` has {counted(samples, 'sample')}: {least}"
            more = 'numpy.save("samples.npy", images[:128])'
            if fixed is not None:
                more = f"paddle.static.data({string_literal(fixed.name)}, [-1, ...])"
            raise PairError(unusable_evidence(message, help=more))
    if not number:
        raise given.refused(f"`{given.name}` yields no batch")


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
            is_float = not dtype.startswith(("int", "uint", "bool"))
            draw = random.standard_normal(dims) if is_float else random.integers(0, _IDS, dims)
            samples[feed.name] = samples[other.name] = draw.astype(dtype)
        yield samples


class _Samples:
    """The samples of a file, an array, a dict of arrays, a function or an iterable, as batches."""

    def __init__(self, source: _Given, feeds: tuple[str, ...], size: int) -> None:
        self.source, self.feeds, self._size = source, feeds, size
        own: str = "samples" if _is_unbatched(source) else getattr(source, "__name__", "")
        self.name = _text_of(source) or own or type(source).__name__
        self._place = ""  # of the user's function

    def refused(self, message: str, *notes: str) -> PairError:
        """Return the error that refuses these samples."""
        return PairError(no_evidence(message, notes=notes, help=_example(self.feeds)))

    def batches(self) -> Iterator[_Arrays]:
        """Yield batches; samples that do not come in batches are cut, and the rest is dropped.

        Raises PairError: GT370.
        """
        source: _Given = self.source
        text = _text_of(source)
        if text is not None and Path(text).suffix in _ENDINGS:
            source = read_arrays(Path(text), self.feeds)
        elif text is not None:
            source = self._call(lambda: resolve_name(self.name), "can't be imported")
        code: _Given = getattr(source, "__code__", None)
        if code is not None:
            file = Path(code.co_filename).name
            self._place = f"{file}:{code.co_firstlineno} in {code.co_name}"
        if callable(source):
            source = self._call(source, "raises")
        if _is_unbatched(source):
            arrays = self._arrays(source)
            samples = self.count(arrays)
            size = min(self._size, samples) or 1
            for start in range(0, samples - size + 1, size):
                yield {name: array[start : start + size] for name, array in arrays.items()}
            return
        given = cast("Sequence[_Given]", source)
        batches = self._call(partial(iter, given), "gives nothing to iterate over")
        end: _Given = object()
        while (batch := self._call(partial(next, batches, end), "raises")) is not end:
            # A DataLoader yields lists, some with a single tensor.
            is_single = isinstance(batch, list | tuple) and len(cast("list[_Given]", batch)) == 1
            yield self._arrays(batch[0] if is_single else batch)

    def count(self, arrays: _Arrays) -> int:
        """Return the number of samples in arrays.

        Raises PairError: GT370 if the arrays have different numbers.
        """
        counts = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
        if len(set(counts.values())) > 1:
            each = ", ".join(f"`{name}` {number}" for name, number in counts.items())
            raise self.refused(f"`{self.name}` has arrays of different numbers of samples: {each}")
        return next(iter(counts.values()), 0)

    def _arrays(self, given: _Given) -> _Arrays:
        import numpy as np

        if isinstance(given, Mapping):
            by_name = cast("Mapping[_Given, _Given]", given)
            return {str(name): np.asarray(array) for name, array in by_name.items()}
        if hasattr(given, "shape"):
            return {_ONLY: np.asarray(given)}
        kind = f"`{self.name}` gives `{type(given).__name__}`"
        message = f"{kind}, which is neither an array nor a dict of arrays"
        raise self.refused(message, *filter(None, (self._place,)))

    def _call(self, function: Callable[[], _T], failure: str) -> _T:
        """Call the user's code; its stdout goes to stderr, as stdout is for results."""
        attempt = Attempt()
        with working_directory_first(), redirect_stdout(sys.stderr), attempt:
            return function()
        error = attempt.error
        assert error is not None
        # The first frame is this function's.
        trace = error.__traceback__ and error.__traceback__.tb_next
        frames = user_frames(error.with_traceback(trace)) or filter(None, (self._place,))
        reason = f"{type(error).__name__}: {shortened_message(str(error))}"
        raise self.refused(f"`{self.name}` {failure}: {reason}", *frames)


def _is_unbatched(source: _Given) -> bool:
    """Return whether samples are an array or a dict of arrays, not batches."""
    return isinstance(source, Mapping) or hasattr(source, "shape")


def read_arrays(path: Path, feeds: Sequence[str] = ("image",)) -> _Arrays:
    """Read the numeric arrays of a `.npz` by name, or the unnamed one of a `.npy`; none is pickled.

    `feeds` are those that the help names. Raises PairError: GT370.
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
        raise _unreadable(path, _NOT_NUMERIC if is_pickled else reason, feeds) from None
    # NumPy returns the bytes of other members of an archive.
    arrays = {
        name: array
        for name, array in arrays.items()
        if isinstance(array, np.ndarray) and cast("_Given", array).dtype.kind in "biufc"
    }
    if not arrays:
        raise _unreadable(path, _NOT_NUMERIC, feeds)
    return arrays


def _feeds(given: _Arrays, runner: Runner, names: Sequence[str], number: int) -> dict[str, _Array]:
    """Return the feed of a network from a batch, checked; a single feed takes an unnamed array.

    `names` are the feeds of both networks. Raises PairError: GT256, GT372.
    """
    import numpy as np

    savez, network = _example(names), runner.network
    missing = [feed.name for feed in runner.feeds if feed.name not in given]
    if missing and not (len(runner.feeds) == 1 and _ONLY in given):
        known = listed(tuple(given)) if any(given) else "one array without a name"
        message = f"no samples for {listed(missing)} of the {network.role}"
        raise PairError(feeds_not_given(message, (network.where,), savez, (f"given: {known}",)))
    feeds: dict[str, _Array] = {}
    for feed in runner.feeds:
        array = given[feed.name if feed.name in given else _ONLY]
        place = network.place_of(feed.name)
        dtype, shape = feed.dtype or str(array.dtype), tuple(array.shape)
        is_same_kind = array.dtype.kind in _KINDS.get(dtype.rstrip("0123456789"), "")
        is_same_shape = shapes_agree(shape, feed.shape)
        if not is_same_kind or not is_same_shape:
            steps = "" if is_same_kind else f'.astype("{dtype}")'
            if not is_same_shape and len(shape) == 4:
                count, height, width, channels = shape
                if shapes_agree((count, channels, height, width), feed.shape):
                    steps = f".transpose(0, 3, 1, 2){steps}"
            is_one_sample = feed.shape is not None and len(shape) == len(feed.shape) - 1
            expected = f"{shape_text(feed.shape)} {feed.dtype or '?'}"
            found = unusable_evidence(
                f"feed `{feed.name}` of the {network.role}: wanted {expected}, "
                f"given {shape_text(shape)} {array.dtype}",
                where=(place,),
                notes=(_ONE_SAMPLE,) if is_one_sample else (),
                help=f"images{steps}" if steps else savez,
            )
            raise PairError(found)
        feeds[feed.name] = np.ascontiguousarray(array, dtype=dtype)
        if array.dtype.kind == "f":
            fix = "numpy.argwhere(~numpy.isfinite(images))"
            refuse_any(~np.isfinite(feeds[feed.name]), "the samples", place, fix, number)
    return feeds


def refuse_any(bad: _Array, subject: str, where: Where, fix: str, batch: int | None = None) -> None:
    """Refuse numbers of which some are NaN or infinite, as the mask `bad` says.

    Raises PairError: GT372 with the first sample of the batch, if there is one.
    """
    import numpy as np

    if bad.any():
        message = f"{subject} have a NaN or an infinity"
        if batch is not None:
            sample = int(np.argwhere(bad)[0][0]) + 1
            message += f": batch {batch}, sample {sample}, both from 1"
        raise PairError(unusable_evidence(message, where=(where,), help=fix))
