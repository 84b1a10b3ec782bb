"""Rules that find the problems of a merge or of pairs before anything is changed.

A rule is one generator with one code. It sees only a MergePlan, which is plain data. Importing this
package registers the rules.
"""

from graphtool.checks import names, parameters
from graphtool.checks.feeds import guess_feed_map, guess_feeds
from graphtool.checks.pairs import check_pairs
from graphtool.checks.plan import MergePlan, persistable_names, plan_without_facts, used_names
from graphtool.checks.rules import run_rules

__all__ = [
    "MergePlan",
    "check_pairs",
    "guess_feed_map",
    "guess_feeds",
    "names",
    "parameters",
    "persistable_names",
    "plan_without_facts",
    "run_rules",
    "used_names",
]
