"""Distillation configurations of PaddleClas and PaddleOCR: read pairs from them, write pairs."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike, fspath
from pathlib import PurePath
from sys import float_info
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from graphtool.arguments import short_repr
from graphtool.both import Both
from graphtool.diagnostics import (
    Diagnostic,
    PairError,
    Parts,
    ReadError,
    Report,
    Severity,
    UsageError,
    listed,
    rule,
)
from graphtool.graph import Graph
from graphtool.matching import problems, recipe
from graphtool.matching.candidates import Candidate, candidates, common_pair_kind
from graphtool.matching.pairs import End, Kind, Pair, PairSet, Relation
from graphtool.matching.recipe import Recipe
from graphtool.matching.score import Scorer
from graphtool.matching.suggest import pair_of
from graphtool.selectors import find
from graphtool.sources import Source, read_without_teachers
from graphtool.structure import analyse
from graphtool.text import printable

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["CONFIGS", "check_export", "export", "is_configuration", "read_recipe"]

# YAML is made of plain dicts, lists and scalars, nested at will.
_Yaml: TypeAlias = Any

# Published files have 5,000 characters; reading takes up to 0.1 s for each thousand.
_MAX_LENGTH = 65_536
# Aliases can make a file say something a million times, and an unknown name takes up to 0.05 s.
_MAX_PAIRS = 200
_TEMPERATURE = 4.0
# What PaddleOCR's BaseModel returns with `return_all_feats`, by the sublayer that returns it.
_OCR_KEYS = {"backbone": "backbone_out", "neck": "neck_out", "head": "head_out"}
_SHAPES_DIFFER = (Relation.CLASSES, Relation.HEADS, Relation.TOKENS, Relation.SEQUENCE)

# Keys that say which two things a loss compares.
_NETWORKS = "model_name_pairs", "model_name_pair"
_KEYS = ("s_key", "t_key"), ("s_keys", "t_keys"), ("student_keepkeys", "teacher_keepkeys")
_READ = ("weight", *_NETWORKS, "key", "name", *(key for keys in _KEYS for key in keys))
# Of losses that compare a part of what their `key` means.
_SLICES = "maps_name", "dis_head", "index"
_PAIR, _BASE = "DistillationPairLoss", "base_loss_name"
_NETWORK = re.compile(r"(?P<role>teacher|student)(_0)?", re.IGNORECASE)
_INDEX = re.compile(r"\[(\d+)\]")
# The keys by which PaddleClas hands out the logits, and PaddleOCR what a sublayer returns.
_CLAS_OUTPUTS = "", "logits", "output"
_OCR_PARTS = {"": "head", **{key: part for part, key in _OCR_KEYS.items()}}


@rule("GT324", replaces=("GT323", "GT327"))
def bad_configuration(message: str, **parts: Unpack[Parts]) -> Diagnostic:
    """The YAML is not a distillation configuration, or no pair can be read from it.

    Files that end in `.yml` or `.yaml` are read as configurations, all others as recipes. Known
    configurations are the `Loss: Train:` of PaddleClas and the `Loss: loss_config_list:` of
    PaddleOCR.

    If the YAML does not parse, look at the indentation at the line and column of the message. Of a
    key given twice the last counts, as in the toolkits. Tags are refused: nothing in the file can
    run.
    """
    parts.setdefault("help", problems.WRITE)
    return Diagnostic(message=message, **parts)


@rule("GT325", replaces=("GT326",))
def unread_entry(message: str, **parts: Unpack[Parts]) -> Diagnostic:
    """A loss of a configuration was not read as a pair, or was read with another loss.

    A loss on labels has no teacher; that is only noted. Other losses compare what has no name in a
    Program: a key of what the code returns, a part of a Value, one of several heads, two students.
    To pair such Values, name them in a recipe, where a pair that cannot be read is an error.

    A loss that graphtool lacks is replaced by the most similar one, with default options; the
    message names the differences. Of the options only the weight is read, and the message names the
    others.
    """
    return Diagnostic(message=message, **parts)


@rule("GT320", replaces=("GT321", "GT322"))
def not_in_configuration(message: str, **parts: Unpack[Parts]) -> Diagnostic:
    """The configuration that `--as` names does not exist, or cannot hold all or some of the pairs.

    `paddleclas` and `paddleocr` are fragments for the training configurations of those toolkits; a
    recipe (`-o pairs.toml`) holds any pair. Both Values of a pair must be returned by a sublayer,
    so that a hook can take them. A saved program does not keep the attribute paths of sublayers
    (`layer4.1`): name both networks as `module:callable`.

    A hook keeps one tensor per sublayer, so a sublayer that runs more than once or returns several
    tensors cannot be named. The losses of PaddleClas and PaddleOCR compare equal shapes, without an
    adapter. PaddleOCR returns only the results of `backbone`, `neck` and `head`.
    """
    return Diagnostic(message=message, **parts)


class _NoPairError(Exception):
    """A loss is no pair, or a pair cannot be written; the text says why."""


@dataclass(frozen=True, slots=True)
class _Loss:
    """A loss of a toolkit, and the nearest of graphtool's, None where there is none.

    `differs` says why the two never compute the same. Otherwise they do with the right options:
    `same` has the toolkit's default and graphtool's value of each that decides. A loss that
    `is_directed` moves its first network towards its second.
    """

    nearest: str | None = None
    differs: str | None = None
    same: Mapping[str, tuple[_Yaml, _Yaml]] = field(default_factory=dict[str, tuple[_Yaml, _Yaml]])
    is_directed: bool = False


_UNKNOWN = "is not a loss of graphtool"
_ELSE = "computes something else"
_NONE = _Loss(None, _UNKNOWN)
_DISTANCE = {"mode": ("l2", "l2"), "reduction": ("mean", "mean")}
# Both directions of the divergence; `kl` has the teacher's.
_MUTUAL = _Loss("kl", _UNKNOWN)
_DKD = {"temperature": (1, 4), "alpha": (1, 1), "beta": (1, 8), "use_target_as_gt": (False, True)}
# PaddleClas at d178931, ppcls/loss, also with `Distillation` before the name.
_OF_CLAS = {
    "CELoss": _Loss("soft_label", same={"epsilon": (None, None)}, is_directed=True),
    "DISTLoss": _Loss("dist", same={"beta": (1, 1), "gamma": (1, 1)}),
    "DKDLoss": _Loss("dkd", same=_DKD, is_directed=True),
    "DMLLoss": _MUTUAL,
    "DistanceLoss": _Loss("l2", same={**_DISTANCE, "act": (None, None)}),
    "KLDivLoss": _Loss("kl", same={"temperature": (4, 4)}, is_directed=True),
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
    document = _parsed(recipe.load_text(path_or_text))
    reader = _Reader(document, Both(teacher, student).map(read_without_teachers))
    reader.read()
    return recipe.checked_recipe(reader.pairs, reader.graphs, reader.diagnostics)


def _unreadable(reason: str) -> PairError:
    return PairError(bad_configuration(f"the configuration cannot be read: {reason}"))


def _parsed(text: str) -> _Yaml:
    """Parse YAML as plain data; as in the toolkits, the last of two equal keys counts.

    Raises PairError: GT324.
    """
    import yaml

    if len(text) > _MAX_LENGTH:
        raise _unreadable(f"it has more than {_MAX_LENGTH:,} letters")
    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = "" if mark is None else f" in line {mark.line + 1}, column {mark.column + 1}"
        reason = f"{error.problem}{where}"
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = str(error).split("\n")[0]
    raise _unreadable(reason) from None


def _table(given: _Yaml) -> Mapping[str, _Yaml]:
    return cast("Mapping[str, _Yaml]", given) if isinstance(given, dict) else {}


def _list(given: _Yaml) -> Sequence[_Yaml]:
    return cast("Sequence[_Yaml]", given) if isinstance(given, list) else ()


def _texts(given: _Yaml) -> Sequence[str]:
    """Return a list of texts, one text as a list of its own; an empty list for anything else."""
    found: Sequence[_Yaml] = (given,) if isinstance(given, str) else _list(given)
    return found if all(isinstance(text, str) for text in found) else ()


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
            keys = "neither `Loss: Train:` nor `Loss: loss_config_list:`"
            message = f"the YAML is not a known configuration: it has {keys}"
            raise PairError(bad_configuration(message))
        self._place, self._losses = f"Loss.{key}", _list(losses[key])
        self._trains_teacher = _trains_teacher(document)
        self._networks = graphs.map(analyse)
        self._comparison = Scorer(*self._networks)
        self._first: dict[tuple[str, str, str], str] = {}

    def read(self) -> None:
        """Make the pairs.

        Raises PairError: GT324 where there are too many.
        """
        for index, given in enumerate(self._losses):
            place = f"{self._place}[{index}]"
            for name, options in _table(given).items():
                self._read_loss(f"{place}.{name}", name, _table(options))
            if not _table(given):
                self._unread(place, "wanted a loss with its options")
        if not self.pairs and all(found.code == "GT325" for found in self.diagnostics):
            message = "no pair can be read from the configuration"
            self._report(bad_configuration(message, where=problems.both_places(*self.graphs)))

    def _report(self, found: Diagnostic) -> None:
        self.diagnostics.append(found)
        if len(self.diagnostics) > _MAX_PAIRS:
            raise _unreadable(f"it has more than {_MAX_PAIRS} pairs")

    def _unread(self, place: str, reason: object, severity: Severity = Severity.WARNING) -> None:
        explain = None if severity is Severity.NOTE else "graphtool explain GT325"
        self._report(
            unread_entry(f"`{place}` is not a pair: {reason}", severity=severity, help=explain)
        )

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
            self._report(problems.unknown_loss(place, base, (*known,), "{}"))
            return
        loss = known[base]
        reasons = [_difference(base, loss, options, () if name == base else (_BASE,))]
        reasons += ["the teacher learns as well"] if self._trains_teacher else []
        difference = "; ".join(filter(None, reasons))
        for compared in networks:
            try:
                is_teacher_first = _is_teacher_first(compared)
                if loss.is_directed and is_teacher_first:
                    raise _NoPairError("it pulls the first of its networks, which is the teacher")
                weight = options.get("weight", 1.0)
                if not isinstance(weight, float | int) or not 0 <= weight <= float_info.max:
                    raise _NoPairError("its weight is not a number of 0 or more")
                keys = _keys(options, _OCR_PARTS if self._is_ocr else None)
            except _NoPairError as error:
                self._unread(place, error)
                continue
            for first, second in keys:
                both = Both(first, second) if is_teacher_first else Both(second, first)
                self._read_pair(place, both, loss, difference, float(weight))

    def _read_pair(
        self, place: str, keys: Both[str], loss: _Loss, difference: str, weight: float
    ) -> None:
        teacher = self._value(place, "teacher", keys.teacher)
        student = self._value(place, "student", keys.student)
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
        before = self._first.setdefault((teacher, student, pair.loss), place)
        if len(self._first) == len(self.pairs):
            self._unread(place, f"with a loss of graphtool it repeats `{before}`")
            return
        self.pairs.append(pair)
        if difference:
            message = f"`{place}`: {difference}; read with `{pair.loss}`"
            self._report(unread_entry(message, severity=Severity.NOTE))

    def _value(self, place: str, role: str, key: str) -> str | None:
        """Return the name of the feature map that a key means; report why there is none."""
        structure = getattr(self._networks, role)
        try:
            name = self._find(role, structure.graph, key)
            if name in structure.flow.features:
                return name
            raise ReadError(problems.no_feature_map(structure, name, role))
        except ReadError as error:
            for one in error.report:
                note = f"named by `{place}` for the {role}"
                self._report(replace(one, notes=(note, *one.notes)))
        except _NoPairError as error:
            self._unread(place, f"in the {role}, {error}")
        return None

    def _find(self, role: str, graph: Graph, key: str) -> str:
        """Return what the toolkits hand out by a key.

        PaddleClas has the logits, or a sublayer as `blocks[2].conv`; PaddleOCR has three parts.
        """
        if not self._is_ocr and key not in _CLAS_OUTPUTS:
            return find(graph, key if key in graph.values else _INDEX.sub(r".\1", key)).name
        part = _OCR_PARTS[key] if self._is_ocr else ""
        is_output = part in ("", "head")
        if is_output and self._outputs is not None:
            return getattr(self._outputs, role)
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
            return place >= len(frozen) or not frozen[place]
    models = _table(_table(document.get("Architecture")).get("Models"))
    return not _table(models.get("Teacher")).get("freeze_params", True)


def _difference(
    name: str, loss: _Loss, options: Mapping[str, _Yaml], read: Sequence[str]
) -> str | None:
    """Return in what a loss with these options differs from the nearest, None where it does not."""
    given = {key: options.get(key, default) for key, (default, _) in loss.same.items()}
    ignored = [f"{key}: {_text(given[key])}" for key in given if given[key] != loss.same[key][1]]
    known = (*_READ, *read, *given)
    ignored += [f"{key}: {_text(value)}" for key, value in options.items() if key not in known]
    has = f"has {listed(ignored)}, which is ignored" if ignored else None
    reasons = " and ".join(filter(None, (loss.differs, has)))
    return f"`{name}` {reasons}" if reasons else None


def _text(given: _Yaml) -> str:
    """Return an option as text; aliases can make one that has no end."""
    return given if isinstance(given, str) else short_repr(given)


def _is_teacher_first(networks: _Yaml) -> bool:
    """Return the order of a student and its teacher; refuse other networks."""
    names = _texts(networks)
    roles = [match["role"].lower() for match in map(_NETWORK.fullmatch, names) if match]
    if len(names) == len(roles) == len({*roles}) == 2:
        return roles[0] == "teacher"
    written = " and ".join(f"`{name}`" for name in names[:4]) or short_repr(networks)
    raise _NoPairError(f"{written} are not a student and its teacher")


def _keys(
    options: Mapping[str, _Yaml], known: Mapping[str, str] | None
) -> Sequence[tuple[str, str]]:
    """Return the keys that a loss compares, in the order of its networks; all `known`, if any."""
    for first, second in _KEYS:
        if first in options or second in options:
            of_first, of_second = _texts(options.get(first)), _texts(options.get(second))
            if not of_first or len(of_first) != len(of_second):
                raise _NoPairError(f"`{first}` and `{second}` are no lists of equal length")
            return list(zip(of_first, of_second, strict=True))
    if "student_keys" in options or "teacher_keys" in options:
        raise _NoPairError("it learns which layers go together, and names none")
    cut = [f"{key}: {_text(options[key])}" for key in _SLICES if key in options]
    if cut:
        raise _NoPairError(f"it compares a part of a Value, {listed(cut)}")
    if options.get("multi_head"):
        raise _NoPairError("it compares one of several heads")
    key = options.get("key") or ""
    if not isinstance(key, str):
        raise _NoPairError("its `key` is no text")
    if known is not None and key not in known:
        raise _NoPairError(f"which Value `{key}` is, only the code of the network knows")
    return [(key, key)]


_Keyed: TypeAlias = tuple[Pair, Both[str]]


def export(pairs: PairSet, name: str) -> str:
    """Return pairs as a YAML fragment to paste; its comments list the pairs left out.

    `name` is `paddleclas` (`Arch` and `Loss` of a DistillationModel) or `paddleocr` (`Architecture`
    and `Loss`). `check_export` returns the pairs left out as Diagnostics.

    Raises UsageError: GT320 for another name. Raises PairError: GT320 if no pair can be written.
    """
    import yaml

    keyed, refused = _keyed(pairs, name)
    if not keyed:
        has_paths = _has_paths(pairs.teacher) and _has_paths(pairs.student)
        networks = "MODULE:CALLABLE MODULE:CALLABLE --input SHAPE"
        option = "-o pairs.toml" if has_paths else f"--as {name}"
        raise PairError(
            not_in_configuration(
                "no pair can be written in this configuration",
                where=problems.both_places(pairs.teacher, pairs.student),
                notes=tuple(refused),
                help=f"graphtool suggest-pairs {networks} {option}",
            )
        )
    comments = "".join(f"# {printable(found.message)}\n" for found in _left_out(refused))
    document = _clas_document if name == "paddleclas" else _ocr_document
    body = yaml.safe_dump(document(pairs, keyed), sort_keys=False, default_flow_style=None)
    return f"{_HEADERS[name]}{comments}{body}"


def check_export(pairs: PairSet, name: str) -> Report:
    """Report which pairs a configuration leaves out, and why.

    Raises UsageError: GT320 for an unknown name.
    """
    return Report.of(_left_out(_keyed(pairs, name)[1]))


def _left_out(refused: Mapping[str, Sequence[int]]) -> Iterator[Diagnostic]:
    for reason, ranks in refused.items():
        numbers = ", ".join(map(str, ranks))
        subject = f"pairs {numbers} are" if len(ranks) > 1 else f"pair {numbers} is"
        message = f"{subject} left out: {reason}"
        yield not_in_configuration(message, severity=Severity.WARNING)


def _keyed(pairs: PairSet, name: str) -> tuple[list[_Keyed], Mapping[str, list[int]]]:
    """Return the pairs that a configuration can hold with their keys, and why it lacks others.

    Raises UsageError: GT320 for an unknown name.
    """
    if name not in CONFIGS:
        message = f"there is no configuration `{name}`; there are {listed(CONFIGS)}"
        raise UsageError(not_in_configuration(message, help=f"--as {CONFIGS[0]}"))
    is_ocr = name == "paddleocr"
    logits = {(pair.teacher.name, pair.student.name) for pair in pairs if pair.kind is Kind.LOGITS}
    kept: list[_Keyed] = []
    refused: defaultdict[str, list[int]] = defaultdict(list)
    for pair in pairs:
        is_unclear = pair.kind is Kind.LOGITS and len(logits) > 1
        try:
            keys = Both(
                _key("teacher", pairs.teacher, pair.teacher, pair.kind, is_ocr=is_ocr),
                _key("student", pairs.student, pair.student, pair.kind, is_ocr=is_ocr),
            )
            if is_unclear:
                raise _NoPairError(f"`{keys.teacher}` would mean several Values")
            if is_ocr and keys.teacher != keys.student:
                both = f"`{keys.teacher}` and `{keys.student}`"
                raise _NoPairError(f"a loss reads one key of both, not {both}")
            if pair.adapter is not None:
                raise _NoPairError(f"the configuration has no key for the adapter `{pair.adapter}`")
            if pair.relation in _SHAPES_DIFFER:
                differ = f"shapes differ ({pair.relation.value})"
                raise _NoPairError(f"{differ} and the losses compare equal ones")
        except _NoPairError as error:
            refused[str(error)].append(pair.rank)
        else:
            kept.append((pair, keys))
    return kept, refused


def _key(role: str, graph: Graph, end: End, kind: Kind, *, is_ocr: bool) -> str:
    """Return by which key a Value is handed out: `logits`, `blocks[2].conv`, `neck_out`."""
    value = graph.values.get(end.name)
    if value is None or value.layer is None:
        # A recipe may have the path where a saved program does not.
        paths = [] if end.layer is None else [end.layer]
    else:
        # The sublayer that makes it, then the innermost that return it.
        paths = sorted(value.layer_outputs, key=lambda path: path != value.layer)
    candidates = [part for part in _OCR_KEYS if part in paths] if is_ocr else paths
    if paths and kind is Kind.LOGITS and not (is_ocr and candidates):
        return "head_out" if is_ocr else "logits"
    # How many Values each sublayer returns, over all of its runs.
    counts = Counter(path for value in graph.values.values() for path in value.layer_outputs)
    path = next((path for path in candidates if counts[path] < 2), None)
    if path is not None:
        return _OCR_KEYS[path] if is_ocr else re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", path)
    if not _has_paths(graph):
        fix = "name it as `module:callable`, not as a file"
        raise _NoPairError(f"the {role} has no attribute paths: {fix}")
    reason = "no sublayer returns the Value"
    if candidates:
        reason = f"`{candidates[0]}` returns several Values"
    elif is_ocr:
        reason = "the Value isn't what `backbone`, `neck` or `head` returns"
    raise _NoPairError(f"in the {role}, {reason}")


def _has_paths(graph: Graph) -> bool:
    """Return whether attribute paths are known; in a saved program they are not."""
    return any(value.layer is not None for value in graph.values.values())


def _clas_document(pairs: PairSet, keyed: Sequence[_Keyed]) -> dict[str, _Yaml]:
    taps = [keys for pair, keys in keyed if pair.kind is not Kind.LOGITS]
    # With `return_patterns` a model returns a dict, without it the logits themselves.
    key = {"key": "logits"} if taps else {}
    losses: list[_Yaml] = [
        {"DistillationGTCELoss": {"weight": 1.0, "model_names": ["Student"], **key}}
    ]
    for pair, keys in keyed:
        networks = {"model_name_pairs": [["Student", "Teacher"]]}
        if pair.kind is Kind.LOGITS:
            options = {"weight": 1.0, **networks, "temperature": _TEMPERATURE, **key}
            losses.append({"DistillationKLDivLoss": options})
        else:
            options = {"weight": 1.0, "base_loss_name": "DistanceLoss", "mode": "l2", **networks}
            options |= {"s_key": keys.student, "t_key": keys.teacher, "name": _loss_key(pair)}
            losses.append({"DistillationPairLoss": options})
    models: list[_Yaml] = []
    for role, graph, paths in (
        ("Teacher", pairs.teacher, [keys.teacher for keys in taps]),
        ("Student", pairs.student, [keys.student for keys in taps]),
    ):
        patterns = {"return_patterns": list(dict.fromkeys(paths))} if paths else {}
        options = {"name": _class_name(graph), "pretrained": role == "Teacher", **patterns}
        models.append({role: options})
    return {
        "Arch": {
            "name": "DistillationModel",
            "freeze_params_list": [True, False],
            "infer_model_name": "Student",
            "models": models,
        },
        "Loss": {"Train": losses},
    }


def _ocr_document(pairs: PairSet, keyed: Sequence[_Keyed]) -> dict[str, _Yaml]:
    losses: list[_Yaml] = []
    for pair, keys in keyed:
        shared = {"weight": 1.0, "model_name_pairs": [["Student", "Teacher"]], "key": keys.teacher}
        if pair.kind is Kind.LOGITS:
            losses.append({"DistillationDMLLoss": {**shared, "act": "softmax", "use_log": True}})
        else:
            options = {**shared, "mode": "l2", "name": _loss_key(pair)}
            losses.append({"DistillationDistanceLoss": options})
    models = {
        role: {
            "pretrained": None,
            "freeze_params": role == "Teacher",
            "return_all_feats": True,
            "Backbone": {"name": _class_name(graph)},
        }
        for role, graph in (("Teacher", pairs.teacher), ("Student", pairs.student))
    }
    return {
        "Architecture": {
            "name": "DistillationModel",
            "algorithm": "Distillation",
            "Models": models,
        },
        "Loss": {"name": "CombinedLoss", "loss_config_list": losses},
    }


def _loss_key(pair: Pair) -> str:
    """Return the key under which a loss is logged and summed: of two alike, one would be lost."""
    return f"loss_{pair.kind.value}_{pair.rank}"


def _class_name(graph: Graph) -> str:
    """Return what the source calls the network: `resnet50` of `paddle.vision.models:resnet50`."""
    return re.split(r"[/\\:]", graph.source)[-1]


_HEADERS = {
    "paddleclas": (
        "# For a training configuration of PaddleClas. Give each network the `name` that\n"
        "# it has in ppcls.arch; the paths are those of the networks that were read.\n"
    ),
    "paddleocr": (
        "# For a training configuration of PaddleOCR. Complete both Models with the\n"
        "# model_type, algorithm, Neck and Head of the networks, and add the loss on labels.\n"
    ),
}
CONFIGS = tuple(_HEADERS)
