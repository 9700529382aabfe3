"""The tests that claims.toml names: from the runs' records to evidence, one function a claim.

Worlds: arms are compared seed by seed (every seed has its own world), in three settings. Controls on worlds, the same
wherever a claim does not need one of its own: positive, `oracle_data`, whose rare classes are filled up with true
samples; negative, `full`, whose stopped prior redraws the classifier's noise and can do nothing else. Corpus: intervals
over seeds and videos together.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from affectcore.data.schema import Task
from affectcore.errors import StoreError
from affectcore.evaluation.statistics import compare
from affectcore.evaluation.verdict import Evidence, Fact, Part, Scope
from affectcore.models import registry
from affectcore.models.contract import Progress, Shape
from affectcore.studies import readings
from affectcore.studies.affect_diff import paper
from affectcore.studies.claims import Claim, Results
from affectcore.studies.readings import Floats, Pair, Reading, Side, computed, noted, runs, scored, selected
from affectcore.studies.store import RunRecord
from affectcore.training.audit import gradient_table
from affectcore.training.bench import random_batch

WORLD, SETTINGS = "imbalance", ("easy", "headline", "hard")
CORPUS = "mosei_emotions"
BASELINES = ("tfn", "mult", "misa", "mmim", "tetfn")
REFERENCE, SHAM, ORACLE = "no_diffusion", "full", "oracle_data"


# --- readings: one number of a run ---------------------------------------------------------------------------------

BALANCED = scored("balanced_accuracy")
ACTIVE = noted("latent", "active", 1)  # dimensions that vary over single steps


def rare_recall(r: RunRecord) -> float:
    """Return the mean recall of fear, disgust and surprise on test."""
    counts = np.array(r.extra["confusion"]["test"]["clean"], float)
    return float((counts.diagonal() / counts.sum(1))[list(paper.RARE)].mean())


def rare_auroc(r: RunRecord) -> float:
    """Return the mean one-vs-rest area of fear, disgust and surprise on test."""
    return float(np.mean(np.array(r.extra["class_auroc"]["test"]["clean"], float)[list(paper.RARE)]))


def detected(r: RunRecord) -> float:
    """Return how many of the six classes have a hit on test."""
    return float((np.array(r.extra["confusion"]["test"]["clean"]).diagonal() > 0).sum())


# --- from readings to evidence -------------------------------------------------------------------------------------


def by_seed(results: Results, arm: str, data: str, read: Reading = BALANCED) -> Floats:
    """Return a reading of every seed of an arm, balanced accuracy unless said otherwise."""
    return readings.by_seed(results, arm, data, read)


def side(*arms: str, read: Reading = BALANCED) -> Side:
    """Return arms of the imbalance world; the oracle, whose training has more samples, has worlds of its own."""
    return Side(arms, read, "oracle_{}" if arms == (ORACLE,) else "")


def controls(read: Reading = BALANCED) -> tuple[Pair, Pair]:
    """Return the positive and the negative control that most claims share."""
    reference = side(REFERENCE, read=read)
    return (side(ORACLE, read=read), reference), (side(SHAM, read=read), reference)


def on_world(claim: Claim, results: Results, effect: Pair, positive: Pair, negative: Pair | None = None) -> Evidence:
    """Return evidence in three settings of the imbalance world."""
    return readings.on_world(claim, results, WORLD, SETTINGS, effect, positive, negative)


def on_corpus(claim: Claim, results: Results, better: str, worse: str) -> Evidence:
    """Return evidence on CMU-MOSEI's label sets: macro AUROC, out of fold."""
    return readings.on_corpus(claim, results, f"labels_{better}", f"labels_{worse}", CORPUS)


def both(claim: Claim, results: Results, better: str, worse: str) -> list[Evidence]:
    """Return evidence that one arm has the higher balanced accuracy on the world, and higher AUROC on the corpus."""
    world = on_world(claim, results, (side(better), side(worse)), *controls())
    return [world, on_corpus(claim, results, better, worse)]


