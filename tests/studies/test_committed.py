"""The results in the repository: not stale, complete, and equal to what a fresh run gives."""

import os

import pytest

from affectcore.studies import results
from affectcore.studies.claims import study_ledger
from affectcore.studies.runner import find_study, study_names

COMMITTED = [n for n in study_names() if any(results.load_records(find_study(n), p) for p in find_study(n).profiles)]


@pytest.mark.parametrize("name", COMMITTED)
def test_no_record_is_stale(name: str) -> None:
    """Mend: rerun and export the study, or `affectcore results verify STUDY --declare` where no number moved."""
    assert [str(s) for s in results.stale(find_study(name))] == []


# Claims whose experiment needs what is not in the profile that is committed: other data, or arms of the profile "full".
OPEN = {
    "lddu": {"C1", "C3", "C11", "C13"},  # unaligned CMU-MOSEI, M3ED; the sweep of weights and queue ages
    "cmir": {"C2", "C3"},  # features of CH-SIMS v2, UR-FUNNY and MUStARD
}


@pytest.mark.parametrize("name", COMMITTED)
def test_every_registered_claim_has_a_verdict(name: str) -> None:
    rows = study_ledger(name)
    assert {r.id for r in rows if r.status == "open"} == OPEN.get(name, set())
    assert all(r.reason for r in rows if r.status == "open")
    for r in rows:
        if r.status in ("supported", "refuted", "mixed", "unresolved") and r.scope != "computation":
            assert r.interval is not None
            assert r.mde is not None
            assert r.margin is not None


@pytest.mark.parametrize("name", COMMITTED)
def test_a_cheap_sample_comes_out_the_same(name: str) -> None:
    study = find_study(name)
    if any(d.source == "reader" for d in study.data) and not os.environ.get("AFFECTCORE_DATA"):
        pytest.skip("real data not present")
    checks = results.verify(study, 3, cheap=True)
    assert [str(c) for c in checks if not c.ok] == []
