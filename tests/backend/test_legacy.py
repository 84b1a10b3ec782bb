"""A live legacy Program is read as its `.pdmodel` is, inside OldIrGuard and outside of it."""

import functools
import os
import subprocess
from pathlib import Path

import paddle
import pytest
from paddle import nn

from graphtool.backend.live import LiveProgram, read_program
from graphtool.graph import Origin, ProgramKind
from graphtool.readers.program_desc import read_protobuf

pytestmark = pytest.mark.pir

_ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _static_mode():
    paddle.enable_static()
    yield
    paddle.disable_static()


@functools.cache
def _program(build):
    """Build once what all tests but look at."""
    with paddle.pir_utils.OldIrGuard():
        main, startup = paddle.static.Program(), paddle.static.Program()
        with paddle.utils.unique_name.guard(), paddle.static.program_guard(main, startup):
            build()
    return main


def _training():
    net = paddle.vision.models.resnet18()
    logits = net(paddle.static.data("image", [-1, 3, 224, 224]))
    loss = nn.functional.cross_entropy(logits, paddle.static.data("label", [-1, 1], "int64"))
    paddle.optimizer.Momentum(0.1, parameters=net.parameters()).minimize(loss)


def _loop():
    count, x = paddle.full([1], 0.0), paddle.static.data("x", [2, 4])
    paddle.static.nn.while_loop(lambda i, _: i < 3, lambda i, v: [i + 1, v * 2], [count, x])


def _counted(program):
    with paddle.pir_utils.OldIrGuard():
        return sum(len(block.ops) for block in program.blocks)


@pytest.mark.parametrize("build", [_training, _loop], ids=["training", "loop"])
@pytest.mark.slow
def test_a_live_program_and_its_file_give_the_same_graph(build):
    program = _program(build)
    live = read_program(program)
    assert live.kind is ProgramKind.LEGACY
    assert live == read_protobuf("<Program>", program.desc.serialize_to_string())
    assert len(live.operators) == _counted(program)


@pytest.mark.slow
def test_every_variable_of_a_training_program_is_a_value():
    program = _program(_training)
    graph = read_program(program)
    assert {name for block in program.blocks for name in block.vars} <= set(graph.values)
    parameters = {value.name for value in graph.values.values() if value.origin is Origin.PARAMETER}
    assert parameters == {parameter.name for parameter in program.all_parameters()}
    assert graph.feeds == ("image", "label")


@pytest.mark.call_stacks
@pytest.mark.slow
def test_an_operator_knows_the_users_line():
    graph = read_program(_program.__wrapped__(_training))
    (source, *_) = [op.source for op in graph.operators.values() if op.kind == "conv2d"]
    assert source is not None
    assert source.startswith("test_legacy.py:")


@pytest.mark.slow
def test_a_live_program_gives_paddles_own_variable():
    live = LiveProgram.of(_program(_training))
    assert live.value("relu_3.tmp_0").name == "relu_3.tmp_0"
    assert live.value("batch_norm2d_0.w_1@2").name == "batch_norm2d_0.w_1"
    assert live.value("image").shape == (-1, 3, 224, 224)


_NATIVE = """
import zlib
import paddle
from graphtool.backend.live import LiveProgram
paddle.enable_static()
main, startup = paddle.static.Program(), paddle.static.Program()
with paddle.static.program_guard(main, startup):
    x = paddle.static.data("x", [-1, 4])
    y = paddle.static.nn.cond(paddle.mean(x) > 0, lambda: x + 1, lambda: x * 2)
    paddle.optimizer.SGD(0.1).minimize(paddle.mean(paddle.static.nn.fc(y, 3)))
live = LiveProgram.of(main)
operators = list(live.graph.operators.values())
print(live.kind.value, len(operators) == sum(len(block.ops) for block in main.blocks))
print(live.graph.feeds, [op.type for op in operators if op.blocks][:2])
print(live.value("fc_0.w_0").shape)
"""


@pytest.mark.slow
def test_paddle_2_6_programs_are_read_natively(tmp_path, paddle26):
    script = tmp_path / "native.py"
    script.write_text(_NATIVE)
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    done = subprocess.run(
        [paddle26, str(script)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == [
        "legacy True",
        "('x',) ['conditional_block', 'conditional_block']",
        "(4, 3)",
    ], done.stderr
