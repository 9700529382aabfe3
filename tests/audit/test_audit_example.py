"""The example in the book is what the command says of it today, and the page names every column and option."""

from pathlib import Path

import make_example as example
import pandas as pd

from affectcore.audit.html import page


def test_the_predictions_are_those_of_the_script(tmp_path: Path) -> None:
    example.predictions().to_csv(tmp_path / "again.csv", index=False)
    committed = pd.read_csv(example.FOLDER / "audit_example.csv")
    pd.testing.assert_frame_equal(committed, pd.read_csv(tmp_path / "again.csv"), atol=1.1e-4)


def test_the_report_is_what_the_book_prints() -> None:
    found = example.report(example.FOLDER / "audit_example.csv")
    assert example.shown(found) == (example.FOLDER / "audit_example.txt").read_text("utf-8")
    assert page(found) == (example.FOLDER / "audit_example.html").read_text("utf-8")


def test_the_page_names_every_column_and_option() -> None:
    told = (example.FOLDER / "audit.md").read_text("utf-8")
    names = ["id", "target", "prediction", "group", "seed", "model"]
    names += ["score_<class>", "target_<label>", "score_<label>", "prediction_<label>"]
    options = ["--task", "--html", "--format", "--low", "--high", "--batch-size", "--draws"]
    assert not [name for name in [*names, *options] if f"`{name}" not in told]
