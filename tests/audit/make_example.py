"""The example of the book's page on audits: two made-up models, four classes, made-up items.

Run as a script it writes the predictions, the report and its page again; a test holds the committed ones to it.
"""

import io
from pathlib import Path

import numpy as np
import pandas as pd

from affectcore.audit import text
from affectcore.audit.html import page
from affectcore.audit.read import read
from affectcore.audit.report import audit
from affectcore.audit.tables import Report

FOLDER = Path(__file__).parents[2] / "book" / "appendix"
CLASSES = ("anger", "joy", "neutral", "sadness")


def predictions() -> pd.DataFrame:
    """Sixty speakers with three utterances each; `late` sharpens its scores, and both share the hard items."""
    r = np.random.default_rng(7)
    y = r.choice(4, 180, p=[0.08, 0.22, 0.5, 0.2])
    hard, speaker = r.normal(0, 0.8, (180, 4)), np.repeat(r.normal(0, 0.5, (60, 4)), 3, axis=0)
    parts = []
    for model, signal, heat in (("early", 1.9, 1.0), ("late", 1.7, 2.0)):
        for seed in range(3):
            z = signal * np.eye(4)[y] + hard + speaker + r.normal(0, 0.5, (180, 4)) + [-0.5, 0, 0.8, 0]
            p = np.exp(heat * z) / np.exp(heat * z).sum(1, keepdims=True)
            frame = pd.DataFrame({"model": model, "seed": seed, "group": np.repeat(np.arange(60), 3), "id": range(180)})
            frame["target"] = [CLASSES[i] for i in y]
            parts.append(frame.join(pd.DataFrame(p.round(4), columns=[f"score_{c}" for c in CLASSES])))
    return pd.concat(parts, ignore_index=True)


def report(path: Path) -> Report:
    return audit(read(path))


def shown(found: Report) -> str:
    """Return the report as a pipe receives it, without the space that pads the lines."""
    out = io.StringIO()
    text.show(found, out)
    return "\n".join(line.rstrip() for line in out.getvalue().strip().splitlines()) + "\n"


if __name__ == "__main__":
    csv = FOLDER / "audit_example.csv"
    predictions().to_csv(csv, index=False)
    found = report(csv)
    (FOLDER / "audit_example.txt").write_text(shown(found), encoding="utf-8")
    (FOLDER / "audit_example.html").write_text(page(found), encoding="utf-8")
