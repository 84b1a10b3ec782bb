"""All that is fuzzed: each module here has one kind of input, or several that belong together.

A further kind is a `Subject`, named below: honest examples as bytes, mutators that spoil them, and
an exercise that does with them what people do. Edits of JSON documents are in `json_spoiling`, of
any bytes in `spoiling`; `exercises.command` runs a command line, `exercises.all_of` several steps.
"""

from tests.fuzzing.cases import Subject
from tests.fuzzing.subjects import folders, parameters, programs, saved, texts

__all__ = ["SUBJECTS"]

SUBJECTS: tuple[Subject, ...] = (
    *programs.SUBJECTS,
    *parameters.SUBJECTS,
    *folders.SUBJECTS,
    *saved.SUBJECTS,
    *texts.SUBJECTS,
)
