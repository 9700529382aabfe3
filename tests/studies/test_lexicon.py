"""The lexical-shift report: on a made-up corpus against the functions it is made of, and the committed file."""

import json
import os

import numpy as np
import pytest

from affectcore.data import shift
from affectcore.studies import lexicon as lx
from affectcore.studies.results import results_folder


def test_report_on_a_made_up_corpus() -> None:
    corpus = lx.made_up(300, 80)
    dials = {"words": (0.2, 0.22), "not centred": (0.22, 0.25)}
    found = lx.report(corpus, dials=dials, seeds=1, random_splits=3, moves=3000)
    positive = corpus.sentiment > 0
    assert found["rows"] == 300
    assert found["test_rows"] == corpus.test.sum()
    assert found["standard"]["shift"] == pytest.approx(shift.word_shift(corpus.tokens, positive, corpus.test))
    assert [(d["series"], d["until"]) for d in found["dial"]] == [(k, u) for k, us in dials.items() for u in us]
    for d in found["dial"]:
        assert d["shift" if d["series"] == "words" else "shift_uncentred"] >= d["until"]
        assert d["floor"] == max(d["counts"][0], d["counts"][2]) / (d["counts"][0] + d["counts"][2])
    own = np.bincount(shift.sign_classes(corpus.sentiment[corpus.test]), minlength=3)
    assert all(d["counts"] == tuple(own) for d in found["random"])
    for grid in found["associations"].values():
        assert np.sum(grid) == pytest.approx(1)
    # the further apart the words, the further from the diagonal their weight
    centre = (np.arange(lx.BINS) + 0.5) / lx.BINS
    away = {k: float((np.array(g) * np.abs(centre[:, None] - centre)).sum()) for k, g in found["associations"].items()}
    assert min(away["words"], away["not centred"]) > away["random"]
    json.dumps(lx.rounded(found))
    assert lx.rounded({"a": [0.123456, 2, (1.0,)]}, 2) == {"a": [0.12, 2, [1.0]]}


def test_committed_file_holds_no_word_and_no_id() -> None:
    text = (results_folder() / "protocols" / "lexical_shift.json").read_text("utf-8")
    strings = set()

    def walk(value: object) -> None:
        if isinstance(value, dict):
            strings.update(value)
            for v in value.values():
                walk(v)
        elif isinstance(value, list):
            for v in value:
                walk(v)
        elif isinstance(value, str):
            strings.add(value)

    walk(json.loads(text))
    fields = set(lx.Measured.__dataclass_fields__)
    known = {"rows", "test_rows", "words", "standard", "random", "dial", "associations", "series", "until", "seed"}
    assert strings <= fields | known | {"words and labels", "not centred"}


@pytest.mark.skipif(not os.environ.get("AFFECTCORE_DATA"), reason="real data not present")
def test_committed_file_is_what_the_transcripts_give() -> None:
    from dataclasses import asdict

    stored = json.loads((results_folder() / "protocols" / "lexical_shift.json").read_text("utf-8"))
    corpus = lx.mosi()

    def compare(fresh: lx.Measured, kept: dict[str, object]) -> None:
        for name, value in asdict(fresh).items():
            assert kept[name] == pytest.approx(list(value) if isinstance(value, tuple) else value, abs=2e-4), name

    compare(lx.measure(corpus, corpus.test), stored["standard"])
    (row,) = (d for d in stored["dial"] if (d["series"], d["until"], d["seed"]) == ("words and labels", 0.2, 3))
    classes = shift.sign_classes(corpus.sentiment)
    again = shift.anneal(corpus.tokens, classes, corpus.test, test_counts=shift.CIDER_MOSI_TEST, seed=3, until=0.2)
    compare(lx.measure(corpus, again.test), row)
