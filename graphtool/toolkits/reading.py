"""Read pairs from the distillation configurations of PaddleClas and PaddleOCR."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isfinite
from os import PathLike, fspath
from pathlib import PurePath
from typing import Any, TypeAlias, cast

from graphtool.both import Both
from graphtool.diagnostics import (
    Diagnostic,
    PairError,
    ReadError,
    Severity,
    Where,
    counted,
    listed,
    rule,
)
from graphtool.graph import Graph
from graphtool.matching import problems, recipe
from graphtool.matching.candidates import Candidate, candidates, common_pair_kind
from graphtool.matching.pairs import Kind, Pair
from graphtool.matching.recipe import Recipe
from graphtool.matching.score import Scorer
from graphtool.matching.suggest import pair_of
from graphtool.selectors import find
from graphtool.sources import Source, read_without_teachers
from graphtool.structure import Structure, analyse

__all__ = ["is_configuration", "read_recipe"]

# YAML is read as dicts, lists and texts, nested at will.
_Yaml: TypeAlias = Any

_WRITE = "graphtool suggest-pairs TEACHER STUDENT -o pairs.toml"
# Published files have 5,000 characters; reading takes up to 0.1 s for each thousand.
_MAX_LENGTH = 65_536
_MAX_PAIRS = 1_000
# An unknown name is compared with all others, which takes up to 0.05 s.
_MAX_ERRORS = 20
_MAX_LISTED = 8
_MAX_NAMES = 4
_LONGEST_TEXT = 200

# Keys that say which two things a loss compares.
_NETWORKS = "model_name_pairs", "model_name_pair"
_KEYS = ("s_key", "t_key"), ("s_keys", "t_keys"), ("student_keepkeys", "teacher_keepkeys")
_READ = ("weight", *_NETWORKS, "key", "name", *(key for keys in _KEYS for key in keys))
# Of losses that compare a part of what their `key` means.
_SLICES = "maps_name", "dis_head", "index"
_PAIR, _BASE = "DistillationPairLoss", "base_loss_name"
_ROLES = re.compile(r"(?P<role>teacher|student)(_0)?", re.IGNORECASE)
_INDEX = re.compile(r"\[(\d+)\]")
_ABSENT = "", "~", "null", "Null", "NULL", "None"
_FALSE = (*_ABSENT, "false", "False", "FALSE", "no", "off")
# The keys by which PaddleClas hands out the logits, and PaddleOCR what a sublayer returns.
_CLAS_OUTPUTS = (*_ABSENT, "logits", "output")
_OCR_PARTS = {
    **dict.fromkeys((*_ABSENT, "head_out"), "head"),
    "backbone_out": "backbone",
    "neck_out": "neck",
}


@rule("GT324", replaces=("GT323", "GT327"))
def bad_configuration(
    message: str, *, where: Sequence[Where] = (), notes: Sequence[str] = ()
) -> Diagnostic:
    """The YAML is not a distillation configuration, or no pair can be read from it.

    Files that end in `.yml` or `.yaml` are read as configurations, all others as recipes. Known
    configurations are the `Loss: Train:` of PaddleClas and the `Loss: loss_config_list:` of
    PaddleOCR.

    If the YAML does not parse, look at the indentation at the line and column of the message. Of a
    key given twice the last counts, as in the toolkits. Tags are ignored: nothing in the file can
    run.
    """
    return Diagnostic(message=message, where=tuple(where), notes=tuple(notes), help=_WRITE)


@rule("GT325", replaces=("GT326",))
def unread_entry(
    message: str,
    severity: Severity,
    *,
    notes: Sequence[str] = (),
    help: str | None = None,
) -> Diagnostic:
    """A loss of a configuration was not read as a pair, or was read with another loss.

    A loss on labels has no teacher; that is only noted. Other losses compare what has no name in a
    Program: a key of what the code returns, a part of a Value, one of several heads, two students.
    To pair such Values, name them in a recipe, where a pair that cannot be read is an error.

    A loss that graphtool lacks is replaced by the most similar one, with default options; the
    message names the differences. Of the options only the weight is read, and the message names the
    others.
    """
    return Diagnostic(message=message, severity=severity, notes=tuple(notes), help=help)


@dataclass(frozen=True, slots=True)
class _Loss:
    """A loss of a toolkit, and the nearest of graphtool's, None where there is none.

    `differs` says why the two never compute the same. Otherwise they do with the right options:
    `same` has the toolkit's default and graphtool's value of each that decides. A loss that
    `is_directed` moves its first network towards its second.
    """

    nearest: str | None = None
    differs: str | None = None
    same: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    is_directed: bool = False


_UNKNOWN = "is not a loss of graphtool"
_ELSE = "computes something else"
_NONE = _Loss(None, _UNKNOWN)
_DISTANCE = {"mode": ("l2", "l2"), "reduction": ("mean", "mean")}
# Both directions of the divergence; `kl` has the teacher's.
_MUTUAL = _Loss("kl", _UNKNOWN)
_DKD = {
    "temperature": ("1", "4"),
    "alpha": ("1", "1"),
    "beta": ("1", "8"),
    "use_target_as_gt": ("false", "true"),
}
# PaddleClas at d178931, ppcls/loss, also with `Distillation` before the name.
_OF_CLAS = {
    "CELoss": _Loss("soft_label", same={"epsilon": ("", "")}, is_directed=True),
    "DISTLoss": _Loss("dist", same={"beta": ("1", "1"), "gamma": ("1", "1")}),
    "DKDLoss": _Loss("dkd", same=_DKD, is_directed=True),
    "DMLLoss": _MUTUAL,
    "DistanceLoss": _Loss("l2", same={**_DISTANCE, "act": ("", "")}),
    "KLDivLoss": _Loss("kl", same={"temperature": ("4", "4")}, is_directed=True),
    # It divides distances by a mean that includes the zeros, and weighs angles as much as them.
    "RKDLoss": _Loss("relational", _ELSE),
    "SKDLoss": _Loss("skd", "adds the loss on labels", is_directed=True),
    "WSLLoss": _Loss(None, _UNKNOWN, is_directed=True),
}
_CLAS = {
    **{f"Distillation{name}": loss for name, loss in _OF_CLAS.items()},
    **_OF_CLAS,
    **dict.fromkeys(("AFDLoss", "MGDLoss", "PEFDLoss", _PAIR), _NONE),
}
# PaddleOCR 2.7, ppocr/losses: sums over the steps of a text, and masks, where graphtool has means.
_OCR = {
    "DistillCTCLogits": _NONE,
    "DistillationDKDLoss": _Loss("dkd", _ELSE, is_directed=True),
    "DistillationDMLLoss": _MUTUAL,
    "DistillationDilaDBLoss": _NONE,
    "DistillationDistanceLoss": _Loss("l2", same=_DISTANCE),
    "DistillationKLDivLoss": _Loss("kl", _ELSE, is_directed=True),
    "DistillationNRTRDMLLoss": _MUTUAL,
    "DistillationSERDMLLoss": _MUTUAL,
    "DistillationVQADistanceLoss": _Loss("l2", "leaves out what is masked"),
}


def is_configuration(path_or_text: object) -> bool:
    """Return whether this is the path of a toolkit's configuration, not a recipe."""
    if not isinstance(path_or_text, str | PathLike):
        return False
    given = fspath(cast("str | PathLike[str]", path_or_text))
    is_text = isinstance(path_or_text, str) and "\n" in given
    return not is_text and PurePath(given).suffix.lower() in (".yml", ".yaml")


