"""`python -m tests.harness.site DIRECTORY`: write the site there; ends with 1 if a link in it leads nowhere."""

from __future__ import annotations

import importlib
import re
import sys
import types
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pdoc.doc
import pdoc.render

from userpilot_async import __version__
from userpilot_async.guides import TOPICS, guide, summary, title

ROOT = Path(__file__).parents[2]
REFERENCE = (
    "userpilot_async", "userpilot_async.imports", "userpilot_async.sqlite", "userpilot_async.redis",
    "userpilot_async.parcelvoy", "userpilot_async.emulator",
)  # fmt: skip
FILES = {"contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md", "security": "SECURITY.md"}
FENCE = re.compile(r"^```(\w+) \S+$", re.MULTILINE)  # the name of a file behind the language is for people


class WholeClass(pdoc.doc.Class):
    """A class with what it inherits from classes that have no page: for users that is its own."""

    @cached_property
    def own_members(self) -> list[pdoc.doc.Doc]:  # type: ignore[override]  # as pdoc's own
        """All members but those that another page has."""
        origins = self._members_by_origin
        ours = [members for (module, _), members in origins.items() if module.startswith("userpilot_async")]
        return [member for members in ours for member in members]

    @cached_property
    def inherited_members(self) -> dict[tuple[str, str], list[pdoc.doc.Doc]]:  # type: ignore[override]
        """None from this package: see above. Of exceptions and enums, what Python gives them is no news."""
        return {}


pdoc.doc.Class = WholeClass  # type: ignore[misc]  # by this name pdoc makes them


def page(name: str, markdown: str) -> pdoc.doc.Module:
    """A page of text, which pdoc shows as it shows a module: with its headings at the side."""
    made = types.ModuleType(name)
    made.__doc__ = FENCE.sub(r"```\1", markdown)
    return pdoc.doc.Module(made)


def linked(markdown: str, up: str) -> str:
    """The text with links to pages of the site; ``up`` leads from its own page to the top."""
    markdown = re.sub(r"\]\((?:userpilot_async/guides/)?(\w+)\.md(#[\w-]+)?\)", r"](\1.html\2)", markdown)
    for name, file in FILES.items():
        markdown = markdown.replace(f"]({file.removesuffix('.md')}.html)", f"]({up}{name}.html)")
    return re.sub(rf"\]\(({'|'.join(TOPICS)})\.html", rf"]({up}guides/\1.html", markdown)


def pages() -> dict[str, pdoc.doc.Module]:
    """All pages by name: the first one, the guides, the repository's texts, the modules."""
    guides = "\n".join(f"- [{title(topic)}]({topic}.md): {summary(topic)}" for topic in TOPICS)
    modules = "\n".join(f"- [`{name}`]({name.replace('.', '/')}.html)" for name in REFERENCE)
    readme = (ROOT / "README.md").read_text(encoding="utf-8").removeprefix("# userpilot_async\n")
    first = f"# userpilot_async {__version__}\n{readme}\n## All guides\n\n{guides}\n\n## The API\n\n{modules}\n"
    found = {"index": page("index", linked(first, ""))}
    found |= {f"guides.{topic}": page(f"guides.{topic}", linked(guide(topic), "../")) for topic in TOPICS}
    texts = {name: (ROOT / file).read_text(encoding="utf-8") for name, file in FILES.items()}
    found |= {name: page(name, linked(text, "")) for name, text in texts.items()}
    return found | {name: pdoc.doc.Module(importlib.import_module(name)) for name in REFERENCE}


def of_text(html: str) -> str:
    """The page of a text, which is no module: without a module's name above the text's own title."""
    heading = re.search(r'<h1 id="[^"]+">(.+?)</h1>', html)
    assert heading is not None
    html = re.sub(r'<h1 class="modulename">.*?</h1>', "", html, count=1, flags=re.DOTALL)
    return re.sub(r"<title>.*?</title>", f"<title>{heading[1]}</title>", html, count=1, flags=re.DOTALL)


def write(directory: Path) -> None:
    """Write every page, and the index of the search."""
    pdoc.render.configure(
        docformat="markdown", show_source=False, footer_text=f"userpilot_async {__version__}",
    )  # fmt: skip
    all_pages = pages()
    for name, one in all_pages.items():
        file = directory / f"{name.replace('.', '/')}.html"
        file.parent.mkdir(parents=True, exist_ok=True)
        html = pdoc.render.html_module(one, all_pages).replace("Module Index", "All pages")
        file.write_text(html if name in REFERENCE else of_text(html), encoding="utf-8")
    (directory / "search.js").write_text(pdoc.render.search_index(all_pages), encoding="utf-8")


class Links(HTMLParser):
    """Collects what a page links to, and what may be linked to in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take in one tag."""
        given = dict(attrs)
        self.anchors.add(given.get("id") or "")
        if tag == "a" and (target := given.get("href")):
            self.targets.append(target)


def broken(directory: Path) -> list[str]:
    """The links in the site that lead nowhere, each with its page."""
    seen = {file.resolve(): Links(file.read_text(encoding="utf-8")) for file in directory.rglob("*.html")}
    found = []
    for file, links in seen.items():
        for target in links.targets:
            path, anchor = urldefrag(target)
            if "://" in path:
                continue
            there = seen.get((file.parent / unquote(path)).resolve() if path else file)
            if there is None or (anchor and unquote(anchor) not in there.anchors):
                found.append(f"{file.relative_to(directory.resolve())}: {target}")
    return found


if __name__ == "__main__":
    where = Path(sys.argv[1])
    write(where)
    nowhere = broken(where)
    print(*nowhere, f"{where / 'index.html'}: {len(list(where.rglob('*.html')))} pages", sep="\n")
    sys.exit(bool(nowhere))
