"""The tests that claims.toml names: from the runs' records to evidence, one function a claim.

World: arms are compared seed by seed in three settings. Controls that claims of performance share are exact posteriors
of the same test items (diagnose.py, "posterior"): positive, one that knows each item's noise scales against one that
takes the typical scale for all (what knowing the uncertainty is worth at most); negative, one that is given the scales
of other items. Corpora: intervals over seeds and videos or actors together, from hits under drawn groups.
"""

from dataclasses import replace
from typing import NoReturn

import numpy as np

from affectcore.errors import StoreError
from affectcore.evaluation.statistics import PairedComparison, compare, from_draws
from affectcore.evaluation.verdict import Evidence, Part, Scope
from affectcore.streams import rng
from affectcore.studies import readings
from affectcore.studies.claims import Claim, Results
from affectcore.studies.lddu import paper
from affectcore.studies.readings import Floats, Pair, Reading, Side, items, noted, scored
from affectcore.studies.store import RunRecord

WORLD, SETTINGS = "ambiguity", ("easy", "headline", "hard")
VIDEOS, VOTES, N_VIDEOS = "mosei_emotions", "crema_labels", 922
REFERENCE = "lddu"
F1 = scored("micro_f1")
RANK = noted("spread", "rho", "u")  # correlation of the spreads' length with the error
BY_MODALITY = noted("latent", "silhouette", "modality")


def side(arm: str, read: Reading = F1) -> Side:
    return Side((arm,), read)


def zero(arm: str = REFERENCE) -> Side:
    """Return a side that is 0 in every run of an arm: what a reading is compared with that stands for itself."""
    return Side((arm,), lambda r: 0.0)


def exact(known: str) -> Side:
    """Return micro F1 of the exact posterior that is given "known", "typical" or "another" item's noise scales."""
    return side(REFERENCE, noted("posterior", known))


CONTROLS: tuple[Pair, Pair] = (exact("known"), exact("typical")), (exact("another"), exact("typical"))


def on_world(claim: Claim, results: Results, effect: Pair, controls: tuple[Pair, Pair] = CONTROLS) -> Evidence:
    """Return evidence in three settings, arms compared on the seeds that both have."""

    def compared(pair: Pair, setting: str) -> PairedComparison:
        a, b = (x.values(results, WORLD, setting) for x in pair)
        n = min(len(a), len(b))  # seeds are 0, 1, ...; arms of tier 2 have fewer
        return compare(a[:n], b[:n])

    positive, negative = controls
    parts = tuple(
        Part(
            s, compared(effect, s), compared(positive, s), compared(negative, s), items(results, f"{WORLD}_{s}")
        )
        for s in SETTINGS
    )  # fmt: skip
    return Evidence(claim.id, Scope("world", WORLD), claim.least, parts, claim.about)


# --- corpora ---------------------------------------------------------------------------------------------------------


def drawn(results: Results, arm: str, data: str, *keys: str) -> tuple[Floats, Floats]:
    """Return a reading of every seed (S,), and of its draws of groups (S, R): micro F1 over all folds, or with `keys`
    the mean over folds of a correlation, whose draws stand in extra["spread"]["draws"]."""
    found: dict[int, list[RunRecord]] = {}
    for r in readings.runs(results, arm, data):
        found.setdefault(r.spec.seed, []).append(r)
    if keys:
        name = keys[-1]
        here = [[noted("spread", "rho", name)(r) for r in found[s]] for s in sorted(found)]
        there = [[np.array(r.extra["spread"]["draws"][name], float) for r in found[s]] for s in sorted(found)]
        return np.nanmean(np.array(here), 1), np.nanmean(np.array(there), 1)
    out = []
    for s in sorted(found):
        total = {
            k: sum(np.array(r.extra["draws"][k], float) for r in found[s]) for k in ("hits", "predicted", "present")
        }
        out.append(2 * total["hits"] / (total["predicted"] + total["present"]))
    f1 = np.array(out)
    return f1[:, 0], f1[:, 1:]


