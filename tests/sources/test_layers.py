"""A Layer becomes a Program of its own, and each Value knows the sublayer that made it."""

import gc
import os
import subprocess
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.static import InputSpec

from graphtool.backend.layer_weights import copy_layer_tensors
from graphtool.diagnostics import ReadError, UsageError
from graphtool.graph import Origin, ProgramKind
from graphtool.merging import merge
from graphtool.selectors import find
from graphtool.sources import read
from graphtool.sources.layers import from_layer
from tests.networks import PlainConvolutions, vision

_ROOT = Path(__file__).parents[2]


class _Branchy(nn.Layer):
    """Its forward branches on data, runs one ReLU twice, and returns a nested dict."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.second = nn.Linear(4, 8)
        self.act = nn.ReLU()
        self.head = nn.Sequential(nn.Linear(8, 3), nn.Identity())

    def forward(self, x):
        y = self.second(x)
        if x.mean() > 0:
            y = self.act(self.first(x))
        hidden = self.act(y)
        return {"logits": self.head(hidden), "features": [hidden, (y, None)]}


class _Dict(nn.Layer):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, image, mask):
        y = self.body(image) * mask
        return {"logits": self.head(y), "hint": y}


@pytest.fixture(scope="module")
def layer():
    return paddle.vision.models.resnet18()


@pytest.fixture(scope="module")
def resnet18(layer):
    """Build ResNet-18 from its function or from a Layer, once for each way and mode."""

    @cache
    def build(*, made=False, train=True):
        source = paddle.vision.models.resnet18 if made else layer
        return from_layer(source, [(3, 64, 64)], train=train)

    return build


def _layers_of(graph):
    return {name: (value.layer, value.layer_outputs) for name, value in graph.values.items()}


@pytest.mark.pir
@pytest.mark.slow
def test_the_last_activation_of_a_block_belongs_to_the_block():
    graph = vision("resnet50")
    last = graph.values["relu_48"]
    assert last.layer == "layer4.2"
    assert last.layer_outputs == ("layer4.2.relu", "layer4.2", "layer4")
    assert last.shape == (-1, 2048, 7, 7)
    assert graph.values["conv2d_1"].layer == "layer1.0.conv1"
    assert graph.values["add_0"].layer == "layer1.0"
    assert find(graph, "layer3").name == "relu_39"


@pytest.mark.slow
def test_every_sublayer_of_resnet18_is_found_once_it_has_run(resnet18, layer):
    found = {path for value in resnet18().graph.values.values() for path in value.layer_outputs}
    assert found == {path for path, _ in layer.named_sublayers()}


@pytest.mark.pir
@pytest.mark.parametrize("train", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_class_and_an_instance_give_the_same_paths(train, resnet18):
    made, given = resnet18(made=True, train=train), resnet18(train=train)
    computed = [v.name for v in made.graph.values.values() if v.origin is Origin.OPERATOR]
    left, right = _layers_of(made.graph), _layers_of(given.graph)
    assert [left[name] for name in computed] == [right[name] for name in computed]
    for operators in (made.graph.operators, given.graph.operators):
        assert operators["conv2d_0"].module == "/ResNet/Conv2D"
        assert operators["relu_16"].module == "/ResNet/Sequential_3/BasicBlock_1/ReLU_1"


@pytest.mark.pir
@pytest.mark.slow
def test_a_network_holds_what_an_executor_needs():
    net = from_layer(lambda: PlainConvolutions([4, 8]), [(3, 32, 32)], train=False)
    assert (net.feeds, net.graph.feeds) == (("x",), ("x",))
    assert net.fetches == net.graph.fetches == ("add_4",)
    assert net.parameters["head.weight"] == "linear_0.w_0"
    image = paddle.ones([2, 3, 32, 32]).numpy()
    paddle.enable_static()
    try:
        executor, scope = paddle.static.Executor(), paddle.static.Scope()
        with paddle.static.scope_guard(scope):
            executor.run(net.startup)
            fetched = [net.live.value(name) for name in net.fetches]
            (logits,) = executor.run(net.program, feed={"x": image}, fetch_list=fetched)
    finally:
        paddle.disable_static()
    assert logits.shape == (2, 10)


class _Optional(nn.Layer):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x, scale=None, shift=None):
        y = self.fc(x)
        if scale is not None:
            y = y * scale
        return y if shift is None else y + shift


@pytest.mark.pir
def test_an_optional_input_that_is_not_given_is_left_out():
    for layer in (_Optional, _Optional()):
        net = from_layer(layer, [("x", (4,), "float32"), ("shift", (4,), "float32")])
        kinds = [op.kind for op in net.graph.operators.values()]
        assert net.feeds == ("x", "shift")
        assert "multiply" not in kinds
        assert net.graph.operators["add_1"].operands == ("add_0", "shift")


class _Decorated(nn.Layer):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    @paddle.jit.to_static(full_graph=True)
    def forward(self, x):
        if x.mean() > 0:
            x = x * 2
        return self.fc(x)


@pytest.mark.pir
def test_a_forward_that_is_decorated_already_is_built():
    for layer in (_Decorated, _Decorated()):
        net = from_layer(layer, [(4,)])
        assert net.graph.values["add_0"].layer == "fc"
        assert "if_0/0" in net.graph.blocks


@pytest.mark.pir
def test_a_layer_that_was_converted_already_is_built_and_stays_so():
    """Paddle does not convert its own networks' code again, and refuses that in static mode."""
    layer = paddle.jit.to_static(paddle.vision.models.LeNet(), full_graph=True)
    forward = layer.forward
    assert from_layer(layer, [(1, 28, 28)]).graph.values["add_2"].layer == "fc.0"
    assert layer.forward is forward


