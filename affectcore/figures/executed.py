"""What executed notebooks carry: the ledger's findings and figures by name. Light to import, for the site's build."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from affectcore.errors import ConfigError

FINDINGS = "application/vnd.affectcore.claims+json"  # the MIME type under which the ledger's notebook shows them
LEDGER = Path("book/appendix/claims_ledger.ipynb")


@dataclass(frozen=True)
class Drawn:
    """A figure of a notebook: PNG bytes and alternative text."""

    png: bytes
    alt: str


def findings(notebook: Path) -> list[dict[str, Any]]:
    """Return the content of claims.json: the one output of this kind in a notebook. Raises ConfigError otherwise."""
    found = [data[FINDINGS] for cell in _cells(notebook) for data in _shown(cell) if FINDINGS in data]
    if len(found) != 1:
        raise ConfigError(f"{notebook}: {len(found)} outputs hold the ledger's findings, not one; run `make refresh`")
    return list(found[0])


def figure(notebook: Path, name: str) -> Drawn:
    """Return the figure that a cell's metadata name. Raises ConfigError if none does, or if it was not drawn."""
    for cell in _cells(notebook):
        about = cell["metadata"].get("mystnb", {})
        if about.get("figure", {}).get("name") == name:
            for data in _shown(cell):
                if "image/png" in data:
                    return Drawn(base64.b64decode(data["image/png"]), about["image"]["alt"])
    raise ConfigError(f"{notebook}: no figure {name!r} was drawn; run `make refresh`")


def _cells(notebook: Path) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return cells


def _shown(cell: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (o.get("data", {}) for o in cell.get("outputs", ()))
