"""Samples: what is taken, and what is refused, where in the user's code, with what to type."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from graphtool.diagnostics import Diagnostic, GraphtoolError
from graphtool.evidence import suggest_pairs
from graphtool.sources.layers import Network, from_layer
from tests.evidence.networks import Array, Small, diagnostic, measured, small

IMAGES = np.random.default_rng(0).normal(size=(8, 3, 16, 16)).astype("float32")
NHWC = IMAGES.transpose(0, 2, 3, 1)
MODULE = __name__


def array() -> Array:
    return IMAGES


def arrays() -> dict[str, Array]:
    return {"x": IMAGES, "label": np.zeros(8)}


def loader() -> Iterator[list[Array]]:
    """Yield lists of one array, as a DataLoader does."""
    yield [IMAGES[:4]]
    yield [IMAGES[4:]]


def labelled() -> list[list[Array]]:
    return [[IMAGES, np.zeros(8)]]


def empty() -> list[Array]:
    return []


def number() -> int:
    return 3


def texts() -> Iterator[str]:
    yield "a"


def failing() -> Iterator[Array]:
    yield IMAGES
    raise RuntimeError("the disk is gone")


def failing_at_once() -> Iterator[Array]:
    raise RuntimeError("the disk is gone")


def refused(samples: Any, *networks: Network, **options: Any) -> Diagnostic:
    with pytest.raises(GraphtoolError) as raised:
        measured(samples, *networks, **options)
    return diagnostic(raised.value)


@pytest.mark.parametrize("source", [array, arrays, f"{MODULE}:arrays", [IMAGES], "x.npz"])
def test_arrays_in_functions_lists_and_archives_are_as_those_in_a_file(
    source: Any, network: Network, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", IMAGES)
    if source == "x.npz":
        source = tmp_path / source
        np.savez_compressed(source, x=IMAGES, label=np.zeros(8), names=np.array(["a"]))

    assert measured(source, network).scores == measured(tmp_path / "x.npy", network).scores


def test_batches_keep_their_size_and_others_are_cut(network: Network) -> None:
    batches = measured(loader(), network)

    assert (batches.batches, batches.samples) == (2, 8)
    # The last batch of a data set may be small.
    assert measured([IMAGES[:4], IMAGES[4:], IMAGES[:2]], network).scores == batches.scores


def test_samples_are_cut_to_the_batch_that_a_network_is_fixed_to() -> None:
    paddle.disable_static()
    four, one = (
        from_layer(Small(), [paddle.static.InputSpec([size, 3, 16, 16], "float32", "x")])
        for size in (4, 1)
    )
    found = refused(IMAGES, one)

    assert measured(IMAGES, four).batches == 2
    assert (found.code, found.help) == ("GT372", 'paddle.static.data("x", [-1, ...])')


REFUSED: dict[str, tuple[Any, dict[str, Any], str, str]] = {
    "no source": ("x.csv", {}, "GT370", "`x.csv` is not a .npy, .npz"),
    "shape": (
        IMAGES[:, :, :8],
        {},
        "GT372",
        "feed `x` of the teacher: wanted [?, 3, 16, 16] float32, given [8, 3, 8, 16] float32",
    ),
    "other feeds": ({"y": IMAGES, "z": IMAGES}, {}, "GT256", "no samples for `x` of the teacher"),
    "one sample": (IMAGES[:1], {}, "GT372", "has 1 sample: unbiased CKA takes at least 4"),
    "no batches": (IMAGES, {"batches": 0}, "GT248", "`batches` is `0`"),
    "no scope": (IMAGES, {"scopes": (3, None)}, "GT248", "`teacher_scope` is `3`; wanted a Scope"),
    "no module": ("no_such_module:batches", {}, "GT370", "No module named 'no_such_module'"),
    "no function": (f"{MODULE}:nothing", {}, "GT370", "has no attribute 'nothing'"),
    "nothing": (f"{MODULE}:empty", {}, "GT370", "yields no batch"),
    "fails": (f"{MODULE}:failing", {}, "GT370", "raises: RuntimeError: the disk is gone"),
    "lists": (f"{MODULE}:labelled", {}, "GT370", "gives `list`, which is neither"),
    "lengths": ({"x": IMAGES, "label": IMAGES[:7]}, {}, "GT370", "`x` 8, `label` 7"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_samples_that_can_not_be_measured_are_refused(case: str, network: Network) -> None:
    samples, options, code, text = REFUSED[case]
    found = refused(samples, network, **options)

    assert found.code == code
    assert text in found.message


@pytest.mark.parametrize(
    ("samples", "help"),
    [
        (IMAGES.astype("uint8"), 'images.astype("float32")'),
        (NHWC, "images.transpose(0, 3, 1, 2)"),
        (NHWC.astype("uint8"), 'images.transpose(0, 3, 1, 2).astype("float32")'),
        (IMAGES[:, :, :8], 'numpy.savez("samples.npz", x=images)'),
        (IMAGES[0], 'numpy.savez("samples.npz", x=images)'),
    ],
)
def test_samples_that_do_not_fit_come_with_what_to_type(
    samples: Array, help: str, network: Network
) -> None:
    found = refused(samples, network)

    assert (found.code, found.help) == ("GT372", help)
    assert bool(found.notes) == (samples.ndim == 3)  # the batch axis is missing


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_the_first_sample_that_is_no_number_is_named(number: float, network: Network) -> None:
    images = IMAGES.copy()
    images[5, 0, 0, 0] = number
    found = refused([images[:4], images[4:]], network)

    assert "batch 2, sample 2, both from 1" in found.message
    assert (found.code, found.where[0].value) == ("GT372", "x")
    assert found.help == "numpy.argwhere(~numpy.isfinite(images))"


@pytest.mark.slow
def test_the_feeds_of_both_networks_are_named_where_one_has_no_samples(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = small(feed="the.image")
    found = refused({"x": IMAGES}, network, other)
    monkeypatch.chdir(tmp_path)
    exec(found.help or "", {"numpy": np, "images": IMAGES})

    assert (found.code, found.notes) == ("GT256", ("given: `x`",))
    assert found.help == 'numpy.savez("samples.npz", **{"x": images, "the.image": images})'
    assert measured("samples.npz", network, other).scores


@pytest.mark.parametrize(("feed", "arrays"), [("x", "x=images"), ("y", "x=images, y=images")])
def test_networks_of_other_sizes_have_no_random_samples_in_common(
    feed: str, arrays: str, network: Network
) -> None:
    found = refused("random", network, small(feed=feed, size=8))

    assert (found.code, found.help) == ("GT372", f'numpy.savez("samples.npz", {arrays})')


@pytest.mark.parametrize("name", ["text.npy", "text.npz", "empty.npz", labelled, empty])
def test_the_help_names_the_feeds_of_the_networks(
    name: Any, network: Network, tmp_path: Path
) -> None:
    source = tmp_path / name if isinstance(name, str) else name
    if name == "empty.npz":
        np.savez(source, x=IMAGES[:0])
    elif source is not name:
        source.write_text("1, 2, 3\n")
    found = refused(source, network)

    assert (found.code, found.help) == ("GT370", 'numpy.savez("samples.npz", x=images)')


def test_a_file_that_is_missing_is_looked_for(network: Network, tmp_path: Path) -> None:
    missing = refused(tmp_path / "none.npz", network)

    assert (missing.code, missing.help) == ("GT370", f"ls {tmp_path}")
    assert missing.message.endswith("can't be read as samples: No such file or directory")


@pytest.mark.parametrize("source", ["none.npy", "x.csv"])
def test_a_source_that_is_none_is_refused_before_the_networks_are_read(source: str) -> None:
    with pytest.raises(GraphtoolError, match="GT370"):
        suggest_pairs("no_network.json", "no_network.json", evidence=source)


@pytest.mark.parametrize("source", [number, texts, failing, failing_at_once])
def test_what_fails_is_pointed_at_in_the_users_code(
    source: Callable[[], Any], network: Network
) -> None:
    found = refused(source, network)
    code = source.__code__
    last = max(line or 0 for *_, line in code.co_lines())
    place, _, where = found.notes[0].partition(" in ")
    file, _, line = place.partition(":")

    assert (found.code, file, len(found.notes)) == ("GT370", "test_samples.py", 1)
    assert where.split(":")[0] == source.__name__
    assert code.co_firstlineno <= int(line) <= last