@pytest.mark.pir
def test_data_dependent_control_flow_is_built_with_its_regions_and_paths():
    net = from_layer(_Branchy, [(4,)])
    values = net.graph.values
    assert net.graph.blocks.keys() == {"", "if_0/0", "if_0/1"}
    assert values["if_0/0/add_0"].layer == "first"
    assert values["if_0/0/relu_0"].layer == "act"
    assert values["add_0"].layer == "second"
    assert values["if_0"].layer is None
    assert values["relu_0"].layer_outputs == ("act",)
    assert values["add_1"].layer_outputs == ("head.0", "head.1", "head")
    assert values["add_1"].layer == "head.0"


def test_a_sublayer_that_runs_twice_has_two_values():
    net = from_layer(_Branchy(), [(4,)])
    with pytest.raises(ReadError, match=r"GT102.*means 2 Values"):
        find(net.graph, "act")


class _Shared(nn.Layer):
    def __init__(self):
        super().__init__()
        self.act = nn.ReLU()
        self.a = nn.Sequential(nn.Linear(4, 4), self.act)
        self.b = nn.Sequential(nn.Linear(4, 4), self.act)

    def forward(self, x):
        return self.act(self.b(self.a(x)))


@pytest.mark.pir
def test_a_sublayer_with_several_paths_goes_by_the_one_it_is_called_through():
    values = from_layer(_Shared, [(4,)]).graph.values
    assert [values[f"relu_{i}"].layer for i in range(3)] == ["a.1", "b.1", "act"]


class _Branches(nn.Layer):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        if x.mean() > 0:
            y = self.a(x)
            y = y * 2
        else:
            y = x - 1
            y = self.b(y)
            y = y * 3
        return y


@pytest.mark.pir
def test_operators_between_sublayers_in_both_branches_belong_to_none():
    graph = from_layer(_Branches, [(4,)]).graph
    layers = {
        operator.name: graph.values[operator.results[0]].layer
        for operator in graph.operators.values()
        if operator.kind in ("scale", "add")
    }
    assert layers == {
        "if_0/0/add_0": "a",
        "if_0/0/scale_0": None,
        "if_0/1/scale_0": None,
        "if_0/1/add_0": "b",
        "if_0/1/scale_1": None,
    }


@pytest.mark.pir
@pytest.mark.slow
def test_a_network_with_several_outputs_keeps_them_all():
    graph = vision("googlenet")
    assert graph.fetches == ("add_0", "add_2", "add_4")
    assert [graph.values[name].shape for name in graph.fetches] == [(-1, 1000)] * 3


def test_a_transformer_encoder_and_an_lstm_are_built():
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32), 2)
    net = from_layer(encoder, [(5, 16)], train=False)
    assert net.graph.values[net.fetches[0]].layer == "layers.1"
    assert net.graph.values[net.fetches[0]].shape == (-1, 5, 16)
    lstm = from_layer(lambda: nn.LSTM(8, 16, 2), [(5, 8)])
    assert [lstm.graph.values[name].shape for name in lstm.fetches] == [
        (-1, 5, 16),
        (2, -1, 16),
        (2, -1, 16),
    ]


@pytest.mark.pir
def test_a_class_that_needs_dynamic_mode_is_made_in_it():
    class Scaled(nn.Layer):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)
            self.scale = float(paddle.to_tensor([2.0]).numpy()[0])

        def forward(self, x):
            return self.fc(x) * self.scale

    net = from_layer(Scaled, [(4,)])
    assert net.graph.values["add_0"].layer == "fc"
    assert net.layer.scale == 2.0


