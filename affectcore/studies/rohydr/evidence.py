"""The tests that claims.toml names: from the runs' records to evidence, one function a claim.

On the world, arms are compared seed by seed (every seed has its own world) in three settings. Controls, the same where
a claim has none of its own: positive, the reference on complete samples, so with the true streams in place of recovered
ones, against the other side with one modality left; negative, the reference with denoisers that are shown another
sample's streams at test, against the other side. Corpora: intervals over seeds and items together.
"""

from typing import Any

import numpy as np

from affectcore.errors import StoreError
from affectcore.evaluation.statistics import compare
from affectcore.evaluation.verdict import Evidence, Fact, Part, Scope
from affectcore.studies import readings
from affectcore.studies.claims import Claim, Results
from affectcore.studies.readings import Floats, Pair, Reading, Side, computed, noted, runs, scored
from affectcore.studies.rohydr import paper
from affectcore.studies.rohydr.study import SETTINGS
from affectcore.studies.store import RunRecord

WORLD, HEADLINE, REFERENCE = "recovery", "recovery_headline", "rohydr"
ENOUGH = 0.95  # of the lower of two arms' best validation accuracies: the target of C11


# --- readings: one number of a run ---------------------------------------------------------------------------------


def left(size: int, condition: str = "mr_0.4", kind: str = "subsets") -> Reading:
    """Return the reading of ACC2 with `size` modalities left, all subsets of that size counting the same."""

    def read(r: RunRecord) -> float:
        found = [v[0] for k, v in r.extra[kind][condition].items() if k and k.count("+") + 1 == size]
        return float(np.mean(found)) if found and None not in found else float("nan")

    return read


def averaged(r: RunRecord, kind: str = "subsets") -> float:
    """Return ACC2 averaged over missing rates 0 to .7, from the three modalities' seven subsets."""
    return float(sum(w * left(k + 1, kind=kind)(r) for k, w in enumerate(paper.mixture())))


def shuffled(r: RunRecord) -> float:
    """Return `averaged` of the model whose denoisers are shown another sample's streams at test."""
    return averaged(r, "shuffled")


ONE, COMPLETE = left(1), left(3)
ON_COMPLETE = scored("acc2_non_zero", "clean")


def without_text(r: RunRecord) -> float:
    """Return the accuracy of test samples from which text is hidden."""
    found = [v for k, v in r.extra["subsets"]["mr_0.4"].items() if "text" not in k]
    return float(sum(v[0] * v[1] for v in found) / sum(v[1] for v in found))


def best_epoch(r: RunRecord) -> float:
    """Return the best accuracy on validation with one modality left over the epochs."""
    return max(e["probe"]["acc2"] for e in r.history)


def roughness(r: RunRecord) -> float:
    """Return the mean absolute change of that accuracy from epoch to epoch."""
    return paper.roughness(np.array([e["probe"]["acc2"] for e in r.history]))


def seconds_to(r: RunRecord, target: float) -> float:
    """Return the CPU seconds of training after which that accuracy first reaches a target."""
    passed = 0.0
    for e in r.history:
        passed += e["cpu_s"]
        if e["probe"]["acc2"] >= target:
            return passed
    raise StoreError(f"{r.spec.label}: never reaches {target:.3f}")


# --- from readings to evidence -------------------------------------------------------------------------------------


def side(*arms: str, read: Reading = averaged) -> Side:
    return Side(arms, read)


def controls(other: str) -> tuple[Pair, Pair]:
    """Return the positive and the negative control against the arm on the other side of a claim."""
    return (side(REFERENCE, read=COMPLETE), side(other, read=ONE)), (side(REFERENCE, read=shuffled), side(other))


def on_world(claim: Claim, results: Results, effect: Pair, positive: Pair, negative: Pair) -> Evidence:
    """Return evidence in three settings of the recovery world."""
    return readings.on_world(claim, results, WORLD, SETTINGS, effect, positive, negative)


def better_than(claim: Claim, results: Results, other: str) -> Evidence:
    """Return evidence that the reference's average over missing rates is higher than another arm's."""
    return on_world(claim, results, (side(REFERENCE), side(other)), *controls(other))


# --- the claims ----------------------------------------------------------------------------------------------------


def c1_beats_joint(claim: Claim, results: Results) -> list[Evidence]:
    """The whole against IMDer's design on the same denoiser; corpus: accuracy at rate .4, about the average."""
    mosei = readings.on_corpus(claim, results, "mosei_rohydr", "mosei_joint", "mosei", "mr_0.4", "accuracy")
    return [better_than(claim, results, "joint"), mosei]


def c2_averages(claim: Claim, results: Results) -> Fact:
    """The two averages against the earlier methods' published ones, in either assignment to the corpora."""
    first, second = paper.AVERAGES.values()
    best = {c: paper.best_average(c) for c in paper.AVERAGES}
    said = ", ".join(f"{m} {v:.1f} on {c}" for c, (m, v) in best.items())
    fits = [a > best["MOSI"][1] and b > best["MOSEI"][1] for a, b in ((first, second), (second, first))]
    text = f"best earlier averages: {said}; assignments of {first} and {second} that exceed both: {sum(fits)} of 2"
    return computed(claim, any(fits), text, float(sum(fits)))


def c3_without_text(claim: Claim, results: Results) -> Evidence:
    """Samples without text on CMU-MOSEI: accuracy against that of the constant on the same samples."""
    mine, floor = (readings.by_seed(results, f"mosei_{a}", "mosei", without_text) for a in ("rohydr", "constant"))
    part = Part("headline", compare(mine, floor))
    return Evidence(claim.id, Scope("corpus", "mosei"), claim.least, (part,), claim.about)


