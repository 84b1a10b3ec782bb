"""Find the parameter files of a saved model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path

__all__ = ["combined_path", "file_of_variable", "find_parameters"]

_OLD_NAMES = ("__params__", "params")


def find_parameters(
    model: str | PathLike[str],
    names: Sequence[str] = (),
    *,
    endings: Sequence[str] = (".pdiparams",),
) -> Path | None:
    """Return the combined parameter file of a saved model, else the folder with one file for each.

    `model` is a file or its folder. The combined file has one of the `endings` or an old name.
    `names` are those of the Variables, for separate files; without them only a combined file is
    looked for. None if there is neither.
    """
    path = Path(model)
    folder = path if path.is_dir() else path.parent
    candidates = _combined_candidates(path, endings)
    combined = next((file for file in candidates if file.is_file()), None)
    if combined is None and names and all(file_of_variable(folder, name) for name in names):
        return folder
    return combined


def combined_path(model: Path) -> Path:
    """Return the path of the combined file of a saved model, whether or not it exists."""
    is_old = model.name == "__model__"
    return model.with_name("__params__") if is_old else model.with_suffix(".pdiparams")


def file_of_variable(folder: Path, name: str) -> Path | None:
    """Return the file of a Variable in a folder with one for each, None if it has none.

    Names come from the model; those that lead out of the folder are rejected.
    """
    path = folder / name
    try:
        is_inside = path.is_file() and folder.resolve() in path.resolve().parents
    except OSError:  # The name is too long for a file.
        return None
    return path if is_inside else None


def _combined_candidates(path: Path, endings: Sequence[str]) -> Iterator[Path]:
    """Yield the paths of a combined file: with the model's name, or an old one."""
    models = [path]
    if path.is_dir():
        saved = sorted([*path.glob("*.json"), *path.glob("*.pdmodel")])
        models = [path / "inference.json", *saved, path / "__model__"]
    for model in models:
        yield from (model.with_suffix(ending) for ending in endings)
    yield from (models[0].with_name(name) for name in _OLD_NAMES)