class _Trained(nn.Linear):
    """Loads what it has learnt, as `resnet50(pretrained=True)` does."""

    def __init__(self):
        super().__init__(4, 3)
        self.set_state_dict({"weight": np.full([4, 3], 2, "float32")})


@pytest.mark.parametrize("static", [True, False])
def test_weights_that_a_factory_loads_are_kept_whatever_its_startup_program_does(static):
    (paddle.enable_static if static else paddle.disable_static)()
    around = paddle.static.Scope()
    with paddle.static.scope_guard(around):
        network = from_layer(_Trained, [(4,)])
    scope, student = paddle.static.Scope(), from_layer(_Trained, [(4,)])
    paddle.enable_static()
    merged = merge(network, student, {"input": "input"}, scope=scope)
    paddle.static.Executor().run(student.startup, scope=scope)

    names = [network.parameters["weight"], "teacher_" + network.parameters["weight"]]
    assert [set(np.array(scope.find_var(name).get_tensor()).flat) for name in names] == [{2}, {2}]
    assert around.find_var(names[0]) is None
    assert merged.verify()


class _Initialised(nn.Layer):
    """Its constructor iterates a Tensor and calls initialisers; its forward reads the batch."""

    def __init__(self):
        super().__init__()
        self.rates = [x.item() for x in paddle.linspace(0, 0.1, 4)]
        self.first = self.create_parameter([1, 1, 4])
        self.fc = nn.Linear(4, 3)
        nn.initializer.TruncatedNormal(std=0.02)(self.fc.weight)
        nn.initializer.Constant(7.0)(self.fc.bias)

    def forward(self, x):
        # Paddle 2.6 takes `x.shape[0]` for 1 here, as it does in `jit.save`.
        batch = x.shape[0] if paddle.__version__ > "3" else paddle.shape(x)[0]
        return self.fc(paddle.concat([self.first.expand([batch, 1, 4]), x], axis=1))


def _outputs(network, scope, x):
    paddle.enable_static()
    try:
        return paddle.static.Executor().run(
            network.program,
            feed={network.feeds[0]: x},
            fetch_list=[network.value(network.fetches[0])],
            scope=scope,
        )[0]
    finally:
        paddle.disable_static()


def _started(network, scope=None):
    scope = paddle.static.Scope() if scope is None else scope
    paddle.enable_static()
    paddle.static.Executor().run(network.startup, scope=scope)
    paddle.disable_static()
    return scope


def test_a_class_is_built_as_its_constructor_makes_it():
    paddle.seed(3)
    layer = _Initialised()
    x = np.random.default_rng(0).normal(size=(3, 5, 4)).astype("float32")
    wanted = layer(paddle.to_tensor(x)).numpy()
    paddle.seed(3)
    network = from_layer(_Initialised, [("x", (5, 4))])
    scope = _started(network)

    for key, tensor in layer.state_dict().items():
        held = np.array(scope.find_var(network.parameters[key]).get_tensor())
        assert held.tobytes() == tensor.numpy().tobytes()
    assert set(layer.fc.bias.numpy()) == {7.0}
    assert not any("gaussian" in op.kind for op in network.graph.operators.values())
    assert np.array_equal(_outputs(network, scope, x), wanted)


@pytest.mark.slow
def test_a_class_a_factory_and_a_layer_give_one_program():
    made = [_Initialised, lambda: _Initialised(), _Initialised()]
    graphs = [from_layer(one, [("x", (5, 4))]).graph for one in made]
    assert graphs[0].operators == graphs[1].operators
    kinds = [[op.type for op in graph.operators.values()] for graph in graphs]
    assert kinds[1] == kinds[2]


def test_a_startup_program_sets_the_weights_of_the_constructor_whenever_it_runs():
    network = from_layer(lambda: nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1D(8)), [(4,)])
    wanted = network.layer[0].weight.numpy().tobytes()
    for scope in (_started(network), _started(network)):
        weight = scope.find_var(network.parameters["0.weight"]).get_tensor()
        assert np.array(weight).tobytes() == wanted
    weight.set(np.ones([8, 5], "float32"), paddle.CPUPlace())
    assert (
        np.array(
            _started(network, scope).find_var(network.parameters["0.weight"]).get_tensor()
        ).tobytes()
        == wanted
    )