def _probed(i: int) -> Reading:
    return noted("recovery", "text", "probe", i)


def c4_semantics(claim: Claim, results: Results) -> Evidence:
    """The probe of true text on recovered text: own streams against another sample's; positive: on true text."""
    true, own, other, none = (side(REFERENCE, read=_probed(i)) for i in range(4))
    return on_world(claim, results, (own, other), (true, other), (none, other))


def area(i: int) -> Reading:
    """Return the reading of .9 minus the two-sample area, averaged over the modalities."""

    def read(r: RunRecord) -> float:
        return 0.9 - float(np.mean([v["auc"][i] for v in r.extra["recovery"].values()]))

    return read


def zero(r: RunRecord) -> float:
    return 0.0


def c5_distribution(claim: Claim, results: Results) -> Evidence:
    """.9 minus the area of a classifier that tells recovered steps from true ones."""
    recovered, true, mean = (side(REFERENCE, read=area(i)) for i in range(3))
    nothing = side(REFERENCE, read=zero)
    return on_world(claim, results, (recovered, nothing), (true, nothing), (mean, nothing))


def c6_discriminator(claim: Claim, results: Results) -> Evidence:
    return better_than(claim, results, "no_discriminator")


def c7_stages(claim: Claim, results: Results) -> Evidence:
    return better_than(claim, results, "one_stage")


def balance(results: Results) -> dict[str, tuple[float, float]]:
    """Return by shared part the median ratio of the generating to the classifying gradient's norm, and mean cosine."""
    out = {}
    for part, group in (("reconstructors", "generator"), ("fusion", "rebuilding")):
        found = [r.extra["gradients"] for r in runs(results, "one_stage", HEADLINE)]
        pairs = [p for g in found for p in zip(g["norms"][part][group], g["norms"][part]["classifier"])]
        ratios = [a / max(b, 1e-12) for a, b in pairs]
        out[part] = float(np.median(ratios)), float(np.mean([c for g in found for c in g["cosine"][part]]))
    return out


def c8_imbalance(claim: Claim, results: Results) -> Fact:
    """Norms and cosines of the gradients that meet in the reconstructors and in the fusion."""
    found = balance(results)
    out = {k: not (0.1 <= ratio <= 10 and cosine > -0.1) for k, (ratio, cosine) in found.items()}
    said = "; ".join(f"{k}: norm ratio {r:.2g}, cosine {c:+.2f}" for k, (r, c) in found.items())
    return computed(claim, any(out.values()), said, found["reconstructors"][0])


def c9_complete(claim: Claim, results: Results) -> Evidence:
    """Complete samples: the reference plus 1.4 points against the model trained on complete data alone."""

    def raised(read: Reading) -> Reading:
        return lambda r: read(r) + 0.014

    alone = side("complete", read=ON_COMPLETE)
    return on_world(
        claim, results, (side(REFERENCE, read=raised(ON_COMPLETE)), alone), (alone, side("complete", read=ONE)),
        (side(REFERENCE, read=raised(ONE)), alone),
    )  # fmt: skip


def c10_hybrid(claim: Claim, results: Results) -> Evidence:
    """Both recoveries against the better, setting by setting, of the recovery of streams and of the fusion alone."""
    parts = []
    for s in SETTINGS:
        data = f"{WORLD}_{s}"
        halves = {a: readings.by_seed(results, a, data, averaged).mean() for a in ("streams_alone", "fusion_alone")}
        other = max(halves, key=halves.__getitem__)
        positive, negative = controls(other)
        effect = side(REFERENCE), side(other)
        made = [readings.compared(results, pair, WORLD, s) for pair in (effect, positive, negative)]
        parts.append(Part(s, made[0], made[1], made[2], readings.items(results, data)))
    return Evidence(claim.id, Scope("world", WORLD), claim.least, tuple(parts), claim.about)


def to_target(results: Results, arm: str, other: str = REFERENCE) -> tuple[Floats, Floats]:
    """Return CPU seconds that an arm and another take, seed by seed, to 95 % of the lower of their two bests."""
    pairs = zip(runs(results, arm, HEADLINE), runs(results, other, HEADLINE))
    found = []
    for a, b in pairs:
        target = ENOUGH * min(best_epoch(a), best_epoch(b))
        found.append((seconds_to(a, target), seconds_to(b, target)))
    both = np.array(found)
    return both[:, 0], both[:, 1]


def c11_efficiency(claim: Claim, results: Results) -> Fact:
    """CPU seconds to the target: one stage against three."""
    one, three = (x.mean() for x in to_target(results, "one_stage"))
    said = f"mean CPU seconds to 95 % of the lower best validation accuracy: three stages {three:.1f}, one {one:.1f}"
    return computed(claim, three < one, said, float(one / three))


def c12_attention(claim: Claim, results: Results) -> Evidence:
    return better_than(claim, results, "mean_condition")


def _spread(i: int) -> Reading:
    """Return the reading of minus the log variance over noise draws, averaged over the modalities."""

    def read(r: RunRecord) -> float:
        found: list[Any] = [v["variance"][i] for v in r.extra["recovery"].values()]
        return -float(np.mean(np.log(np.maximum(found, 1e-12))))

    return read


def halves(r: RunRecord) -> float:
    return float(np.mean([v["halves"] for v in r.extra["recovery"].values()]))


def c13_uncertainty(claim: Claim, results: Results) -> Evidence:
    """Log variance over noise draws, before against after the reconstructor."""
    before, after, mean = (side(REFERENCE, read=_spread(i)) for i in range(3))
    nothing = side(REFERENCE, read=halves), side(REFERENCE, read=zero)
    return on_world(claim, results, (after, before), (mean, before), nothing)
