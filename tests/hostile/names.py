"""Names that strangers might put into a model, and models that hold them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphtool.readers.program_desc import program_message

FIXTURES = Path(__file__).parent.parent / "fixtures"

NAMES: Mapping[str, str] = {
    "colour": "\x1b[31mred\x1b[0m",
    "erase": "\x9b2J\x9b1;1H",
    "title": "\x1b]0;pwned\x07",
    "link": "\x1b]8;;https://evil.test\x1b\\click\x1b]8;;\x1b\\",
    "clipboard": "\x1b]52;c;ZXZpbA==\x07",
    "carriage return": "evil\rsafe",
    "backspace": "evil\x08\x08\x08\x08safe",
    "delete": "a\x7fb",
    "nul": "a\0b",
    "new line": "x\nerror[GT999] forged: all is lost",
    "line separators": "a\u2028b\u2029c\x85d",
    "bidi override": "\u202egnp.exe\u202c",
    "bidi isolate": "\u2067abc\u2069",
    "bidi mark": "a\u061cb\u200f",
    "zero width": "da\u200bta\u2060\ufeff",
    "joiners": "a\u034fb\u200dc",
    "tags": "a\U000e0041\U000e007f",
    "fillers": "\u3164a\uffa0b\u115f\u2800",
    "no-break space": "a\xa0b\u3000c\u2009",
    "variation": "x\ufe0f\U000e0100",
    "mark first": "\u0301a",
    "marks": "a" + "\u0316\u0301\u0300\u0302" * 8,
    "decomposed": "cafe\u0301",
    "kelvin": "\u212a\u2126",
    "jamo": "\u1112\u1161\u11ab",
    "private": "\ue000\ufffe\U0010ffff",
    "script": "</script><script>document.title='evil'</script>",
    "image": '"><img src=x onerror="document.title=\'evil\'">',
    "frame": "<iframe src=//evil.test></iframe><svg/onload=document.title='evil'>",
    "entities": "&lt;b&gt;&amp;&#10;&nbsp;",
    "comment": "]]><!-- --><?php ?>",
    "rich": "[red]a[/red][link=https://evil.test]b[/link][/][bold",
    "dot": '"]; evil [label="\\N"]; a -> b; {subgraph',
    "dot label": "<B>\\G</B>|{\\l}\\E",
    "toml": 'a"\n[evil]\nb = """',
    "yaml": "a: &x [*x]\n--- !!python/object:x",
    "shell": "$(touch evil) `touch evil`; touch evil & | > evil $HOME !!",
    "format": "%s %(x)s {0} {x!r} ${x}",
    "escaped": "\\x1b[31m \\n \\\\u202e \\",
    "quotes": 'it\'s "x" ``',
    "blanks": "  two  blanks  ",
    "dash": "--help",
    "glob": "[a-z]*?",
    "equals": "a=b==c",
    "path": "../../etc/passwd",
    "long": "n" * 100_000,
    "long too": "n" * 50_000 + "m" + "n" * 49_999,
    "lone surrogate": "\ud800",
    "byte": "\udcff\udcfe",
    "look-alike": "d\u0430ta",
    "right to left": "שלום",
    "emoji": "😀👨\u200d👩\u200d👧",
}


def _cnn() -> Any:
    program = program_message()()
    program.ParseFromString((FIXTURES / "2.6.2" / "cnn.pdmodel").read_bytes())
    return program


def legacy(path: Path, names: Mapping[str, str]) -> Path:
    """Write the small network of 2.6.2 with Variables under other names."""
    program = _cnn()
    for block in program.blocks:
        for variable in block.vars:
            variable.name = names.get(variable.name, variable.name)
        for operator in block.ops:
            for slot in (*operator.inputs, *operator.outputs):
                slot.arguments[:] = [names.get(name, name) for name in slot.arguments]
    path.write_bytes(program.SerializeToString())
    return path


def variables() -> list[str]:
    """List the Variables of that network, feature maps and feeds first."""
    named = [variable.name for block in _cnn().blocks for variable in block.vars]
    return sorted(
        (name for name in named if name not in ("feed", "fetch")),
        key=lambda name: re.search(r"\.[wb]_\d", name) is not None,
    )


def pir(path: Path, name: str, *, feed: str | None = None) -> Path:
    """Write the small network of 3.3.1 with all that has a name called by a hostile one.

    Those are a parameter, the feed, the fetch, a module, an operator's type and an attribute.
    """
    document = json.loads((FIXTURES / "3.3.1" / "cnn.json").read_text("utf-8"))
    for operator in document["program"]["regions"][0]["blocks"][0]["ops"]:
        if operator["#"] == "p":
            operator["A"][3] = operator["A"][3].replace("conv2d_0.w_0", f"w{name}")
        else:
            _rename(operator, name, f"x{name}" if feed is None else feed)
    path.write_text(json.dumps(document), "utf-8")
    return path


def _rename(operator: Any, name: str, feed: str) -> None:
    if operator["#"] == "1.dropout":
        operator["#"] = f"1.{name}"
        operator["A"].append({"AT": {"#": "0.a_str", "D": name}, "N": f"n{name}"})
    for attribute in operator["A"]:
        held = attribute["AT"]
        if (operator["#"], attribute["N"]) == ("1.data", "name"):
            held["D"] = feed
        if (operator["#"], attribute["N"]) == ("1.fetch", "name"):
            held["D"] = f"f{name}"
        if attribute["N"] == "struct_name":
            held["D"] = held["D"].replace("Residual", f"M{name}")


_WRITTEN = re.compile(r"\\(?:\\|n|r|t|x(..)|u(....)|U(........))")
_SHORT = {"\\\\": "\\", "\\n": "\n", "\\r": "\r", "\\t": "\t"}


def read_back(shown: str) -> str:
    """Return the text that is shown like this."""
    return _WRITTEN.sub(
        lambda found: _SHORT.get(found[0]) or chr(int(next(filter(None, found.groups())), 16)),
        shown,
    )
