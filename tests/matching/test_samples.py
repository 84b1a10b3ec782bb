"""Samples for evidence: what is taken, and what is said of samples that do not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from graphtool.diagnostics import Diagnostic, GraphtoolError
from graphtool.matching.evidence import gather
from graphtool.sources.layers import Network, from_layer
from graphtool.structure import analyse
from tests.matching.evidence_networks import Array, Small

IMAGES = np.random.default_rng(0).normal(size=(8, 3, 16, 16)).astype("float32")


def small(feed: str = "x", size: int = 16) -> Network:
    paddle.disable_static()
    paddle.seed(1)
    return from_layer(Small(), [(feed, (3, size, size))], train=True)


@pytest.fixture(scope="module")
def network() -> Network:
    return small()


def measured(samples: Any, teacher: Network, student: Network | None = None) -> dict[Any, Any]:
    sides = teacher, teacher if student is None else student
    ours, theirs = (analyse(side.graph).main_line for side in sides)
    *_, found = gather(*sides, (ours, theirs), samples)
    return dict(found.scores)


def refused(samples: Any, teacher: Network, student: Network | None = None) -> Diagnostic:
    with pytest.raises(GraphtoolError) as raised:
        measured(samples, teacher, student)
    (found,) = raised.value.report
    return found


def array() -> Array:
    return IMAGES


def arrays() -> dict[str, Array]:
    return {"x": IMAGES}


@pytest.mark.parametrize("source", [array, arrays])
def test_what_a_function_returns_whole_is_taken_as_a_file_of_it_would_be(
    source: Callable[[], Any], network: Network, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", IMAGES)

    assert measured(source, network) == measured(tmp_path / "x.npy", network)


@pytest.mark.parametrize("given", ["file", "batch"])
def test_an_array_of_another_name_than_the_feed_is_not_taken_for_it(
    given: str, network: Network, tmp_path: Path
) -> None:
    np.savez(tmp_path / "bad.npz", foo=IMAGES)
    source = tmp_path / "bad.npz" if given == "file" else lambda: iter([{"foo": IMAGES}])
    found = refused(source, network)

    assert (found.code, found.message) == ("GT256", "no samples for `x` of the teacher")
    assert found.notes == ("given: `foo`",)
    assert found.help == 'numpy.savez("samples.npz", x=images)'


def saved_as(help: str | None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run what a help says to type, and return the names in the file that it writes."""
    monkeypatch.chdir(folder)
    exec(help or "", {"numpy": np, "images": IMAGES})
    with np.load("samples.npz") as held:
        return list(held.files)


@pytest.mark.slow
def test_the_feeds_of_both_networks_are_named_where_one_has_no_samples(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = small("the.image")
    found = refused({"x": IMAGES}, network, other)

    assert found.message == "no samples for `the.image` of the student"
    assert found.help == 'numpy.savez("samples.npz", **{"x": images, "the.image": images})'
    assert saved_as(found.help, tmp_path, monkeypatch) == ["x", "the.image"]
    assert measured(tmp_path / "samples.npz", network, other)


def test_one_sample_without_a_batch_axis_is_said_to_be_that(
    network: Network, tmp_path: Path
) -> None:
    np.save(tmp_path / "one.npy", IMAGES[0])
    found = refused(tmp_path / "one.npy", network)

    assert found.code == "GT372"
    assert found.message == (
        "feed `x` of the teacher: wanted [?, 3, 16, 16] float32, given [3, 16, 16] float32"
    )
    assert found.notes == ("the batch axis is missing: the first axis counts the samples",)
    assert found.help == 'numpy.savez("samples.npz", x=images)'


def test_samples_that_do_not_fit_come_with_what_to_type(network: Network) -> None:
    broken = np.where(IMAGES > 3, np.nan, IMAGES)
    helps = [
        refused(samples, network).help
        for samples in (
            IMAGES.astype("uint8"),
            IMAGES.transpose(0, 2, 3, 1),
            IMAGES.transpose(0, 2, 3, 1).astype("uint8"),
            IMAGES[:, :, :8],
            broken,
        )
    ]

    assert helps == [
        'images.astype("float32")',
        "images.transpose(0, 3, 1, 2)",
        'images.transpose(0, 3, 1, 2).astype("float32")',
        'numpy.savez("samples.npz", x=images)',
        "numpy.argwhere(~numpy.isfinite(images))",
    ]


@pytest.mark.parametrize(
    ("feed", "help"),
    [
        ("x", 'paddle.static.data("student_x", [-1, 3, 8, 8], "float32")'),
        ("y", 'numpy.savez("samples.npz", x=images, y=images)'),
    ],
)
def test_networks_of_other_sizes_have_no_random_samples_in_common(
    feed: str, help: str, network: Network
) -> None:
    found = refused("random", network, small(feed, size=8))

    assert (found.code, found.help) == ("GT372", help)


def test_a_file_that_is_missing_or_no_array_is_said_to_be_that(
    network: Network, tmp_path: Path
) -> None:
    text = tmp_path / "text.npy"
    text.write_text("1, 2, 3\n")
    missing, no_array = refused(tmp_path / "none.npz", network), refused(text, network)

    assert missing.message == (
        f"`{tmp_path}/none.npz` can't be read as samples: No such file or directory"
    )
    assert missing.help == f"ls {tmp_path}"
    assert no_array.message == (
        f"`{text}` can't be read as samples: "
        "it holds no arrays of numbers, as `numpy.save` writes them"
    )
    assert no_array.help == 'numpy.save("samples.npy", images)'


def number() -> int:
    return 3


def texts() -> Iterator[str]:
    yield "a"


def failing() -> Iterator[Array]:
    yield IMAGES
    raise RuntimeError("the disk is gone")


def failing_at_once() -> Iterator[Array]:
    raise RuntimeError("the disk is gone")


@pytest.mark.parametrize("source", [number, texts, failing, failing_at_once])
def test_what_fails_is_pointed_at_in_the_users_code(
    source: Callable[[], Any], network: Network
) -> None:
    found = refused(source, network)
    (note,) = found.notes
    code = source.__code__
    first, last = code.co_firstlineno, max(line or 0 for *_, line in code.co_lines())
    place, _, where = note.partition(" in ")
    file, _, line = place.partition(":")

    assert (found.code, file) == ("GT370", "test_samples.py")
    assert where.split(":")[0] == source.__name__
    assert first <= int(line) <= last