def read_recipe(path_or_text: str | PathLike[str], *, teacher: Source, student: Source) -> Recipe:
    """Read a recipe and find its Values in two networks.

    A string of several lines is the text of a recipe, any other the path of one. The networks are
    Graphs, or anything that `gt.read` takes.

    A Value is found by its fingerprint, and among equal ones by module path and name, so a recipe
    made from an inference model holds for the training program. An end without a fingerprint, or
    whose name was edited, is found by its name, which may be any selector. `pairs.report` notes
    which Values moved and which names were edited.

    A path that ends in `.yml` or `.yaml` is a distillation configuration of PaddleClas or
    PaddleOCR, as `suggest-pairs --as` writes it. The `why` of its pairs gives their place in the
    file; `pairs.report` lists the losses that were ignored or replaced.

    Raises PairError with all problems: GT310, GT314, GT316, GT324, GT367, GT303, GT101 and GT102.
    Raises UsageError: GT248. Raises what `gt.read` does.
    """
    if not is_configuration(path_or_text):
        return recipe.read_recipe(path_or_text, teacher=teacher, student=student)
    document = _parsed(recipe.load_text(path_or_text, unreadable=_unreadable))
    reader = _Reader(document, Both(teacher, student).map(read_without_teachers))
    reader.read()
    return recipe.checked_recipe(reader.pairs, reader.graphs, reader.diagnostics)


