"""Copies the notebooks of the book for Google Colab, with a first cell that fetches the book and its library there.

    python3 book/_ext/colab.py OUT https://github.com/OWNER/REPOSITORY BRANCH

The workflow puts OUT on the branch `colab`, to which the Colab buttons of the site lead. Needs nothing but Python.
"""

import json
import shutil
import sys
from pathlib import Path

CELL = """\
# On Colab: fetch the book and its library. Elsewhere this cell does nothing.
import importlib.util
import os
import subprocess

if importlib.util.find_spec("affectcore") is None:
    fetch = "git clone --quiet --depth 1 --branch {branch} {repository} book-of-affectcore"
    subprocess.run(fetch.split(), check=True)
    subprocess.run("pip install --quiet ./book-of-affectcore".split(), check=True)
    os.environ["AFFECTCORE_RESULTS"] = os.path.abspath("book-of-affectcore/results")
    os.chdir("book-of-affectcore/{folder}")
"""


def for_colab(notebook: dict, folder: str, repository: str, branch: str) -> dict:
    """Return a notebook without outputs, that fetches what it needs where it is not installed."""
    source = CELL.format(folder=folder, repository=repository, branch=branch)
    first = {
        "cell_type": "code",
        "id": "colab",
        "metadata": {},
        "source": source,
        "outputs": [],
        "execution_count": None,
    }
    empty = {"outputs": [], "execution_count": None}
    cells = [cell | empty if cell["cell_type"] == "code" else cell for cell in notebook["cells"]]
    return notebook | {"cells": [first, *cells]}


def main(out: Path, repository: str, branch: str, book: Path = Path("book")) -> int:
    """Write every notebook below `book` to the same place below `out`; return how many."""
    shutil.rmtree(out, ignore_errors=True)
    found = [p for p in sorted(book.rglob("*.ipynb")) if not any(part.startswith(".") for part in p.parts)]
    for path in found:
        name = Path(book.name) / path.relative_to(book)
        notebook = for_colab(json.loads(path.read_text("utf-8")), name.parent.as_posix(), repository, branch)
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return len(found)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    print(f"{main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])} notebooks in {sys.argv[1]}")
