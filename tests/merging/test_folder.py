"""Merged programs on disk: whole or not at all, and what comes back trains as what was saved."""

from __future__ import annotations

import json
import resource
import shlex
import signal
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

import graphtool.merging.folder
from graphtool.cli import main
from graphtool.diagnostics import GraphtoolError, PairError, ReadError, Severity, UsageError
from graphtool.matching import suggest_pairs
from graphtool.matching.recipe import read_recipe
from graphtool.merging import Merged, merge, merged_of
from graphtool.merging.folder import load_merged, save_merged
from graphtool.rendering import render
from graphtool.sources import read
from tests.merging import networks
from tests.merging.networks import Built, bytes_of, merge_built, run, samples, small


def merged_small(forward: Any = networks.plain, **options: Any) -> tuple[Merged, Built, Built]:
    teacher, student = small(forward, "image"), small(networks.plain)
    return merge_built(teacher, student, **options), teacher, student


@pytest.fixture(scope="module")
def kept() -> Merged:
    return merged_small()[0]


@pytest.fixture
def merged(kept: Merged) -> Merged:
    """Return a merge that tests save and leave as it is."""
    paddle.enable_static()
    return kept


def losses(merged: Merged, scope: Any, steps: int = 3) -> list[bytes]:
    """Distil for some steps with a loss between both outputs."""
    startup = paddle.static.Program()
    with paddle.static.program_guard(merged.program, startup):
        loss = ((merged.teacher("add_1") - merged.student("add_1")) ** 2).mean()
        paddle.optimizer.SGD(0.1).minimize(loss)
    run(startup, scope, {})
    return [
        run(merged.program, scope, {"data": samples()}, loss)[0].tobytes() for _ in range(steps)
    ]


@pytest.mark.pir
@pytest.mark.parametrize(
    "forward",
    [
        networks.plain,
        networks.looping,
        pytest.param(networks.branching, marks=pytest.mark.slow),
        networks.lstm,
    ],
)
def test_what_is_loaded_is_bit_equal_to_what_was_saved(tmp_path: Path, forward: Any) -> None:
    merged, _, student = merged_small(forward)
    save_merged(merged, tmp_path / "out")
    scope = paddle.static.Scope()

    loaded = load_merged(tmp_path / "out", scope=scope)

    assert loaded.names == merged.names
    assert loaded.values == merged.values
    assert (loaded.prefix, loaded.feed_map) == (merged.prefix, merged.feed_map)
    output = [name for name in merged.values if "/" not in name][-1]
    feed = {"data": samples()}
    (wanted,) = run(merged.program, student.scope, feed, merged.teacher(output))
    (found,) = run(loaded.program, scope, feed, loaded.teacher(output))
    assert found.tobytes() == wanted.tobytes()
    assert loaded.verify().equal


@pytest.mark.pir
@pytest.mark.slow
def test_what_is_loaded_trains_as_what_was_saved_and_the_teacher_stays_as_it_is(
    tmp_path: Path,
) -> None:
    merged, _, student = merged_small(networks.perceptron)
    save_merged(merged, tmp_path / "out")
    scope = paddle.static.Scope()
    loaded = load_merged(tmp_path / "out", scope=scope)
    teachers = bytes_of(scope, dict(loaded.plan.weights).values())

    wanted, found = losses(merged, student.scope), losses(loaded, scope)

    assert found == wanted
    assert len(set(found)) == 3
    assert bytes_of(scope, teachers) == teachers


def test_a_loaded_merge_is_known_to_its_program_and_to_the_next_teacher(tmp_path: Path) -> None:
    merged, teacher, _ = merged_small()
    save_merged(merged, tmp_path / "out")
    scope = paddle.static.Scope()
    loaded = load_merged(tmp_path / "out", scope=scope)

    assert merged_of(loaded.program) is loaded
    with pytest.raises(GraphtoolError) as raised:
        merge(teacher.program, loaded.program, {"image": "data"}, None, scope, teacher.scope)
    assert raised.value.report.errors


