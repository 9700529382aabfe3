"""The claims ledger as a page: one card a claim, at an address of its own, which a script on the site can filter.

Without the script, as in a notebook, every card is there and opens by a click.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import get_args

from affectcore.errors import ConfigError
from affectcore.evaluation.verdict import Status
from affectcore.studies.answers import number, signed
from affectcore.studies.claims import Claim, Row

STATUSES: tuple[str, ...] = (*get_args(Status), "open")
NAMES = {"affect_diff": "Affect-Diff", "cmir": "CmIR", "lddu": "LDDU", "cider": "CIDer", "rohydr": "RoHyDR",
         "baselines": "Premises of the field"}  # fmt: skip


def address(paper: str, claim: str) -> str:
    """Return the permanent anchor of a claim: "affect-diff-c1"."""
    return f"{paper}-{claim}".lower().replace("_", "-")


def cards(claims: Iterable[Claim], rows: Iterable[Row], pages: Mapping[str, str] | None = None) -> str:
    """Return the HTML of all claims, in their order: a card each, which opens on what was said, tested and found.

    pages: paper -> relative address of the chapter that tells more. Raises ConfigError for a claim without a row.
    """
    found: dict[tuple[str, str], list[Row]] = {}
    for r in rows:
        found.setdefault((r.paper, r.id), []).append(r)
    out = []
    for c in claims:
        mine = found.get((c.paper, c.id))
        if not mine:
            raise ConfigError(f"claim {c.paper} {c.id} has no row in the ledger")
        out.append(_card(c, mine, (pages or {}).get(c.paper)))
    return f'<div class="ledger">{"".join(out)}</div>'


def _card(c: Claim, rows: Sequence[Row], page: str | None) -> str:
    key, paper = address(c.paper, c.id), NAMES.get(c.paper, c.paper)
    scopes = " ".join(sorted({r.scope.partition(":")[0] for r in rows}))
    chips = "".join(f"{_chip(s)} " for s in dict.fromkeys(r.status for r in rows))
    more = "" if page is None else f' · <a href="{escape(page)}">the chapter</a>'
    facts = {
        "The paper reports": f"{escape(str(c.paper_value))} ({escape(c.source)})",
        "Would refute it": escape(c.falsifier),
        "Controls": "; ".join(map(escape, c.controls)) or "none needed" if not c.not_testable else "",
        "Test": f"<code>affectcore/studies/{c.paper}</code>, <code>{escape(c.test)}</code>" if c.test else "",
    }
    listed = "".join(f"<dt>{k}</dt><dd>{v}</dd>" for k, v in facts.items() if v)
    return (
        f'<details class="claim" id="{key}" data-paper="{escape(paper)}" data-on="{scopes}" '
        f'data-verdict="{"|".join(dict.fromkeys(r.status for r in rows))}">'
        f"<summary><b>{escape(paper)} {escape(c.id)}</b> {chips}<br>{escape(c.statement)}</summary>"
        f"<dl>{listed}</dl>{''.join(map(_finding, rows))}"
        f'<p><a href="#{key}">permanent link</a>{more}</p></details>\n'
    )


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
            parts.append(f"{name} {number(value)}" if value >= 0.0005 else f"{name} below .001")
    if r.seeds is not None:
        parts.append(f"{r.seeds} seeds")
    reason = f"<br>{escape(r.reason)}" if r.reason else ""
    return f"<p>{_chip(r.status)} <em>on {escape(r.scope)}</em><br>{'; '.join(parts)}{reason}</p>"
