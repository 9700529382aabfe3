"""What the site hands out: claims.json, a badge a claim, the committed results, and a box at the end of each chapter.

    ```{hand-out} affect_diff
    ```

The box offers the chapter's notebook, the data named (studies, or files below results/) and the BibTeX of every source
that the page cites above it. Nothing is computed here: claims.json is what the ledger's notebook holds as an output,
and the files are the repository's, at the same places, so that a relative link holds in both.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import affectcore
from affectcore.figures.badge import address, badge, title, verdicts
from affectcore.figures.executed import LEDGER, findings

ROOT = Path(affectcore.__file__).parents[1]
KINDS = {
    ".jsonl.xz": "records, one run a line",
    ".predictions.parquet": "predictions, one row a run, split and condition (Parquet)",
    ".draws.parquet": "bootstrap draws behind the intervals (Parquet)",
}
TABLE = """\
from affectcore.studies.results import load_results
from affectcore.studies.runner import find_study

table, predictions = load_results(find_study("{study}"))
table.to_csv("{study}.csv")  # a row a run, condition and metric
"""


def publish(app: Sphinx, error: Exception | None) -> None:
    """Write claims.json and the badges into the site, and copy the results and the files with the claims' tests."""
    if error or app.builder.format != "html":
        return
    site, found = Path(app.outdir), findings(Path(app.srcdir) / LEDGER)
    (site / "claims.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
    (site / "badges").mkdir(exist_ok=True)
    claims: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for f in found:
        claims.setdefault((f["paper"], f["id"]), []).append((f["status"], f["scope"]))
    for claim, said in claims.items():
        (site / "badges" / f"{address(*claim)}.svg").write_text(badge(title(*claim), verdicts(said)), "utf-8")
    shutil.copytree(ROOT / "results", site / "results", dirs_exist_ok=True)
    for code in {f["code"] for f in found}:
        (site / code).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / code, site / code)


def bibtex(file: Path) -> dict[str, str]:
    """Return the entries of a .bib file, by key, as they are written."""
    entries = [e.strip() for e in file.read_text("utf-8").split("\n@")]
    return {e.split("{", 1)[1].split(",", 1)[0]: f"@{e.removeprefix('@')}" for e in entries if e}


class HandOut(SphinxDirective):
    """The box. Arguments: names of studies, or files below results/; none where the page has no stored data."""

    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        name = Path(self.env.docname).name
        up = "../" * self.env.docname.count("/")
        notebook = nodes.paragraph("", "", nodes.strong("", "The notebook, with its outputs: "))
        notebook += link(f"{up}_sources/{self.env.docname}.ipynb", f"{name}.ipynb")
        box = nodes.admonition("", nodes.title("", "Take this chapter with you"), notebook, classes=["hand-out"])
        for what in (self.arguments or [""])[0].split():
            box += self.data(what, up)
        box += self.sources()
        return [box]

    def data(self, what: str, up: str) -> list[nodes.Node]:
        """Return links to a study's committed files, or to one file."""
        start = nodes.strong("", "Its data: ")
        if (ROOT / "results" / what).is_file():
            return [nodes.paragraph("", "", start, link(f"{up}results/{what}", what))]
        if not (ROOT / "affectcore" / "studies" / what / "study.py").is_file():
            raise self.error(f"hand-out {what!r}: neither a study nor a file in results/")
        for profile in ("full", "standard", "smoke"):
            files = {p: k for k in KINDS if (p := ROOT / "results" / profile / f"{what}{k}").is_file()}
            if files:
                break
        else:
            none = f"no complete profile of the study {what} is committed yet; on your machine: "
            run = nodes.literal("", f"affectcore run {what} --profile smoke")
            return [nodes.paragraph("", "", start, nodes.Text(none), run)]
        listed = nodes.bullet_list()
        for path, kind in files.items():
            place = path.relative_to(ROOT).as_posix()
            size = nodes.Text(f" · {KINDS[kind]}, {sized(path.stat().st_size)}")
            listed += nodes.list_item("", nodes.paragraph("", "", link(f"{up}{place}", path.name), size))
        said = f"the runs of the study {what}, profile {profile}"
        code = TABLE.format(study=what)
        table = nodes.literal_block(code, code, language="python")
        return [nodes.paragraph("", "", start, nodes.Text(said)), listed, *folded("As one table (CSV)", table)]

    def sources(self) -> list[nodes.Node]:
        """Return the BibTeX of what the page cites up to here."""
        known = bibtex(Path(self.env.srcdir) / "book" / "references.bib")
        domain: Any = self.env.get_domain("cite")
        keys = [t.key for ref in domain.citation_refs if ref.docname == self.env.docname for t in ref.targets]
        cited = [known[k] for k in dict.fromkeys(keys) if k in known]
        if not cited:
            return []
        text = "\n\n".join(cited)
        block = nodes.literal_block(text, text, language="bibtex")
        return folded(f"Cite: BibTeX of the {len(cited)} sources of this page" if cited[1:] else "Cite: BibTeX", block)


def link(address: str, text: str) -> nodes.reference:
    return nodes.reference("", "", nodes.literal("", text), refuri=address, internal=True)


def sized(n: int) -> str:
    """Return 3.1 MB, or 40 kB below a tenth of a MB."""
    return f"{n / 1e6:.1f} MB" if n >= 1e5 else f"{max(n / 1e3, 1):.0f} kB"


def folded(summary: str, content: nodes.Node) -> list[nodes.Node]:
    """Return content that opens by a click, without a script."""
    return [
        nodes.raw("", f"<details><summary>{summary}</summary>", format="html"),
        content,
        nodes.raw("", "</details>", format="html"),
    ]


def setup(app: Sphinx) -> dict[str, Any]:
    # The findings beside the cards are for `publish`; an output of which nothing can be shown warns otherwise.
    app.connect("config-inited", lambda _, config: config.suppress_warnings.append("mystnb.unknown_mime_type"))
    app.add_directive("hand-out", HandOut)
    app.connect("build-finished", publish)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
