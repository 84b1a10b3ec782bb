"""The networks of Paddle's toolkits: how each is made, and what it takes."""

from __future__ import annotations

import importlib
import inspect
import os
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.toolkits.stubs import Stubs

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("GRAPHTOOL_TOOLKITS", _HERE.parents[1] / "build" / "toolkits"))
TABLE: Mapping[str, Any] = tomllib.loads((_HERE / "networks.toml").read_text())
PACKAGES = ("paddleclas", "paddlenlp")
BATCH = 3


@dataclass(frozen=True, slots=True)
class Input:
    """One input: the shape of a sample, and below what its numbers stay, None for floats.

    The only one of a network may be without a name: it goes by that of the argument.
    """

    name: str
    shape: tuple[int, ...]
    below: int | None = None

    @property
    def dtype(self) -> str:
        return "float32" if self.below is None else "int64"

    def numbers(self, draw: np.random.Generator) -> np.ndarray[Any, Any]:
        shape = (BATCH, *self.shape)
        if self.below is None:
            return draw.standard_normal(shape, "float32")
        return draw.integers(1, self.below, shape, "int64")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network: what makes it, and what it may take, most wanted first."""

    make: Callable[..., Any]
    takes: Sequence[tuple[Input, ...]]

    def made(self) -> Any:
        """Make it, the same each time."""
        seed()
        return self.make()


def seed() -> None:
    """Start all random numbers anew: constructors take them from any of these."""
    import paddle

    paddle.seed(7)
    np.random.seed(7)
    random.seed(7)


def installed() -> bool:
    return all((FOLDER / package).is_dir() for package in PACKAGES)


def prepare() -> None:
    """Make the packages importable."""
    sys.path.append(str(FOLDER))
    Stubs(TABLE["stubs"]).install()


def networks(package: str) -> dict[str, Candidate]:
    """Import a package, and find all its networks by name."""
    return dict({"paddleclas": _backbones, "paddlenlp": _models}[package]())


def _backbones() -> Iterator[tuple[str, Candidate]]:
    """Yield what PaddleClas calls its backbones: functions that take options of the class."""
    table = TABLE["paddleclas"]
    takes = [(Input("", (3, side, side)),) for side in table["sides"]]
    for module in map(importlib.import_module, table["modules"]):
        for name in module.__all__:
            factory = getattr(module, name)
            options = dict(table.get("options", {}).get(name, {}))
            if "pretrained" in inspect.signature(factory).parameters:
                options["pretrained"] = False
            yield name, Candidate(partial(factory, **options), takes)


def _models() -> Iterator[tuple[str, Candidate]]:
    """Yield every class of PaddleNLP that is built from a config, at a small size, and others."""
    from paddle import nn

    table = TABLE["paddlenlp"]
    for path, other in table["classes"].items():
        module, _, name = path.rpartition(".")
        made = getattr(importlib.import_module(f"paddlenlp.{module}"), name)
        takes = tuple(Input(x, tuple(s), *below) for x, (s, *below) in other["inputs"].items())
        yield name, Candidate(partial(made, **other["options"]), [takes])
    for module in map(importlib.import_module, table["modules"]):
        base = module.PretrainedModel
        for name, made in sorted(inspect.getmembers(module, inspect.isclass)):
            own = issubclass(made, base) and made.forward is not nn.Layer.forward
            if not own or made.config_class is None:
                continue
            takes = tuple(_inputs(name, made))
            choices = {"num_choices": 2} if name.endswith("ForMultipleChoice") else {}
            yield name, Candidate(partial(_of_config, made, **choices), [takes])


def _inputs(name: str, made: Any) -> Iterator[Input]:
    table = TABLE["paddlenlp"]
    known = {**table["inputs"], **table.get(made.config_class.__name__, {}).get("inputs", {})}
    choices = (2,) if name.endswith("ForMultipleChoice") else ()
    for argument in inspect.signature(made.forward).parameters:
        if given := known.get(argument):
            shape, *below = given
            yield Input(argument, (*choices, *shape), *below)


def _of_config(made: Any, **more: Any) -> Any:
    """Build a small network of a class from its config; `more` has further sizes."""
    table, config_class = TABLE["paddlenlp"], made.config_class
    own = table.get(config_class.__name__, {}).get("config", {})
    arguments = inspect.signature(config_class.__init__).parameters
    sizes = {name: size for name, size in table["sizes"].items() if name in arguments}
    sizes |= {name: dict(table["sizes"]) for name in table["parts"] if name in arguments}
    for name, argument in arguments.items():
        if name.endswith("token_id") and isinstance(argument.default, int):
            sizes.setdefault(name, min(argument.default, 1))
    return made(config_class(**{**sizes, **own, **more}))
