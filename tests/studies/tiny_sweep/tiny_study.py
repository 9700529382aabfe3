"""The study behind the frozen sweep: three arms of the stub executor, six seeds, and a test for each claim.

Run as a script it writes the sweep again (results/smoke/tiny.*); reports are tested on the committed files.
"""

import os
import tempfile
from pathlib import Path

import numpy as np

from affectcore.evaluation.metrics import accuracy
from affectcore.evaluation.statistics import compare
from affectcore.evaluation.verdict import Evidence, Fact, Part, Scope
from affectcore.studies.claims import Claim, Results
from affectcore.studies.results import paired
from affectcore.studies.spec import Arm, Condition, DataSpec, Profile, Study

EXECUTE = "stub_arms:execute"
STUDY = Study(
    "tiny", "do the reports say what the numbers say?",
    arms=(
        Arm("strong", "none", execute=EXECUTE, options={"gain": 2.0}),
        Arm("weak", "none", execute=EXECUTE, options={"gain": 0.5}),
        Arm("twin", "none", execute=EXECUTE, options={"gain": 0.5}),
        Arm("sketch", "none", execute=EXECUTE, options={"gain": 1.0}, tier=2),
    ),
    data=(DataSpec("stub", "world", "stub"),),
    conditions=(Condition(), Condition("other", "missing/rmm", 0.5)),
    profiles={"smoke": Profile({1: 6, 2: 2}), "standard": Profile({1: 8})},
    deciding=("clean",),
)  # fmt: skip


def _gap(claim: Claim, results: Results, a: str, b: str) -> Evidence:
    p = paired(results.predictions, a, b, "stub")
    first, second = (np.array([accuracy(p.target, s.argmax(1)) for s in x]) for x in (p.a, p.b))
    return Evidence(claim.id, Scope("corpus", "stub"), claim.least, (Part("all", compare(first, second)),))


def strong_wins(claim: Claim, results: Results) -> Evidence:
    return _gap(claim, results, "strong", "weak")


def twin_wins(claim: Claim, results: Results) -> Evidence:
    return _gap(claim, results, "twin", "weak")


def ghost_wins(claim: Claim, results: Results) -> Evidence:
    return _gap(claim, results, "ghost", "weak")


def two_is_even(claim: Claim, results: Results) -> Fact:
    return Fact(claim.id, 2 % 2 == 0, "two_is_even", 0.0)


def wrong_margin(claim: Claim, results: Results) -> Evidence:
    e = _gap(claim, results, "strong", "weak")
    return Evidence(e.claim, e.scope, 0.5, e.parts)


if __name__ == "__main__":
    os.environ["AFFECTCORE_RESULTS"] = str(Path(__file__).parent / "results")
    from affectcore.studies.results import export
    from affectcore.studies.runner import run_study
    from affectcore.studies.store import Store

    with tempfile.TemporaryDirectory() as folder:
        run_study(STUDY, "smoke", store=Store(folder))
        export(STUDY, "smoke", Store(folder))
