from dataclasses import FrozenInstanceError, fields, replace

import networkx
import pytest

from graphtool.graph import Graph, Operator, Value
from tests.readers.test_json import fixture


@pytest.fixture(scope="module")
def control() -> Graph:
    return fixture("3.3.1/control.json")


@pytest.mark.parametrize("kind", [Value, Operator])
def test_records_that_are_read_are_as_those_made_by_hand(
    control: Graph, kind: type[Value] | type[Operator]
) -> None:
    read = control.values if kind is Value else control.operators
    assert len(read) > 10
    for record in read.values():
        assert type(record) is kind
        by_hand = kind(**{one.name: getattr(record, one.name) for one in fields(kind)})
        assert record == by_hand == replace(record)
        assert repr(record) == repr(by_hand)


@pytest.mark.parametrize("kind", ["values", "operators"])
def test_records_that_are_read_are_frozen(control: Graph, kind: str) -> None:
    record = next(iter(getattr(control, kind).values()))
    with pytest.raises(FrozenInstanceError):
        record.name = "other"
    with pytest.raises(FrozenInstanceError):
        del record.name


def test_the_digraph_is_what_networkx_makes_of_its_nodes_and_edges(control: Graph) -> None:
    made = networkx.DiGraph()
    made.add_nodes_from(control.nx.nodes(data=True))
    made.add_edges_from(control.nx.edges(data=True))
    assert len(made.edges) > 20
    assert networkx.utils.graphs_equal(control.nx, made)
    assert list(control.nx) == list(made)
    assert control.nx.pred == made.pred
    for tail, head in made.edges:
        assert control.nx.succ[tail][head] is control.nx.pred[head][tail]
