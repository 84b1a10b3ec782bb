import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import networkx
import pytest

from graphtool.diagnostics import Diagnostic, ReadError
from graphtool.graph import Graph, Origin, ProgramKind
from graphtool.readers.pir_json import read_json

FIXTURES = Path(__file__).parent.parent / "fixtures"
RELEASES = {"3.0.0": "1", "3.1.1": "2", "3.2.2": "3", "3.3.1": "4"}


def counted() -> list[Any]:
    """Name every fixture with what Paddle counted in it."""
    found: list[Any] = []
    for release in RELEASES:
        counts = json.loads((FIXTURES / release / "counts.json").read_text())
        found += [pytest.param(f"{release}/{n}", c, id=f"{release}/{n}") for n, c in counts.items()]
    return found


def fixture(name: str) -> Graph:
    return read_json(name, (FIXTURES / name).read_bytes())


def in_pre_order(graph: Graph, path: str = "") -> Iterator[dict[str, int]]:
    """Count the operators of a Block by type, then those of the Blocks inside."""
    operators = [graph.operators[name] for name in graph.blocks[path].operators]
    yield dict(Counter(operator.type for operator in operators))
    for operator in operators:
        for inner in operator.blocks:
            yield from in_pre_order(graph, inner)


def test_a_graph_prints_as_one_line() -> None:
    shown = "Graph(3.3.1/cnn.json: PIR, 42 operators, 58 Values; image -> add_2)"
    assert repr(fixture("3.3.1/cnn.json")) == shown


def document(name: str = "3.3.1/control.json") -> Any:
    return json.loads((FIXTURES / name).read_bytes())


def top(program: Any) -> list[Any]:
    return program["program"]["regions"][0]["blocks"][0]["ops"]


def read(program: Any) -> Graph:
    return read_json("m.json", json.dumps(program).encode())


def problem(program: Any) -> Diagnostic:
    with pytest.raises(ReadError) as caught:
        read(program)
    (found,) = caught.value.report
    return found


@pytest.mark.parametrize(("name", "counts"), counted())
def test_a_graph_holds_as_many_of_each_as_paddle_counts(name: str, counts: dict[str, Any]) -> None:
    graph = fixture(name)
    assert list(in_pre_order(graph)) == counts["blocks"]
    assert len(graph.blocks) == len(counts["blocks"])
    assert len(graph.values) == counts["values"]
    assert len(list(graph.parameters)) == counts["parameters"]
    assert list(graph.feeds) == counts["feeds"]
    assert len(graph.fetches) == counts["fetches"]
    assert networkx.is_directed_acyclic_graph(graph.nx)
    assert graph.nx.number_of_nodes() == len(graph.operators) + counts["values"]
    assert graph.unknown == ()


@pytest.mark.parametrize("network", ["cnn", "encoder", "control", "training"])
def test_all_releases_give_the_same_graph(network: str) -> None:
    graphs = [fixture(f"{release}/{network}.json") for release in RELEASES]
    assert [(graph.kind, graph.version) for graph in graphs] == [
        (ProgramKind.PIR, version) for version in RELEASES.values()
    ]
    assert all(list(graph.values) == list(graphs[0].values) for graph in graphs)
    shapes = [[value.shape for value in graph.values.values()] for graph in graphs]
    assert all(shape == shapes[0] for shape in shapes)


@pytest.mark.parametrize("release", RELEASES)
def test_operators_keep_their_operands_attributes_modules_blocks_and_types(release: str) -> None:
    graph, control = fixture(f"{release}/cnn.json"), fixture(f"{release}/control.json")
    stem = graph.operators["conv2d_0"]
    assert (stem.type, stem.module) == ("pd_op.conv2d", "/Cnn/Conv2D")
    assert stem.operands == ("image", "conv2d_0.w_0")
    assert (stem.attributes["strides"], stem.attributes["data_format"]) == ((2, 2), "NCHW")
    assert graph.values["conv2d_0"].shape == (-1, 4, 8, 8)
    assert graph.values["conv2d_0"].dtype == "float32"
    assert graph.values["batch_norm2d_0.w_1"].origin is Origin.PARAMETER

    assert control.operators["if_0"].blocks == ("if_0/0", "if_0/1")
    assert control.blocks["if_0/0"].results == ("if_0/0/scale_0",)
    loop = control.blocks["while_0/0"]
    assert loop.arguments == ("while_0/0/arg_0", "while_0/0/arg_1")
    assert control.values["while_0/0/arg_1"].shape == (-1, 8)
    assert len(loop.results) == 3
    split = control.values[control.operators["split_with_num_0"].results[0]]
    assert split.elements == (("float32", (-1, 4)), ("float32", (-1, 4)))
    assert control.operators["split_0"].results == ("split_0", "split_0:1")


