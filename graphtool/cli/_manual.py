"""The descriptions and examples in the help of each command.

The examples run in the folder that `graphtool demo` creates.
"""

from __future__ import annotations

__all__ = [
    "ABOUT",
    "CHECK",
    "CHECK_EXAMPLES",
    "COMPLETION",
    "COMPLETION_EXAMPLES",
    "DEMO",
    "DEMO_EXAMPLES",
    "DOCTOR",
    "DOCTOR_EXAMPLES",
    "EXAMPLES",
    "EXPLAIN",
    "EXPLAIN_EXAMPLES",
    "INSPECT",
    "INSPECT_EXAMPLES",
    "MERGE",
    "MERGE_EXAMPLES",
    "RENDER",
    "RENDER_EXAMPLES",
    "SUGGEST",
    "SUGGEST_EXAMPLES",
]

ABOUT = """\
Find the feature maps worth pairing when one Paddle network teaches another.
"""

EXAMPLES = """\
examples:
  graphtool demo
  graphtool suggest-pairs teacher.json student.json
  graphtool inspect paddle.vision.models:resnet18 --input 3,224,224
  graphtool explain GT001
The others, and those of each command, run in the folder that the first makes.

exit status: 0 done, 1 an error was found, 2 wrong usage
"""

INSPECT = """\
Show what a program is, the stages and heads of its network, and its Values:
those worth pairing, or those that fit all of --name, --op, --shape and --stage.
"""

INSPECT_EXAMPLES = """\
examples:
  graphtool inspect teacher.json
  graphtool inspect teacher.json --shape '?,64,4,4'
  graphtool inspect teacher.json --op relu --stage 3
  graphtool inspect teacher.json --name 'relu_*'
  graphtool inspect demo:teacher --input 3,32,32
"""

SUGGEST = """\
Suggest which feature maps of a teacher and a student to pair, best first, and
say why. TEACHER and STUDENT are each a MODEL.
"""

SUGGEST_EXAMPLES = """\
examples:
  graphtool suggest-pairs teacher.json student.json -o pairs.toml
  graphtool suggest-pairs teacher.json distilled.json --evidence samples.npz
  graphtool suggest-pairs teacher.json student.json --explain relu_7=relu_3
"""

CHECK = """\
Find everything that stands against merging a teacher into a student, before
anything is touched. TEACHER and STUDENT are each a MODEL. Files are checked
without Paddle.
"""

CHECK_EXAMPLES = """\
examples:
  graphtool check teacher.json student.json
  graphtool check teacher.json student.json --feed image=image --format json
  graphtool check demo:teacher student.json --input 3,32,32 --prefix big_
"""

MERGE = """\
Merge a frozen teacher into a student, which is made trainable again, and save
the program: gt.load_merged(DIR) gives it back, to add a loss to and train.
"""

MERGE_EXAMPLES = """\
examples:
  graphtool merge teacher.json student.json --pairs pairs.toml -o both
  graphtool merge demo:teacher student.json --input 3,32,32 -o untrained
"""

RENDER = """\
Draw a network; a teacher and a student side by side with their pairs; or what
`graphtool merge` wrote.
"""

RENDER_EXAMPLES = """\
examples:
  graphtool render teacher.json -o teacher.svg
  graphtool render teacher.json student.json --pairs pairs.toml -o pairs.png
  graphtool render teacher.json --focus relu_7 --radius 3
  graphtool render teacher.json student.json -o - | dot -Tsvg > both.svg
  graphtool render merged/ -o merged.svg
"""

EXPLAIN = """\
Say what a diagnostic means and what to do about it; without CODE, list all.
"""

EXPLAIN_EXAMPLES = """\
examples:
  graphtool explain GT001
  graphtool explain no-such-path
"""

DOCTOR = """\
Say what is installed here, what is missing and what to type for it, and try it
out: a saved model is read and paired, a picture drawn, and where Paddle is, two
networks are merged and compared. The exit status is 1 where something is wrong.
"""

DOCTOR_EXAMPLES = """\
examples:
  graphtool doctor
  graphtool doctor --json
"""

DEMO = """\
Go all the way on two small networks: train, save, suggest pairs, draw, check,
merge, compare, distil, export. Each step says what to type for it. All files
stay for reading, and demo.py, which makes them: `python demo.py` runs it again.
It needs Paddle, and a minute at most.
"""

DEMO_EXAMPLES = """\
examples:
  graphtool demo
  graphtool demo somewhere/else
"""

COMPLETION = """\
Print a script that lets a shell complete commands, options, choices and files.
Where each shell looks for it:

  bash  ~/.local/share/bash-completion/completions/graphtool
  zsh   a file _graphtool in a folder of $fpath
  fish  ~/.config/fish/completions/graphtool.fish
"""

COMPLETION_EXAMPLES = """\
examples:
  graphtool completion bash > graphtool.bash
  eval "$(graphtool completion bash)"
"""
