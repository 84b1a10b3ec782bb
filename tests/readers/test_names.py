"""Derived names stay the same wherever nothing is pruned, and every spelling finds its Value."""

import functools
from pathlib import Path

import paddle
import pytest
from paddle import nn

from graphtool.backend.live import LiveProgram, read_program, translate
from graphtool.diagnostics import ReadError, UsageError
from graphtool.readers.pir_json import read_json
from graphtool.selectors import find
from tests import networks


@pytest.fixture(autouse=True)
def _static_mode():
    paddle.enable_static()
    yield
    paddle.disable_static()


class _Net(nn.Layer):
    def __init__(self, width=8):
        super().__init__()
        self.conv = nn.Conv2D(3, width, 3)
        self.norm = nn.BatchNorm2D(width)
        self.act = nn.ReLU()
        self.head = nn.Linear(width, 10)

    def forward(self, image):
        y = self.act(self.norm(self.conv(image)))
        y = paddle.static.nn.cond(y.mean() > 0, lambda: y * 2, lambda: y + 1)
        return self.head(nn.functional.dropout(y.mean([2, 3])))


def _build(make=_Net, *, train=True):
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.utils.unique_name.guard(), paddle.static.program_guard(main, startup):
        net = make()
        (net.train if train else net.eval)()
        feed = paddle.static.data("image", [-1, 3, 32, 32])
        logits = net(feed)
    return main, startup, net, feed, logits


def _computed(graph):
    return {
        name: (value.shape, value.dtype)
        for name, value in graph.values.items()
        if value.origin.value == "operator"
    }


def test_names_hold_across_clone():
    main, *_ = _build()
    assert list(read_program(main.clone()).values) == list(read_program(main).values)


@pytest.mark.pir
def test_names_hold_between_modes_and_across_json_save_and_load(tmp_path):
    main, *_ = _build()
    test, *_ = _build(train=False)
    path, loaded = tmp_path / "program.json", paddle.static.Program()
    networks.save(main, path)
    paddle.base.core.deserialize_pir_program(str(path), loaded)
    assert list(read_program(loaded).values) == list(read_program(main).values)
    assert _computed(read_program(main)) == _computed(read_program(test))


@pytest.mark.pir
def test_names_hold_across_save_inference_model(tmp_path):
    main, startup, _, feed, logits = _build(train=False)
    executor = paddle.static.Executor()
    executor.run(startup)
    prefix = str(tmp_path / "model")
    paddle.static.save_inference_model(prefix, [feed], [logits], executor, program=main)
    saved = read_json(prefix, Path(f"{prefix}.json").read_bytes())
    live = _computed(read_program(main))
    kept = {name: kind for name, kind in _computed(saved).items() if name in live}
    assert kept == live
    assert len(saved.fetches) == 1


def test_names_hold_across_minimize():
    main, _, net, _, logits = _build()
    before = _computed(read_program(main))
    # Paddle 2.6 counts on from tests before, and may come to a name that the network has.
    later = paddle.utils.unique_name.guard("later_")
    with paddle.static.program_guard(main, paddle.static.Program()), later:
        paddle.optimizer.Adam(parameters=net.parameters()).minimize(logits.mean())
    after = _computed(read_program(main))
    assert {name: after[name] for name in before} == before
    assert len(after) > len(before)


@pytest.mark.pir
def test_the_students_names_hold_across_a_merge():
    teacher, _, _, teacher_feed, _ = _build(lambda: _Net(16), train=False)
    student, _, _, student_feed, _ = _build()
    before = _computed(read_program(student))
    mapping = paddle.pir.IrMapping()
    mapping.add(teacher_feed, student_feed)
    teacher.copy_to_block(mapping, student.global_block())
    after = _computed(read_program(student))
    assert {name: after[name] for name in before} == before
    assert after["conv2d_1"] == ((-1, 16, 30, 30), "float32")


@pytest.mark.pir
def test_module_paths_ignore_the_counter_of_the_root():
    first, second = (read_program(_build()[0]) for _ in range(2))
    modules = [operator.module for operator in first.operators.values()]
    assert modules == [operator.module for operator in second.operators.values()]
    assert find(first, "/_Net/ReLU").name == "relu_0"


