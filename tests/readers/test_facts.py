"""Facts are what Paddle says, and looking at them changes nothing."""

import struct
import subprocess
import sys

import numpy as np
import paddle
import pytest

from graphtool.backend.facts import ScopeVariable, scope_facts
from graphtool.diagnostics import ReadError
from graphtool.readers.tensor_files import parameter_file_facts

_CPU = paddle.CPUPlace()


@pytest.fixture
def scope():
    return paddle.base.core.Scope()


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "float16", "int64", "int32", "int8", "uint8", "bool"]
)
def test_a_tensor_of_a_scope_has_its_shape_and_dtype(scope, dtype):
    scope.var("w").get_tensor().set(np.zeros([2, 3], dtype), _CPU)
    found = scope_facts(scope, ["w"]).variables
    assert found == {"w": ScopeVariable(initialised=True, shape=(2, 3), dtype=dtype)}


def test_a_bfloat16_tensor_is_told_from_uint16(scope):
    paddle.disable_static()
    ones = paddle.ones([4]).astype("bfloat16")
    scope.var("w").get_tensor()._share_data_with(ones.value().get_tensor())
    assert scope_facts(scope, ["w"]).variables["w"].dtype == "bfloat16"


def test_a_scalar_has_the_empty_shape(scope):
    scope.var("step").get_tensor().set(np.zeros([], "int64"), _CPU)
    assert scope_facts(scope, ["step"]).variables["step"].shape == ()


@pytest.mark.pir
def test_looking_neither_makes_nor_fills_a_variable(scope):
    scope.var("empty")
    scope.var("number").set_int(3)
    found = scope_facts(scope, ["empty", "number", "absent"]).variables
    assert found == dict.fromkeys(["empty", "number"], ScopeVariable(initialised=False))
    assert sorted(scope.local_var_names()) == ["empty", "number"]
    # `set_int` fails on a Variable that was made a tensor.
    scope.find_var("empty").set_int(1)
    assert scope.find_var("empty").is_int()


def test_a_variable_of_the_scope_around_is_found(scope):
    scope.var("w").get_tensor().set(np.zeros([1], "float32"), _CPU)
    assert scope_facts(scope.new_scope(), ["w"]).variables["w"].initialised


def _saved(path, arrays):
    paddle.base.core.save_combine_func(
        [_tensor(array) for array in arrays],
        [f"t{number}" for number in range(len(arrays))],
        str(path),
        True,  # noqa: FBT003
        False,  # noqa: FBT003
        False,  # noqa: FBT003
    )
    return path


def _tensor(array):
    tensor = paddle.base.core.DenseTensor()
    tensor.set(array, _CPU)
    return tensor


@pytest.mark.pir
def test_a_parameter_file_gives_its_tensors_in_order_without_paddle(tmp_path):
    arrays = [
        np.zeros([2, 3, 1, 1], "float32"),
        np.zeros([0], "float32"),
        np.zeros([], "int64"),
        np.zeros([300], "float64"),
        np.zeros([5], "float16"),
        np.zeros([7], "bool"),
    ]
    path = _saved(tmp_path / "m.pdiparams", arrays)
    wanted = tuple((array.shape, array.dtype.name) for array in arrays)
    assert parameter_file_facts(path).tensors == wanted
    code = (
        "import sys; from graphtool.readers.tensor_files import parameter_file_facts as facts;"
        f"print(len(facts({str(path)!r}).tensors), 'paddle' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["6", "False"]


@pytest.mark.pir
@pytest.mark.parametrize("cut", [1, 3, 10, 14, 18, 22, 30])
def test_a_file_that_is_cut_short_is_damaged_wherever_it_is_cut(tmp_path, cut):
    path = _saved(tmp_path / "m.pdiparams", [np.zeros([2, 3], "float32")])
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ReadError, match="GT240"):
        parameter_file_facts(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x80\x04\x95" + bytes(40), "its version is unknown"),
        (struct.pack("<IQ", 0, 1 << 60) + bytes(40), "its version is unknown"),
        (struct.pack("<IQIi", 0, 0, 0, 2) + b"\x08\x7f", "its dtype or shape is invalid"),
        (struct.pack("<IQIi", 0, 0, 0, 2) + b"\x1a\x00", "an unknown field"),
    ],
    ids=["pickle", "levels", "dtype", "field"],
)
def test_what_is_no_parameter_file_is_refused_with_a_reason(tmp_path, content, reason):
    path = tmp_path / "m.pdiparams"
    path.write_bytes(content)
    with pytest.raises(ReadError) as error:
        parameter_file_facts(path)
    (found,) = error.value.report
    assert reason in found.message
    assert found.code == "GT240"


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ReadError, match="No such file"):
        parameter_file_facts(tmp_path / "none.pdiparams")


def test_an_empty_file_holds_no_tensors(tmp_path):
    path = tmp_path / "m.pdiparams"
    path.touch()
    assert parameter_file_facts(path).tensors == ()
