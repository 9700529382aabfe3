"""The tests that claims.toml names: from the runs' records to evidence, one function a claim.

World: arms are compared seed by seed (every seed has its own world), in three settings. "acc2" is the accuracy on
samples with a sign, "area" that under acc2 over the rates of RMFM; on the corpus, areas are under the accuracy of three
classes, with intervals over seeds and videos. A claim that nothing is lost ("as well as") is tested as: the difference,
plus the point that may be lost, lies above 0; it is refuted where the difference itself lies below 0.
"""

from collections.abc import Sequence

import numpy as np

from affectcore.errors import StoreError
from affectcore.evaluation.robustness import auilc
from affectcore.evaluation.statistics import PairedComparison, compare, from_draws
from affectcore.evaluation.verdict import Evidence, Fact, Part, Scope
from affectcore.studies.cider import paper
from affectcore.studies.cider.counting import TIMED
from affectcore.studies.cider.diagnose import TAUS
from affectcore.studies.claims import Claim, Results
from affectcore.studies.readings import (
    Floats,
    Pair,
    Reading,
    Side,
    by_seed,
    compared,
    computed,
    items,
    noted,
    on_world,
    runs,
)
from affectcore.studies.resampling import resampled
from affectcore.studies.store import RunRecord

SETTINGS = ("easy", "headline", "hard")
WORLD, MOSI, LEXICAL = "lexicon", "mosi", "mosi_lexical"
BASELINES = ("lnln", "emt_dlfr")
NAMES = {"cider": "CIDer", "lnln": "LNLN", "emt_dlfr": "EMT-DLFR", "tfr_net": "TFR-Net", "mult": "MulT"}
CORPORA = {"cmu_mosi": "MOSI", "cmu_mosei": "MOSEI"}
TASKS = {"signs": "three classes", "seven": "seven"}
RATES = {"clean": 0.0, "rmfm 0.5": 0.5, "rmfm 0.9": 0.9, "rmfm 1": 1.0}
MODALITIES = {"clean": 0.0, "rmm 0.5": 0.5, "rmfm 1": 1.0}  # at rate 1 both hide everything

# --- readings --------------------------------------------------------------------------------------------------------


def area(part: str = "iid") -> Reading:
    """Return the reading of the area under acc2 on a part."""
    return noted("auilc", part)


def sign(part: str = "ood", condition: str = "clean") -> Reading:
    """Return the reading of acc2."""
    return noted("acc2", part, condition)


def missing_modalities(r: RunRecord) -> float:
    """Return the area under acc2 over the rates of missing modalities, on iid."""
    found = r.extra["acc2"]["iid"]
    return float(auilc(list(MODALITIES.values()), [found[c] for c in MODALITIES]))


def plus(read: Reading, allowance: float) -> Reading:
    """Return a reading with what may be lost added."""
    return lambda r: read(r) + allowance


def debiased(kind: str = "words", part: str = "ood", *, oracle: bool = False, metric: str = "acc2") -> Reading:
    """Return the reading of complete samples with a counterfactual subtracted, tau chosen on valid or, oracle, on the
    part itself. The smallest of equal taus counts."""

    def read(r: RunRecord) -> float:
        curves = r.extra["tau"][kind]
        chosen = curves[part if oracle else "valid"]["clean"][metric]
        return float(curves[part]["clean"][metric][int(np.argmax(chosen))])

    return read


def chosen_tau(r: RunRecord, kind: str = "words", part: str = "valid") -> float:
    """Return the best tau of a part."""
    return TAUS[int(np.argmax(r.extra["tau"][kind][part]["clean"]["acc2"]))]


def side(*arms: str, read: Reading) -> Side:
    return Side(arms, read)


def best_baseline(results: Results, data: str) -> str:
    """Return the baseline with the largest mean area on validation: test is not looked at."""
    arms = [f"{m}_corpus" if data in (MOSI, LEXICAL) else m for m in BASELINES]
    return max(arms, key=lambda m: float(by_seed(results, m, data, area("valid")).mean()))


# --- the claims ------------------------------------------------------------------------------------------------------


def c1_missing(claim: Claim, results: Results) -> list[Evidence]:
    """Area of CIDer against the baseline that is best on validation, in the distribution of training."""
    return _headline(claim, results, "iid", "bayes", "unmasked", MOSI)