@pytest.mark.parametrize("release", RELEASES)
def test_accumulators_of_a_training_program_are_no_feeds(release: str) -> None:
    graph = fixture(f"{release}/training.json")
    assert sum(operator.kind == "adam" for operator in graph.operators.values()) == 12
    kept = [v for v in graph.values.values() if v.origin is Origin.VARIABLE]
    assert len(kept) == 12 * 4 + 1


def added(program: Any) -> Any:
    return next(op for op in top(program) if op["#"] == "1.add")


def test_an_operand_that_nothing_before_makes_is_named() -> None:
    program = document()
    next(op for op in top(program) if op["#"] == "1.matmul")["I"][0]["%"] = 999
    found = problem(program)
    assert found.code == "GT004"
    assert "`pd_op.matmul` reads value 999, which nothing before it makes" in found.message
    program = document()
    top(program).reverse()
    assert "which nothing before it makes" in problem(program).message


def test_a_number_given_twice_is_named() -> None:
    program = document()
    add = added(program)
    add["O"][0]["%"] = 3
    del top(program)[top(program).index(add) + 1 :]
    found = problem(program)
    assert (found.code, found.message) == ("GT004", "the number of value `x` is used twice")


def test_fields_that_nobody_reads_are_listed_unless_they_are_empty() -> None:
    program = document()
    program["signature"] = {"author": "me"}
    program["notes"] = []
    top(program)[0]["QA"] = [1]
    add = added(program)
    add["OA"].append({"N": "placement", "AT": {"#": "0.a_str", "D": "cpu"}})
    add["X"] = 5
    assert read(program).unknown == (
        "file field `signature`",
        "operator field `QA`",
        "operator field `X`",
        "result attribute field `placement`",
    )


def test_dialects_roles_and_call_stacks_are_kept() -> None:
    program = document()
    add = added(program)
    add["#"] = "7.add"
    frames = ['  File "/home/me/train.py", line 14, in <module>', "    y = fc(x)"]
    stack = {"#": "0.a_array", "D": [{"#": "0.a_str", "D": frame} for frame in frames]}
    add["A"] += [
        {"N": "op_role", "AT": {"#": "0.a_i32", "D": 2}},
        {"N": "op_callstack", "AT": stack},
    ]
    operator = read(program).operators["add_0"]
    assert (operator.type, operator.role, operator.source) == ("dialect7.add", 2, "train.py:14")
    assert not {"op_role", "op_callstack"} & operator.attributes.keys()


@pytest.mark.parametrize(
    "damage",
    [
        lambda ops: ops[3].pop("I"),
        lambda ops: ops[3].update(I=5),
        lambda ops: ops[3].update(O=[{}]),
        lambda ops: ops[3].update(A=[{"N": "x"}]),
        lambda ops: ops[0].update(A=[1]),
        lambda ops: ops[0].update(O=[]),
        lambda ops: ops[3].update({"#": 7}),
        lambda ops: ops.insert(0, None),
        lambda ops: ops.insert(0, []),
        lambda ops: ops[3].update(I=[{"%": []}]),
        lambda ops: ops[3]["O"][0].update({"%": {}}),
    ],
)
def test_a_damaged_layout_is_a_diagnostic(damage: Any) -> None:
    program = document()
    damage(top(program))
    assert problem(program).code == "GT004"


def test_an_operator_that_lacks_something_is_named_with_what_it_lacks() -> None:
    program = document()
    ops = top(program)
    index = next(place for place, op in enumerate(ops) if op["#"] == "1.data")
    del ops[index]["O"]
    assert problem(program).message == f"operator {index}, `pd_op.data`, lacks `O`"
    ops[0]["A"] = 5
    assert problem(program).message == (
        "operator 0, `builtin.parameter`, does not have the layout that Paddle writes"
    )
    del program["program"]
    assert problem(program).message == "the file lacks `program`"


@pytest.mark.parametrize("regions", [[], [{}], {}, None, [{"blocks": []}], 3])
def test_a_program_without_one_top_level_block_is_a_diagnostic(regions: Any) -> None:
    program = document()
    program["program"]["regions"] = regions
    assert problem(program).code == "GT004"