# --- the claims ----------------------------------------------------------------------------------------------------


def c1_beats_tetfn(claim: Claim, results: Results) -> list[Evidence]:
    """The whole model against the paper's best baseline, trained with the same loss and augmentation."""
    return both(claim, results, "full", "tetfn")


def c2_baselines_miss_rare(claim: Claim, results: Results) -> list[Evidence]:
    """Recall of the rare classes: the whole model against the mean of the five baselines with its loss."""
    return [_against_baselines(claim, results, rare_recall)]


def _against_baselines(claim: Claim, results: Results, read: Reading) -> Evidence:
    others = side(*BASELINES, read=read)
    return on_world(
        claim, results, (side("full", read=read), others), (side(ORACLE, read=read), others), controls(read)[1]
    )


def c3_prior(claim: Claim, results: Results) -> list[Evidence | Fact]:
    """Is there a gradient path, and does the coupled prior change the classifier for the better?"""
    table = gradients("stop").loc["diffusion"]
    reached = [part for part, norm in table.items() if norm is not None]
    path = computed(claim, reached != ["prior"], f"parts that the diffusion loss reaches: {', '.join(reached)}")
    world = on_world(claim, results, (side("full"), side(REFERENCE)), controls()[0])
    return [path, world, on_corpus(claim, results, "full", REFERENCE)]


PARTS = {
    "encoders": ("encoders",), "graph": ("gate",), "fusion": ("fuse_in", "fuse_norm", "fuse_out"),
    "latent": ("mu", "logvar"), "classifier": ("pool_query", "hidden", "head"), "prior": ("unet",),
}  # fmt: skip


def gradients(prior: str) -> Any:
    """Return `gradient_table` of a small Affect-Diff on random input."""
    shape = Shape(dict.fromkeys(("text", "audio", "vision"), 6), dict.fromkeys(("text", "audio", "vision"), 8),
                  Task("single_label", paper.CLASSES))  # fmt: skip
    torch.manual_seed(0)
    model = registry.build("affect_diff", shape, width=16, heads=2, layers=1, latent=8, unet_width=8, prior=prior)
    return gradient_table(model, random_batch(shape, 12), Progress(0, 0, 1, 1), PARTS)


def c4_graph(claim: Claim, results: Results) -> list[Evidence]:
    """The learned graph's gate against a gate that is always 1/3."""
    return both(claim, results, REFERENCE, "uniform")


def c5_acyclicity(claim: Claim, results: Results) -> list[Evidence]:
    """The acyclicity penalty on against off, sparsity on in both."""
    return [on_world(claim, results, (side(REFERENCE), side("h_off")), *controls())]


def c6_stop_gradient(claim: Claim, results: Results) -> list[Evidence]:
    """Gradient stopped (then the classifier is that of `no_diffusion`) against passed on."""
    return both(claim, results, REFERENCE, "joint")


def c7_kl_is_the_lever(claim: Claim, results: Results) -> list[Evidence]:
    """Recall of the rare classes without KL against beta = .1, noise on in both."""
    pair = side("noise_only", read=rare_recall), side(REFERENCE, read=rare_recall)
    return [on_world(claim, results, pair, *controls(rare_recall))]


def c8_stable(claim: Claim, results: Results) -> Fact:
    """Ten seeds of the published protocol: standard deviation of its own number."""
    values = by_seed(results, "published_full", "imbalance_headline", selected)
    sd = float(values.std(ddof=1))
    return computed(claim, sd <= 0.005, f"standard deviation over {len(values)} seeds at most .005: {sd:.3f}", sd)


def c9_accuracy(claim: Claim, results: Results) -> Fact:
    """The accuracy that the published confusion matrix gives, against the three baselines'."""
    own = paper.recomputed("full").accuracy
    others = {m: paper.BY_KEY[m].accuracy for m in ("mult", "misa", "tetfn")}
    said = ", ".join(f"{m} {v:.3f}" for m, v in others.items())
    return computed(claim, own > max(others.values()), f"own confusion matrix {own:.3f}; {said}", own)


