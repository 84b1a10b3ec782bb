"""`module:callable` is imported, called and built; whatever is wrong with it is a Diagnostic."""

import subprocess
import sys
import textwrap
from functools import partial

import numpy as np
import paddle
import pytest

from graphtool.backend.live import LiveProgram
from graphtool.diagnostics import GraphtoolError, ReadError, UsageError
from graphtool.graph import UNKNOWN_DIM
from graphtool.sources import read
from graphtool.sources.builder import build
from graphtool.sources.inputs import Input, is_callable_spec, parse_input
from graphtool.sources.layers import Network
from graphtool.training.trainable import open_model
from tests.networks import vision

_NETS = """
import paddle
from paddle import nn

print("chatter")


class Net(nn.Layer):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 8)

    def forward(self, image):
        return self.fc(image)


class Two(Net):
    def forward(self, image, mask):
        return self.fc(image) * mask


def make():
    return Net()


class Sized(Net):
    def __init__(self, size):
        super().__init__()


def program():
    main = paddle.static.Program()
    with paddle.static.program_guard(main):
        nn.functional.relu(paddle.static.data("x", [-1, 4]))
    return main


def raises():
    return helper()


def helper():
    raise FileNotFoundError("weights.pdparams")


def leaves():
    raise SystemExit(3)


def pair():
    return Net(), 1


instance = Net()


def network():
    from graphtool import from_layer

    return from_layer(Net, [("image", (4,))])
two = Two()
number = 3


class Trained(Net):
    def __init__(self):
        import numpy

        super().__init__()
        self.set_state_dict({"fc.bias": numpy.ones([8], "float32")})


def trained():
    from graphtool import from_layer

    return from_layer(Trained, [("image", (4,))])
"""


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """Write a module of networks into the working directory; each test gets a name of its own."""
    name = f"nets_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(_NETS)
    monkeypatch.chdir(tmp_path)
    yield name
    sys.modules.pop(name, None)


def _diagnostic(spec, inputs=()):
    with pytest.raises(GraphtoolError) as caught:
        build(spec, inputs)
    (found,) = caught.value.report
    return found


@pytest.mark.parametrize("name", ["Net", "make", "instance"])
def test_a_class_a_factory_and_a_layer_are_built(nets, name):
    net = build(f"{nets}:{name}", ["4"])
    assert isinstance(net, Network)
    assert net.graph.source == f"{nets}:{name}"
    assert net.graph.values[net.fetches[0]].shape == (-1, 8)
    assert net.graph.values[net.fetches[0]].layer == "fc"


@pytest.mark.pir
def test_a_function_that_returns_a_program_needs_no_input(nets):
    live = build(f"{nets}:program")
    assert isinstance(live, LiveProgram)
    assert list(live.graph.operators) == ["data_0", "relu_0"]


def test_a_function_that_returns_a_network_gives_its_program(nets):
    live = build(f"{nets}:network")
    assert isinstance(live, LiveProgram)
    assert (live.graph.source, live.graph.feeds) == (f"{nets}:network", ("image",))


def test_a_network_whose_layer_holds_its_weights_brings_them(nets):
    scope = paddle.static.Scope()
    live = build(f"{nets}:trained", scope=scope)
    held = {
        len(one.shape): np.array(scope.find_var(one.name).get_tensor())
        for one in live.graph.parameters
    }
    assert held[2].shape == (4, 8)
    assert set(held[1].flat) == {1}


@pytest.mark.slow
def test_paddles_own_models_are_built_in_eval_mode():
    norms = [op for op in vision("mobilenet_v1").operators.values() if op.kind == "batch_norm"]
    assert len(norms) == 27
    assert all(op.attributes["is_test"] for op in norms)


def test_several_inputs_go_to_the_parameters_they_name(nets):
    net = build(f"{nets}:Two", ["mask=8:float32", "image=4"])
    assert net.graph.feeds == ("image", "mask")
    assert net.graph.values["mask"].shape == (-1, 8)


@pytest.mark.parametrize(
    "inputs", [["mask=8", "y=4"], ["c=4", "mask=8"], ["4", "y=8"], ["c=4", "d=8"]]
)
def test_an_input_of_a_name_that_forward_lacks_goes_nowhere(nets, inputs):
    found = _diagnostic(f"{nets}:Two", inputs)
    assert (found.code, found.slug) == ("GT037", "bad-input")
    assert found.notes == ("its forward takes `image`, `mask`, each once",)
    assert found.help == f"graphtool inspect {nets}:Two --input image=4 --input mask=8"


@pytest.mark.parametrize("inputs", [["image=4", "image=5"], ["4", "5"]])
def test_more_inputs_than_parameters_are_wrong_usage(nets, inputs):
    found = _diagnostic(f"{nets}:Net", inputs)
    assert found.code == "GT037"
    assert "cannot take the input" in found.message


