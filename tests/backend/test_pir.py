"""A live PIR Program is read as its saved JSON is, and the Graph outlives it."""

import functools
import gc
import pickle
from pathlib import Path

import paddle
import pytest
from paddle import nn

from graphtool.backend.live import read_program
from graphtool.diagnostics import ReadError
from graphtool.graph import Graph, Origin
from graphtool.readers.pir_json import read_json
from tests import networks

_FAMILIES = [
    "alexnet",
    "vgg11",
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "wide_resnet50_2",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "densenet121",
    "googlenet",
    "inception_v3",
    "squeezenet1_1",
    "shufflenet_v2_x1_0",
]
_QUICK = ("resnet18", "squeezenet1_1")


@pytest.fixture(autouse=True)
def _static_mode():
    paddle.enable_static()
    yield
    paddle.disable_static()


@functools.cache
def _program(build):
    """Build once what all tests but look at."""
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.utils.unique_name.guard(), paddle.static.program_guard(main, startup):
        build()
    return main


@functools.cache
def _vision(name):
    def build():
        net = getattr(paddle.vision.models, name)()
        net.eval()
        net(paddle.static.data("image", [-1, 3, 224, 224]))

    return build


def _training():
    net = paddle.vision.models.resnet18()
    logits = net(paddle.static.data("image", [-1, 3, 224, 224]))
    label = paddle.static.data("label", [-1, 1], "int64")
    loss = nn.functional.cross_entropy(logits, label)
    paddle.optimizer.Adam(parameters=net.parameters()).minimize(loss)


def _control_flow():
    x = paddle.static.data("x", [-1, 8])
    y = paddle.static.nn.cond(x.mean() > 0, lambda: x + 1, lambda: x - 1)
    count = paddle.full([1], 0)
    _, y = paddle.static.nn.while_loop(lambda i, _: i < 3, lambda i, v: [i + 1, v * 2], [count, y])
    paddle.split(paddle.concat([y, y], 0), 2, 1)


def _lstm():
    nn.LSTM(8, 16, 2)(paddle.static.data("x", [-1, 5, 8]))


def _transformer():
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1)
    nn.TransformerEncoder(layer, 2)(paddle.static.data("x", [-1, 5, 16]))


def _embedding():
    table = nn.Embedding(10, 4)
    nn.functional.dropout(table(paddle.static.data("ids", [-1, 5], "int64")))


def _saved(program, folder: Path) -> Graph:
    path = folder / "program.json"
    networks.save(program, path)
    return read_json(str(path), path.read_bytes())


def _comparable(graph: Graph):
    operators = [
        (
            op.name,
            op.type,
            op.index,
            op.block,
            op.operands,
            op.results,
            op.blocks,
            op.module,
            op.role,
        )
        for op in graph.operators.values()
    ]
    attributes = [dict(op.attributes) for op in graph.operators.values()]
    return operators, attributes, graph.values, graph.blocks, graph.feeds, graph.fetches


@pytest.mark.pir
@pytest.mark.parametrize(
    "build",
    [_vision("resnet18"), _training, _control_flow, _transformer, _embedding],
    ids=["resnet18", "training", "control flow", "transformer", "embedding"],
)
@pytest.mark.slow
def test_a_live_program_and_its_saved_json_give_the_same_graph(build, tmp_path):
    program = _program(build)
    live, saved = read_program(program), _saved(program, tmp_path)
    assert _comparable(live) == _comparable(saved)
    assert live.unknown == ()


@pytest.mark.pir
@pytest.mark.slow
def test_an_lstm_differs_from_its_json_only_in_shapes_that_paddle_never_inferred(tmp_path):
    program = _program(_lstm)
    live, saved = read_program(program), _saved(program, tmp_path)
    differing = {name for name in live.values if live.values[name] != saved.values[name]}
    assert differing == {"coalesce_tensor_0:1", "rnn_0:1", "rnn_0:3"}
    assert {live.values[name].shape for name in differing} == {(0,)}
    assert list(live.values) == list(saved.values)
    assert [op.operands for op in live.operators.values()] == [
        op.operands for op in saved.operators.values()
    ]


