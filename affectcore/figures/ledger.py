"""The claims ledger as a page and as data: every finding with its claim and where its chapter, code and records stand.

    Ledger([f for name in study_names() for f in findings(Results(find_study(name)))])

In a notebook that shows one card a claim, at an address of its own, which a script on the site can filter; without the
script every card is there and opens by a click. The same output carries the findings as JSON, of which the site's build
makes claims.json and the badges: page, file and badges cannot differ, and building computes nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import isfinite
from pathlib import Path
from typing import Any

import affectcore.studies
from affectcore.figures.badge import NAMES, address, title, verdicts
from affectcore.figures.executed import FINDINGS
from affectcore.studies.answers import number, registered, signed
from affectcore.studies.claims import Claim, Results, Row, results_ledger, study_claims

PAGE = "book/appendix/claims_ledger.html"
# Paper -> the chapter that tells most of its claims.
CHAPTERS = {"affect_diff": "book/affect_diff/verdicts", "cmir": "book/cmir/verdicts", "lddu": "book/lddu/verdicts",
            "cider": "book/cider/verdicts", "rohydr": "book/rohydr/verdicts",
            "baselines": "book/foundations/baselines_on_real_data"}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """A claim on one scope, and where it comes from. Paths start at the root, which repository and site share."""

    claim: Claim
    row: Row
    code: str  # the file with the claim's test
    records: str | None  # the committed runs behind the verdict; None where it rests on none

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: the row of the ledger to six digits, then its claim and its places."""
        c, key = self.claim, address(self.claim.paper, self.claim.id)
        chapter = CHAPTERS.get(c.paper)
        return {k: _rounded(v) for k, v in self.row.to_json().items()} | {
            "statement": c.statement,
            "source": c.source,
            "paper_value": c.paper_value,
            "falsifier": c.falsifier,
            "controls": list(c.controls),
            "family": c.family,
            "address": f"{PAGE}#{key}",
            "badge": f"badges/{key}.svg",
            "chapter": chapter and f"{chapter}.html",
            "code": self.code,
            "test": c.test or None,
            "records": self.records,
        }


def _rounded(x: Any) -> Any:
    if isinstance(x, list):
        return [_rounded(v) for v in x]
    return float(f"{x:.6g}") if isinstance(x, float) else x  # the last digits differ between processors


def findings(results: Results) -> list[Finding]:
    """Return every finding on the claims that the study of these results registers, in the order of the claims."""
    name = results.study.name
    claims = {c.id: c for c in study_claims(name)}
    rows = results_ledger(results)
    records = None
    if results.profile == "committed" and any(r.seeds is not None for r in rows):
        records = f"results/{results.records[0].spec.profile}/{name}.jsonl.xz"
    studies = Path(affectcore.studies.__file__).parent
    room = "evidence" if (studies / name / "evidence.py").is_file() else "study"
    code = f"affectcore/studies/{name}/{room}.py"
    return [Finding(claims[r.id], r, code, None if r.seeds is None else records) for r in rows]


class Ledger:
    """Findings as a notebook shows them: cards to read, and JSON that the site's build takes from the same output."""

    def __init__(self, found: Sequence[Finding]) -> None:
        self.found = tuple(found)

    def to_json(self) -> list[dict[str, Any]]:
        """One object a finding, by study: the content of claims.json, as `affectcore claims` prints it."""
        return [f.to_json() for f in sorted(self.found, key=lambda f: f.claim.paper)]

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        return {"text/plain": f"{len(self.found)} findings", "text/html": cards(self.found), FINDINGS: self.to_json()}


def cards(found: Iterable[Finding]) -> str:
    """Return the HTML of all claims, in order: a card each, which opens on what was said, tested and found."""
    claims: dict[tuple[str, str], list[Finding]] = {}
    for f in found:
        claims.setdefault((f.claim.paper, f.claim.id), []).append(f)
    return f'<div class="ledger">{"".join(map(_card, claims.values()))}</div>'


UP = "../" * PAGE.count("/")  # from the ledger's page to the root