def c2_shifted(claim: Claim, results: Results) -> list[Evidence]:
    """The same where words have changed sides."""
    return _headline(claim, results, "ood", "oracle", "linear", LEXICAL)


def _headline(claim: Claim, results: Results, part: str, ceiling: str, sham: str, corpus: str) -> list[Evidence]:
    found = []
    for s in SETTINGS:
        rival = side(best_baseline(results, f"{WORLD}_{s}"), read=area(part))
        pairs = (
            (side("cider", read=area(part)), rival),
            (side("cider", read=noted("bounds", part, ceiling, "auilc")), rival),
            (side(sham, read=area(part)), rival),
        )
        effect, positive, negative = (compared(results, p, WORLD, s) for p in pairs)
        found.append(Part(s, effect, positive, negative, items(results, f"{WORLD}_{s}")))
    world = Evidence(claim.id, Scope("world", WORLD), claim.least, tuple(found), claim.about)
    real = area_on_corpus(results, "cider_corpus", best_baseline(results, corpus), corpus)
    alone = Part("headline", real, n_items=real.n_items)
    return [world, Evidence(claim.id, Scope("corpus", corpus), claim.least, (alone,), claim.about)]


def area_on_corpus(results: Results, a: str, b: str, data: str) -> PairedComparison:
    """Return a minus b in the area under accuracy on a corpus's test set, over seeds and videos."""
    found = resampled(results)
    curves = [[found.get(arm, data, c, "accuracy") for c in RATES] for arm in (a, b)]
    seeds = min(len(x.by_seed) for c in curves for x in c)  # a tier-2 arm has the first seeds alone
    if len({len(x.by_seed) for c in curves for x in c}) > 1:
        raise StoreError(f"{a} and {b} on {data} have other seeds")
    rates, (x, y) = list(RATES.values()), curves
    by = [auilc(rates, np.stack([d.by_seed[:seeds] for d in c], -1)) for c in (x, y)]
    draws = [auilc(rates, np.stack([d.draws for d in c], -1)) for c in (x, y)]
    return from_draws(draws[0] - draws[1], by[0] - by[1], x[0].n_items, x[0].n_groups, ("seeds", "groups"))


def c3_parameters(claim: Claim, results: Results) -> Fact:
    """Parameters of the published code on unaligned CMU-MOSI: the means over the two tasks that come closest."""
    maci = (paper.parameters(1, False)["maci"] + paper.parameters(1, True)["maci"]) / 2
    totals = {(a, b): (paper.parameters(a, False)["total"] + paper.parameters(b, True)["total"]) / 2
              for a in (1, 2, 3) for b in (1, 2, 3)}  # fmt: skip
    (a, b), total = min(totals.items(), key=lambda x: abs(x[1] - paper.STATED["total"].value))
    holds = abs(total - paper.STATED["total"].value) <= 500 and abs(maci - paper.STATED["maci"].value) <= 500
    test = f"mean over tasks of three and seven classes: {total:,.0f} ({a} and {b} layers), of these MACI {maci:,.0f}"
    return computed(claim, holds, test, total)


def step_seconds(results: Results) -> dict[str, Floats]:
    """Return CPU seconds of a training step by model and seed."""
    return {m: by_seed(results, "step_times", MOSI, noted("step_times", m, "seconds")) for m in TIMED}


def c4_time(claim: Claim, results: Results) -> Fact:
    """CPU seconds of a training step at the paper's feature sizes, median over seeds, against the median baseline."""
    found = {m: float(np.median(x)) for m, x in step_seconds(results).items()}
    own, median = found.pop("cider"), float(np.median(list(found.values())))
    listed = ", ".join(f"{NAMES[m]} {1000 * v:.0f}" for m, v in found.items())
    return computed(claim, own < median, f"ms a step of 8 samples: CIDer {1000 * own:.0f}; {listed}", own / median)


