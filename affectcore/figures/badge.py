"""A claim's name, its verdicts in few words, and the badge that says both. Light to import, for the site's build.

    svg = badge("Affect-Diff C1", verdicts([("refuted", "corpus: mosi"), ("unresolved", "world: imbalance")]))

A finding is a pair: the verdict, and the scope that it holds on.
"""

from collections.abc import Iterable, Sequence
from html import escape

NAMES = {"affect_diff": "Affect-Diff", "cmir": "CmIR", "lddu": "LDDU", "cider": "CIDer", "rohydr": "RoHyDR",
         "baselines": "Premises of the field"}  # fmt: skip
# By the first word of a verdict, as in book/_static/custom.css; white text on each has a contrast above 6.5.
COLOURS = {"supported": "#005a8c", "refuted": "#a33f00", "mixed": "#7a3d63", "unresolved": "#555555", "not": "#555555",
           "open": "#555555"}  # fmt: skip
HEIGHT, PAD, SIZE = 20, 6, 11  # pixels


def address(paper: str, claim: str) -> str:
    """Return the permanent anchor of a claim: "affect-diff-c1"."""
    return f"{paper}-{claim}".lower().replace("_", "-")


def title(paper: str, claim: str) -> str:
    """Return a claim's name for people: "Affect-Diff C1"."""
    return f"{NAMES.get(paper, paper)} {claim}"


def verdicts(findings: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return (verdict, words) of a claim, one a verdict: findings are (verdict, scope) in the ledger's order.

    Where all agree the words are the verdict; where they do not, each says on what: "refuted (corpus)", or by name if
    one kind of data holds two verdicts: "refuted (mosi)".
    """
    scopes: dict[str, list[str]] = {}
    for status, scope in findings:
        scopes.setdefault(status, []).append(scope)
    if len(scopes) == 1:
        return [(status, status) for status in scopes]
    kinds = {status: {s.partition(": ")[0] for s in listed} for status, listed in scopes.items()}
    plain = sum(map(len, kinds.values())) == len(set().union(*kinds.values()))
    said = {s: sorted(kinds[s]) if plain else [x.partition(": ")[2] or x for x in scopes[s]] for s in scopes}
    return [(status, f"{status} ({', '.join(said[status])})") for status in scopes]


def badge(name: str, found: Sequence[tuple[str, str]]) -> str:
    """Return an SVG: the claim's name on grey, then each verdict's words on its colour."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family="DejaVu Sans", size=SIZE)
    parts, at = [], 0
    for text, colour in [(name, "#333333"), *((words, COLOURS[status.partition(" ")[0]]) for status, words in found)]:
        wide = round(text_to_path.get_text_width_height_descent(text, font, False)[0])
        parts.append(
            f'<rect x="{at}" width="{wide + 2 * PAD}" height="{HEIGHT}" fill="{colour}"/>'
            f'<text x="{at + PAD}" y="14" textLength="{wide}">{escape(text)}</text>'
        )
        at += wide + 2 * PAD
    label = escape(f"{name}: {'; '.join(words for _, words in found)}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{at}" height="{HEIGHT}" role="img" aria-label="{label}">'
        f'<title>{label}</title><clipPath id="r"><rect width="{at}" height="{HEIGHT}" rx="3"/></clipPath>'
        f'<g clip-path="url(#r)" fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="{SIZE}">'
        f"{''.join(parts)}</g></svg>\n"
    )