def _counted(block):
    operators, values = 0, len(block.args())
    for op in block.ops:
        operators, values = operators + 1, values + op.num_results()
        for inner in op.blocks():
            deeper = _counted(inner)
            operators, values = operators + deeper[0], values + deeper[1]
    return operators, values


@pytest.mark.pir
@pytest.mark.parametrize(
    "name",
    [name if name in _QUICK else pytest.param(name, marks=pytest.mark.slow) for name in _FAMILIES],
)
def test_operator_and_value_counts_are_those_of_paddle(name):
    program = _program(_vision(name))
    graph = read_program(program)
    assert (len(graph.operators), len(graph.values)) == _counted(program.global_block())
    assert len(graph.operators) == program.num_ops()
    assert sum(1 for _ in graph.parameters) == len(program.global_block().all_parameters())
    assert graph.feeds == ("image",)


@pytest.mark.pir
@pytest.mark.parametrize("build", [_control_flow, _training], ids=["control flow", "training"])
@pytest.mark.slow
def test_counts_include_regions_and_optimizer_operators(build):
    program = _program(build)
    graph = read_program(program)
    assert (len(graph.operators), len(graph.values)) == _counted(program.global_block())


def test_a_training_program_keeps_gradients_optimizer_and_accumulators_apart_from_feeds():
    graph = read_program(_program(_training))
    kinds = [operator.kind for operator in graph.operators.values()]
    assert kinds.count("adam") == 62
    assert kinds.count("conv2d_grad") == 20
    assert graph.feeds == ("image", "label")
    assert graph.values["linear_0.b_0_moment1_0"].origin is Origin.VARIABLE


@pytest.mark.pir
def test_an_operand_that_is_absent_is_none():
    graph = read_program(_program(_embedding))
    assert graph.operators["dropout_0"].operands == ("embedding_0", None, "full_0")


def test_parameters_say_whether_they_train():
    graph = read_program(_program(_vision("resnet18")))
    weight, mean = graph.values["batch_norm2d_0.w_0"], graph.values["batch_norm2d_0.w_1"]
    assert (weight.trainable, weight.stop_gradient, weight.persistable) == (True, False, True)
    assert (mean.trainable, mean.stop_gradient, mean.persistable) == (False, True, True)


@pytest.mark.call_stacks
@pytest.mark.pir
def test_an_operator_knows_its_module_and_the_users_line():
    graph = read_program(_program.__wrapped__(_vision("resnet18")))
    conv = graph.operators["conv2d_1"]
    assert conv.module == "/ResNet/Sequential/BasicBlock/Conv2D"
    assert conv.source is not None
    file, line = conv.source.split(":")
    assert file == "test_pir.py"
    assert Path(__file__).read_text().splitlines()[int(line) - 1].strip().startswith("net(paddle")


@pytest.mark.call_stacks
@pytest.mark.pir
def test_an_operator_on_a_value_of_another_program_is_said():
    paddle.enable_static()
    main, other = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(other):
        x = paddle.static.data("x", [-1, 8])
    with paddle.static.program_guard(main):
        paddle.mean(x)

    with pytest.raises(ReadError) as raised:
        read_program(main)
    # Else the process would end where one of the two is collected.
    main.global_block().remove_op(main.global_block().ops[-1])

    (found,) = raised.value.report
    assert (found.code, found.message) == (
        "GT050",
        "`pd_op.mean` reads a Value of another Program",
    )


@pytest.mark.pir
@pytest.mark.slow
def test_the_graph_holds_plain_data_and_outlives_the_program():
    program = _program.__wrapped__(_control_flow)
    graph = read_program(program)
    del program
    gc.collect()
    assert pickle.loads(pickle.dumps(graph)) == graph
    assert graph.values["if_0"].shape == (-1, 8)


@pytest.mark.pir
def test_a_vector_of_tensors_keeps_the_types_of_its_elements():
    graph = read_program(_program(_control_flow))
    assert graph.values["combine_0"].elements == (("float32", (-1, 8)), ("float32", (-1, 8)))
    assert graph.values["combine_0"].shape is None