def over_groups(results: Results, data: str, a: tuple[Floats, Floats], b: tuple[Floats, Floats]) -> PairedComparison:
    """Return a minus b, (by seed, draws) each as `drawn` gives them, over seeds and groups together."""
    (x, dx), (y, dy) = a, b
    if dx.shape != dy.shape:
        raise StoreError(f"{data}: {dx.shape} and {dy.shape} draws cannot be paired")
    which = rng(0, "lddu", data, "seeds").integers(len(x), size=(dx.shape[1], len(x)))  # the same for all pairs
    sample = np.take_along_axis((dx - dy).T, which, 1).mean(1)
    made = from_draws(sample, x - y, N_VIDEOS, N_VIDEOS, ("seeds", "groups"))
    return made if data == VIDEOS else replace(made, n_items=None, n_groups=None)


def on_corpus(claim: Claim, results: Results, better: str, worse: str, data: str = VIDEOS) -> Evidence:
    effect = over_groups(results, data, drawn(results, better, data), drawn(results, worse, data))
    return Evidence(claim.id, Scope("corpus", data), claim.least, (Part("headline", effect),), claim.about)


def unrun(experiment: str) -> NoReturn:
    """Leave a claim open and say what will settle it."""
    raise StoreError(f"not run; {experiment} will settle it")


# --- the claims ------------------------------------------------------------------------------------------------------


def c1_unaligned(claim: Claim, results: Results) -> NoReturn:
    unrun(
        "LDDU and CARAT on unaligned sequences of CMU-MOSEI's segments (not here), with 300- and 768-dimensional text "
        "alike, five seeds or more, clean selection"
    )


def c2_beats_carat(claim: Claim, results: Results) -> list[Evidence]:
    """LDDU against CARAT, trained and selected alike on the same features."""
    world = on_world(claim, results, (side(REFERENCE), side("carat")))
    return [world, on_corpus(claim, results, "videos_lddu", "videos_carat")]


def c3_m3ed(claim: Claim, results: Results) -> NoReturn:
    unrun(
        "LDDU, CARAT and the predictor of all frequent labels on M3ED's dialogues (not here), seven labels, five seeds "
        "or more"
    )


def c5_each_part(claim: Claim, results: Results) -> list[Evidence]:
    """With against without contrast, and with against without calibration: the claim needs both, in every setting."""
    contrast = on_world(claim, results, (side(REFERENCE), side("no_contrast")))
    calibration = on_world(claim, results, (side(REFERENCE), side("no_calibration")))
    renamed = tuple(
        Part(f"{p.setting}, calibration", p.effect, p.positive_control, p.negative_control, p.n_items)
        for p in calibration.parts
    )
    world = Evidence(claim.id, contrast.scope, claim.least, (*contrast.parts, *renamed), claim.about)
    videos = tuple(
        Part(name, over_groups(results, VIDEOS, drawn(results, "videos_lddu", VIDEOS), drawn(results, arm, VIDEOS)))
        for name, arm in (("headline", "videos_no_contrast"), ("headline, calibration", "videos_no_calibration"))
    )
    return [world, Evidence(claim.id, Scope("corpus", VIDEOS), claim.least, videos, claim.about)]


def c6_separates(claim: Claim, results: Results) -> list[Evidence]:
    """How far rows part by modality: without contrast minus with. Positive control: each modality's mean taken away;
    negative: modalities shuffled."""
    without, by = side("no_contrast", BY_MODALITY), side(REFERENCE, BY_MODALITY)
    centred = side(REFERENCE, noted("latent", "silhouette", "centred"))
    shuffled = tuple(side(a, noted("latent", "silhouette", "shuffled")) for a in ("no_contrast", REFERENCE))
    world = on_world(claim, results, (without, by), ((by, centred), shuffled))  # type: ignore[arg-type]
    pair = [readings.by_seed(results, a, VIDEOS, BY_MODALITY) for a in ("videos_no_contrast", "videos_lddu")]
    part = Part("headline", compare(*pair))
    return [world, Evidence(claim.id, Scope("corpus", VIDEOS), claim.least, (part,), claim.about)]


