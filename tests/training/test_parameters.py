"""`load_parameters`: every kind of file, all or nothing, and nothing that runs code."""

from __future__ import annotations

import os
import pickle
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from inline_snapshot import snapshot
from paddle import nn

import graphtool.readers.pickles
from graphtool.diagnostics import GraphtoolError, ReadError, UsageError
from graphtool.merging import merge
from graphtool.sources.layers import from_layer
from graphtool.training import load_parameters

ROOT = Path(__file__).parent.parent.parent


class Net(nn.Layer):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.conv1 = nn.Conv2D(3, width, 3)
        self.norm = nn.BatchNorm2D(width)
        self.head = nn.Linear(width, 5)

    def forward(self, x: Any) -> Any:
        return self.head(nn.functional.relu(self.norm(self.conv1(x))).mean([2, 3]))


class Half(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.weight = self.create_parameter([4, 3], dtype="bfloat16")

    def forward(self, x: Any) -> Any:
        return paddle.matmul(x.cast("bfloat16"), self.weight).cast("float32")


def built(width: int = 4) -> Any:
    return from_layer(lambda: Net(width), [(3, 8, 8)])


def saved(folder: Path) -> tuple[Path, dict[str, np.ndarray[Any, Any]]]:
    """Save the network for inference; return its prefix and the parameters by Variable."""
    net, scope = built(), paddle.static.Scope()
    paddle.enable_static()
    with paddle.static.scope_guard(scope):
        executor = paddle.static.Executor(paddle.CPUPlace())
        executor.run(net.startup)
        feed, fetch = net.live.value(net.feeds[0]), net.live.value(net.fetches[0])
        prefix = folder / "inference"
        paddle.static.save_inference_model(
            str(prefix), [feed], [fetch], executor, program=net.program
        )
    return prefix, values(scope, net.parameters.values())


def values(scope: Any, names: Any) -> dict[str, np.ndarray[Any, Any]]:
    return {name: np.array(scope.find_var(name).get_tensor()) for name in names}


def same(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return found.keys() == wanted.keys() and all(
        found[name].tobytes() == wanted[name].tobytes() for name in found
    )


@pytest.mark.pir
@pytest.mark.parametrize("spelling", ["inference", "inference.pdiparams", "inference.json", ""])
def test_a_combined_file_is_loaded_by_each_way_to_spell_it(tmp_path: Path, spelling: str) -> None:
    _, wanted = saved(tmp_path)
    net, scope = built(), paddle.static.Scope()

    loaded = load_parameters(net.program, tmp_path / spelling, scope=scope)

    assert len(loaded.loaded) == 8
    assert (loaded.missing, loaded.unexpected, loaded.misshapen) == ((), (), ())
    assert same(values(scope, wanted), wanted)


@pytest.mark.pir
def test_a_combined_file_without_its_model_takes_its_names_from_the_program(tmp_path: Path) -> None:
    prefix, wanted = saved(tmp_path)
    (tmp_path / "inference.json").unlink()
    scope = paddle.static.Scope()

    load_parameters(built().program, f"{prefix}.pdiparams", scope=scope)

    assert same(values(scope, wanted), wanted)


@pytest.mark.pir
def test_a_combined_file_of_another_network_is_refused_whatever_its_names(tmp_path: Path) -> None:
    prefix, _ = saved(tmp_path)
    (tmp_path / "inference.json").unlink()
    scope = paddle.static.Scope()

    with pytest.raises(GraphtoolError) as raised:
        load_parameters(built(6).program, f"{prefix}.pdiparams", scope=scope)

    assert raised.value.report.errors[0].code == "GT237"
    assert scope.find_var("conv2d_0.w_0") is None


def test_a_file_that_is_cut_short_sets_nothing(tmp_path: Path) -> None:
    prefix, _ = saved(tmp_path)
    file = prefix.with_suffix(".pdiparams")
    file.write_bytes(file.read_bytes()[:-8])
    scope = paddle.static.Scope()

    with pytest.raises(ReadError) as raised:
        load_parameters(built().program, file, scope=scope)

    assert raised.value.report.errors[0].code == "GT240"
    assert scope.find_var("conv2d_0.w_0") is None


def test_a_folder_with_a_file_for_each_variable_is_loaded(tmp_path: Path) -> None:
    prefix, wanted = saved(tmp_path / "model")
    whole = prefix.with_suffix(".pdiparams")
    from graphtool.readers.tensor_files import read_tensors, write_tensors

    folder = tmp_path / "separate"
    folder.mkdir()
    for name, tensor in zip(sorted(wanted), read_tensors(whole), strict=True):
        write_tensors(folder / name, [tensor])
    scope = paddle.static.Scope()

    assert len(load_parameters(built().program, folder, scope=scope).loaded) == 8
    assert same(values(scope, wanted), wanted)


def test_what_is_written_here_is_what_paddle_writes(tmp_path: Path) -> None:
    prefix, _ = saved(tmp_path)
    from graphtool.readers.tensor_files import read_tensors, write_tensors

    theirs = prefix.with_suffix(".pdiparams")
    write_tensors(tmp_path / "ours", read_tensors(theirs))

    assert (tmp_path / "ours").read_bytes() == theirs.read_bytes()


def test_a_variable_name_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    prefix, _ = saved(tmp_path / "model")
    net = built()
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "conv2d_0.w_0").symlink_to(prefix.with_suffix(".pdiparams"))

    with pytest.raises(GraphtoolError) as raised:
        load_parameters(net.program, folder, scope=paddle.static.Scope())

    assert raised.value.report.errors[0].code == "GT240"


def test_structured_names_go_through_the_network_whatever_was_counted(tmp_path: Path) -> None:
    nn.Conv2D(1, 1, 1)  # so that Paddle counts on and the names in the file's table are others
    source = Net()
    paddle.save(source.state_dict(), str(tmp_path / "net.pdparams"))
    net, scope = built(), paddle.static.Scope()

    loaded = load_parameters(net.program, tmp_path / "net.pdparams", net, scope=scope)

    assert loaded.unexpected == ()
    for name, value in source.state_dict().items():
        found = np.array(scope.find_var(net.parameters[name]).get_tensor())
        assert found.tobytes() == value.numpy().tobytes()


def test_structured_names_go_through_the_students_own_layer(tmp_path: Path) -> None:
    class Swapped(Net):
        """Has the names of `Net`, counted in another order."""

        def __init__(self) -> None:
            nn.Layer.__init__(self)
            self.other, self.head = nn.Linear(4, 5), nn.Linear(4, 5)
            self.norm, self.conv1 = nn.BatchNorm2D(4), nn.Conv2D(3, 4, 3)

    with paddle.utils.unique_name.guard():
        other = Swapped()
    state = {key: value.numpy() for key, value in Net().state_dict().items()}
    (tmp_path / "net.pdparams").write_bytes(pickle.dumps(state, protocol=4))
    net = built()
    assert other.other.weight.name == net.parameters["head.weight"]
    theirs = paddle.static.Scope()
    merged = merge(
        built(), net, {net.feeds[0]: net.feeds[0]}, teacher_scope=theirs, parameters="later"
    )

    for program, layer in ((net, other), (merged, None), (merged.program, other)):
        scope = paddle.static.Scope()
        load_parameters(program, tmp_path / "net.pdparams", layer=layer, scope=scope)
        found = values(scope, net.parameters.values())
        assert same(found, {net.parameters[key]: value for key, value in state.items()})


def test_structured_names_go_through_the_table_of_the_file(tmp_path: Path) -> None:
    with paddle.utils.unique_name.guard():
        source = Net()
    paddle.save(source.state_dict(), str(tmp_path / "net.pdparams"))
    scope = paddle.static.Scope()

    loaded = load_parameters(built().program, tmp_path / "net.pdparams", scope=scope)

    assert len(loaded.loaded) == 8
    wanted = source.conv1.weight.numpy()
    found = np.array(scope.find_var("conv2d_0.w_0").get_tensor())
    assert found.tobytes() == wanted.tobytes()


def test_the_table_of_the_file_has_no_say_over_a_networks_own_keys(tmp_path: Path) -> None:
    with paddle.utils.unique_name.guard():
        state = {f"model.{key}": value for key, value in Net().state_dict().items()}
    paddle.save(state, str(tmp_path / "net.pdparams"))
    net, scope = built(), paddle.static.Scope()

    with pytest.raises(GraphtoolError, match="GT250"):
        load_parameters(net, tmp_path / "net.pdparams", scope=scope)
    load_parameters(net.program, tmp_path / "net.pdparams", scope=scope)
    assert len(values(scope, net.parameters.values())) == len(state)


def test_structured_names_without_layer_and_table_ask_for_the_layer(tmp_path: Path) -> None:
    state = {name: value.numpy() for name, value in Net().state_dict().items()}
    (tmp_path / "net.pdparams").write_bytes(pickle.dumps(state, protocol=4))

    with pytest.raises(GraphtoolError) as raised:
        load_parameters(built().program, tmp_path / "net.pdparams", scope=paddle.static.Scope())

    (found,) = raised.value.report
    assert (found.code, found.help) == (
        "GT508",
        "load_parameters(program, path, layer=network)",
    )


def test_the_file_of_another_layer_is_told_as_such(tmp_path: Path) -> None:
    net, scope = built(), paddle.static.Scope()
    state = {f"backbone.{name}": held.numpy() for name, held in Net().state_dict().items()}
    (tmp_path / "net.pdparams").write_bytes(pickle.dumps(state, protocol=4))

    with pytest.raises(GraphtoolError) as raised:
        load_parameters(net, tmp_path / "net.pdparams", scope=scope, allow_missing=True)

    (found,) = raised.value.report
    assert found.code == "GT250"
    assert found.message == "the file has none of the program's 8 parameters"
    assert found.notes[0].startswith("in the Layer: ")
    assert found.notes[1].startswith("in the file, as of another network: `backbone.conv1.weight`")
    assert scope.find_var("conv2d_0.w_0") is None


def test_missing_parameters_are_an_error_with_nothing_set_unless_allowed(tmp_path: Path) -> None:
    net, scope = built(), paddle.static.Scope()
    state = {name: value for name, value in Net().state_dict().items() if "head" not in name}
    paddle.save({**state, "neck.weight": paddle.ones([2])}, str(tmp_path / "net.pdparams"))

    with pytest.raises(GraphtoolError) as raised:
        load_parameters(net, tmp_path / "net.pdparams", scope=scope)
    assert scope.find_var("conv2d_0.w_0") is None
    assert "GT250" in [found.code for found in raised.value.report.errors]
    (missing,) = [found for found in raised.value.report.errors if found.code == "GT250"]
    said = {"linear_0.b_0": "head.bias", "linear_0.w_0": "head.weight"}
    names = sorted(said, key=missing.message.index)  # The order is the Program's.
    assert missing.message == f"2 parameters not in the file: `{names[0]}`, `{names[1]}`"
    assert missing.notes == (f"in the Layer: `{said[names[0]]}`, `{said[names[1]]}`",)

    loaded = load_parameters(net, tmp_path / "net.pdparams", scope=scope, allow_missing=True)

    assert sorted(loaded.missing) == ["linear_0.b_0", "linear_0.w_0"]
    assert loaded.unexpected == ("neck.weight",)
    assert len(loaded.loaded) == 6
    assert scope.find_var("conv2d_0.w_0") is not None


def test_another_shape_or_dtype_is_an_error_with_nothing_set(tmp_path: Path) -> None:
    net, scope = built(), paddle.static.Scope()
    state = {name: value.numpy() for name, value in Net().state_dict().items()}
    state["head.weight"] = state["head.weight"].T
    state["head.bias"] = state["head.bias"].astype("float64")
    (tmp_path / "net.pdparams").write_bytes(pickle.dumps(state, protocol=4))

    with pytest.raises(GraphtoolError) as raised:
        load_parameters(net.program, tmp_path / "net.pdparams", net, scope=scope)

    (found,) = raised.value.report.errors
    assert (found.message, found.notes, found.count) == snapshot(
        (
            "`linear_0.w_0` is [4, 5] float32 in the program and [5, 4] float32 in the file",
            ("also `linear_0.b_0`",),
            2,
        )
    )
    assert scope.find_var("conv2d_0.w_0") is None


def test_bfloat16_comes_through_bit_by_bit(tmp_path: Path) -> None:
    source = Half()
    paddle.save(source.state_dict(), str(tmp_path / "half.pdparams"))
    net, scope = from_layer(Half, [(4,)]), paddle.static.Scope()

    load_parameters(net, tmp_path / "half.pdparams", scope=scope)

    tensor = scope.find_var(net.parameters["weight"]).get_tensor()
    assert str(tensor._dtype()) == "paddle.bfloat16"
    assert np.array(tensor).tobytes() == source.weight.numpy().tobytes()


class Rnn(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 3), nn.Linear(3, 2)

    def forward(self, x: Any) -> Any:
        return self.head(self.lstm(x)[0])


def test_both_names_of_an_rnns_parameter_are_known_and_its_buffer_is_not_asked_for(
    tmp_path: Path,
) -> None:
    source = Rnn()
    paddle.save(source.state_dict(), str(tmp_path / "net.pdparams"))
    net, scope = from_layer(Rnn, [(5, 4)]), paddle.static.Scope()

    loaded = load_parameters(net, tmp_path / "net.pdparams", net, scope=scope)

    assert (loaded.missing, loaded.unexpected) == ((), ())
    assert sorted(loaded.loaded) == sorted(
        ["linear_0.b_0", "linear_0.w_0"]
        + [f"lstm_cell_0.{n}" for n in ("w_0", "w_1", "b_0", "b_1")]
    )
    held = np.array(scope.find_var("lstm_cell_0.w_0").get_tensor())
    assert held.tobytes() == source.state_dict()["lstm.0.cell.weight_ih"].numpy().tobytes()


def test_two_entries_for_one_parameter_that_differ_are_an_error_with_nothing_set(
    tmp_path: Path,
) -> None:
    state = {name: value.numpy() for name, value in Rnn().state_dict().items()}
    state["lstm.0.cell.weight_ih"] = state["lstm.0.cell.weight_ih"] + 1
    (tmp_path / "net.pdparams").write_bytes(pickle.dumps(state, protocol=4))
    net, scope = from_layer(Rnn, [(5, 4)]), paddle.static.Scope()

    with pytest.raises(GraphtoolError) as raised:
        load_parameters(net, tmp_path / "net.pdparams", net, scope=scope)

    assert [found.code for found in raised.value.report.errors] == ["GT551"]
    assert scope.find_var("lstm_cell_0.w_0") is None


@pytest.mark.parametrize(
    "table",
    [
        {"conv1.weight": "conv2d_7.w_0", "norm.bias": 5, 3: "x"},
        ["conv1.weight"],
        dict.fromkeys(("norm.weight", "norm.bias"), "batch_norm2d_0.b_0"),
    ],
)
def test_a_table_that_leads_astray_sets_nothing(tmp_path: Path, table: Any) -> None:
    state: dict[str, Any] = {name: value.numpy() for name, value in Net().state_dict().items()}
    state["StructuredToParameterName@@"] = table
    (tmp_path / "net.pdparams").write_bytes(pickle.dumps(state, protocol=4))
    scope = paddle.static.Scope()

    with pytest.raises(GraphtoolError) as raised:
        load_parameters(built().program, tmp_path / "net.pdparams", scope=scope)

    codes = {found.code for found in raised.value.report.errors}
    assert codes <= {"GT250", "GT508", "GT551"}
    assert scope.find_var("batch_norm2d_0.b_0") is None


def test_the_table_of_the_file_is_checked_by_shape(tmp_path: Path) -> None:
    with paddle.utils.unique_name.guard():
        state = {name: value.numpy() for name, value in Net().state_dict().items()}
        table = {name: value.name for name, value in Net().state_dict().items()}
    table["head.weight"], table["head.bias"] = "linear_0.b_0", "linear_0.w_0"
    (tmp_path / "net.pdparams").write_bytes(
        pickle.dumps({**state, "StructuredToParameterName@@": table}, protocol=4)
    )

    with pytest.raises(GraphtoolError) as raised:
        load_parameters(built().program, tmp_path / "net.pdparams", scope=paddle.static.Scope())

    assert "GT237" in {found.code for found in raised.value.report.errors}


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
        paddle.optimizer.AdamW(0.1).minimize(loss)
    paddle.static.Executor().run(student.startup, scope=scope)

    loaded = load_parameters(merged, tmp_path / "net.pdparams", student, scope=scope)

    assert len(loaded.loaded) == 8
    assert loaded.report.diagnostics == ()


def test_what_is_no_program_or_no_layer_is_said() -> None:
    for program, layer in ((3, None), (built(), "net")):
        with pytest.raises(UsageError) as raised:
            load_parameters(program, "net.pdparams", layer)
        assert raised.value.report.errors[0].code == "GT248"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_are_read_from_every_protocol_that_has_bytes(protocol: int) -> None:
    rows = np.arange(600, dtype="float32").reshape(20, 30)
    state = {
        "rows": rows,
        "columns": np.asfortranarray(rows),
        "empty": np.zeros((0, 3), "int64"),
        "number": np.array(250, "uint8"),
    }
    found = graphtool.readers.pickles.unpickled("net.pdparams", pickle.dumps(state, protocol))

    assert {name: value.dtype for name, value in found.items()} == {
        name: value.dtype for name, value in state.items()
    }
    assert all(np.array_equal(found[name], value) for name, value in state.items())


@pytest.mark.slow
def test_what_paddle_saves_with_protocol_2_is_loaded(tmp_path: Path) -> None:
    layer, scope = Net(4), paddle.static.Scope()
    paddle.save(layer.state_dict(), str(tmp_path / "net.pdparams"), protocol=2)
    net = built()

    load_parameters(net.program, tmp_path / "net.pdparams", net, scope=scope)

    for name, variable in net.parameters.items():
        wanted = layer.state_dict()[name].numpy()
        assert np.array(scope.find_var(variable).get_tensor()).tobytes() == wanted.tobytes()


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["PLANTED"],)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_planted_payload_is_refused_and_did_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    monkeypatch.setenv("PLANTED", str(tmp_path / "planted"))
    file = tmp_path / "bad.pdparams"
    file.write_bytes(pickle.dumps({"conv2d_0.w_0": Payload()}, protocol=protocol))
    scope = paddle.static.Scope()

    with pytest.raises(GraphtoolError) as raised:
        load_parameters(built().program, file, scope=scope)

    (found,) = raised.value.report
    assert found.code == "GT502"
    assert "mkdir" in found.message
    assert not (tmp_path / "planted").exists()
    assert scope.find_var("conv2d_0.w_0") is None