@pytest.mark.pir
def test_a_live_program_gives_paddles_own_value_after_the_users_program_is_gone():
    live = LiveProgram.of(_build()[0])
    value = live.value("/_Net/ReLU")
    assert value.get_defining_op().name() == "pd_op.relu"
    assert value.is_same(live.program.global_block().ops[-1].result(0)) is False
    assert live.value("image").shape == [-1, 3, 32, 32]
    assert live.value("if_0/0/scale_0").get_defining_op().name() == "pd_op.scale"


@pytest.mark.pir
def test_a_block_argument_is_found_by_name():
    main = paddle.static.Program()
    with paddle.static.program_guard(main):
        count, x = paddle.full([1], 0), paddle.static.data("x", [2, 4])
        paddle.static.nn.while_loop(lambda i, _: i < 3, lambda i, v: [i + 1, v * 2], [count, x])
    live = LiveProgram.of(main)
    assert live.value("while_0/0/arg_1").shape == [2, 4]


@pytest.mark.pir
def test_a_value_whose_operator_was_removed_is_reported():
    main = paddle.static.Program()
    with paddle.static.program_guard(main):
        nn.functional.relu(paddle.static.data("x", [2, 4]))
    live = LiveProgram.of(main)
    main.global_block().remove_op(main.global_block().ops[-1])
    with pytest.raises(ReadError, match=r"GT031.*relu_0"):
        live.value("relu_0")


@pytest.mark.pir
def test_an_unknown_name_lists_the_nearest():
    live = LiveProgram.of(_build()[0])
    with pytest.raises(ReadError, match="`relu_0`"):
        live.value("relu_7")


def test_what_is_no_graph_and_no_name_is_wrong_usage():
    graph = read_program(_build()[0])
    for wrong, name, argument in (
        (None, "relu_0", "graph"),
        ("net.json", "relu_0", "graph"),
        (graph, 5, "selector"),
        (graph, None, "selector"),
    ):
        with pytest.raises(UsageError, match=f"GT248.*`{argument}` is"):
            find(wrong, name)


@pytest.mark.pir
def test_aliases_given_by_the_caller_are_found():
    live = LiveProgram.of(_build()[0], aliases={"relu_0": ["stem"]})
    assert find(live.graph, "stem").name == "relu_0"


@functools.cache
def _legacy(build):
    with paddle.pir_utils.OldIrGuard():
        main, startup = paddle.static.Program(), paddle.static.Program()
        with paddle.utils.unique_name.guard(), paddle.static.program_guard(main, startup):
            build()
    return main


def _mobilenet():
    paddle.vision.models.mobilenet_v1()(paddle.static.data("image", [-1, 3, 224, 224]))


def _trained_while():
    weight = paddle.create_parameter([1], "float32")
    count, x = paddle.full([1], 0.0), paddle.static.data("x", [1])
    x.stop_gradient = False
    _, y = paddle.static.nn.while_loop(
        lambda i, _: i < 3, lambda i, v: [i + 1, v * weight], [count, x]
    )
    paddle.optimizer.SGD(0.1).minimize(paddle.mean(y))


@pytest.mark.pir
@pytest.mark.parametrize("form", ["live", "bytes", "file"])
@pytest.mark.slow
def test_a_translated_program_is_found_by_its_legacy_names(form, tmp_path):
    program = _legacy(_mobilenet)
    data = program.desc.serialize_to_string()
    path = tmp_path / "model.pdmodel"
    path.write_bytes(data)
    live = translate({"live": program, "bytes": data, "file": path}[form])
    legacy = read_program(program)
    assert find(live.graph, "batch_norm_3.tmp_2").name == "batch_norm_3"
    assert list(live.value("batch_norm_3.tmp_2").shape) == [-1, 64, 56, 56]
    for operator in legacy.operators.values():
        if operator.kind == "relu":
            name = operator.results[0]
            assert find(live.graph, name).shape == legacy.values[name].shape


@pytest.mark.pir
def test_what_paddle_refuses_to_translate_is_a_diagnostic():
    with pytest.raises(ReadError, match=r"GT032[\s\S]*while_grad"):
        translate(_legacy(_trained_while))


def test_random_bytes_are_not_translated():
    with pytest.raises(ReadError):
        translate(b"\x08\xffnot a program")
