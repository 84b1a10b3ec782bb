"""What distillation configurations of other toolkits say: which two things each loss compares.

The forms are those of PaddleClas (`Loss: Train:`), PaddleOCR (`Loss: loss_config_list:`) and
PaddleSlim (`Distillation: node:` of its automatic compression, `DistillConfig:` of its dynamic
graph), and the plain list that graphtool writes (`pairs:`). No network is looked at here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from graphtool.diagnostics import Diagnostic, PairError, Severity
from graphtool.diagnostics import listed as quoted
from graphtool.loss_specs import named_losses
from graphtool.matching import problems
from graphtool.matching._doubled_keys import doubled_keys
from graphtool.matching._entry import (
    LONGEST_REASON,
    Entry,
    Loss,
    Name,
    Read,
    Unknown,
    Unread,
    Yaml,
    brief,
    listed,
    table_of,
    weighed,
)
from graphtool.matching._loss_lists import of_paddleclas, of_paddleocr
from graphtool.matching._slim_lists import of_auto_compression, of_layers
from graphtool.matching.pairs import Kind

__all__ = ["entries_of"]

# Honest files have 5,000 letters; reading takes up to a tenth of a second for each thousand.
_LONGEST = 65_536
_MOST_ENTRIES = 1_000
_MOST_DOUBLED = 20
_FOUND_BY = "Loss: Train:", "Loss: loss_config_list:", "Distillation:", "DistillConfig:", "pairs:"
# Of one pair in the plain list.
_KEYS = "teacher", "student", "kind", "loss", "weight", "adapter"


def entries_of(text: str) -> list[Read]:
    """Read the entries of a configuration in order.

    Raises PairError: GT324.
    """
    document = _parsed(text)
    for is_of, read in _FORMS:
        if is_of(document):
            found = list(islice(read(document), _MOST_ENTRIES + 1))
            if len(found) > _MOST_ENTRIES:
                raise PairError(_unreadable(f"it has more than {_MOST_ENTRIES:,} pairs"))
            return found
    message, notes = "the YAML is not a known configuration", (f"looked for: {quoted(_FOUND_BY)}",)
    raise PairError(problems.bad_configuration(message, notes=notes))


def _unreadable(reason: str) -> Diagnostic:
    return problems.bad_configuration(f"the configuration cannot be read: {reason}")


def _parsed(text: str) -> Yaml:
    import yaml
    from yaml.composer import ComposerError

    if len(text) > _LONGEST:
        raise PairError(_unreadable(f"it has more than {_LONGEST:,} letters"))

    class Loader(yaml.BaseLoader):
        """Makes dicts, lists and texts alone: no tag in the file means anything."""

        def compose_mapping_node(self, anchor: Any) -> Any:
            node = super().compose_mapping_node(anchor)
            merged = next((key for key, _ in node.value if key.value == "<<"), None)
            if merged is not None:
                reason = "`<<` is not read, write out what it stands for"
                raise ComposerError(None, None, reason, merged.start_mark)
            return node

        def get_single_node(self) -> Any:
            node = super().get_single_node()
            doubled = list(islice(doubled_keys(node), _MOST_DOUBLED))
            if doubled:
                raise PairError(*map(_unreadable, doubled))
            return node

    try:
        return yaml.load(text, Loader=Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = "" if mark is None else f" in line {mark.line + 1}, column {mark.column + 1}"
        reason = f"{error.problem}{where}"
    except yaml.YAMLError as error:
        reason = str(error).split("\n")[0]
    except RecursionError:
        reason = "it is nested too deeply"
    raise PairError(_unreadable(reason[:LONGEST_REASON])) from None


def _plain(document: Yaml) -> Iterator[Read]:
    """Read `pairs:`, as `suggest-pairs --as yaml` writes them."""
    pairs: Yaml = document["pairs"]
    if not isinstance(pairs, list):
        reason = "wanted a list, with `- ` before each pair"
        yield Unread(place="pairs", reason=reason, severity=Severity.ERROR)
    for index, given in enumerate(listed(pairs)):
        table = table_of(given)
        for one in weighed(_plain_pair(f"pairs[{index}]", table), table.get("weight")):
            yield replace(one, severity=Severity.ERROR) if isinstance(one, Unread) else one


def _plain_pair(place: str, table: Mapping[str, Yaml]) -> Iterator[Read]:
    loss, kind = table.get("loss", "l2"), table.get("kind")
    teacher, student, adapter = (table.get(key) for key in ("teacher", "student", "adapter"))
    strange = [brief(key) for key in table if key not in _KEYS]
    losses = tuple(named_losses())
    if not isinstance(teacher, str) or not isinstance(student, str):
        yield Unread(place=place, reason="wanted a `teacher` and a `student`")
    elif strange:
        yield Unread(place=place, reason=f"there is no key {quoted(strange)}")
    elif loss not in losses:
        yield Unknown(place=f"{place}.loss", loss=brief(loss), known=losses, typed="loss: {}")
    elif kind is not None and kind not in [known.value for known in Kind]:
        yield Unread(place=place, reason=f"there is no kind `{brief(kind)}`")
    elif not isinstance(adapter, str | None):
        yield Unread(place=place, reason="its `adapter` is not text")
    else:
        yield Entry(
            place=place,
            teacher=Name(teacher, (teacher,)),
            student=Name(student, (student,)),
            loss=Loss(ours=loss),
            kind=None if kind is None else Kind(kind),
            adapter=adapter,
        )


# Each form, and what tells it.
_FORMS: tuple[tuple[Callable[[Yaml], bool], Callable[[Yaml], Iterator[Read]]], ...] = (
    (lambda given: "pairs" in table_of(given), _plain),
    (lambda given: "Train" in table_of(table_of(given).get("Loss")), of_paddleclas),
    (lambda given: "loss_config_list" in table_of(table_of(given).get("Loss")), of_paddleocr),
    (lambda given: "Distillation" in table_of(given), of_auto_compression),
    (lambda given: any("DistillConfig" in table_of(part) for part in listed(given)), of_layers),
)
