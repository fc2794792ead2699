"""Text of others, so that it does nothing in Markdown: no markup, no HTML, no mention, no link."""

from __future__ import annotations

import re
from urllib.parse import quote

_TEXT = 200  # characters of an id, a name or a reason
_MESSAGE = 4000  # characters of a failure's message
_ZERO_WIDTH = "\u200b"
# GitHub makes links of mentions, issues and addresses in text that is already parsed, where escaping is forgotten.
_LINKING = re.compile(r"(?<=[@#])|(?<=:)(?=//)|(?<=www)(?=\.)", re.IGNORECASE)
# An underscore between two letters is none; escaped, it would make a test's id hard to read.
_MARKUP = re.compile(r"""[\\`*~\[\]<>&|!$#@"']|(?<![^\W_])_|_(?![^\W_])""")


def text(value: object) -> str:
    """In one line, with no markup, HTML, mention or link."""
    flat = " ".join(_printable(str(value)).split())
    cut = flat if len(flat) <= _TEXT else f"{flat[: _TEXT - 1]}…"
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", _LINKING.sub(_ZERO_WIDTH, cut))


def code(value: object) -> str:
    return f"<code>{text(value)}</code>"  # not in backticks: a table cannot hold "\|" between them


def fenced(message: str) -> str:
    """As it is, between fences longer than any in it."""
    text = "\n".join(_printable(line.rstrip()) for line in message.splitlines()).strip("\n")
    text = text if len(text) <= _MESSAGE else f"{text[: _MESSAGE - 1]}…"
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
    return f"{fence}text\n{text}\n{fence}\n\n"


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() or each.isspace() else "�" for each in text)


def is_web(link: str) -> bool:
    return link.startswith(("https://", "http://"))


def address(link: str) -> str:
    return quote(link, safe="/:?&=%~+,;@", errors="replace")
