"""Text as HTML: everything escaped, but for the little Markdown that is understood."""

from __future__ import annotations

import html
import re

_MARKS = re.compile(
    r"\\(?P<escaped>[\\`*_|\[\]])"
    r"|`(?P<code>[^`]+)`"
    r"|\*\*(?P<bold>.+?)\*\*"
    r"|\[(?P<label>[^\]]+)\]\((?P<target>[^()\s]+)\)"
)
# A link that runs a script is none, so it stays text.
_LINKS = re.compile(r"(https?://|mailto:|#|\.{0,2}/|[\w.-]+(/|$|#|\.html))")


def escape(text: str) -> str:
    """Text that HTML shows as it is, in attributes too."""
    return html.escape(str(text), quote=True)


def inline(text: str) -> str:
    """One line of text as HTML, with `code`, **bold**, [links](https://example.org) and backslashes before marks."""
    parts, at = [], 0
    for found in _MARKS.finditer(text):
        parts += [escape(text[at : found.start()]), _marked(found)]
        at = found.end()
    return "".join([*parts, escape(text[at:])])


def paragraphs(text: str) -> str:
    """Paragraphs of text, divided by empty lines, as HTML."""
    found = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text))
    return "".join(f"<p>{inline(part)}</p>\n" for part in found if part)


def _marked(found: re.Match[str]) -> str:
    if found["escaped"]:
        return escape(found["escaped"])
    if found["code"]:
        return f"<code>{escape(found['code'])}</code>"
    if found["bold"]:
        return f"<strong>{inline(found['bold'])}</strong>"
    if not _LINKS.match(found["target"]):
        return escape(found[0])
    return f'<a href="{escape(found["target"])}">{inline(found["label"])}</a>'