def test_a_network_without_weights_starts_as_well():
    network = from_layer(nn.ReLU, [(4,)])
    scope = _started(network)

    assert network.parameters == {}
    assert list(network.startup.global_block().ops) == []
    # Paddle 2.6 does not list what a Scope holds.
    assert getattr(scope, "local_var_names", list)() == []


def test_the_startup_program_of_a_layer_that_was_handed_over_leaves_its_weights_alone():
    network = from_layer(nn.Linear(4, 8), [(4,)])
    assert _started(network).find_var(network.parameters["weight"]) is None


_WAITS = " (gt.from_layer(..., timeout=None) waits)"


class _Endless(nn.Layer):
    def forward(self, x):
        return paddle.stack([row for row in x])  # noqa: C416  # never ends in static mode


def _endless():
    while True:
        paddle.ones([1])


@pytest.mark.call_stacks
@pytest.mark.slow
@pytest.mark.parametrize(
    ("made", "line"), [(_endless, "test_layers.py:"), (_Endless, "in forward")]
)
def test_what_does_not_return_is_given_up_with_the_line_that_it_was_at(made, line):
    with pytest.raises(ReadError) as raised:
        from_layer(made, [(4,)], timeout=1)
    (found,) = raised.value.report
    assert found.code == "GT034"
    assert found.notes[0] == f"TimeoutError: it did not return within 1 s{_WAITS}"
    assert any(line in note for note in found.notes[1:])
    assert paddle.in_dynamic_mode()
    assert from_layer(nn.ReLU, [(4,)]).fetches == ("relu_0",)


def test_a_timeout_that_is_none_in_seconds_is_wrong_usage():
    with pytest.raises(UsageError, match="GT248"):
        from_layer(nn.ReLU, [(4,)], timeout=0)


def test_gradients_do_not_reach_the_feeds():
    assert from_layer(nn.Linear(4, 4), [(4,)]).graph.values["input"].stop_gradient is True


class _Masked(nn.Layer):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.mask = paddle.to_tensor([1.0, 2.0, 3.0])
        self.shifts = [paddle.to_tensor([4.0, 5.0, 6.0])]

    def forward(self, x):
        return self.fc(x) * self.mask + self.shifts[0]


def test_tensors_that_are_in_no_state_dict_are_weights_as_well():
    """A startup program of `to_static` would set zeros; a list tells nobody what is in it."""
    teacher, student = (from_layer(_Masked(), [(4,)]) for _ in range(2))
    layer, scope = student.layer, paddle.static.Scope()
    wanted = {t.name: t.numpy() for t in (layer.fc.weight, layer.mask, *layer.shifts)}
    paddle.enable_static()
    paddle.static.Executor().run(student.startup, scope=scope)
    merged = merge(teacher, student, {teacher.feeds[0]: student.feeds[0]}, scope=scope)
    paddle.static.Executor().run(student.startup, scope=scope)

    found = {name: np.array(scope.find_var(name).get_tensor()) for name in wanted}
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
    assert merged.verify()


@pytest.mark.pir
def test_nested_outputs_are_flattened_in_their_order():
    assert from_layer(_Branchy, [(4,)]).fetches == ("add_1", "relu_0", "if_0")
    net = from_layer(_Dict, [("mask", (8,), "float32"), ("image", (4,), "float32")])
    assert net.feeds == ("image", "mask")
    assert net.fetches == ("add_1", "multiply_0")


def test_an_input_spec_is_taken_as_it_is():
    net = from_layer(
        _Dict, [InputSpec([2, 4], "float32", "a"), InputSpec([None, 8], "float32", "b")]
    )
    assert net.graph.values["a"].shape == (2, 4)
    assert net.graph.values["b"].shape == (-1, 8)


@pytest.mark.parametrize("names", [("image", "b"), ("a", "mask"), (None, "b")])
def test_input_specs_in_order_may_have_names_of_their_own(names):
    net = from_layer(
        _Dict,
        [
            InputSpec([None, size], "float32", name)
            for name, size in zip(names, (4, 8), strict=True)
        ],
    )
    assert net.feeds == (names[0] or "image", names[1])


def test_input_specs_with_forwards_names_out_of_order_may_not():
    specs = [InputSpec([None, 8], "float32", "mask"), InputSpec([None, 4], "float32", "b")]
    with pytest.raises(UsageError, match=r"GT037.*cannot take the input `b`"):
        from_layer(_Dict, specs)


class _Extras(nn.Layer):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return {"a": (self.fc(x), None, 3), "b": "text"}