def test_two_teachers_come_back_both(tmp_path: Path) -> None:
    merged, _, student = merged_small()
    second = small(networks.plain, "image")
    merge_built(second, student, name_prefix="other_")
    save_merged(merged, tmp_path / "out")

    loaded = load_merged(tmp_path / "out", scope=paddle.static.Scope())

    assert [one.prefix for one in loaded.teachers] == ["teacher_", "other_"]
    assert [one.verify().equal for one in loaded.teachers] == [True, True]


def test_the_folder_is_a_model_and_its_manifest_holds_names_and_versions_and_no_path(
    tmp_path: Path, merged: Merged
) -> None:
    save_merged(merged, tmp_path / "out")

    graph = read(tmp_path / "out")
    assert graph.feeds == ("data",)
    own = [f"linear_{layer}.{kind}_0" for layer in (0, 1) for kind in "bw"]
    assert sorted(value.name for value in graph.parameters) == [
        *own,
        *(f"teacher_{name}" for name in own),
    ]
    text = (tmp_path / "out" / "manifest.json").read_text()
    manifest = json.loads(text)
    assert str(tmp_path) not in text
    assert manifest["paddle"] == paddle.__version__
    (teacher,) = manifest["teachers"]
    assert teacher["feed_map"] == {"image": "data"}
    assert teacher["names"]["linear_0.w_0"] == "teacher_linear_0.w_0"


def test_pairs_are_kept_and_found_again(tmp_path: Path, merged: Merged) -> None:
    pairs = suggest_pairs(merged.plan.teacher, merged.plan.student)
    save_merged(merged, tmp_path / "out", pairs=pairs)

    loaded = load_merged(tmp_path / "out", scope=paddle.static.Scope())
    recipe = read_recipe(
        tmp_path / "out" / "pairs.toml", teacher=loaded.plan.teacher, student=loaded.plan.student
    )

    assert [pair.teacher.name for pair in recipe.pairs] == [pair.teacher.name for pair in pairs]
    assert recipe.pairs.report.diagnostics == ()
    assert [found.code for found in loaded.report] == []

    (tmp_path / "out" / "pairs.toml").unlink()
    (found,) = load_merged(tmp_path / "out", scope=paddle.static.Scope()).report
    assert found in render(tmp_path / "out").report
    assert (found.code, found.severity) == ("GT613", Severity.WARNING)
    assert main(shlex.split(found.help or "")[1:]) == 0
    assert not load_merged(tmp_path / "out", scope=paddle.static.Scope()).report


def test_a_configuration_of_another_toolkit_is_kept_as_a_recipe(
    tmp_path: Path, merged: Merged
) -> None:
    pair = suggest_pairs(merged.plan.teacher, merged.plan.student)[0]
    config = tmp_path / "config.yml"
    keys = f"t_key: {pair.teacher.name}, s_key: {pair.student.name}"
    config.write_text(
        f"Loss: {{Train: [DistanceLoss: {{model_name_pairs: [[Student, Teacher]], {keys}}}]}}"
    )
    save_merged(merged, tmp_path / "out", pairs=config)

    (kept,) = read_recipe(
        tmp_path / "out" / "pairs.toml", teacher=merged.plan.teacher, student=merged.plan.student
    ).pairs
    assert (kept.teacher, kept.student, kept.loss) == (pair.teacher, pair.student, "l2")


def test_pairs_of_another_network_are_refused_and_nothing_is_written(
    tmp_path: Path, merged: Merged
) -> None:
    other, _, _ = merged_small(networks.transformer)
    recipe = tmp_path / "pairs.toml"
    graphtool.matching.recipe.write_recipe(
        suggest_pairs(other.plan.teacher, other.plan.teacher), recipe
    )

    with pytest.raises(PairError):
        save_merged(merged, tmp_path / "out", pairs=recipe)
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.toml"]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda _: save_merged(None, "out"), "`merged` is `None`"),  # pyright: ignore
        (lambda merged: save_merged(merged, None), "`path` is `None`"),  # pyright: ignore
        (lambda _: load_merged(None), "`path` is `None`"),  # pyright: ignore
        (lambda _: load_merged(3), "`path` is `3`"),  # pyright: ignore
    ],
)
def test_what_is_no_merge_or_no_path_is_refused(call: Any, name: str, merged: Merged) -> None:
    with pytest.raises(UsageError, match="GT248") as raised:
        call(merged)

    assert name in str(raised.value)


