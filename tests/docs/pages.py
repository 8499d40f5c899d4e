"""The pages of the site, and the blocks of code on them."""

import functools
import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = (*sorted((ROOT / "docs").rglob("*.md")), ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md")
LANGUAGES = ("python", "console", "toml", "bash", "text", "")
_FENCE = re.compile(
    r"^(?:<!-- (?P<mark>[^>]*) -->\n)?(?P<indent> *)```(?P<language>[\w-]*)[^\n]*\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A fenced block: where, in what language, and what an HTML comment above it says."""

    path: Path
    line: int
    language: str
    code: str
    mark: str

    @property
    def name(self):
        return f"{self.path.relative_to(ROOT)}:{self.line}"

    @property
    def is_doctest(self):
        return self.language == "python" and self.code.lstrip().startswith(">>> ")

    @property
    def reason(self):
        """Why the block is left to `-m slow`; empty where it is not."""
        return self.mark.removeprefix("slow:").strip() if self.mark.startswith("slow:") else ""


@functools.cache
def blocks_of(path):
    text = path.read_text()
    return tuple(
        Block(path, text.count("\n", 0, m.start("language")) + 1, m["language"], m["code"], m["mark"] or "")
        for m in _FENCE.finditer(text)
    )


def all_blocks():
    return [block for path in PAGES for block in blocks_of(path)]
