"""The tests that claims.toml names: from the runs' records to evidence, one function a claim.

World: arms are compared seed by seed in three settings. Controls: `oracle_pairs`, whose environments are the same
samples with their spurious factors drawn anew (positive), and `nuisance_pairs`, where instead what never mattered is
drawn anew (negative).
Corpus: contrasts of the exported draws of all arms, over seeds and utterances together; both test parts of `mosi_ood`
belong to one training.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch

from affectcore.data.schema import Task
from affectcore.errors import ConfigError, StoreError
from affectcore.evaluation.statistics import PairedComparison, from_draws
from affectcore.evaluation.verdict import Evidence, Fact, Part, Scope
from affectcore.models import registry
from affectcore.models.cmir import sample_dependence
from affectcore.models.contract import Shape
from affectcore.streams import rng
from affectcore.studies.claims import Claim, Results
from affectcore.studies.cmir import paper
from affectcore.studies.readings import (
    Floats,
    Pair,
    Reading,
    Side,
    by_seed,
    computed,
    noted,
    on_corpus,
    on_world,
    scored,
)
from affectcore.studies.resampling import HIGHER, Draws, resampled
from affectcore.studies.store import RunRecord

WORLD, SETTINGS = "environments", ("easy", "headline", "hard")
MOSI, OOD, IID = "mosi", "mosi_ood", "mosi_ood:test_iid"
ACC2, MAE = "acc2_non_zero", "mae"
BASELINES = ("c_mib", "ithp", "self_mm", "misa", "clue", "gear")
NETWORKS = ("architecture", "vanilla", "cmir", "noise_augmentation", *BASELINES)
CELLS = dict(zip(product((0, 1), repeat=3), (  # invariance, decorrelation, reconstruction
    "architecture", "only_rec", "only_dec", "no_inv", "only_inv", "no_dec", "no_rec", "cmir",
)))  # fmt: skip
TESTS = tuple(f"test_e{i}" for i in range(5))

# --- readings --------------------------------------------------------------------------------------------------------


def squared(split: str = "test", condition: str = "clean") -> Reading:
    """Return the reading of the mean squared error."""
    return noted("mse", split, condition)


def worst(r: RunRecord) -> float:
    """Return the largest mean squared error over the world's test environments."""
    return max(float(r.extra["mse"][t]["clean"]) for t in TESTS)


def safety(r: RunRecord) -> float:
    """Return minus the log of the worst case: .1 more is a tenth less error."""
    return -float(np.log(worst(r)))


def reliance(r: RunRecord) -> float:
    """Return how far a new spurious factor moves the prediction, over how far a new causal one does (mean squares)."""
    return float(r.extra["use"]["spurious"] / r.extra["use"]["causal"])


def kept(r: RunRecord) -> float:
    """Return the share of what a probe reads of the causal parts of the target off X that it still reads off Z^inv."""
    return float(r.extra["codes"]["inv"]["score"] / r.extra["codes"]["raw"]["score"])


def slack(r: RunRecord) -> float:
    """Return by how much both gates of Theorem 2 are passed: .9 of the causal information, a tenth of reliance."""
    return min(kept(r) - 0.9, 0.1 - reliance(r))


def zero(r: RunRecord) -> float:
    return 0.0


def pair(better: str, worse: str, read: Reading, label: str = "") -> Pair:
    """Return an arm against another under one reading; label: of the first arm's data, where not the world's own."""
    return Side((better,), read, label), Side((worse,), read)


def within(arm: str, first: Reading, second: Reading) -> Pair:
    """Return two readings of one arm."""
    return Side((arm,), first), Side((arm,), second)


# --- contrasts of draws ----------------------------------------------------------------------------------------------

Term = tuple[float, str, str]  # coefficient, arm, data label