def test_outputs_that_are_no_tensors_are_told():
    for layer in (_Extras, _Extras()):
        (found,) = from_layer(layer, [(4,)]).graph.report
        assert (found.code, found.severity.value) == ("GT043", "note")
        assert found.message == (
            "`_Extras` returns values that are not tensors, which are left out: "
            "`['a'][2]`: int, `['b']`: str"
        )
    assert len(from_layer(_Branchy, [(4,)]).graph.report) == 0


class _Stem(nn.Layer):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2D(3, 8, 3)

    def forward(self, x):
        return self.conv1(x)


@pytest.mark.pir
def test_a_convolution_over_other_channels_than_its_filters_is_a_wrong_input():
    for source in (_Stem, _Stem()):
        with pytest.raises(ReadError) as caught:
            from_layer(source, [(1, 64, 64)])
        (found,) = caught.value.report
        assert found.code == "GT034"
        assert "[?, 1, 64, 64]" in found.message
        assert found.notes == ("`conv2d_0` of `conv1` reads 1 channels; its filter is for 3",)


class _Convolutions(nn.Layer):
    """Groups, a transposed convolution, one over channels last, and a depthwise one."""

    def __init__(self):
        super().__init__()
        self.up = nn.Conv2DTranspose(4, 8, 3, groups=2)
        self.last = nn.Conv2D(8, 6, 3, groups=2, data_format="NHWC")
        self.depthwise = nn.Conv2D(6, 6, 3, groups=6)
        self.sequence = nn.Conv1D(6, 4, 3, groups=2, data_format="NLC")

    def forward(self, x):
        y = self.last(self.up(x).transpose([0, 2, 3, 1])).transpose([0, 3, 1, 2])
        return self.sequence(self.depthwise(y).flatten(2).transpose([0, 2, 1]))


def test_convolutions_of_every_layout_fit_what_they_read():
    graph = from_layer(_Convolutions, [(4, 9, 9)]).graph
    assert graph.values[graph.fetches[0]].shape == (-1, 47, 4)


@pytest.mark.parametrize("static", [True, False])
def test_the_mode_the_layer_and_its_hooks_are_left_as_they_were(static):
    layer = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.ReLU())
    layer[1].eval()
    attributes = dict(layer.__dict__)
    if static:
        paddle.enable_static()
    try:
        net = from_layer(layer, [(4,)])
        assert paddle.in_dynamic_mode() is not static
    finally:
        paddle.disable_static()
    assert [sublayer.training for sublayer in layer.sublayers()] == [True, False, True]
    assert not any(s._forward_pre_hooks or s._forward_post_hooks for s in layer.sublayers())
    assert {**layer.__dict__, "_built": False} == attributes
    assert net.graph.operators["dropout_0"].attributes["is_test"] is False
    assert layer(paddle.ones([2, 4])).shape == [2, 4]


class _Keeping(nn.Layer):
    """Its forward keeps what it computes, alone and in a list that it had before."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)
        self.last, self.all = None, [1]

    def forward(self, x):
        self.last = self.newest = self.linear(x)
        self.all.append(self.last)
        return self.last * 2


def test_what_a_forward_keeps_of_the_program_does_not_stay_in_the_layer():
    layer = _Keeping()
    from_layer(layer, [(4,)])
    assert (layer.last, layer.all, hasattr(layer, "newest")) == (None, [1], False)


def _doubled(_layer, inputs):
    return tuple(x * 2 for x in inputs)


def _plus_inputs(_layer, inputs, outputs):
    return outputs["logits"] + sum(x.mean() for x in inputs)


@pytest.mark.parametrize(
    ("register", "hook", "output"),
    [
        ("register_forward_pre_hook", _doubled, lambda outputs: outputs["logits"]),
        ("register_forward_post_hook", _plus_inputs, lambda outputs: outputs),
    ],
)
def test_hooks_of_the_layer_itself_get_what_its_forward_is_given(register, hook, output):
    layer = _Dict()
    getattr(layer, register)(hook)
    image, mask = (np.random.RandomState(0).rand(3, dims).astype("float32") for dims in (4, 8))
    net = from_layer(layer, [("image", (4,)), ("mask", (8,))])
    expected = output(layer(paddle.to_tensor(image), paddle.to_tensor(mask))).numpy()
    paddle.enable_static()
    try:
        scope = paddle.static.Scope()
        copy_layer_tensors(layer, scope)
        feed, fetch = {"image": image, "mask": mask}, [net.value(net.fetches[0])]
        executor = paddle.static.Executor()
        (found,) = executor.run(net.program, feed=feed, fetch_list=fetch, scope=scope)
    finally:
        paddle.disable_static()
    assert found.tobytes() == expected.tobytes()


class _Unconvertible(nn.Layer):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x):
        y = self.linear(x)
        if x.mean() > 0:
            y = y, 3
        return y


class _Undefined(_Unconvertible):
    def forward(self, x):
        if x.mean() > 0:
            y = self.linear(x)
        return y


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (_Unconvertible, "different number of return value"),
        pytest.param(_Undefined, "it returns no tensor", marks=pytest.mark.pir),
    ],
)
@pytest.mark.filterwarnings("ignore:Return results has maybe unbound")
def test_why_a_forward_cannot_be_converted_is_shown(layer, reason):
    with pytest.raises(ReadError) as caught:
        from_layer(layer, [(4,)])
    (found,) = caught.value.report
    assert found.code == "GT034"
    assert reason in found.notes[0]


class _Choosing(nn.Layer):
    """Its forward says what is to be done in its place from then on."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def fast(self, x):
        return self.linear(x)

    def forward(self, x):
        self.forward = self.fast
        return self.linear(x)