def _unreadable(reason: str) -> Diagnostic:
    return bad_configuration(f"the configuration cannot be read: {reason}")


def _parsed(text: str) -> _Yaml:
    """Parse YAML as dicts, lists and texts; as in the toolkits, the last of two equal keys counts.

    Raises PairError: GT324.
    """
    import yaml

    if len(text) > _MAX_LENGTH:
        raise PairError(_unreadable(f"it has more than {_MAX_LENGTH:,} letters"))
    try:
        return yaml.load(text, yaml.BaseLoader)  # it makes no other objects
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = "" if mark is None else f" in line {mark.line + 1}, column {mark.column + 1}"
        reason = f"{error.problem}{where}"
    except yaml.YAMLError as error:
        reason = str(error).split("\n")[0]
    except RecursionError:
        reason = "it is nested too deeply"
    raise PairError(_unreadable(_brief(reason))) from None


def _table(given: _Yaml) -> Mapping[str, _Yaml]:
    return cast("Mapping[str, _Yaml]", given) if isinstance(given, dict) else {}


def _list(given: _Yaml) -> Sequence[_Yaml]:
    return cast("Sequence[_Yaml]", given) if isinstance(given, list) else ()


def _texts(given: _Yaml) -> list[str] | None:
    """Return a list of texts, one text as a list of its own; None for anything else."""
    found = cast("list[_Yaml]", given if isinstance(given, list) else [given])
    return found if found and all(isinstance(text, str) for text in found) else None


def _brief(given: _Yaml) -> str:
    return given[:_LONGEST_TEXT] if isinstance(given, str) else reprlib.repr(given)


def _plain(given: _Yaml) -> _Yaml:
    """Return what spellings of one option have in common: `1.0` and `1`, `True` and `true`."""
    if given in _ABSENT:
        return ""
    try:
        return float(given)
    except (TypeError, ValueError):
        return given.lower() if isinstance(given, str) else given


class _NoPairError(Exception):
    """No pair can be made of a loss; the text says why."""