def contrast(results: Results, terms: Sequence[Term], metric: str) -> PairedComparison:
    """Return a weighted sum of arms' draws, oriented so that more is better. Raises StoreError for absent arms."""
    found = [(c, drawn(results, arm, data, metric)) for c, arm, data in terms]
    seeds = {len(d.by_seed) for _, d in found}
    if len(seeds) > 1:
        raise StoreError(f"a contrast of {len(found)} arms has runs of {sorted(seeds)} seeds")
    sign = 1.0 if HIGHER[metric] else -1.0
    draws, each = (sign * sum(c * x for c, x in pairs) for pairs in (
        [(c, d.draws) for c, d in found], [(c, d.by_seed) for c, d in found]))  # fmt: skip
    least = min((d for _, d in found), key=lambda d: d.n_items)
    return from_draws(np.asarray(draws), np.asarray(each), least.n_items, least.n_groups, ("seeds", "groups"))


def drawn(results: Results, arm: str, data: str, metric: str) -> Draws:
    try:
        return resampled(results).get(arm, data, metric=metric)
    except ConfigError as absent:
        raise StoreError(str(absent)) from absent


def corpus(claim: Claim, data: str, effect: PairedComparison) -> Evidence:
    """Return evidence on a corpus from one comparison."""
    part = Part("headline", effect, n_items=effect.n_items)
    return Evidence(claim.id, Scope("corpus", data), claim.least, (part,), claim.about)


def best(results: Results, arms: Sequence[str], data: str, metric: str = MAE) -> str:
    """Return the arm with the best mean on validation."""
    sign = 1 if HIGHER[metric] else -1
    return max(arms, key=lambda a: sign * by_seed(results, a, data, scored(metric, split="valid")).mean())


# --- the claims ------------------------------------------------------------------------------------------------------


def c1_best_on_mosi(claim: Claim, results: Results) -> Evidence:
    """Against the baseline that validation calls best."""
    return on_corpus(claim, results, "cmir", best(results, BASELINES, MOSI), MOSI, metric=MAE)


def c2_sims(claim: Claim, results: Results) -> Evidence:
    """Open: no run here can bear on it."""
    raise StoreError(
        "needs the features of CH-SIMS v2 (BERT, eGeMAPS, OpenFace): the headline comparison on them settles it"
    )


def c3_humour(claim: Claim, results: Results) -> Fact:
    """The printed accuracies against HKT's own record, whose text, sound and humour features CmIR takes over."""
    gaps = {k: paper.CMIR_HUMOUR[k] - paper.HKT[k] for k in paper.HKT}
    said = ", ".join(f"{k} {v:+.2f} points" for k, v in gaps.items())
    holds = gaps["UR-FUNNY"] >= paper.HUMOUR_MARGIN["UR-FUNNY"] and gaps["MUStARD"] >= paper.HUMOUR_MARGIN["MUStARD"]
    return computed(claim, holds, f"CmIR's accuracy less that in HKT's record: {said}", gaps["UR-FUNNY"] / 100)


def c4_all_drop(claim: Claim, results: Results) -> Evidence:
    """The smallest drop of any network from the words of training to other words."""
    drops = [contrast(results, [(1, a, IID), (-1, a, OOD)], ACC2) for a in NETWORKS]
    return corpus(claim, OOD, min(drops, key=lambda d: d.estimate))


def c5_gap_grows(claim: Claim, results: Results) -> Evidence:
    """Advantage over ITHP on other words, less that on the words of training."""
    terms = [(1, "cmir", OOD), (-1, "ithp", OOD), (-1, "cmir", IID), (1, "ithp", IID)]
    return corpus(claim, OOD, contrast(results, terms, ACC2))


def c6_causal_baselines(claim: Claim, results: Results) -> Evidence:
    """Against the better of CLUE and GEAR."""
    return on_corpus(claim, results, "cmir", best(results, ("clue", "gear"), OOD), OOD, metric=ACC2)


RATES = (0.1, 0.4, 0.7)


def noise_slope(results: Results, kind: str, data: str = MOSI) -> PairedComparison:
    """Return the least-squares slope in the rate of CmIR's advantage in MAE over the network without codes."""
    x = np.array(RATES) - np.mean(RATES)
    weights = x / np.square(x).sum()
    terms = [
        (s * w, f"{kind}_{m}_{r:g}", data) for m, s in (("cmir", 1), ("vanilla", -1)) for w, r in zip(weights, RATES)
    ]
    return contrast(results, terms, MAE)


