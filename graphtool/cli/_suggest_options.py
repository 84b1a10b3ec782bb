"""The options of `graphtool suggest-pairs`, and the checks of their combinations."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import PurePath

from graphtool.cli._options import add_networks, whole_number
from graphtool.cli.problems import wrong_usage
from graphtool.diagnostics import UsageError

__all__ = ["add_suggest", "check_suggest"]

_EVIDENCE_HELP = "weigh by data: .npy, .npz, module:callable or random"
# Repeated here, as `--help` does not import graphtool.matching.
_PRESETS = "logits", "features", "transformer", "overhaul", "attention", "fitnet", "minilm"
_TAPS = "after-activation", "before-activation", "before-norm", "last-convolution"
_PRESET_HELP = f"a published form: {_PRESETS[0]} (gains most), {', '.join(_PRESETS[1:])}"
_TAP_HELP = f"{', '.join(_TAPS[:-1])} or {_TAPS[-1]}"
_CONFIG_HELP = "print a configuration: paddleclas or paddleocr"

# Options, and those that they cannot be combined with.
_EXCLUDED = {
    "--match": ("--tap", "--evidence", "--as", "--output", "--render"),
    "--explain": ("--tap", "--limit", "--as", "--output", "--render"),
    "--for": ("--tap",),
}
_EVIDENCE_OPTIONS = ("--batches", "--allow-random")
# The `dest` of options that argparse stores under another name.
_DESTINATIONS = {"--for": "partners_of", "--as": "config"}


def add_suggest(parser: ArgumentParser) -> None:
    parser.usage = "graphtool suggest-pairs TEACHER STUDENT [options]"
    add_networks(parser)
    add = parser.add_argument
    add("--limit", type=whole_number, metavar="N", help="show at most N pairs, or shapes")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--for", dest="partners_of", metavar="NAME", help="student partners of one teacher Value"
    )
    which.add_argument(
        "--match", choices=("shape",), help="list all feature maps of equal shape instead"
    )
    which.add_argument(
        "--explain", metavar="T=S", help="say what speaks for and against any one pair"
    )
    which.add_argument("--recipe", choices=_PRESETS, metavar="FORM", help=_PRESET_HELP)
    add("--tap", choices=_TAPS, metavar="TAP", help=_TAP_HELP)
    add("--evidence", metavar="SOURCE", help=_EVIDENCE_HELP)
    add("--batches", type=whole_number, metavar="N", help="run at most N batches of evidence (4)")
    add("--allow-random", action="store_true", help="run networks that were never trained, too")
    add("--as", dest="config", metavar="NAME", help=_CONFIG_HELP)
    add("-o", "--output", metavar="FILE", help="also write the pairs to a recipe (.toml)")
    add("--force", action="store_true", help="replace a recipe that is there already")
    add("--render", metavar="FILE", help="also draw what is printed, as FILE ends (.svg)")


def check_suggest(args: Namespace) -> None:
    """Check that options go together, and that a recipe is a `.toml`.

    Raises UsageError: GT600.
    """
    message, advice = _contradiction(args), "graphtool suggest-pairs --help"
    if message is None and args.output is not None and not _names_recipe(args.output):
        message = f"argument --output: `{args.output}` is no `.toml`, as a recipe is"
        advice = "-o pairs.toml, or --as paddleclas > clas.yml for a configuration"
    if message is not None:
        raise UsageError(wrong_usage(message, help=advice))


def _names_recipe(path: str) -> bool:
    return path not in ("", "-") and PurePath(path).suffix in ("", ".toml")


def _contradiction(args: Namespace) -> str | None:
    for option, excluded in _EXCLUDED.items():
        others = [other for other in excluded if _is_given(args, other)]
        if _is_given(args, option) and others:
            return f"argument {option}: not allowed with argument {others[0]}"
    if args.config and args.format == "json":
        return "argument --as: not allowed with --format json"
    if args.force and args.output is None:
        return "argument --force: needs argument --output"
    alone = [option for option in _EVIDENCE_OPTIONS if _is_given(args, option)]
    if alone and args.evidence is None:
        return f"argument {alone[0]}: needs argument --evidence"
    return None


def _is_given(args: Namespace, option: str) -> bool:
    default = option.removeprefix("--").replace("-", "_")
    return bool(getattr(args, _DESTINATIONS.get(option, default)))