@pytest.mark.parametrize(
    "stream",
    [
        b"cnumpy\nndarray\n(I1000000000000\ntR.",  # an array of a terabyte
        b"cnumpy\ndtype\n(S'f4'\ntR(S'x'\nI1\nsb.",  # a state for a dtype that is none
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f}.",  # a frame longer than the file
        b"\x80\x04" + b"(" * 100_000,
        b"\x80\x04",
        pickle.dumps([1, 2], protocol=4),
        b"\x80\x02\x82\x01.",  # an extension of the registry
        b"Pabc\n.",  # a persistent id
        b"cnumpy\ndtype\n}S'x'\nI1\nsb.",  # an attribute for the class of dtypes
        b"\x80\x04\x8c\x05numpy\x8c\x09dtype.mro\x93.",  # what hangs on something admitted
        b"\x80\x02c_codecs\nencode\nX\x03\x00\x00\x00abcX\x05\x00\x00\x00rot13\x86R.",  # no bytes
    ],
)
@pytest.mark.slow
def test_a_damaged_or_hostile_pickle_is_a_diagnostic(tmp_path: Path, stream: bytes) -> None:
    with pytest.raises(GraphtoolError) as raised:
        graphtool.readers.pickles.unpickled("bad.pdparams", stream)

    assert raised.value.report.errors[0].code in ("GT502", "GT240")
    assert list(tmp_path.iterdir()) == []