def c7_noise_slope(claim: Claim, results: Results) -> Evidence:
    """With X at a fixed scale, so that no network can drown the noise by making X large."""
    return corpus(claim, MOSI, noise_slope(results, "normed"))


def c8_unseen_noise(claim: Claim, results: Results) -> Evidence:
    """Laplace noise or erasure at test, Gaussian noise in training, rate .4."""
    return on_corpus(claim, results, "unseen_cmir_0.4", "unseen_vanilla_0.4", MOSI, metric=MAE)


def c9_causal_learning(claim: Claim, results: Results) -> Evidence:
    """Against the same networks without the three terms."""
    return on_corpus(claim, results, "cmir", "architecture", MOSI, metric=ACC2)


def main_effect(results: Results, factor: int, data: str) -> PairedComparison:
    """Return the main effect on accuracy of the first, second or third term of the factorial."""
    terms = [((2 * cell[factor] - 1) / 4, arm, data) for cell, arm in CELLS.items()]
    return contrast(results, terms, ACC2)


def c10_each_needed(claim: Claim, results: Results) -> list[Evidence]:
    """The smallest of three main effects."""
    found = {data: [main_effect(results, k, data) for k in range(3)] for data in (MOSI, OOD)}
    return [corpus(claim, data, min(each, key=lambda e: e.estimate)) for data, each in found.items()]


def c11_invariance_matters_most(claim: Claim, results: Results) -> Evidence:
    """Loss at a weight of 1e-6, against the larger of the others' losses."""
    other = min(("lambda2_1e-06", "lambda3_1e-06"), key=lambda a: drawn(results, a, OOD, ACC2).estimate)
    return corpus(claim, OOD, contrast(results, [(1, other, OOD), (-1, "lambda1_1e-06", OOD)], ACC2))


def c12_environments_needed(claim: Claim, results: Results) -> Evidence:
    """Four environments against none."""
    return on_corpus(claim, results, "cmir", "no_inv", OOD, metric=ACC2)


def c13_small_noise_hurts(claim: Claim, results: Results) -> Evidence:
    """alpha .1 against 1e-8."""
    return on_corpus(claim, results, "cmir", "alpha_1e-08", OOD, metric=ACC2)


def c14_separated(claim: Claim, results: Results) -> Evidence:
    """Correlation with the target of nonlinear probes of the two codes, where spurious factors say nothing of it."""

    def apart(arm: str, *where: str) -> Pair:
        inv, spu = (noted("codes", *where, k, "y_correlation") for k in ("inv", "spu"))
        return within(arm, inv, spu)

    return on_world(claim, results, WORLD, SETTINGS, apart("cmir"), apart("cmir", "factors"), apart("architecture"))


def c15_causal_only(claim: Claim, results: Results) -> Evidence:
    """Slack of both gates; true counterfactuals have to pass them too."""
    effect, positive, negative = (within(a, slack, zero) for a in ("cmir", "oracle_pairs", "architecture"))
    return on_world(claim, results, WORLD, SETTINGS, effect, positive, negative)


def c16_environment_hidden(claim: Claim, results: Results) -> Evidence:
    """Balanced accuracy for the true environment read off X, less that read off Z^inv."""

    def hidden(arm: str, *where: str) -> Pair:
        return within(arm, noted("codes", "raw", "environment"), noted("codes", *where, "inv", "environment"))

    return on_world(claim, results, WORLD, SETTINGS, hidden("cmir"), hidden("cmir", "factors"), hidden("architecture"))


def c17_worst_case(claim: Claim, results: Results) -> Evidence:
    """Worst case over five environments against the network without codes."""
    return _safer(claim, results, "vanilla")


def _safer(claim: Claim, results: Results, than: str) -> Evidence:
    nuisance = pair("nuisance_pairs", than, safety, "nuisance_{}")
    return on_world(
        claim, results, WORLD, SETTINGS, pair("cmir", than, safety), pair("oracle_pairs", than, safety), nuisance
    )