def test_the_only_input_has_the_name_that_forward_gives_it(nets):
    found = _diagnostic(f"{nets}:Net", ["picture=4"])
    assert found.message == f"`{nets}:Net` cannot take the input `picture`"
    assert found.notes == ("its forward takes `image`",)
    assert found.help == f"graphtool inspect {nets}:Net --input image=4"


@pytest.mark.parametrize("inputs", [["4"], ["image=4"]])
def test_a_missing_input_is_asked_for_before_anything_is_built(nets, inputs):
    found = _diagnostic(f"{nets}:Two", inputs)
    assert found.code == "GT037"
    assert found.message == f"`{nets}:Two` also needs the shape of `mask`"
    assert found.help == f"graphtool inspect {nets}:Two --input image=4 --input mask=3,224,224"


def test_a_program_has_its_own_feeds_and_is_called_as_it_was_asked_for(nets):
    live = build(f"{nets}:program", ["4"])
    assert live.graph.source == f"{nets}:program"
    (found,) = live.graph.report
    assert (found.code, found.severity.value) == ("GT037", "note")
    assert "has its own feeds: the inputs are ignored" in found.message
    assert len(build(f"{nets}:program").graph.report) == 0


def test_weights_that_a_callable_loads_stay_in_its_layer_and_go_to_no_scope(nets):
    scope = paddle.static.Scope()
    with paddle.static.scope_guard(scope):
        built = build(f"{nets}:Trained", ["4"])
    assert scope.find_var(built.parameters["fc.bias"]) is None
    assert set(built.layer.fc.bias.numpy()) == {1}


def test_the_search_path_and_the_mode_are_left_as_they_were(nets):
    before = list(sys.path)
    build(f"{nets}:Net", ["4"])
    assert sys.path == before
    assert paddle.in_dynamic_mode()


def test_what_the_module_prints_does_not_reach_stdout(nets, capfd):
    build(f"{nets}:Net", ["4"])
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "chatter" in printed.err


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("3,224,224", Input((UNKNOWN_DIM, 3, 224, 224))),
        ("x=3,?,-1", Input((UNKNOWN_DIM, 3, UNKNOWN_DIM, UNKNOWN_DIM), name="x")),
        ("ids=128:int64", Input((UNKNOWN_DIM, 128), "int64", "ids")),
        ("scalar:int32", Input((UNKNOWN_DIM,), "int32")),
    ],
)
def test_an_input_is_read(text, wanted):
    assert parse_input(text) == wanted


@pytest.mark.parametrize("text", ["", "3x224", "x=", "3,224:float99", "0,3", "x=y=3", "3,,4"])
def test_a_malformed_input_is_wrong_usage(text):
    with pytest.raises(UsageError, match=r"GT037.*is not an input"):
        parse_input(text)


def test_a_path_is_told_from_a_callable():
    assert is_callable_spec("paddle.vision.models:resnet50")
    assert is_callable_spec("nets:Models.small")
    assert not is_callable_spec("model.json")
    assert not is_callable_spec("/a/b:c")


@pytest.mark.parametrize("inputs", [3, None, b"3", "3,224,224", [3], {"x": "3"}, np.zeros(2)])
def test_inputs_that_are_not_a_list_of_strings_are_wrong_usage(inputs):
    with pytest.raises(UsageError, match=r"GT248.*`inputs`"):
        read("paddle.vision.models:resnet18", inputs=inputs)


def test_a_malformed_spec_is_wrong_usage():
    found = _diagnostic("not a spec")
    assert (found.code, found.help) == (
        "GT036",
        "graphtool inspect paddle.vision.models:resnet50 --input 3,224,224",
    )


def test_a_callable_in_the_path_of_a_file_is_told_how_python_imports_it():
    with pytest.raises(UsageError, match=r"GT036.*`./models/nets.py:net`") as raised:
        read("./models/nets.py:net")
    (found,) = raised.value.report
    assert found.help == "graphtool inspect models.nets:net --input 3,224,224"
    with pytest.raises(ReadError, match="GT001"):
        read("https://example.org/resnet50.json")


def test_a_module_that_does_not_exist_is_named():
    found = _diagnostic("no_such_module_here:Net", ["4"])
    assert (found.code, found.slug) == ("GT034", "code-failed")
    assert found.message == "module `no_such_module_here` cannot be imported"
    assert found.notes == ("ModuleNotFoundError: No module named 'no_such_module_here'",)


def test_a_module_with_a_name_that_no_file_can_have_is_not_there():
    for take in (read, partial(open_model, role="teacher")):
        with pytest.raises(ReadError, match=r"GT034.*cannot be imported"):
            take(f"{'a' * 5000}:net")


