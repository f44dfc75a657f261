"""What a check found, and the table and JSON of all of them."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

OK, WARNS, LACKS = "ok", "warns", "lacks"
WIDTH = 100


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes
    ----------
    name : str
        What was looked at.
    verdict : str
        "ok", "warns" or "lacks".
    found : str
        What is there.
    remedy : str
        One line, empty if all is well.
    needed : bool
        Whether nothing runs without it.

    """

    name: str
    verdict: str
    found: str
    remedy: str = ""
    needed: bool = False

    @property
    def fatal(self) -> bool:
        """Whether nothing runs until this is mended."""
        return self.needed and self.verdict == LACKS


Check = Callable[[], Sequence[Finding]]


def safely(check: Check) -> list[Finding]:
    """Run a check; one that fails is a finding itself."""
    try:
        return list(check())
    except Exception as error:
        name = check.__name__.strip("_").replace("_", " ")
        found = f"could not be looked at: {type(error).__name__}: {error}"
        return [Finding(name, WARNS, one_line(found), "look at it by hand")]


def one_line(text: str, width: int = 300) -> str:
    """Return a text without line breaks and not too long."""
    return textwrap.shorten(" ".join(text.split()), width, placeholder=" ...")


def table(findings: Sequence[Finding]) -> str:
    """Return the findings as text for a terminal."""
    width = max(len(one.name) for one in findings) + 2
    lines = []
    for one in findings:
        head = f"{one.verdict:<7}{one.name:<{width}}"
        lines += _wrapped(head, one.found, " " * len(head))
        if one.remedy:
            lines += _wrapped(" " * len(head) + "-> ", one.remedy, " " * (len(head) + 3))
    return "\n".join([*lines, "", verdict(findings)])


def _wrapped(head: str, text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=head, subsequent_indent=indent, break_long_words=False,
        break_on_hyphens=False,
    ) or [head.rstrip()]  # fmt: skip


def verdict(findings: Sequence[Finding]) -> str:
    """Return the closing line: whether a study can run here."""
    fatal = [one.name for one in findings if one.fatal]
    if fatal:
        return f"needed and not right: {', '.join(fatal)}"
    warned = sum(one.verdict == WARNS for one in findings)
    return "all that is needed is there" + (f"; {warned} warnings" if warned else "")


def as_json(findings: Sequence[Finding]) -> str:
    """Return the findings as JSON: ``ok`` and ``findings``."""
    content = {
        "ok": not any(one.fatal for one in findings),
        "findings": [asdict(one) for one in findings],
    }
    return json.dumps(content, indent=2, ensure_ascii=False)