class _Reader:
    """Makes pairs of the losses of a configuration, and collects diagnostics."""

    def __init__(self, document: _Yaml, graphs: Both[Graph]) -> None:
        """Look for the list of losses.

        Raises PairError: GT324.
        """
        self.graphs = graphs
        self.pairs: list[Pair] = []
        self.diagnostics: list[Diagnostic] = []
        losses = _table(_table(document).get("Loss"))
        self._is_ocr = "Train" not in losses
        key = "loss_config_list" if self._is_ocr else "Train"
        if key not in losses:
            message = "the YAML is not a known configuration"
            notes = ("looked for: `Loss: Train:`, `Loss: loss_config_list:`",)
            raise PairError(bad_configuration(message, notes=notes))
        self._place, self._losses = f"Loss.{key}", _list(losses[key])
        self._trains_teacher = _trains_teacher(document)
        self._networks = graphs.map(analyse)
        self._comparison = Scorer(*self._networks)
        # The place of each pair, and whether its loss differs.
        self._first: dict[tuple[str, str, str], tuple[str, bool]] = {}

    def read(self) -> None:
        """Make the pairs.

        Raises PairError: GT324 where there are none, or too many; and after twenty errors.
        """
        for index, given in enumerate(self._losses):
            place = f"{self._place}[{index}]"
            for name, options in _table(given).items():
                self._read_loss(f"{place}.{name}", name, _table(options))
            if not _table(given):
                self._unread(place, "wanted a loss with its options")
        if not self.pairs and all(found.code == "GT325" for found in self.diagnostics):
            reasons = [found.message for found in self.diagnostics]
            left = len(reasons) - _MAX_LISTED
            more = (f"and {counted(left, 'more reason')}",) if left > 0 else ()
            message = "no pair can be read from the configuration"
            where, notes = problems.both_places(*self.graphs), (*reasons[:_MAX_LISTED], *more)
            raise PairError(bad_configuration(message, where=where, notes=notes))

    def _report(self, found: Diagnostic) -> None:
        # Aliases can make a file say nothing a million times.
        self.diagnostics.append(found)
        if len(self.diagnostics) > _MAX_PAIRS:
            raise PairError(_unreadable(f"it has more than {_MAX_PAIRS:,} pairs"))
        errors = [one for one in self.diagnostics if one.severity is Severity.ERROR]
        if len(errors) >= _MAX_ERRORS:
            raise PairError(*errors)

    def _unread(self, place: str, reason: object, severity: Severity = Severity.WARNING) -> None:
        explain = None if severity is Severity.NOTE else "graphtool explain GT325"
        self._report(unread_entry(f"`{place}` is not a pair: {reason}", severity, help=explain))

    def _read_loss(self, place: str, name: str, options: Mapping[str, _Yaml]) -> None:
        """Make a pair for each two networks and two keys that a loss compares."""
        written = next((options[key] for key in _NETWORKS if key in options), None)
        if written is None and ("model_names" in options or "model_name_list" in options):
            self._unread(place, "it compares one network with the labels", Severity.NOTE)
            return
        networks = [written] if _texts(written) else _list(written)
        base = options.get(_BASE) if name == _PAIR else name
        if not networks or not isinstance(base, str):
            reason = f"wanted a `{_BASE}`" if networks else "it does not name two networks"
            self._unread(place, reason)
            return
        known = _OCR if self._is_ocr else _CLAS
        if base not in known:
            self._report(problems.unknown_loss(place, _brief(base), (*known,), "{}"))
            return
        loss = known[base]
        reasons = [_difference(base, loss, options, () if name == base else (_BASE,))]
        reasons += ["the teacher learns as well"] if self._trains_teacher else []
        difference = "; ".join(filter(None, reasons))
        for compared in networks:
            try:
                is_teacher_first = _is_teacher_first(compared)
                keys, weight = _keys(options), _plain(options.get("weight", "1"))
                if loss.is_directed and is_teacher_first:
                    raise _NoPairError("it pulls the first of its networks, which is the teacher")
                if not isinstance(weight, float) or not isfinite(weight) or weight < 0:
                    raise _NoPairError("its weight is not a number of 0 or more")
            except _NoPairError as error:
                self._unread(place, error)
                continue
            for first, second in keys:
                both = Both(first, second) if is_teacher_first else Both(second, first)
                self._read_pair(place, both, loss, difference, weight)

    def _read_pair(
        self, place: str, keys: Both[str], loss: _Loss, difference: str, weight: float
    ) -> None:
        for key in keys:
            if self._is_ocr and key not in _OCR_PARTS:
                code = "only the code of the network knows"
                self._unread(place, f"which Value `{_brief(key)}` is, {code}")
                return
        teacher = self._value(place, "teacher", self._networks.teacher, keys.teacher)
        student = self._value(place, "student", self._networks.student, keys.student)
        if teacher is None or student is None:
            return
        structures = self._networks
        kind = common_pair_kind(structures.teacher, teacher, structures.student, student)
        candidate = Candidate(kind, teacher, student, why=())
        pair = pair_of(len(self._first) + 1, candidate, self._comparison)
        pair = replace(
            pair,
            loss=loss.nearest or pair.loss,
            weight=weight,
            # A loss that graphtool lacks may have layers of its own.
            adapter=None if loss.nearest else pair.adapter,
            why=(f"read from `{place}`",),
            alternatives=(),
        )
        before, differs = self._first.setdefault(
            (teacher, student, pair.loss), (place, bool(difference))
        )
        if len(self._first) > len(self.pairs):
            self.pairs.append(pair)
            if difference:
                message = f"`{place}`: {difference}; read with `{pair.loss}`"
                self._report(unread_entry(message, Severity.NOTE))
        elif differs or difference:
            self._unread(place, f"with a loss of graphtool it repeats `{before}`")
        else:
            self._report(problems.duplicate_pair(before, place, teacher, student))

    def _value(self, place: str, role: str, structure: Structure, key: str) -> str | None:
        """Return the name of the Value that a key means; report why there is none."""
        try:
            name = self._find(role, structure.graph, key)
        except ReadError as error:
            for one in error.report:
                note = f"named by `{place}` for the {role}"
                self._report(replace(one, notes=(note, *one.notes)))
        except _NoPairError as error:
            self._unread(place, f"in the {role}, {error}")
        else:
            if name in structure.flow.features:
                return name
            self._report(problems.no_feature_map(structure, name, role))
        return None

    def _find(self, role: str, graph: Graph, key: str) -> str:
        """Return what the toolkits hand out by a key.

        PaddleClas has the logits, or a sublayer as `blocks[2].conv`; PaddleOCR has three parts.
        """
        if not self._is_ocr and key not in _CLAS_OUTPUTS:
            try:
                return find(graph, key).name
            except ReadError:
                with suppress(ReadError):
                    return find(graph, _INDEX.sub(r".\1", key)).name
                raise
        part = _OCR_PARTS[key] if self._is_ocr else ""
        is_output = part in ("", "head")
        if is_output and self._outputs is not None:
            return self._outputs.teacher if role == "teacher" else self._outputs.student
        returned = [value.name for value in graph.values.values() if part in value.layer_outputs]
        if len(returned) == 1:
            return returned[0]
        if is_output:
            counts = " and ".join(str(len(structure.heads)) for structure in self._networks)
            raise _NoPairError(f"it is not clear which output is meant: the two have {counts}")
        if returned:
            raise _NoPairError(f"`{part}` returns {len(returned)} Values")
        raise _NoPairError(f"no sublayer `{part}` is known, which returns `{key}`")

    @cached_property
    def _outputs(self) -> Both[str] | None:
        """The logits of both networks, None where it is not clear which are meant."""
        heads = self._networks.map(lambda structure: structure.heads)
        if len(heads.teacher) == len(heads.student) == 1:
            return heads.map(lambda both: both[0].logits)
        found = [one for one in candidates(self._comparison) if one.kind is Kind.LOGITS]
        return Both(found[0].teacher, found[0].student) if len(found) == 1 else None