CELLS = {  # graph, latent, augmentation
    (1, 1, 1): REFERENCE, (0, 1, 1): "no_graph", (1, 0, 1): "no_vae", (1, 1, 0): "no_augmentation",
    (0, 0, 1): "no_graph_no_vae", (0, 1, 0): "no_graph_no_augmentation", (1, 0, 0): "no_vae_no_augmentation",
    (0, 0, 0): "classifier_only",
}  # fmt: skip


def factorial(results: Results, data: str, read: Reading = BALANCED) -> dict[str, Floats]:
    """Return effects by name, seed by seed: "G", "V", "A" (mean with minus without) and interactions "GV", ..., "GVA".

    The prior is left out: with noise and clipping of its own it changes no bit, so its effect and all its interactions
    are 0.
    """
    return readings.effects({cell: by_seed(results, arm, data, read) for cell, arm in CELLS.items()}, "GVA")


def c10_independent(claim: Claim, results: Results) -> list[Evidence]:
    """Mean size of main effects against that of interactions; by seed: jackknife pseudo-values."""

    parts = []
    for s in SETTINGS:
        effects = factorial(results, f"imbalance_{s}")
        main, crossed = pseudo(effects, ("G", "V", "A")), pseudo(effects, ("GV", "GA", "VA", "GVA"))
        positive, negative = (readings.compared(results, pair, WORLD, s) for pair in controls())
        n = readings.items(results, f"{WORLD}_{s}")
        parts.append(Part(s, compare(main, crossed), positive, negative, n))
    return [Evidence(claim.id, Scope("world", WORLD), claim.least, tuple(parts), claim.about)]


def pseudo(effects: dict[str, Floats], names: Sequence[str]) -> Floats:
    """Return jackknife pseudo-values over seeds of the mean absolute effect."""
    table = np.stack([effects[n] for n in names])  # (effects, seeds)
    n, whole = table.shape[1], np.abs(table.mean(1)).mean()
    without = np.array([np.abs(np.delete(table, i, 1).mean(1)).mean() for i in range(n)])
    return np.asarray(n * whole - (n - 1) * without)


def c11_weights_settle(claim: Claim, results: Results) -> Fact:
    """Share of seeds whose column sums end in the paper's order: text, then audio, then vision."""
    ends = [np.array([r.history[-1]["probe"][f"sums.{m}"] for m in paper.MODALITIES]) for r in
            runs(results, "published_full", "imbalance_headline")]  # fmt: skip
    share = float(np.mean([e[0] > e[1] > e[2] for e in ends]))
    return computed(
        claim, share >= 0.9, f"share of {len(ends)} seeds that end in the paper's order: {share:.1f}", share
    )


def c12_dag(claim: Claim, results: Results) -> Fact:
    """Acyclicity h of the learned graphs, and whether both directions of text and audio stay."""
    h = [r.extra["graph"]["h"] for r in runs(results, "published_full", "imbalance_headline")]
    both = paper.two_cycles()
    test = (
        f"smallest h over {len(h)} seeds {min(h):.2g} (a graph without cycles has 0); two-cycles as drawn: {len(both)}"
    )
    return computed(claim, max(h) <= 1e-8 and not both, test, float(np.mean(h)))


def c13_latent(claim: Claim, results: Results) -> list[Evidence]:
    """Log of the Fisher ratio of rare classes in the latents, with the prior against without."""

    def log_fisher(r: RunRecord) -> float:
        return float(np.log(max(r.extra["latent"]["fisher"][0], 1e-9)))

    full, reference, oracle = (side(a, read=log_fisher) for a in ("full", REFERENCE, ORACLE))
    return [on_world(claim, results, (full, reference), (oracle, reference))]


def c14_without_audio(claim: Claim, results: Results) -> list[Evidence]:
    """Macro F1 without audio against with it; positive control: with text against without."""
    clean, audio, text = (side(REFERENCE, read=scored("macro_f1", c)) for c in ("clean", "no audio", "no text"))
    return [on_world(claim, results, (audio, clean), (clean, text))]


