"""The book's own Sphinx extension: all that is particular to this site and to Sphinx lies here.

* the text half of every chapter is kept out of the build, which reads the notebook with its outputs;
* MathJax is served from the site itself, so that pages work offline;
* scripts of sphinx-thebe, which is loaded though unused, are dropped (they redeclare a constant and name a CDN);
* `BOOK_URL` (where the site will stand) and `BOOK_REPOSITORY` (its repository's address) come from the environment:
  with them the site gets a sitemap, canonical links, a picture to every link to it, and buttons that lead to the
  repository, Binder and Colab;
* a page 404.html and a robots.txt;
* no line of a page ends between a number and its per cent sign, or a formula and the comma behind it;
* a page that holds a calculator or the like gets its script, and no other page does;
* the directive `chapter-status` prints how every notebook was made;
* the directive `figure-of` shows a figure that a notebook drew, on another page.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.docutils import SphinxDirective

from affectcore.errors import ConfigError
from affectcore.figures.executed import figure

NOT_FOUND = """
<h1>Page not found</h1>
<p>There is no page at this address. It may have moved:
<a class="reference internal" href="search.html">search this site</a>, or begin at the
<a class="reference internal" href="index.html">first page</a>.</p>
"""


def notebooks(source: Path) -> list[Path]:
    """Return the book's notebooks, in order of their paths."""
    return sorted(p for p in (source / "book").rglob("*.ipynb") if not any(part.startswith(".") for part in p.parts))


def configure(app: Sphinx, config: Config) -> None:
    """Exclude the texts that have a notebook, and take the addresses from the environment."""
    source = Path(app.srcdir)
    config.exclude_patterns += [p.with_suffix(".md").relative_to(source).as_posix() for p in notebooks(source)]
    config.html_baseurl = config.ogp_site_url = os.environ.get("BOOK_URL", "")
    config.sitemap_url_scheme = "{link}"
    config.sitemap_excludes = ["404.html", "genindex.html", "search.html"]
    config.ogp_social_cards = {  # one picture a page
        "enable": bool(config.html_baseurl),
        "image_mini": "book/_static/mark.png",
        "line_color": "#0072b2",
    }
    repository = os.environ.get("BOOK_REPOSITORY")
    if repository:
        config.html_theme_options |= {
            "repository_url": repository,
            "repository_branch": os.environ.get("BOOK_BRANCH", "main"),
            "path_to_docs": "",
            "use_repository_button": True,
            "use_issues_button": True,
            "launch_buttons": {
                "binderhub_url": "https://mybinder.org",
                "colab_url": "https://colab.research.google.com",
                "notebook_interface": "jupyterlab",
            },
        }


# what a page's HTML must hold to be given the script
SCRIPTS = {'class="explorer"': "explorer.js", 'class="power"': "power.js", 'class="dataframe"': "sort.js"}


def is_thebe(script: Any) -> bool:
    attributes = getattr(script, "attributes", {})
    return "thebe" in str(getattr(script, "filename", "") or "").lower() or "THEBE" in str(attributes.get("body") or "")


KEPT = re.compile(r"(<(script|style|pre|code|textarea)\b.*?</\2>|<[^>]*>)", re.S)  # tags, and what is shown as it is

FORMULA = re.compile(r'(<span class="math notranslate nohighlight">[^<]*</span>[,.;:?!)]+)')


def together(body: str) -> str:
    """Return HTML in which no line ends between a digit and a per cent sign, or a formula and the mark behind it."""
    parts = KEPT.split(body)  # text, tag, name of the element that is kept whole, text, ...
    parts[::3] = [re.sub(r"(?<=\d) (?=%)", "\N{NO-BREAK SPACE}", text) for text in parts[::3]]
    return FORMULA.sub(r'<span class="held">\1</span>', "".join(part for i, part in enumerate(parts) if i % 3 < 2))


def clean_page(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document) -> None:
    for mark, script in SCRIPTS.items():
        if mark in context.get("body", ""):
            app.add_js_file(script)
    context["script_files"] = [script for script in context["script_files"] if not is_thebe(script)]
    if "body" in context:  # wide tables scroll on a telephone (custom.css), so the keyboard must reach them
        context["body"] = together(context["body"].replace("<table ", '<table tabindex="0" '))

    for group in context.get("header_buttons", []):
        for button in group.get("buttons", []) if group.get("label") == "launch-buttons" else []:
            if button["text"] == "Colab":  # there notebooks need a first cell that fetches the library: _ext/colab.py
                button["url"] = re.sub(r"/blob/.*?/book/", "/blob/colab/book/", button["url"])
    if pagename == "404" and app.config.html_baseurl:  # it is shown in place of a page at any depth
        context["metatags"] = f'<base href="{app.config.html_baseurl}">' + context.get("metatags", "")