def test_a_forward_of_an_objects_own_stays_and_no_other_comes():
    layer = nn.Sequential(nn.Linear(4, 4), _Choosing())
    layer[1].forward = own = layer[1].fast
    net = from_layer(layer, [(4,)])
    assert len(net.graph.operators) > 0
    assert layer[1].__dict__["forward"] is own
    others = (layer, layer[0], layer[1].linear)
    assert not any("forward" in other.__dict__ for other in others)


def test_eval_mode_reaches_the_program(resnet18):
    norms = [op for op in resnet18(train=False).graph.operators.values() if op.kind == "batch_norm"]
    assert len(norms) == 20
    assert all(op.attributes["is_test"] is True for op in norms)


@pytest.mark.slow
def test_several_networks_count_their_names_from_zero():
    first, second = (from_layer(lambda: PlainConvolutions([4]), [(3, 8, 8)]) for _ in range(2))
    assert list(first.graph.values) == list(second.graph.values)
    assert "conv2d_0.w_0" in second.graph.values


def test_a_layer_made_in_static_mode_is_refused():
    paddle.enable_static()
    try:
        layer = nn.Linear(4, 4)
        with pytest.raises(ReadError, match=r"GT036.*belong to another static Program") as caught:
            from_layer(layer, [(4,)])
        assert str(caught.value).endswith("gt.from_layer(lambda: Linear(...), [(4,)])")
    finally:
        paddle.disable_static()


@pytest.mark.slow
def test_a_factory_that_hands_over_a_layer_of_static_mode_is_refused():
    """Paddle would crash of parameters whose Program is gone."""
    paddle.enable_static()
    with paddle.static.program_guard(paddle.static.Program(), paddle.static.Program()):
        layer = nn.Linear(4, 4)
    gc.collect()
    for factory in (lambda: layer, lambda: nn.Sequential(nn.Linear(4, 4), layer)):
        with pytest.raises(ReadError, match=r"GT036.*belong to another static Program"):
            from_layer(factory, [(4,)])


def test_a_factory_that_makes_a_program_or_has_one_is_refused():
    for factory in (paddle.static.Program, lambda: from_layer(nn.ReLU, [(4,)])):
        with pytest.raises(ReadError, match=r"GT036.*returns a `Program`; wanted a `paddle.nn"):
            from_layer(factory, [(4,)])


@pytest.mark.call_stacks
def test_inputs_that_do_not_fit_show_paddles_message_and_the_users_line():
    for layer in (_Dict, _Dict()):
        with pytest.raises(ReadError) as caught:
            from_layer(layer, [("image", (4,), "float32"), ("mask", (5,), "float32")])
        (found,) = caught.value.report
        assert found.code == "GT034"
        assert "`mask: [?, 5] float32`" in found.message
        assert "[-1, 5]" in found.notes[0]
        assert "test_layers.py" in found.notes[-1]
        assert "in forward" in found.notes[-1]


@pytest.mark.parametrize(
    ("specs", "code"),
    [
        *(("image", "GT248"), (None, "GT248"), ({"x": (4,)}, "GT248")),
        *((["x"], "GT037"), ([("x",)], "GT037"), ([(3, "a")], "GT037")),
        *(([("x", 3)], "GT037"), ([(3, -2)], "GT037"), ([(4.5,)], "GT037"), ([(True,)], "GT037")),
        *(([("x", (4,), "float33")], "GT037"), ([("x", (4,), 1)], "GT037")),
        ([("x", (4,), "float32", 4)], "GT037"),
    ],
)
def test_what_describes_no_input_is_wrong_usage(specs, code):
    with pytest.raises(UsageError) as raised:
        from_layer(lambda: nn.Linear(4, 2), specs)
    (found,) = raised.value.report
    assert (found.code, found.help) == (code, 'gt.from_layer(layer, [("image", (3, 224, 224))])')