def c15_frontier(claim: Claim, results: Results) -> Fact:
    """Which models have fewer parameters and a higher true balanced accuracy than the whole, by the author's record."""
    better = paper.dominating("full")
    return computed(claim, not len(better), f"models that dominate the whole: {len(better)}", float(len(better)))


def c16_split(claim: Claim, results: Results) -> Evidence:
    """Gap between the validation maximum of the paper's metric and true test balanced accuracy, random split minus
    stratified split by video."""

    def gap(r: RunRecord) -> float:
        return selected(r) - BALANCED(r)

    random, grouped = (by_seed(results, "selected_paper", d, gap) for d in ("mosei_four_random", "mosei_four"))
    part = Part("headline", compare(random, grouped))
    return Evidence(claim.id, Scope("corpus", "mosei_four"), claim.least, (part,), claim.about)


def c19_warm_up(claim: Claim, results: Results) -> list[Evidence]:
    """Active units with the cyclic warm-up against none; positive control: no KL at all."""
    return _units(claim, results, REFERENCE, "kl_constant")


def c20_free_bits(claim: Claim, results: Results) -> list[Evidence]:
    """Active units with .25 nats free against none; positive control: no KL at all."""
    return _units(claim, results, "free_bits_0.25", REFERENCE)


def _units(claim: Claim, results: Results, better: str, worse: str) -> list[Evidence]:
    pair = side(better, read=ACTIVE), side(worse, read=ACTIVE)
    return [on_world(claim, results, pair, (side("noise_only", read=ACTIVE), pair[1]), controls(ACTIVE)[1])]


def c21_alignment(claim: Claim, results: Results) -> Fact:
    """Videos and segments of the corpus's label table, against the number that "strict alignment leaves"."""
    r = next((r for r in results.records if r.spec.arm == "label_table"), None)
    if r is None:
        raise StoreError("no run of label_table")
    n = r.extra["label_table"]
    stated = sum(paper.SPLIT_PRINTED.values())
    test = f"{stated} samples stated; the label table holds {n['videos']} videos and {n['segments']} segments"
    return computed(claim, abs(stated - n["videos"]) > abs(stated - n["segments"]), test, float(n["videos"]))


def c22_modality_aware(claim: Claim, results: Results) -> list[Evidence]:
    """Denoising loss under strengths of other samples against one's own; positive control: a hidden label."""
    own, others, hidden = (_prior("loss", "mu", i) for i in (0, 1, 3))
    return [on_world(claim, results, (others, own), (hidden, own))]


def c23_rare_auroc(claim: Claim, results: Results) -> list[Evidence]:
    """Area under the ROC of the rare classes: the whole model against the mean of the five baselines, trained alike."""
    return [_against_baselines(claim, results, rare_auroc)]


def c24_focal(claim: Claim, results: Results) -> list[Evidence]:
    """Recall of the rare classes under focal loss against cross-entropy, no class weights in either."""
    pair = side("focal", read=rare_recall), side("ce", read=rare_recall)
    return [on_world(claim, results, pair, *controls(rare_recall))]


def c25_metric(claim: Claim, results: Results) -> Fact:
    """What the paper's metric gives a constant predictor on batches like the author's."""
    value = paper.constant_score()
    return computed(claim, value <= paper.FLOOR, f"a constant predictor scores {value:.6f}; 1/6 is immune", value)


def c26_prior_fits(claim: Claim, results: Results) -> list[Evidence]:
    """Optimal loss on N(0, I) latents against the learned loss; positive control: a Gaussian fitted step by step."""
    optimum = _prior("optimum")
    return [on_world(claim, results, (optimum, _prior("loss", "z", 0)), (optimum, _prior("gaussian", "z")))]


def _prior(*keys: Any) -> Side:
    return side("full", read=noted("prior", *keys))