def _card(found: Sequence[Finding]) -> str:
    c, key = found[0].claim, address(found[0].claim.paper, found[0].claim.id)
    name, rows = title(c.paper, c.id), [f.row for f in found]
    statuses = list(dict.fromkeys(r.status for r in rows))
    chips = " ".join(map(_chip, statuses))
    scopes = " ".join(sorted({r.scope.partition(":")[0] for r in rows}))
    records = dict.fromkeys(f.records for f in found if f.records)
    facts = {
        "Would refute it": escape(c.falsifier),
        "Controls": "; ".join(map(escape, c.controls)) or ("none needed" if c.test else ""),
        "Code of the test": f"{_link(found[0].code)}, <code>{escape(c.test)}</code>" if c.test else "",
        "Chapter": _link(f"{CHAPTERS[c.paper]}.html") if c.paper in CHAPTERS else "",
        "Records": ", ".join(map(_link, records)),
    }
    listed = "".join(f"<dt>{k}</dt><dd>{v}</dd>" for k, v in facts.items() if v)
    said = escape("; ".join(words for _, words in verdicts((r.status, r.scope) for r in rows)))
    markdown = f"[![{name} in the claims ledger](badges/{key}.svg)]({PAGE}#{key})"
    return (
        f'<details class="claim" id="{key}" data-paper="{escape(NAMES.get(c.paper, c.paper))}" data-on="{scopes}" '
        f'data-verdict="{"|".join(statuses)}"><summary><b>{escape(name)}</b> {chips}'
        f"<br>{escape(c.statement)}</summary>"
        f"<p>The paper reports: {escape(str(c.paper_value))} ({escape(c.source)})</p>"
        f"{''.join(map(_finding, rows))}<dl>{listed}</dl>"
        f'<p><a href="#{key}">permanent link</a> · '
        f'<img class="claim-badge" src="{UP}badges/{key}.svg" alt="Badge: {escape(name)}, {said}" loading="lazy">'
        "</p>"
        f'<p class="badge-markdown">Badge in Markdown: <code>{escape(markdown)}</code></p></details>\n'
    )


def _link(path: str) -> str:
    return f'<a href="{UP}{escape(path)}"><code>{escape(path)}</code></a>'


def _chip(status: str) -> str:
    return f'<span class="verdict verdict-{status.partition(" ")[0]}">{escape(status)}</span>'


def _finding(r: Row) -> str:
    parts = []
    if r.estimate is not None:
        parts.append(f"estimate {signed(r.estimate) if r.interval else number(r.estimate, 6).rstrip('0').rstrip('.')}")
    if r.interval is not None:
        parts.append(f"95 % interval {signed(r.interval[0])} to {signed(r.interval[1])}")
    for name, value in (("p", r.p), ("least detectable effect", r.mde), ("margin", r.margin)):
        if value is not None and value == value:
            shown = registered(value) if name == "margin" else number(value)
            parts.append(f"{name} {shown}" if value >= 0.0005 else f"{name} below .001")
    if r.seeds is not None:
        parts.append(f"{r.seeds} seeds")
    lines = [f"{_chip(r.status)} <em>on {escape(r.scope)}</em>", _drawn(r), "; ".join(parts), escape(r.reason)]
    return f'<p class="finding">{"<br>".join(filter(None, lines))}</p>'


# An estimate's place, drawn: 95 % interval with its estimate, the line of no effect and that of the margin.
WIDTH, HEIGHT, LEFT, RIGHT = 300, 44, 24, 84  # pixels; the margin's label stands to the right of its line


def _drawn(r: Row) -> str:
    if r.estimate is None or r.interval is None or not all(map(isfinite, (r.estimate, *r.interval))):
        return ""
    points = [0.0, r.estimate, *r.interval, *([] if r.margin is None else [r.margin])]
    low, high = min(points), max(points)

    def x(value: float) -> str:
        return f"{LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low or 1):.1f}"

    label = f"Estimate {signed(r.estimate)}, 95 % interval {signed(r.interval[0])} to {signed(r.interval[1])}"
    marks = f'<path class="rule" d="M{x(0)} 2V28"/><text x="{x(0)}" y="41" text-anchor="middle">0</text>'
    if r.margin is not None:
        label += f", margin {registered(r.margin)}"
        marks += f'<path class="rule" stroke-dasharray="3 3" d="M{x(r.margin)} 2V28"/>'
        marks += f'<text x="{x(r.margin)}" y="41" dx="8">margin {registered(r.margin)}</text>'
    return (
        f'<svg class="effect verdict-{r.status.partition(" ")[0]}" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{marks}'
        f'<path class="interval" d="M{x(r.interval[0])} 15H{x(r.interval[1])}"/>'
        f'<circle cx="{x(r.estimate)}" cy="15" r="4.5"/></svg>'
    )
