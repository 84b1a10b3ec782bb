"""Rules that find the problems of a merge or of pairs before anything is changed.

A rule is one generator with one code. It sees only a MergePlan, which is plain data. Importing this
package registers the rules of all its modules.
"""

from importlib import import_module
from pkgutil import iter_modules

from graphtool.checks.arguments import check_names
from graphtool.checks.guess import FeedGuess, guess_feed_map, guess_feeds
from graphtool.checks.pairs import check_pairs
from graphtool.checks.plan import (
    MergePlan,
    ParametersWhen,
    are_saved_shapes,
    persistable_names,
    plan_without_facts,
    saved_names,
    used_names,
)
from graphtool.checks.rules import check, not_checked, run_rules

__all__ = [
    "FeedGuess",
    "MergePlan",
    "ParametersWhen",
    "are_saved_shapes",
    "check",
    "check_names",
    "check_pairs",
    "guess_feed_map",
    "guess_feeds",
    "not_checked",
    "persistable_names",
    "plan_without_facts",
    "run_rules",
    "saved_names",
    "used_names",
]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
