"""Rules that find the problems of a merge or of pairs before anything is changed.

A rule is one generator with one code. It sees only a MergePlan, which is plain data. Importing this
package registers the rules.
"""

from graphtool.checks import names, parameters
from graphtool.checks.feeds import FeedGuess, guess_feed_map, guess_feeds
from graphtool.checks.pairs import check_pairs
from graphtool.checks.plan import (
    MergePlan,
    ParametersWhen,
    are_saved_shapes,
    check_names,
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
    "names",
    "not_checked",
    "parameters",
    "persistable_names",
    "plan_without_facts",
    "run_rules",
    "saved_names",
    "used_names",
]