def test_a_folder_that_is_not_empty_is_left_as_it_is(tmp_path: Path, merged: Merged) -> None:
    (tmp_path / "mine.txt").write_text("mine")

    with pytest.raises(GraphtoolError) as raised:
        save_merged(merged, tmp_path)

    (found,) = raised.value.report
    assert (found.code, found.help) == (
        "GT604",
        f"force=True  # or another folder: {tmp_path}-2",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.pir
def test_force_replaces_an_earlier_save_and_leaves_other_files(
    tmp_path: Path, merged: Merged
) -> None:
    folder = tmp_path / "out"
    save_merged(merged, folder, pairs=suggest_pairs(merged.plan.teacher, merged.plan.student))
    (folder / "mine.txt").write_text("mine")

    save_merged(merged, folder, force=True)

    names = sorted(path.name for path in folder.iterdir())
    assert names == ["manifest.json", "merged.json", "merged.pdiparams", "mine.txt", "originals"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("step", ["write_tensors", "save_program", "manifest_of"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("path", ["out", "one/two/three"])
def test_a_write_that_fails_leaves_nothing_and_no_folders_on_the_way(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    error: BaseException,
    path: str,
    merged: Merged,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(graphtool.merging.folder, step, fail)

    with pytest.raises((GraphtoolError, KeyboardInterrupt)):
        save_merged(merged, tmp_path / path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_other_files_of_such_names_is_not_touched_even_with_force(
    tmp_path: Path,
    merged: Merged,
) -> None:
    folder = tmp_path / "mine"
    (folder / "originals").mkdir(parents=True)
    (folder / "originals" / "photo.jpg").write_bytes(b"photo")
    (folder / "manifest.json").write_text('{"name": "extension"}')
    before = contents(folder)
    (tmp_path / "mine-2").touch()
    for force in (False, True):
        with pytest.raises(UsageError, match=r"`manifest.json`, `originals/photo.jpg`") as raised:
            save_merged(merged, folder, force=force)
        (found,) = raised.value.report
        assert (found.code, found.help) == ("GT604", f'path="{tmp_path}/mine-3"')
    assert contents(folder) == before

    save_merged(merged, tmp_path / "out")
    for name in ("originals/photo.jpg", "pairs.toml"):
        (tmp_path / "out" / name).write_bytes(b"mine")
        with pytest.raises(UsageError, match=rf"GT604.*`{name}`"):
            save_merged(merged, tmp_path / "out", force=True)
        assert (tmp_path / "out" / name).read_bytes() == b"mine"
        (tmp_path / "out" / name).unlink()


def test_a_program_that_paddle_wrote_a_part_of_is_an_error_and_the_earlier_save_stays(
    tmp_path: Path,
    merged: Merged,
) -> None:
    """Paddle's own stream does not say that a disk is full: a limit on files stands in for it."""
    folder = tmp_path / "out"
    save_merged(merged, folder)
    before = contents(folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(GraphtoolError) as raised:
            save_merged(merged, folder, force=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert [found.code for found in raised.value.report] == ["GT601"]
    assert contents(folder) == before


@pytest.mark.pir
@pytest.mark.parametrize(
    "name",
    ["merged.pdiparams", "merged.json", "originals/teacher-0.json", "originals/student-0.json"],
)
def test_a_flipped_bit_anywhere_is_noticed_before_anything_is_set(
    tmp_path: Path, name: str, merged: Merged
) -> None:
    save_merged(merged, tmp_path / "out")
    data = bytearray((tmp_path / "out" / name).read_bytes())
    data[-1] ^= 1
    (tmp_path / "out" / name).write_bytes(data)
    scope = paddle.static.Scope()
    with pytest.raises(ReadError, match=rf"GT618.*was saved: `{name}`"):
        load_merged(tmp_path / "out", scope=scope)
    assert scope.local_var_names() == []


def test_pairs_may_be_edited_in_a_saved_folder(tmp_path: Path, merged: Merged) -> None:
    folder = tmp_path / "out"
    save_merged(merged, folder, pairs=suggest_pairs(merged.plan.teacher, merged.plan.student))
    text = (folder / "pairs.toml").read_text()
    (folder / "pairs.toml").write_text(text.replace("weight = 1.0", "weight = 2.0"))
    assert load_merged(folder, scope=paddle.static.Scope()).verify().equal


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.pir
def test_a_program_that_trains_or_has_lost_a_value_is_not_saved(tmp_path: Path) -> None:
    merged, _, _ = merged_small(networks.looping)
    with paddle.static.program_guard(merged.program, paddle.static.Program()):
        paddle.optimizer.SGD(0.1).minimize(merged.student("add_1").mean())
    with pytest.raises(GraphtoolError, match="GT231"):
        save_merged(merged, tmp_path / "out")

    # The names that follow have moved.
    merged, _, _ = merged_small(networks.plain)
    name = [name for name in merged.before.graph.values if name.startswith("add_")][-1]
    merged.program.global_block().remove_op(merged.student(name).get_defining_op())
    assert name in read(merged.program).values
    with pytest.raises(ReadError, match=rf"GT031\] value-gone: `{name}`"):
        save_merged(merged, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_to_come_later_have_to_come_before_it_is_saved(tmp_path: Path) -> None:
    merged, teacher, _ = merged_small(parameters="later")

    with pytest.raises(GraphtoolError) as raised:
        save_merged(merged, tmp_path / "out")
    assert raised.value.report.errors[0].code == "GT235"

    merged.load_teacher(teacher.scope)
    save_merged(merged, tmp_path / "out")


@pytest.mark.pir
@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text("{"),
        lambda folder: (folder / "manifest.json").write_text("[" * 100_000),
        lambda folder: edit(folder, schema=2),
        lambda folder: edit(folder, schema=None),
        lambda folder: edit(folder, teachers=[]),
        lambda folder: edit(folder, further=1),
        lambda folder: edit(folder, parameters=["../../x"]),
        lambda folder: (folder / "merged.json").unlink(),
        lambda folder: (folder / "merged.json").write_text("{}"),
        lambda folder: (folder / "merged.pdiparams").write_bytes(b""),
        lambda folder: cut(folder / "merged.pdiparams"),
        lambda folder: leads_out(folder, "merged.pdiparams"),
        lambda folder: leads_out(folder, "originals/teacher-0.json"),
    ],
)
def test_a_damaged_folder_is_a_diagnostic_and_sets_nothing(
    tmp_path: Path, damage: Any, merged: Merged
) -> None:
    folder = tmp_path / "out"
    save_merged(merged, folder)
    damage(folder)
    scope = paddle.static.Scope()

    with pytest.raises(ReadError) as raised:
        load_merged(folder, scope=scope)

    assert raised.value.report.errors
    assert scope.find_var("linear_0.w_0") is None


def edit(folder: Path, **changes: Any) -> None:
    file = folder / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-4])


def leads_out(folder: Path, name: str) -> None:
    outside = folder.parent / "outside"
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)


@pytest.mark.pir
def test_legacy_programs_come_back_as_legacy_programs(tmp_path: Path) -> None:
    teacher, student = (
        small(lambda x: paddle.nn.Linear(6, 5)(paddle.nn.Linear(8, 6)(x)), feed, kind="legacy")
        for feed in ("image", "data")
    )
    merged = merge_built(teacher, student)
    save_merged(merged, tmp_path / "out")
    scope = paddle.static.Scope()

    loaded = load_merged(tmp_path / "out", scope=scope)
    feed, name = {"data": samples()}, teacher.output.name
    wanted = run(merged.program, student.scope, feed, merged.teacher(name))
    found = run(loaded.program, scope, feed, loaded.teacher(name))

    assert np.array_equal(found[0], wanted[0])
    frozen = [value for value in loaded.program.all_parameters() if not value.trainable]
    assert {value.name for value in frozen} == set(dict(loaded.plan.weights).values())
