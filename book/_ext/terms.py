"""Previews of the glossary: a term shows its definition when it is pointed at or reached by keyboard (`terms.js`).

Terms of the glossary that cannot be mistaken for a word of every day (two words, a hyphen or a capital) are linked
where a page mentions them first; the others by {term}`...` alone.
"""

import re
from functools import cache
from html import escape
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.nodes import make_refnode

GLOSSARY = "book/appendix/glossary"
LINK = re.compile(r'(<a class="reference internal" href="[^"]*glossary\.html#(term-[^"]+)")')
NEVER = (
    nodes.reference, nodes.literal, nodes.title, nodes.term, nodes.caption, nodes.rubric, nodes.math, nodes.strong,
    nodes.citation, nodes.thead,
)  # fmt: skip


@cache
def definitions(app: Sphinx) -> dict[str, tuple[str, str]]:
    """Return the glossary: id of a term -> the term and its definition as plain text."""
    if GLOSSARY not in app.env.found_docs:
        return {}
    found = {}
    for item in app.env.get_doctree(GLOSSARY).findall(nodes.definition_list_item):
        meaning = " ".join(item.next_node(nodes.definition).astext().split())
        for term in item.findall(nodes.term):
            found[term["ids"][0]] = (term.astext(), meaning)
    return found


def pattern(term: str) -> re.Pattern[str] | None:
    """Return what finds a term in running text, also in the plural; None for a word of every day."""
    words = re.sub(r" \(.*\)", "", term)
    if not re.search(r"[A-Z -]", words) or "," in words:
        return None
    return re.compile(rf"(?<![\w-]){re.escape(words)}s?(?![\w-])", 0 if words.isupper() else re.I)


def link_first_mentions(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    if docname == GLOSSARY or docname.startswith("book/reference/"):
        return
    for name, (term, _) in definitions(app).items():
        wanted = pattern(term)
        texts = (t for p in doctree.findall(nodes.paragraph) for t in p.findall(nodes.Text)) if wanted else ()
        for text in texts:
            match = wanted.search(text) if wanted else None
            if match and not any(isinstance(above, NEVER) for above in ancestors(text)):
                mention = nodes.inline("", match.group(), classes=["std-term"])
                link = make_refnode(app.builder, docname, GLOSSARY, name, mention)
                parts = [nodes.Text(text[: match.start()]), link, nodes.Text(text[match.end() :])]
                text.parent.replace(text, [p for p in parts if p.astext()])
                break


def ancestors(node: nodes.Node) -> list[nodes.Node]:
    out = []
    while node.parent is not None:
        node = node.parent
        out.append(node)
    return out


def add_previews(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Give every link to a term its definition; `terms.js` shows it."""
    if "body" not in context:
        return
    known = definitions(app)

    def add(link: re.Match[str]) -> str:
        meaning = known.get(link[2], ("", ""))[1]
        return f'{link[1]} data-definition="{escape(meaning)}"' if meaning else link[0]

    body, count = re.subn(
        r'(<a class="reference internal" href="[^"]*glossary\.html#(term-[^"]+)")', add, context["body"]
    )
    if count:
        context["body"] = body


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_js_file("terms.js")
    app.connect("doctree-resolved", link_first_mentions, priority=900)  # after the roles of the glossary are resolved
    app.connect("html-page-context", add_previews, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