def test_arrays_of_objects_are_left_aside(tmp_path: Path) -> None:
    state = {"a": np.array([None, {}], dtype=object), "epoch": 3}
    (tmp_path / "bad.pdparams").write_bytes(pickle.dumps(state, protocol=4))

    with pytest.raises(GraphtoolError) as raised:
        load_parameters(built().program, tmp_path / "bad.pdparams", scope=paddle.static.Scope())

    assert raised.value.report.errors[0].code == "GT240"


def test_a_path_that_is_not_there_and_a_file_of_something_else_are_told_apart(
    tmp_path: Path,
) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    codes = []
    for name in ("nothing", "notes.txt"):
        with pytest.raises(GraphtoolError) as raised:
            load_parameters(built().program, tmp_path / name)
        codes.append(raised.value.report.errors[0].code)

    assert codes == ["GT001", "GT240"]


@pytest.mark.slow
def test_paddle_2_6_loads_the_same_files(tmp_path: Path, paddle26: str) -> None:
    source = Net()
    paddle.save(source.state_dict(), str(tmp_path / "net.pdparams"))

    done = subprocess.run(
        [paddle26, "-c", _UNDER_2_6, str(tmp_path / "net.pdparams")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    wanted = [f"{value.numpy().astype('float64').sum():.6f}" for value in _parameters(source)]
    assert done.stdout.split() == wanted, done.stderr


def _parameters(layer: Any) -> list[Any]:
    return [value for _, value in sorted(layer.state_dict().items())]


_UNDER_2_6 = """
import sys
import zlib
import numpy as np
import paddle
from paddle import nn
from graphtool.sources.layers import from_layer
from graphtool.training import load_parameters

class Net(nn.Layer):
    def __init__(self):
        super().__init__()
        self.conv1, self.norm = nn.Conv2D(3, 4, 3), nn.BatchNorm2D(4)
        self.head = nn.Linear(4, 5)
    def forward(self, x):
        return self.head(nn.functional.relu(self.norm(self.conv1(x))).mean([2, 3]))

net, scope = from_layer(Net, [(3, 8, 8)]), paddle.base.core.Scope()
load_parameters(net, sys.argv[1], scope=scope)
for _, name in sorted(net.parameters.items()):
    print(f"{np.array(scope.find_var(name).get_tensor()).astype('float64').sum():.6f}")
"""


def test_a_state_dict_within_a_dict_is_to_be_saved_alone(tmp_path: Path) -> None:
    layer = paddle.nn.Linear(2, 2)
    paddle.save({"model": layer.state_dict()}, str(tmp_path / "all.pdparams"))
    with pytest.raises(GraphtoolError) as raised:
        load_parameters(paddle.static.Program(), tmp_path / "all.pdparams")

    (found,) = raised.value.report
    assert found.code == "GT502"
    assert "save the state dict alone" in found.notes[0]