def c5_graceful(claim: Claim, results: Results) -> list[Evidence]:
    """acc2 at rate .9 minus the better constant; positive: the exact posterior, negative: rate 1."""

    def above(read: Reading) -> Reading:
        return lambda r: read(r) - noted("bounds", "iid", "floor")(r)

    def zero(r: RunRecord) -> float:
        return 0.0

    nothing = side("cider", read=zero)
    pairs: list[Pair] = [
        (side("cider", read=above(x)), nothing)
        for x in (sign("iid", "rmfm 0.9"), noted("bounds", "iid", "bayes", "rmfm 0.9"), sign("iid", "rmfm 1"))
    ]
    own = by_seed(results, "cider_corpus", MOSI, above(sign("iid", "rmfm 0.9")))
    part = Part("headline", compare(own, np.zeros_like(own)))
    return [
        on_world(claim, results, WORLD, SETTINGS, *pairs),
        Evidence(claim.id, Scope("corpus", MOSI), claim.least, (part,), claim.about),
    ]


def c6_levels(claim: Claim, results: Results) -> list[Evidence]:
    """The smallest of three gains in area: with minus without a level."""
    arms = ("no_feature", "no_attention", "no_joint")
    found = []
    for s in SETTINGS:
        data = f"{WORLD}_{s}"
        each = {a: by_seed(results, a, data, area()) for a in arms}
        strongest = max(each.values(), key=lambda x: float(x.mean()))  # without it, the least is lost
        own, none = (by_seed(results, a, data, area()) for a in ("cider", "unmasked"))
        pairs = ((own, strongest), (own, none), (none, strongest))
        effect, positive, negative = (compare(*p) for p in pairs)
        found.append(Part(s, effect, positive, negative, items(results, data)))
    return [Evidence(claim.id, Scope("world", WORLD), claim.least, tuple(found), claim.about)]


HIDDEN: Reading = noted("causal", "hidden")


def c7_mixture(claim: Claim, results: Results) -> list[Evidence]:
    """acc2 on complete ood samples: mixture against linear classifier."""
    linear = side("linear", read=sign())
    pairs = (
        (side("cider", read=sign()), linear),
        (side("cider", read=HIDDEN), linear),
        (side("zeros", read=sign()), linear),
    )
    return [on_world(claim, results, WORLD, SETTINGS, *pairs), _on_lexical(claim, results, "linear_corpus")]


def _on_lexical(claim: Claim, results: Results, worse: str) -> Evidence:
    """Evidence on the re-split corpus: acc2 on complete test samples by seed, on the seeds that both have."""
    a, b = (by_seed(results, arm, LEXICAL, sign()) for arm in ("cider_corpus", worse))
    part = Part("headline", compare(a[: len(b)], b))
    return Evidence(claim.id, Scope("corpus", LEXICAL), claim.least, (part,), claim.about)


def c8_counterfactual(claim: Claim, results: Results) -> list[Evidence]:
    """Gain by the counterfactual text, tau by valid; controls: truly spurious words at the best tau, random words."""
    plain = side("cider", read=sign())
    pairs: list[Pair] = [
        (side("cider", read=x), plain) for x in (debiased(), debiased("oracle", oracle=True), debiased("shuffled"))
    ]
    a, b = (by_seed(results, "cider_corpus", LEXICAL, x) for x in (debiased(), sign()))
    part = Part("headline", compare(a, b))
    return [
        on_world(claim, results, WORLD, SETTINGS, *pairs),
        Evidence(claim.id, Scope("corpus", LEXICAL), claim.least, (part,), claim.about),
    ]


def c9_class_means(claim: Claim, results: Results) -> list[Evidence]:
    """acc2 on complete ood samples: class means against zeros in their place."""
    zeros = side("zeros", read=sign())
    own, hidden, rolled = (side("cider", read=x) for x in (sign(), HIDDEN, noted("causal", "rolled")))
    pairs = ((own, zeros), (hidden, zeros), (rolled, zeros))
    return [on_world(claim, results, WORLD, SETTINGS, *pairs), _on_lexical(claim, results, "zeros_corpus")]


def c10_threshold(claim: Claim, results: Results) -> Fact:
    """Share of all words of real transcripts whose coefficient of variation is .1 or more, as published."""
    found = runs(results, "coverage", MOSI)[0].extra["coverage"]["passing"]
    shares = {f"{CORPORA[c]}, {name}": float(found[c]["published"][t]) for c in found for t, name in TASKS.items()}
    listed = "; ".join(f"{k} {v:.3f}" for k, v in shares.items())
    return computed(claim, max(shares.values()) < 0.9, f"share of words that pass: {listed}", max(shares.values()))