def not_found(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield the page that stands in for one that is not there."""
    yield "404", {"title": "Page not found", "body": NOT_FOUND}, "page.html"


def write_robots(app: Sphinx, error: Exception | None) -> None:
    if error or app.builder.format != "html":
        return
    address = app.config.html_baseurl
    lines = ["User-agent: *", "Allow: /", *([f"Sitemap: {address}sitemap.xml"] if address else [])]
    (Path(app.outdir) / "robots.txt").write_text("\n".join(lines) + "\n", "utf-8")


def copy_mathjax(app: Sphinx, error: Exception | None) -> None:
    """Copy the one script and the fonts that pages use: 1.7 of the package's 24 MB."""
    if error or app.builder.format != "html":
        return
    spec = find_spec("sphinx-mathjax-offline")
    if spec is None or spec.origin is None:
        raise ImportError("sphinx-mathjax-offline is not installed: formulas would show as raw TeX")
    origin, target = Path(spec.origin).parent / "static" / "mathjax", Path(app.outdir) / "_static" / "mathjax"
    fonts = Path("output", "chtml", "fonts", "woff-v2")
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(origin / "tex-chtml-full.js", target)
    shutil.copytree(origin / fonts, target / fonts, dirs_exist_ok=True)


class ChapterStatus(SphinxDirective):
    """Tables of how the notebooks were made: profile, date, run time, and below them the machines and versions."""

    def run(self) -> list[nodes.Node]:
        source = Path(self.env.srcdir)
        rows, makers = [], []
        for name in cast(Any, self.env).external_site_map:  # in the order of the table of contents
            path = source / f"{name}.ipynb"
            if not path.is_file():
                continue
            self.env.note_dependency(str(path))
            made = json.loads(path.read_text("utf-8"))["metadata"].get("affectcore")
            if made is None:
                rows.append(f"| {{doc}}`/{name}` | not known | | | |")
                continue
            maker = (made["machine"], made["versions"])
            if maker not in makers:
                makers.append(maker)
            number = makers.index(maker) + 1
            rows.append(f"| {{doc}}`/{name}` | {made['profile']} | {made['date']} | {made['seconds']:.1f} | {number} |")
        lines = ["| chapter | profile | made on | run time (s) | environment |", "|---|---|---|--:|--:|", *rows, ""]
        for number, (machine, versions) in enumerate(makers, 1):
            listed = ", ".join(f"{name} {value}" for name, value in versions.items())
            lines += [f"**Environment {number}.** {machine}. {listed}.", ""]
        container = nodes.container()
        self.state.nested_parse(StringList(lines, "chapter-status"), self.content_offset, container)
        return container.children


class FigureOf(SphinxDirective):
    """A figure of a committed notebook: argument "book/room/page figure-name"; the content is the caption here.

    myst-nb's own `glue` takes texts from other pages, but no figures with caption and alternative text.
    """

    required_arguments = 2
    has_content = True

    def run(self) -> list[nodes.Node]:
        page, name = self.arguments
        file = Path(self.env.srcdir) / f"{page}.ipynb"
        self.env.note_dependency(str(file))
        try:
            found = figure(file, name)
        except ConfigError as e:
            raise self.error(f"figure-of: {e}") from e
        kept = Path(self.env.doctreedir).parent / "figure-of" / f"{name.replace(':', '-')}.png"
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(found.png)
        here = os.path.relpath(kept, Path(self.env.doc2path(self.env.docname)).parent)
        caption, _ = self.state.inline_text(" ".join(self.content), self.lineno)
        return [
            nodes.figure(
                "",
                nodes.image(uri=here, alt=found.alt),
                nodes.caption("", "", *caption),
                align="default",
            )
        ]


def setup(app: Sphinx) -> dict[str, Any]:
    if os.environ.get("BOOK_URL"):
        app.setup_extension("sphinx_sitemap")  # which warns, and so stops a strict build, when the address is unknown
    app.add_directive("chapter-status", ChapterStatus)
    app.add_directive("figure-of", FigureOf)
    app.connect("config-inited", configure, priority=100)  # before the table of contents is read
    app.connect("html-page-context", clean_page, priority=900)
    app.connect("html-collect-pages", not_found)
    app.connect("build-finished", copy_mathjax)
    app.connect("build-finished", write_robots)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
