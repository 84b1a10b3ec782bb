"""Published pairs against suggested ones, with all networks read and analysed once."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from graphtool.graph import Graph
from graphtool.matching import End, Pair, PairSet
from graphtool.matching.suggest import pairs_of
from graphtool.sources import read
from graphtool.structure import Structure, analyse

__all__ = ["RECALLS", "Job", "Result", "Scorer", "stripped"]

# `score_pairs.py` lies outside of the package and is loaded by its path.
_Script: TypeAlias = Any
Result: TypeAlias = "Mapping[str, Any]"
Job: TypeAlias = "tuple[str, str]"
RECALLS: Mapping[str, str] = {"k_tap": "recall@8 tap", "n_tap": "recall@n tap"}


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """The split and the programs of `folder`, scored by its own `score_pairs.py`.

    `programs` is where the saved Programs are, `work` a folder for links to them.
    """

    folder: Path
    programs: Path
    work: Path
    graphs: dict[str, Graph] = field(default_factory=dict[str, Graph])

    @cached_property
    def script(self) -> _Script:
        """The scorer as a module."""
        spec = importlib.util.spec_from_file_location("score_pairs", self.folder / "score_pairs.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    @cached_property
    def configs(self) -> Sequence[Mapping[str, Any]]:
        """The published configurations."""
        return json.loads((self.folder / "dev.json").read_text())["configs"]

    @cached_property
    def jobs(self) -> Sequence[Job]:
        """The files of each pair of networks, once."""
        found: dict[Job, None] = {}
        for config in self.configs:
            teacher, student = self.script.files_for(config, self.work, self.programs)
            found[teacher, student] = None
        return list(found)

    @cached_property
    def files(self) -> Sequence[str]:
        """The files of all networks, once."""
        return list(dict.fromkeys(file for job in self.jobs for file in job))

    @cached_property
    def structures(self) -> Mapping[str, Structure]:
        """All networks, analysed with the constants as they are."""
        return self.analysed()

    def analysed(self) -> Mapping[str, Structure]:
        """Analyse all networks; each file is read once."""
        for file in self.files:
            if file not in self.graphs:
                self.graphs[file] = read(file)
        return {file: analyse(graph) for file, graph in self.graphs.items()}

    def suggested(self, structures: Mapping[str, Structure]) -> Mapping[Job, PairSet]:
        """Suggest pairs for each pair of networks."""
        return {job: pairs_of(structures[job[0]], structures[job[1]]) for job in self.jobs}

    def results(self, suggested: Mapping[Job, PairSet]) -> Sequence[Result]:
        """Score suggestions, one result for each configuration."""
        answers = {
            job: {"wall": 0.0, "pairs": list(map(_answer, pairs))}
            for job, pairs in suggested.items()
        }
        return self.script.score(self.configs, answers, self.work, self.programs)

    def mean(self, results: Sequence[Result], recall: str) -> float:
        """Return the mean over configurations."""
        return self.script.mean(result[recall] for result in results)

    def mean_of_pairs(self, results: Sequence[Result], recall: str) -> float:
        """Return the mean over pairs of architectures."""
        groups = self.script.group(results, "pair").values()
        return self.script.mean(self.mean(group, recall) for group in groups)

    def interval(self, results: Sequence[Result], recall: str) -> tuple[float, float]:
        """Return a 95 % bootstrap interval of the mean, drawing pairs of architectures."""
        low, high = self.script.boot(results, recall)
        return low, high


def _answer(pair: Pair) -> Mapping[str, object]:
    """Say of a pair what the scorer reads of the command's JSON."""
    return {
        "rank": pair.rank,
        "kind": pair.kind.value,
        "teacher": _side(pair.teacher),
        "student": _side(pair.student),
    }


def _side(end: End) -> Mapping[str, object]:
    return {"op": end.op, "op_index": end.op_index, "output": end.output, "shape": end.shape}


def stripped(folder: Path, work: Path) -> Scorer:
    """Return a Scorer of the same Programs without names, and without H and W."""
    programs = work / "programs"
    command = [sys.executable, folder / "strip.py", folder / "programs", programs]
    subprocess.run(command, check=True)
    return Scorer(folder=folder, programs=programs, work=work)