def c11_rates(claim: Claim, results: Results) -> list[Evidence]:
    """acc2 at rate .9: a rate for every position against a rate for every sample, a point allowed."""
    return [_no_loss(claim, results, "position", "cider", sign("iid", "rmfm 0.9"))]


def c12_generalises(claim: Claim, results: Results) -> list[Evidence]:
    """Area under missing modalities: trained on missing steps against trained on these, a point allowed."""
    return [_no_loss(claim, results, "cider", "whole", missing_modalities)]


def c17_sharing(claim: Claim, results: Results) -> list[Evidence]:
    """Area: shared weights against a teacher of its own, a point allowed."""
    return [_no_loss(claim, results, "cider", "own_teacher", area())]


def _no_loss(claim: Claim, results: Results, arm: str, against: str, read: Reading) -> Evidence:
    other, unmasked = side(against, read=read), side("unmasked", read=read)
    allowed = plus(read, claim.least)
    pairs = ((side(arm, read=allowed), other), (other, unmasked), (side("unmasked", read=allowed), other))
    return on_world(claim, results, WORLD, SETTINGS, *pairs)


def c13_alignment(claim: Claim, results: Results) -> list[Evidence]:
    """Area with frames at their own rates: attention to frames against chunk means. This world's audio and vision say
    the same at every word, so that it could not show what alignment is for: no positive control, one setting."""
    read, data = area(), "frames_headline"
    effect = compare(*(by_seed(results, f"align_{a}", data, read) for a in ("attention", "chunks")))
    part = Part("headline", effect, n_items=items(results, data))
    return [Evidence(claim.id, Scope("world", WORLD), claim.least, (part,), claim.about)]


def c14_composite(claim: Claim, results: Results) -> list[Evidence]:
    """Area: attention over all subsets against plain self-attention of no fewer parameters."""
    own, vanilla = side("cider", read=area()), side("vanilla", read=area())
    alone, swapped = (side("parts", read=noted("parts", x)) for x in ("alone", "swapped"))
    return [on_world(claim, results, WORLD, SETTINGS, (own, vanilla), (own, alone), (swapped, vanilla))]


def c15_plug_in(claim: Claim, results: Results) -> list[Evidence]:
    """acc2 on complete ood samples, tau from valid, mean over two backbones: with MACI against without."""
    plain = side(*BASELINES, read=sign())
    wrapped = tuple(f"{m}_maci" for m in BASELINES)
    pairs: Sequence[Pair] = [(side(*wrapped, read=x), plain) for x in (debiased(), HIDDEN, debiased("shuffled"))]
    return [on_world(claim, results, WORLD, SETTINGS, *pairs)]


def c16_cross(claim: Claim, results: Results) -> Fact:
    """The printed accuracy in seven classes from MOSI to MOSEI against the best constant on that test set."""
    stated, floor = paper.STATED["cross_acc7"].value, paper.floors()["MOSI to MOSEI"]["seven"]
    return computed(claim, stated >= floor, f"printed about {stated:.2f}; the best constant scores {floor:.3f}", floor)


def layers(r: RunRecord) -> dict[str, float]:
    """Return accuracy of three classes on complete test samples, choice after choice moved to the test set: epoch by
    valid and tau 0 ("clean"), epoch by test, tau by test."""
    metric = "accuracy"
    valid = [float(e["valid"][metric]) for e in r.history]
    test = [float(e["test"][metric]) for e in r.history]
    part = "ood" if r.spec.data.name == LEXICAL else "iid"
    best = max(r.extra["tau"]["published"][part]["clean"][metric])
    return {"clean": test[int(np.argmax(valid))], "epoch": max(test), "tau": float(best)}


def c18_selection(claim: Claim, results: Results) -> list[Evidence]:
    """One point minus what choosing epoch and tau on test adds, on the corpus in both splits."""

    def left(r: RunRecord) -> float:
        found = layers(r)
        return 0.01 - (found["tau"] - found["clean"])

    out = []
    for data in (MOSI, LEXICAL):
        values = by_seed(results, "published_corpus", data, left)
        part = Part("headline", compare(values, np.zeros_like(values)))
        out.append(Evidence(claim.id, Scope("corpus", data), claim.least, (part,), claim.about))
    return out
