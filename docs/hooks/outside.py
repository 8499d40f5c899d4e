"""Pages and files from outside docs/: links to them work in the repository, and here on the site too.

A page of the site may link to `../benchmarks/README.md`, as a reader of the repository needs it. The Markdown
files named below become pages, others that are linked to are copied, and links are written anew to fit.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
OUTSIDE_PAGES = {
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "benchmarks/README.md": "benchmarks.md",
}
LINK = re.compile(r"(\]\()(?![a-z]+:|#)([^)#\s]+)((?:#[^)\s]*)?\))")


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages from outside, and the files that any page links to."""
    for path, place in OUTSIDE_PAGES.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
    for page in [file for file in files if file.is_documentation_page()]:
        for target in outside_targets(page.content_string, home(page.src_uri)):
            if target not in OUTSIDE_PAGES and files.get_file_from_path(shown_at(target)) is None:
                files.append(File.generated(config, shown_at(target), abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Write the links of a page so that they lead to where files lie on the site."""
    folder = home(page.file.src_uri)

    def moved(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match[2]))
        if not (ROOT / target).exists():
            return match[0]  # mkdocs names it
        link = posixpath.relpath(shown_at(target), posixpath.dirname(page.file.src_uri) or ".")
        return match[1] + link + match[3]

    return LINK.sub(moved, markdown)


def home(src_uri: str) -> str:
    """Folder of a page in the repository, of which its links are relative."""
    of_place = {place: path for path, place in OUTSIDE_PAGES.items()}
    return posixpath.dirname(of_place.get(src_uri) or posixpath.join("docs", src_uri))


def shown_at(target: str) -> str:
    """Place on the site of a file of the repository."""
    return OUTSIDE_PAGES.get(target, target.removeprefix("docs/"))


def outside_targets(markdown: str, folder: str) -> set[str]:
    """Files of the repository outside docs/ that a page links to."""
    targets = {posixpath.normpath(posixpath.join(folder, match[2])) for match in LINK.finditer(markdown)}
    return {target for target in targets if not target.startswith("docs/") and (ROOT / target).is_file()}