EQUAL = 0.02  # differences in MAE that count as none: the two printed differences are 0 and .010


def c18_equivalent(claim: Claim, results: Results) -> Evidence:
    """.02 less the size of the difference in MAE."""
    a, b = (drawn(results, arm, MOSI, MAE) for arm in ("cmir", "cmir_prediction"))
    draws, each = EQUAL - np.abs(a.draws - b.draws), EQUAL - np.abs(a.by_seed - b.by_seed)
    return corpus(claim, MOSI, from_draws(draws, each, a.n_items, a.n_groups, ("seeds", "groups")))


def own_parameters() -> int:
    """Return the parameters of the published configuration for CMU-MOSI, without the language model."""
    dims = {"text": 768, "audio": 74, "vision": 47}
    shape = Shape(dims, dict.fromkeys(dims, 50), Task("regression", ("sentiment",), -3.0, 3.0))
    return sum(p.numel() for p in registry.build("cmir", shape, "paper").parameters())


def c19_size(claim: Claim, results: Results) -> Fact:
    """The printed counts among those listed, and ours for the published configuration."""
    total = (own_parameters() + paper.DEBERTA) / 1e6
    fewest = min(paper.MUSTARD_MILLIONS, key=paper.MUSTARD_MILLIONS.__getitem__)
    cheapest = min(paper.MOSI_FLOPS, key=paper.MOSI_FLOPS.__getitem__)
    holds = fewest == cheapest == "CmIR" and round(total, 2) == paper.MOSI_MILLIONS["CmIR"]
    test = (
        f"fewest parameters on MUStARD: {fewest}; fewest operations on MOSI: {cheapest}; parts of {total:.2f} million"
    )
    return computed(claim, holds, test, total)


def c20_over_ithp(claim: Claim, results: Results) -> Evidence:
    """Gain in MAE over ITHP trained on the same vectors."""
    return on_corpus(claim, results, "cmir", "ithp", MOSI, metric=MAE)


def c21_classes_apart(claim: Claim, results: Results) -> Evidence:
    """Ten nearest neighbours in Z^inv of text, against the same in X of the network without codes."""
    near, truth = noted("classes", "neighbours"), noted("classes", "factors", "neighbours")
    vanilla = Side(("unseen_vanilla_0.4",), near)
    positive = (Side(("unseen_vanilla_0.4",), truth), vanilla)
    effect, negative = (pair(f"unseen_{m}_0.4", "unseen_vanilla_0.4", near) for m in ("cmir", "architecture"))
    return on_world(claim, results, WORLD, SETTINGS, effect, positive, negative)


def orthogonality(n: int = 48, width: int = 150) -> dict[str, float]:
    """Return R_dec as printed, of independent codes, of the same numbers in two orthogonal subspaces, and of copies."""
    stream = rng(0, "orthogonality")
    g = torch.from_numpy(stream.standard_normal((3, n, width)))
    turn = torch.linalg.qr(torch.from_numpy(stream.standard_normal((width, width))))[0]
    half = g[0, :, : width // 2]
    twice = half @ turn[: width // 2], half @ turn[width // 2 :]
    return {
        "independent": float(sample_dependence(g[1], g[2])), "the same numbers apart": float(sample_dependence(*twice)),
        "copies": float(sample_dependence(g[1], g[1])),
    }  # fmt: skip


def c22_orthogonality(claim: Claim, results: Results) -> Fact:
    """R_dec of codes that hold the same numbers in two orthogonal subspaces, and of independent codes."""
    found = orthogonality()
    said = ", ".join(f"{k} {v:.0f}" for k, v in found.items())
    holds = found["independent"] < found["the same numbers apart"]
    return computed(claim, holds, f"R_dec of 48 samples and 150 features: {said}", found["the same numbers apart"])


def c23_any_bias(claim: Claim, results: Results) -> Evidence:
    """Worst case over five environments against the architecture with all weights 0."""
    return _safer(claim, results, "architecture")


def worst_values(results: Results, arm: str, data: str) -> Floats:
    """Return the worst case of every seed."""
    return by_seed(results, arm, data, worst)