@pytest.mark.parametrize(
    ("specs", "codes", "wanted"),
    [
        ((3, 224), ["GT248"], "(3, 224)"),
        ([5], ["GT248"], "(5,)"),
        (("x", (4, None), "int64"), ["GT037"] * 2, '("x", (4, None), "int64")'),
        ([("x",), (4,), ("y", 3)], ["GT037"] * 2, "(4,)"),
    ],
)
def test_all_that_describes_no_input_is_told_with_a_list_of_what_does(specs, codes, wanted):
    with pytest.raises(UsageError) as raised:
        from_layer(lambda: nn.Linear(4, 2), specs)
    assert [found.code for found in raised.value.report] == codes
    assert {found.help for found in raised.value.report} == {f"gt.from_layer(layer, [{wanted}])"}


def test_what_fails_is_shown_with_the_names_of_its_inputs_and_shapes_to_fill_in():
    """Not with those that were refused, nor with an image's: a user would type that."""
    spec = paddle.static.InputSpec([None, 5], "float32", "mask")
    with pytest.raises(ReadError) as caught:
        from_layer(_Dict, [("image", (4,)), spec])
    given = '[("image", SHAPE), ("mask", SHAPE)]'
    assert caught.value.report.errors[0].help == f"gt.from_layer(layer, {given})"
    with pytest.raises(UsageError) as raised:
        from_layer(3, [("ids", (16,), "int64")])
    assert raised.value.report.errors[0].help == 'gt.from_layer(layer, [("ids", (16,), "int64")])'


@pytest.mark.pir
@pytest.mark.slow
def test_auto_cast_that_has_no_effect_is_warned_of_and_what_the_help_shows_casts():
    def low(network):
        return [value for value in network.graph.values.values() if value.dtype == "bfloat16"]

    layer = nn.Linear(4, 2)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with paddle.amp.auto_cast():
            network = from_layer(layer, [(4,)])
    assert "`auto_cast` to float16 has no effect in dynamic mode" in str(said[-1].message)
    assert said[-1].filename == __file__
    assert not low(network)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_layer(layer, [(4,)])
        with paddle.amp.auto_cast(enable=False):
            from_layer(layer, [(4,)])
        paddle.enable_static()
        try:
            with paddle.amp.auto_cast(dtype="bfloat16"):
                assert low(from_layer(layer, [(4,)]))
                assert low(from_layer(lambda: nn.Linear(4, 2), [(4,)]))
        finally:
            paddle.disable_static()


def test_a_dtype_may_be_paddles_own():
    net = from_layer(lambda: nn.Linear(4, 2), [("input", (4,), paddle.float64)])
    assert net.graph.values["input"].dtype == "float64"


@pytest.mark.parametrize("made", [None, "Net", 3])
def test_what_makes_no_layer_is_wrong_usage(made):
    with pytest.raises(UsageError, match=r"GT036.*is not a Layer, nor a class"):
        from_layer(made, [(4,)])


@pytest.mark.parametrize(
    ("specs", "help"),
    [
        ([], 'gt.from_layer(layer, [("image", (3, 224, 224)), ("mask", (3, 224, 224))])'),
        (
            [("mask", (None, 8), "int64")],
            'gt.from_layer(layer, [("image", (3, 224, 224)), ("mask", (None, 8), "int64")])',
        ),
        (
            [("img", ()), ("mask", (8,))],
            'gt.from_layer(layer, [("image", ()), ("mask", (8,))])',
        ),
    ],
)
def test_what_a_class_or_function_wants_is_said_as_python_takes_it(specs, help):
    for layer in (_Dict, lambda: _Dict()):
        with pytest.raises(UsageError) as raised:
            from_layer(layer, specs)
        assert [(found.code, found.help) for found in raised.value.report] == [("GT037", help)]


def test_a_name_that_a_network_from_a_function_lacks_is_looked_for_in_python():
    net = from_layer(lambda: nn.Linear(4, 2), [(4,)])
    with pytest.raises(ReadError, match="GT101") as raised:
        find(net.graph, "relu_0")
    assert raised.value.report.errors[0].help == "print(*gt.read(program).values)"