@pytest.mark.call_stacks
@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "import missing_dependency\n",
            "ModuleNotFoundError: No module named 'missing_dependency'",
        ),
        ("x = 1\nraise KeyError('a')\n", "KeyError: 'a'"),
        ("raise SystemExit(2)\n", "SystemExit: 2"),
    ],
)
def test_a_module_that_raises_shows_the_users_lines_only(tmp_path, monkeypatch, text, error):
    name = f"broken_{abs(hash(text))}"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    found = _diagnostic(f"{name}:Net", ["4"])
    last = text.splitlines()[-1]
    number = len(text.splitlines())
    assert found.code == "GT034"
    assert found.notes == (error, f"{name}.py:{number} in <module>: {last}")


def test_a_module_with_a_syntax_error_is_a_diagnostic(tmp_path, monkeypatch):
    (tmp_path / "unfinished_net.py").write_text("def f(:\n")
    monkeypatch.chdir(tmp_path)
    found = _diagnostic("unfinished_net:f")
    assert found.notes == ("SyntaxError: invalid syntax (unfinished_net.py, line 1)",)


def test_a_missing_attribute_lists_the_nearest(nets):
    found = _diagnostic(f"{nets}:makes", ["4"])
    assert (found.code, found.slug) == ("GT036", "not-a-network")
    assert found.message == f"module `{nets}` has no `makes`"
    assert found.notes[0].startswith("nearest: `make`, ")
    assert found.help == f"graphtool inspect {nets}:make --input 4"


def test_modules_and_numbers_are_not_offered_for_a_missing_attribute(nets):
    found = _diagnostic(f"{nets}:numbers")
    offered = found.notes[0].removeprefix("nearest: ").replace("`", "").split(", ")
    assert len(offered) == 3
    assert not {"number", "paddle", "nn"} & set(offered)


def test_a_class_that_needs_arguments_gets_a_function_to_write(nets):
    found = _diagnostic(f"{nets}:Sized", ["4"])
    assert found.code == "GT034"
    assert found.help == (
        f"write a function without arguments: def net(): return {nets}.Sized(...)"
    )
    assert _diagnostic(f"{nets}:leaves").help is None


@pytest.mark.call_stacks
def test_a_callable_that_raises_shows_the_users_frames_only(nets):
    found = _diagnostic(f"{nets}:raises", ["4"])
    assert found.code == "GT034"
    assert found.notes == (
        "FileNotFoundError: weights.pdparams",
        f"{nets}.py:39 in raises: return helper()",
        f'{nets}.py:43 in helper: raise FileNotFoundError("weights.pdparams")',
    )


def test_a_callable_that_exits_does_not_end_the_process(nets):
    assert _diagnostic(f"{nets}:leaves").notes[0] == "SystemExit: 3"


@pytest.mark.parametrize(("name", "kind"), [("pair", "tuple"), ("number", "int")])
def test_a_wrong_type_is_named(nets, name, kind):
    found = _diagnostic(f"{nets}:{name}", ["4"])
    assert found.code == "GT036"
    assert f"`{kind}`" in found.message


def test_a_layer_without_input_says_what_to_type(nets):
    found = _diagnostic(f"{nets}:Two")
    assert found.code == "GT037"
    assert "is a Layer: the shapes of its inputs are needed" in found.message
    assert found.help == (
        f"graphtool inspect {nets}:Two --input image=3,224,224 --input mask=3,224,224"
    )


@pytest.mark.call_stacks
@pytest.mark.parametrize("name", ["Two", "two"])
def test_shapes_that_paddle_refuses_show_its_message_and_the_users_line(nets, name):
    found = _diagnostic(f"{nets}:{name}", ["image=4", "mask=5"])
    assert found.code == "GT034"
    assert "[-1, 5]" in found.notes[0]
    assert "paddle/phi" not in found.notes[0]
    assert ".py:19 in forward" in found.notes[1]
    # What was typed would fail again.
    assert found.help == f"graphtool inspect {nets}:{name} --input image=SHAPE --input mask=SHAPE"


@pytest.mark.slow
def test_without_paddle_the_extra_to_install_is_named(tmp_path):
    script = textwrap.dedent("""
        import sys
        sys.modules["paddle"] = None
        from graphtool.diagnostics import ReadError
        from graphtool.sources.builder import build
        try:
            build("json:loads", ["3"])
        except ReadError as error:
            print(error)
    """)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert "GT030" in done.stdout
    assert "pip install paddlepaddle" in done.stdout
    assert "paddlepaddle-gpu works" in done.stdout


def test_a_module_that_needs_paddle_is_read_error_not_usage(nets):
    with pytest.raises(ReadError):
        build(f"{nets}:raises", ["4"])
