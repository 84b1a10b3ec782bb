"""`load_parameters`: every kind of file, all or nothing, and nothing that runs code."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

import graphtool as gt
from graphtool.diagnostics import Diagnostic, GraphtoolError
from graphtool.merging import merge
from graphtool.readers.tensor_files import read_tensors, write_tensors
from graphtool.sources.layers import from_layer
from graphtool.training import load_parameters
from tests.merging.networks import Built, array_in
from tests.training.legacy import Student as Net
from tests.training.networks import Half, Recurrent


def built(width: int = 4) -> Any:
    return from_layer(lambda: Net(width), [(3, 8, 8)])


def saved(folder: Path) -> tuple[Path, dict[str, np.ndarray[Any, Any]]]:
    """Save the network for inference; return its prefix and the parameters by Variable."""
    with paddle.utils.unique_name.guard():
        net = built()
    paddle.enable_static()
    one = Built(net.program, net.startup, net.live.value(net.fetches[0]), paddle.static.Scope())
    one.initialise()
    file = one.save(folder / "inference")
    return file.with_suffix(""), {name: one.held(name) for name in net.parameters.values()}


def state(layer: nn.Layer | None = None) -> dict[str, Any]:
    return {key: value.numpy() for key, value in (layer or Net()).state_dict().items()}


def pickled(folder: Path, held: dict[str, Any], **table: Any) -> Path:
    """Write a state dict without a table of names, as Paddle does not, or with a given one."""
    file = folder / "net.pdparams"
    names = {"StructuredToParameterName@@": table["table"]} if table else {}
    file.write_bytes(pickle.dumps({**held, **names}, protocol=4))
    return file


def values(scope: Any, names: Any) -> dict[str, np.ndarray[Any, Any]]:
    return {name: array_in(scope, name) for name in names}


def same(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return found.keys() == wanted.keys() and all(
        found[name].tobytes() == wanted[name].tobytes() for name in found
    )


def refused(program: Any, file: Path, *layer: Any, **options: Any) -> tuple[Diagnostic, ...]:
    """Return what a file is refused with; it must set nothing."""
    scope = paddle.static.Scope()
    with pytest.raises(GraphtoolError) as raised:
        load_parameters(program, file, *layer, scope=scope, **options)
    parameters = getattr(program, "program", program).global_block().all_parameters()
    assert [one.name for one in parameters if scope.find_var(one.name) is not None] == []
    return raised.value.report.errors


@pytest.mark.pir
@pytest.mark.parametrize("spelling", ["inference", "inference.pdiparams", "inference.json", ""])
def test_a_combined_file_is_loaded_by_each_way_to_spell_it(tmp_path: Path, spelling: str) -> None:
    _, wanted = saved(tmp_path)
    scope = paddle.static.Scope()

    loaded = load_parameters(built().program, tmp_path / spelling, scope=scope)

    assert len(loaded.loaded) == 8
    assert (loaded.missing, loaded.unexpected, loaded.misshapen) == ((), (), ())
    assert same(values(scope, wanted), wanted)


@pytest.mark.pir
def test_a_combined_file_without_its_model_takes_its_names_from_the_program(tmp_path: Path) -> None:
    prefix, wanted = saved(tmp_path)
    (tmp_path / "inference.json").unlink()
    scope, file = paddle.static.Scope(), prefix.with_suffix(".pdiparams")

    load_parameters(built().program, file, scope=scope)

    assert same(values(scope, wanted), wanted)
    assert refused(built(6).program, file)[0].code == "GT237"


def test_a_file_that_is_cut_short_sets_nothing(tmp_path: Path) -> None:
    file = saved(tmp_path)[0].with_suffix(".pdiparams")
    file.write_bytes(file.read_bytes()[:-8])

    assert refused(built().program, file)[0].code == "GT240"


def test_a_folder_with_a_file_for_each_variable_is_loaded(tmp_path: Path) -> None:
    prefix, wanted = saved(tmp_path / "model")
    folder, scope = tmp_path / "separate", paddle.static.Scope()
    folder.mkdir()
    tensors = read_tensors(prefix.with_suffix(".pdiparams"))
    for name, tensor in zip(sorted(wanted), tensors, strict=True):
        write_tensors(folder / name, [tensor])

    assert len(load_parameters(built().program, folder, scope=scope).loaded) == 8
    assert same(values(scope, wanted), wanted)


def test_what_is_written_here_is_what_paddle_writes(tmp_path: Path) -> None:
    theirs = saved(tmp_path)[0].with_suffix(".pdiparams")
    write_tensors(tmp_path / "ours", read_tensors(theirs))

    assert (tmp_path / "ours").read_bytes() == theirs.read_bytes()


def test_a_variable_name_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    prefix, _ = saved(tmp_path / "model")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "conv2d_0.w_0").symlink_to(prefix.with_suffix(".pdiparams"))

    assert refused(built().program, folder)[0].code == "GT240"


@pytest.mark.parametrize("protocol", [2, 4])
def test_structured_names_go_through_the_network_whatever_was_counted(
    tmp_path: Path, protocol: int
) -> None:
    nn.Conv2D(1, 1, 1)  # so that Paddle counts on and the names in the file's table are others
    source = Net()
    paddle.save(source.state_dict(), str(tmp_path / "net.pdparams"), protocol=protocol)
    net, scope = built(), paddle.static.Scope()

    loaded = load_parameters(net.program, tmp_path / "net.pdparams", net, scope=scope)

    assert loaded.unexpected == ()
    wanted = {net.parameters[key]: value for key, value in state(source).items()}
    assert same(values(scope, wanted), wanted)


def test_structured_names_go_through_the_students_own_layer(tmp_path: Path) -> None:
    class Swapped(Net):
        """Has the names of `Net`, counted in another order."""

        def __init__(self) -> None:
            nn.Layer.__init__(self)
            self.other, self.head = nn.Linear(4, 5), nn.Linear(4, 5)
            self.norm, self.conv = nn.BatchNorm2D(4), nn.Conv2D(3, 4, 3)

    with paddle.utils.unique_name.guard():
        other = Swapped()
    held, net = state(), built()
    file = pickled(tmp_path, held)
    assert other.other.weight.name == net.parameters["head.weight"]
    theirs = paddle.static.Scope()
    merged = merge(
        built(), net, {net.feeds[0]: net.feeds[0]}, teacher_scope=theirs, parameters="later"
    )

    for program, layer in ((net, other), (merged, None), (merged.program, other)):
        scope = paddle.static.Scope()
        load_parameters(program, file, layer=layer, scope=scope)
        found = values(scope, net.parameters.values())
        assert same(found, {net.parameters[key]: value for key, value in held.items()})


def test_structured_names_go_through_the_table_of_the_file(tmp_path: Path) -> None:
    with paddle.utils.unique_name.guard():
        source = Net()
    paddle.save(source.state_dict(), str(tmp_path / "net.pdparams"))
    scope = paddle.static.Scope()

    loaded = load_parameters(built().program, tmp_path / "net.pdparams", scope=scope)

    assert len(loaded.loaded) == 8
    found = array_in(scope, "conv2d_0.w_0")
    assert found.tobytes() == source.conv.weight.numpy().tobytes()


def test_the_table_of_the_file_has_no_say_over_a_networks_own_keys(tmp_path: Path) -> None:
    with paddle.utils.unique_name.guard():
        held = {f"model.{key}": value for key, value in Net().state_dict().items()}
    file = tmp_path / "net.pdparams"
    paddle.save(held, str(file))
    net, scope = built(), paddle.static.Scope()

    assert refused(net, file)[0].code == "GT250"
    load_parameters(net.program, file, scope=scope)
    assert len(values(scope, net.parameters.values())) == len(held)


def test_structured_names_without_layer_and_table_ask_for_the_layer(tmp_path: Path) -> None:
    (found,) = refused(built().program, pickled(tmp_path, state()))
    assert (found.code, found.help) == (
        "GT508",
        "gt.load_parameters(program, path, layer=network)",
    )


def test_the_file_of_another_layer_is_told_as_such(tmp_path: Path) -> None:
    file = pickled(tmp_path, {f"backbone.{name}": held for name, held in state().items()})

    (found,) = refused(built(), file, allow_missing=True)

    assert (found.code, "none of the program's 8 parameters" in found.message) == ("GT250", True)
    assert found.notes[0].startswith("in the Layer: ")
    assert found.notes[1].startswith("in the file, as of another network: `backbone.conv.weight`")


def test_missing_parameters_are_an_error_with_nothing_set_unless_allowed(tmp_path: Path) -> None:
    net, scope = built(), paddle.static.Scope()
    held = {name: value for name, value in state().items() if "head" not in name}
    file = pickled(tmp_path, {**held, "neck.weight": np.ones(2, "float32")})

    (missing,) = refused(net, file)
    said = {"linear_0.b_0": "head.bias", "linear_0.w_0": "head.weight"}
    names = sorted(said, key=missing.message.index)  # The order is the Program's.
    assert missing.code == "GT250"
    assert missing.message == f"2 parameters not in the file: `{names[0]}`, `{names[1]}`"
    assert missing.notes == (f"in the Layer: `{said[names[0]]}`, `{said[names[1]]}`",)

    loaded = load_parameters(net, file, scope=scope, allow_missing=True)

    assert sorted(loaded.missing) == ["linear_0.b_0", "linear_0.w_0"]
    assert loaded.unexpected == ("neck.weight",)
    assert len(loaded.loaded) == 6
    assert scope.find_var("conv2d_0.w_0") is not None


def test_another_shape_or_dtype_is_an_error_with_nothing_set(tmp_path: Path) -> None:
    net, held = built(), state()
    held["head.weight"] = held["head.weight"].T
    held["head.bias"] = held["head.bias"].astype("float64")

    (found,) = refused(net.program, pickled(tmp_path, held), net)

    assert found.message == (
        "`linear_0.w_0` is [4, 5] float32 in the program and [5, 4] float32 in the file"
    )
    assert (found.notes, found.count) == (("also `linear_0.b_0`",), 2)


def test_bfloat16_comes_through_bit_by_bit(tmp_path: Path) -> None:
    source = Half()
    paddle.save(source.state_dict(), str(tmp_path / "half.pdparams"))
    net, scope = from_layer(Half, [(4,)]), paddle.static.Scope()

    load_parameters(net, tmp_path / "half.pdparams", scope=scope)

    tensor = scope.find_var(net.parameters["weight"]).get_tensor()
    assert str(tensor._dtype()) == "paddle.bfloat16"
    assert np.array(tensor).tobytes() == source.weight.numpy().tobytes()


def test_both_names_of_an_rnns_parameter_are_known_and_its_buffer_is_not_asked_for(
    tmp_path: Path,
) -> None:
    source = Recurrent()
    paddle.save(source.state_dict(), str(tmp_path / "net.pdparams"))
    net, scope = from_layer(Recurrent, [(5, 4)]), paddle.static.Scope()

    loaded = load_parameters(net, tmp_path / "net.pdparams", net, scope=scope)

    assert (loaded.missing, loaded.unexpected) == ((), ())
    assert sorted(loaded.loaded) == sorted(
        ["linear_0.b_0", "linear_0.w_0"]
        + [f"lstm_cell_0.{n}" for n in ("w_0", "w_1", "b_0", "b_1")]
    )
    held = array_in(scope, "lstm_cell_0.w_0")
    assert held.tobytes() == source.state_dict()["lstm.0.cell.weight_ih"].numpy().tobytes()


def test_two_entries_for_one_parameter_that_differ_are_an_error_with_nothing_set(
    tmp_path: Path,
) -> None:
    held = state(Recurrent())
    held["lstm.0.cell.weight_ih"] = held["lstm.0.cell.weight_ih"] + 1
    net = from_layer(Recurrent, [(5, 4)])

    (found,) = refused(net, pickled(tmp_path, held), net)
    assert (found.code, "are both for `lstm_cell_0.w_0`" in found.message) == ("GT237", True)


@pytest.mark.parametrize(
    ("table", "codes"),
    [
        ({"conv.weight": "conv2d_7.w_0", "norm.bias": 5, 3: "x"}, {"GT508"}),
        (["conv.weight"], {"GT508"}),
        (dict.fromkeys(("norm.weight", "norm.bias"), "batch_norm2d_0.b_0"), {"GT237", "GT250"}),
        # Shapes that do not fit.
        ({"head.weight": "linear_0.b_0", "head.bias": "linear_0.w_0"}, {"GT237", "GT250"}),
    ],
)
def test_a_table_that_leads_astray_sets_nothing(
    tmp_path: Path, table: Any, codes: set[str]
) -> None:
    found = refused(built().program, pickled(tmp_path, state(), table=table))
    assert {one.code for one in found} == codes


@pytest.mark.slow
def test_after_minimize_neither_learning_rate_nor_adapter_is_asked_for(tmp_path: Path) -> None:
    paddle.save(Net().state_dict(), str(tmp_path / "net.pdparams"))
    teacher, student = from_layer(lambda: Net(6), [(3, 8, 8)], train=False), built()
    paddle.enable_static()
    scope, theirs = paddle.static.Scope(), paddle.static.Scope()
    paddle.static.Executor().run(teacher.startup, scope=theirs)
    feed = {teacher.feeds[0]: student.feeds[0]}
    merged = merge(teacher, student, feed, scope=scope, teacher_scope=theirs)
    own_names = paddle.utils.unique_name.guard("adapter_")
    with paddle.static.program_guard(merged.program, student.startup), own_names:
        adapted = nn.Linear(5, 5)(merged.student(student.fetches[0]))
        loss = nn.functional.mse_loss(adapted, merged.teacher(teacher.fetches[0]))
        gt.minimize(paddle.optimizer.AdamW(0.1), loss)
    paddle.static.Executor().run(student.startup, scope=scope)

    loaded = load_parameters(merged, tmp_path / "net.pdparams", student, scope=scope)

    assert len(loaded.loaded) == 8
    assert loaded.report.diagnostics == ()


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["PLANTED"],)


def test_a_planted_payload_is_refused_and_did_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED", str(tmp_path / "planted"))

    (found,) = refused(built().program, pickled(tmp_path, {"conv2d_0.w_0": Payload()}))

    assert (found.code, "mkdir" in found.message) == ("GT502", True)
    assert not (tmp_path / "planted").exists()


def test_files_of_something_else_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    objects = pickled(tmp_path, {"a": np.array([None, {}], dtype=object), "epoch": 3})
    files = [tmp_path / "nothing", tmp_path / "notes.txt", objects]
    assert [refused(built().program, file)[0].code for file in files] == [
        "GT001",
        "GT240",
        "GT240",
    ]


@pytest.mark.slow
def test_paddle_2_6_loads_the_same_files(tmp_path: Path, on_paddle26: Callable[..., str]) -> None:
    source = Net()
    paddle.save(source.state_dict(), str(tmp_path / "net.pdparams"))

    said = on_paddle26("tests.training.legacy", "sums", str(tmp_path / "net.pdparams"))

    wanted = [value.astype("float64").sum() for _, value in sorted(state(source).items())]
    assert json.loads(said.splitlines()[-1]) == pytest.approx(wanted, abs=1e-12)


def test_a_state_dict_within_a_dict_is_to_be_saved_alone(tmp_path: Path) -> None:
    paddle.save({"model": Net().state_dict()}, str(tmp_path / "all.pdparams"))
    (found,) = refused(built().program, tmp_path / "all.pdparams")

    assert found.code == "GT502"
    assert "save the state dict alone" in found.notes[0]
