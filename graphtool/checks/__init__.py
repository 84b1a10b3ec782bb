"""All that stands against a merge, found before anything is touched.

One rule is one generator with one code. Rules see a MergePlan, which is plain data, and nothing
else; importing this package registers all of them.
"""

from graphtool.checks import feeds, names, networks, operators, parameters
from graphtool.checks.arguments import (
    bad_argument,
    check_arguments,
    check_names,
    check_selector,
)
from graphtool.checks.guess import FeedGuess, guess_feed_map, guess_feeds
from graphtool.checks.merge import check_merge, merged_prefixes, parameters_when
from graphtool.checks.pairs import check_pairs
from graphtool.checks.plan import (
    MergePlan,
    ParametersWhen,
    persistable_names,
    plan_of,
    used_names,
)
from graphtool.checks.rules import check, not_checked, run_rules

__all__ = [
    "FeedGuess",
    "MergePlan",
    "ParametersWhen",
    "bad_argument",
    "check",
    "check_arguments",
    "check_merge",
    "check_names",
    "check_pairs",
    "check_selector",
    "feeds",
    "guess_feed_map",
    "guess_feeds",
    "merged_prefixes",
    "names",
    "networks",
    "not_checked",
    "operators",
    "parameters",
    "parameters_when",
    "persistable_names",
    "plan_of",
    "run_rules",
    "used_names",
]
