"""The ledger on the frozen tiny sweep, and what claims.toml may say."""

import json
import lzma
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from tiny_sweep import tiny_study
from tiny_sweep.tiny_study import STUDY

from affectcore.errors import ConfigError
from affectcore.studies.claims import Results, ledger, load_claims

TINY = Path(__file__).parent / "tiny_sweep"
GOOD = (TINY / "claims.toml").read_text()


@pytest.fixture
def rows(monkeypatch):
    monkeypatch.setenv("AFFECTCORE_RESULTS", str(TINY / "results"))
    return ledger(load_claims(TINY / "claims.toml"), tiny_study, Results(STUDY))


def accuracies(arm):
    text = lzma.decompress((TINY / "results" / "smoke" / "tiny.jsonl.xz").read_bytes()).decode()
    lines = [json.loads(x) for x in text.splitlines()]
    chosen = sorted(
        (x["spec"]["seed"], x["metrics"]["test"]["clean"]["accuracy"]) for x in lines if x["spec"]["arm"] == arm
    )
    return np.array([v for _, v in chosen])


def test_verdicts_of_the_frozen_sweep(rows):
    assert [(r.id, r.status) for r in rows] == [
        ("T1", "supported"), ("T2", "refuted"), ("T3", "unresolved"), ("T3", "open"), ("T4", "open"),
        ("T5", "supported"), ("T6", "not testable here"),
    ]  # fmt: skip
    assert [r.scope for r in rows if r.id == "T3"] == ["corpus: stub", "corpus: elsewhere"]


def test_numbers_of_the_frozen_sweep_by_hand(rows):
    gap = {"T1": accuracies("strong") - accuracies("weak"), "T2": accuracies("twin") - accuracies("weak")}
    gap["T3"] = gap["T2"]
    raw = {k: stats.ttest_1samp(d, 0) for k, d in gap.items()}
    by_size = sorted(raw, key=lambda k: raw[k].pvalue)
    adjusted, highest = {}, 0.0
    for i, k in enumerate(by_size):  # Holm over the three that have evidence
        highest = adjusted[k] = max(highest, min(1.0, (3 - i) * raw[k].pvalue))
    for r in rows:
        if r.id in gap and r.status != "open":
            d = gap[r.id]
            assert r.estimate == pytest.approx(d.mean())
            assert r.interval == pytest.approx(tuple(raw[r.id].confidence_interval(0.95)))
            assert r.p == pytest.approx(adjusted[r.id])
            assert r.seeds == 6
    assert {r.id: r.margin for r in rows if r.seeds} == {"T1": 0.15, "T2": 0.3, "T3": 0.001}


def test_json_fields(rows):
    for r in rows:
        content = json.loads(json.dumps(r.to_json(), allow_nan=False))
        assert " ".join(content) == "paper id status scope estimate interval p seeds mde margin reason"
    assert {r.reason for r in rows if r.id == "T6"} == {"it needs human raters"}


def test_without_runs_effects_are_open_and_facts_are_settled(monkeypatch, tmp_path):
    monkeypatch.setenv("AFFECTCORE_RESULTS", str(tmp_path))
    rows = ledger(load_claims(TINY / "claims.toml"), tiny_study, Results(STUDY))
    assert {r.id: r.status for r in rows} == {
        "T1": "open", "T2": "open", "T3": "open", "T4": "open", "T5": "supported", "T6": "not testable here",
    }  # fmt: skip
    assert "no complete profile is committed" in rows[0].reason


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            'test = "strong_wins"',
            'test = "no_such"',
            "claim T1: test 'no_such' is no function of tiny_sweep.tiny_study",
        ),
        (
            'test = "strong_wins"',
            'test = "wrong_margin"',
            "claim T1: its test used margin 0.5, mechanism; registered: 0.15",
        ),
        ('id = "T1"', 'id = "T9"', None),
        (
            'scope = ["computation"]',
            'scope = ["corpus: stub"]',
            "claim T5: its test returned evidence on T5 .computation.",
        ),
    ],
)
def test_a_test_that_does_not_keep_to_the_register(monkeypatch, tmp_path, old, new, line):
    monkeypatch.setenv("AFFECTCORE_RESULTS", str(TINY / "results"))
    (tmp_path / "claims.toml").write_text(GOOD.replace(old, new, 1))
    claims = load_claims(tmp_path / "claims.toml")
    if line is None:
        assert ledger(claims, tiny_study, Results(STUDY))[0].id == "T9"
        return
    with pytest.raises(ConfigError, match=line):
        ledger(claims, tiny_study, Results(STUDY))


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ('paper = "tiny"', "paper = ", "Invalid"),
        ('paper = "tiny"', "", "must hold paper"),
        ('paper = "tiny"', 'paper = "tiny"\nverdict = "supported"', "must hold paper"),
        ('source = "Table 1"', 'sauce = "Table 1"', r"claim 1 \(T1\): field 'sauce' is unknown"),
        ('source = "Table 1"', "", r"claim 1 \(T1\): field 'source' is missing"),
        ('source = "Table 1"', "source = 3", r"claim 1 \(T1\): source = 3 must be a text"),
        ('id = "T2"', 'id = "T1"', "id 'T1' is given twice"),
        ("paper_effect = 0.3", "paper_effect = -0.3", "paper_effect = -0.3 must be a number above 0"),
        ("margin = 0.3", "margin = 0", r"claim 2 \(T2\): margin = 0 must be a number above 0"),
        ("margin = 0.3", "margin = nan", "margin = nan must be a number above 0"),
        ('scope = ["corpus: stub"]', 'scope = ["stub"]', "scope = .* must be \"computation\""),
        ('scope = ["corpus: stub"]', "scope = []", "must be a list of texts"),
        ('family = "main"', 'family = "main"\nabout = "people"', "about = 'people' must be"),
        ('family = "main"', 'family = "main"\nstatus = "supported"', "field 'status' is unknown"),
        ('test = "strong_wins"', "", "give either test, a function in study.py, or not_testable"),
        ('test = "strong_wins"', 'test = "strong_wins"\nnot_testable = "x"', "give either test"),
    ],
)  # fmt: skip
def test_a_claims_file_that_is_wrong_is_named(tmp_path, old, new, line):
    assert old in GOOD
    (tmp_path / "claims.toml").write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError, match=line) as e:
        load_claims(tmp_path / "claims.toml")
    assert "claims.toml" in str(e.value)
    assert "\n" not in str(e.value)


def test_an_effect_needs_a_margin(tmp_path):
    (tmp_path / "claims.toml").write_text(GOOD.replace("paper_effect = 0.3", "", 1))
    with pytest.raises(ConfigError, match="claim T1: an effect needs margin or paper_effect"):
        _ = load_claims(tmp_path / "claims.toml")[0].least
