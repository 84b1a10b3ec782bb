"""Find the parameters that were saved with a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path

__all__ = ["file_beside", "file_of_variable", "parameters_beside"]

_OLD_NAMES = ("__params__", "params")


def parameters_beside(
    model: str | PathLike[str],
    names: Sequence[str] = (),
    *,
    endings: Sequence[str] = (".pdiparams",),
) -> Path | None:
    """Return the parameters of a saved model: the combined file, else the folder with one for each.

    `model` is a file or the folder that holds it. `names` are those of the single files; without
    them only a combined file is looked for, which has one of the `endings` or an old name. None
    where nothing of that is beside the model.
    """
    path = Path(model)
    folder = path if path.is_dir() else path.parent
    combined = next((found for found in _combined(path, endings) if found.is_file()), None)
    if combined is None and names and all(file_of_variable(folder, name) for name in names):
        return folder
    return combined


def file_beside(model: Path) -> Path:
    """Return where the combined file of a saved model belongs, there or not."""
    old = model.name == "__model__"
    return model.with_name("__params__") if old else model.with_suffix(".pdiparams")


def file_of_variable(folder: Path, name: str) -> Path | None:
    """Return the file that a Variable has in a folder with one for each, None where it has none.

    Names come with the model: none leads out of the folder.
    """
    path = folder / name
    try:
        found = path.is_file() and folder.resolve() in path.resolve().parents
    except OSError:  # no file can have so long a name
        return None
    return path if found else None


def _combined(path: Path, endings: Sequence[str]) -> Iterator[Path]:
    """Yield where the combined file may be: it shares the model's name, or has an old one."""
    models = [path]
    if path.is_dir():
        saved = sorted([*path.glob("*.json"), *path.glob("*.pdmodel")])
        models = [path / "inference.json", *saved, path / "__model__"]
    for model in models:
        yield from (model.with_suffix(ending) for ending in endings)
    yield from (models[0].with_name(name) for name in _OLD_NAMES)