def _trains_teacher(document: Mapping[str, _Yaml]) -> bool:
    """Return whether the teacher learns as well; without a list PaddleClas freezes none."""
    arch = _table(document.get("Arch"))
    frozen = _list(arch.get("freeze_params_list"))
    for place, model in enumerate(map(_table, _list(arch.get("models")))):
        # A model made of several has a list of its own.
        if "Teacher" in model and "models" not in _table(model["Teacher"]):
            return place >= len(frozen) or frozen[place] in _FALSE
    models = _table(_table(document.get("Architecture")).get("Models"))
    return _table(models.get("Teacher")).get("freeze_params", "true") in _FALSE


def _difference(
    name: str, loss: _Loss, options: Mapping[str, _Yaml], read: Sequence[str]
) -> str | None:
    """Return in what a loss with these options differs from the nearest, None where it does not."""
    ignored = [
        f"{key}: {_brief(options.get(key, default))}"
        for key, (default, wanted) in loss.same.items()
        if _plain(options.get(key, default)) != _plain(wanted)
    ]
    others = [key for key in options if key not in (*_READ, *read, *loss.same)]
    ignored += [f"{_brief(key)}: {_brief(options[key])}" for key in others]
    has = f"has {listed(ignored)}, which is ignored" if ignored else None
    reasons = " and ".join(filter(None, (loss.differs, has)))
    return f"`{name}` {reasons}" if reasons else None


def _is_teacher_first(networks: _Yaml) -> bool:
    """Return the order of a student and its teacher; refuse other networks."""
    names = _texts(networks) or []
    roles = [match["role"].lower() for match in map(_ROLES.fullmatch, names) if match]
    if len(names) == len(roles) == len({*roles}) == 2:
        return roles[0] == "teacher"
    is_short = 0 < len(names) <= _MAX_NAMES
    written = " and ".join(f"`{_brief(name)}`" for name in names) if is_short else _brief(networks)
    raise _NoPairError(f"{written} are not a student and its teacher")


def _keys(options: Mapping[str, _Yaml]) -> list[tuple[str, str]]:
    """Return the keys that a loss compares, in the order of its networks."""
    for first, second in _KEYS:
        if first in options or second in options:
            of_first, of_second = _texts(options.get(first)), _texts(options.get(second))
            if of_first is None or of_second is None or len(of_first) != len(of_second):
                raise _NoPairError(f"`{first}` and `{second}` are no lists of equal length")
            return list(zip(of_first, of_second, strict=True))
    if "student_keys" in options or "teacher_keys" in options:
        raise _NoPairError("it learns which layers go together, and names none")
    cut = [f"`{key}: {_brief(options[key])}`" for key in _SLICES if key in options]
    if cut:
        raise _NoPairError(f"it compares a part of a Value, {', '.join(cut)}")
    if options.get("multi_head", "") not in _FALSE:
        raise _NoPairError("it compares one of several heads")
    key = options.get("key", "")
    if not isinstance(key, str):
        raise _NoPairError("its `key` is no text")
    return [(key, key)]