def c7_uncertainty(claim: Claim, results: Results) -> list[Evidence]:
    """Rank correlation of the spreads' length with the error, label by label. Positive control: the entropy of the
    exact posterior in place of the spread; negative: the spread of another item."""
    posterior, shuffled = (side(REFERENCE, noted("spread", "rho", k)) for k in ("posterior", "shuffled"))
    controls = (posterior, zero()), (shuffled, zero())
    found = [on_world(claim, results, (side(REFERENCE, RANK), zero()), controls)]
    for arm, data in (("videos_lddu", VIDEOS), ("votes_lddu", VOTES)):
        by_seed, draws = drawn(results, arm, data, "u")
        effect = over_groups(results, data, (by_seed, draws), (np.zeros_like(by_seed), np.zeros_like(draws)))
        found.append(Evidence(claim.id, Scope("corpus", data), claim.least, (Part("headline", effect),), claim.about))
    return found


def c8_gate(claim: Claim, results: Results) -> list[Evidence]:
    """The published gate against equal weights. Positive control: a gate that knows the label; negative: the info
    classifier's probability of another item."""
    half = side("half")
    controls = tuple((side(REFERENCE, noted("gate", "scores", k, 0)), half) for k in ("certain", "shuffled"))
    return [on_world(claim, results, (side(REFERENCE), half), controls)]  # type: ignore[arg-type]


def c9_soft_ranks(claim: Claim, results: Results) -> list[Evidence]:
    """How well spreads rank errors: calibration by order against by squared error. Controls as for C7."""
    other = side("squared_error", RANK)
    controls = tuple((side(REFERENCE, noted("spread", "rho", k)), other) for k in ("posterior", "shuffled"))
    return [on_world(claim, results, (side(REFERENCE, RANK), other), controls)]  # type: ignore[arg-type]


def c10_queue(claim: Claim, results: Results) -> list[Evidence]:
    """A queue with the published share of an epoch's rows against none."""
    return [on_world(claim, results, (side(REFERENCE), side("no_queue")))]


def c11_alignment(claim: Claim, results: Results) -> NoReturn:
    unrun("LDDU on unaligned sequences with and without a soft aligner (CTC), five seeds or more")


def c12_distributions(claim: Claim, results: Results) -> list[Evidence]:
    """Distributions against two vectors of the same size without a sign, contrast on both."""
    return [on_world(claim, results, (side(REFERENCE), side("points")))]


def c13_signatures(claim: Claim, results: Results) -> NoReturn:
    unrun(
        "a sweep of both weights (.05 to .2 and .5 to 1) and of the queue up to 16,384 rows, with spreads, silhouettes "
        "and the age of the queue's rows,"
    )


def c14_clean_selection(claim: Claim, results: Results) -> list[Evidence]:
    """What is left of the printed gain of .006 when the part is taken off that the choice of epoch and threshold on
    test adds to the same runs. Positive control: the last epoch, so that the threshold alone is chosen on test;
    negative: the best test epoch against the mean of the epochs from the fifth on, .020 in the authors' log."""
    clean, gain = side(REFERENCE), paper.PRINTED_GAIN

    def left(read: Reading) -> Side:
        return Side(("chosen_on_test",), lambda r: gain - read(r))

    def minus(s: Side) -> Side:
        return Side(s.arms, lambda r: -s.read(r))

    late = Side(("chosen_on_test",), lambda r: -float(np.mean(curve_on_test(r)[min(4, len(r.history) - 1) :])))
    effect: Pair = left(F1), minus(clean)
    controls: tuple[Pair, Pair] = (
        (left(lambda r: float(curve_on_test(r)[-1])), minus(clean)),
        (left(lambda r: float(curve_on_test(r).max())), late),
    )  # fmt: skip
    return [on_world(claim, results, effect, controls)]


def curve_on_test(r: RunRecord) -> Floats:
    """Return micro F1 on test after every epoch of a run that was selected there, each at its own best threshold."""
    return np.array([h["test"]["micro_f1"] for h in r.history], float)