_LEGACY = """
import zlib
import paddle
from graphtool.sources import read
from graphtool.backend.layer_weights import copy_layer_tensors
from graphtool.sources.layers import from_layer
from graphtool.backend.live import LiveProgram

class Branchy(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.act = paddle.nn.Linear(4, 4), paddle.nn.Linear(4, 4), paddle.nn.ReLU()

    def forward(self, x):
        if x.mean() > 0:
            y = self.a(x)
        else:
            y = self.b(x)
        return {"y": self.act(y)}

for layer in (paddle.vision.models.resnet18, paddle.vision.models.resnet18()):
    net = from_layer(layer, [(3, 64, 64)], train=False)
    value = net.graph.values["relu_16.tmp_0"]
    print(net.graph.kind.value, value.layer, value.layer_outputs, net.feeds, net.graph.feeds)
    print(net.live.value("layer4").name, len(net.graph.operators))
startup = from_layer(paddle.vision.models.mobilenet_v3_small, [(3, 64, 64)]).startup
print([op.type for op in startup.block(0).ops])
for layer in (Branchy, Branchy()):
    net = from_layer(layer, [(4,)])
    kinds = sorted(op.kind for op in net.graph.operators.values())
    layers = {value.layer for value in net.graph.values.values()} - {None}
    print(kinds.count("conditional_block"), sorted(layers))
"""
_LEGACY_OUTPUT = """\
legacy layer4.1 ('layer4.1.relu', 'layer4.1', 'layer4') ('x',) ('x',)
relu_16.tmp_0 70
legacy layer4.1 ('layer4.1.relu', 'layer4.1', 'layer4') ('x',) ('x',)
relu_16.tmp_0 70
['load_combine']
2 ['a', 'act', 'b']
2 ['a', 'act', 'b']
"""


@pytest.mark.slow
def test_layers_are_built_into_legacy_programs_by_paddle_2_6(tmp_path, paddle26):
    script = tmp_path / "legacy_layers.py"
    script.write_text(_LEGACY)
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    done = subprocess.run(
        [paddle26, str(script)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == _LEGACY_OUTPUT, done.stderr


@pytest.mark.pir
@pytest.mark.slow
def test_a_vision_model_is_built_into_a_legacy_program_under_the_guard():
    with paddle.pir_utils.OldIrGuard():
        net = from_layer(paddle.vision.models.resnet18, [(3, 64, 64)], train=False)
        assert net.graph.kind is ProgramKind.LEGACY
        assert net.graph.values["relu_16.tmp_0"].layer == "layer4.1"
        assert net.live.value("layer4").name == "relu_16.tmp_0"


def test_a_network_is_read_as_it_is_with_its_attribute_paths():
    net = from_layer(lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU()), [("x", (4,))])

    assert read(net) is net.graph


def test_what_is_no_source_is_refused_with_the_way_to_one():
    for given in (nn.Linear(4, 2), 3, None):
        with pytest.raises(UsageError) as caught:
            read(given)
        (found,) = caught.value.report
        assert found.code == "GT036"
        assert f"cannot read a `{type(given).__name__}`" in found.message


def test_what_paddle_warns_of_for_each_layer_is_said_once():
    norms = nn.Sequential(*(nn.BatchNorm2D(3) for _ in range(4)))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        from_layer(norms, [(3, 4, 4)])
    assert [str(one.message)[:40] for one in said] == ["When training, we now always track globa"]


def test_a_network_is_shown_in_one_line() -> None:
    network = from_layer(lambda: nn.Linear(4, 2), [("x", (4,))])
    assert repr(network) == f"Network({network.graph!r})"
    assert repr(network.live) == f"LiveProgram({network.graph!r})"
    assert len(repr(network).splitlines()) == 1


def test_a_layer_that_answers_to_any_name_goes_by_its_class():
    class Obliging(nn.Layer):
        def __getattr__(self, name):
            try:
                return super().__getattr__(name)
            except AttributeError:
                return None

        def forward(self, x):
            raise ValueError(f"{x.shape} is not for today")

    with pytest.raises(ReadError) as caught:
        from_layer(Obliging(), [("x", (4,))])
    assert "`Obliging` cannot be built" in caught.value.report.diagnostics[0].message


def test_a_shape_that_has_its_batch_already_should_leave_it_out():
    with pytest.raises(ReadError) as error:
        from_layer(nn.Conv2D(3, 4, 3), [("x", (None, 3, 8, 8))])

    (found,) = error.value.report
    assert found.code == "GT034"
    assert "[?, ?, 3, 8, 8]" in found.message
    assert "the batch is added to a shape: leave it out" in found.notes
    assert found.help == 'gt.from_layer(layer, [("x", (3, 8, 8))])'
