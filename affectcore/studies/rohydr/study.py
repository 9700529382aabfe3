"""RoHyDR: what recovering a missing stream, and the fusion, is worth, on a world whose truth is known and on real data.

World: "recovery" in three settings, each seed its own, so that arms are compared seed by seed; every arm but the
published protocol's trains on samples from which modalities are hidden at random (rate .5, at least one kept, drawn per
sample and step) and keeps its last epoch, so that no split is looked at. One model serves all missing rates: test
samples are scored at rate .4, where all seven subsets occur, and `evidence.averaged` puts the rates 0 to .7 together.
Corpora: CMU-MOSEI, one vector a video (it tests heads and fusion, never a sequence mechanism), and SWELL-KW, windows of
four minutes, whose physiology and posture are missing by nature; three folds by video and by participant, out of fold.

Every arm differs from the reference `rohydr` in what its name says.
"""

from typing import Any, Literal

from affectcore.studies.spec import Arm, Condition, DataSpec, Options, Profile, Study, Transform

EXECUTE = "affectcore.studies.rohydr.diagnose:train_and_diagnose"
SETTINGS = ("easy", "headline", "hard")
FOLDS = 3
Tier = Literal[1, 2, 3]

# --- data

STANDARD, SCALED = (Transform("standardise"),), (Transform("gaussianise"),)
SIZES = {"train": 1284, "valid": 229, "test": 6000}  # training and validation as MOSI


def _world(label: str, **options: Any) -> DataSpec:
    return DataSpec(label, "world", "recovery", {"sizes": SIZES, **options}, transforms=STANDARD)


def _folds(
    label: str, dataset: str, options: Options, only: tuple[str, ...], *scalers: Transform
) -> tuple[DataSpec, ...]:
    resplit = {"n_folds": FOLDS, "seed": 0, "valid_share": 0.15}
    return tuple(
        DataSpec(f"{label}/{k}", "reader", dataset, options, only, {"k": k, **resplit}, scalers) for k in range(FOLDS)
    )


def names(*groups: tuple[DataSpec, ...]) -> tuple[str, ...]:
    """Return the labels of groups of data specs."""
    return tuple(d.name for g in groups for d in g)


COUNTS = (4, 6)
WORLDS = tuple(_world(f"recovery_{s}", settings=s) for s in SETTINGS)
MANY = tuple(_world(f"modalities_{n}", change={"modalities": n}) for n in COUNTS)
MOSEI = _folds("mosei", "cmu_mosei_video", {"target": "sentiment_positive"}, (), *SCALED)
WINDOWS = {"target": "stress_condition", "window": 4}
SWELL = _folds("swell", "swell_kw", WINDOWS, ())  # the reader standardises by participant, without labels
NO_POSTURE = _folds("swell_no_posture", "swell_kw", WINDOWS, ("physiology", "facial", "computer"))
IN_WORLDS, ON_MANY, ON_MOSEI, HEADLINE = names(WORLDS), names(MANY), names(MOSEI), ("recovery_headline",)
ON_SWELL = names(SWELL)

# --- conditions

CLEAN = Condition()  # nothing hidden but what the data lack
TRAINING = Condition("training", "missing/random_subset", 0.5)
MR = Condition("mr_0.4", "missing/random_mr", 0.4)
# Of 16, not 32: the published code divides by the number of batches rounded to tens, 0 for the validation's 120 / 32.
PER_BATCH = Condition("batch_0.4", "missing/published_random_mr", 0.4, {"batch_size": 16})
HALF = Condition("half", "missing/random_subset", 0.5)  # any number of modalities

# --- arms

LAST: dict[str, Any] = {"selection": "fixed_epoch", "schedule": "linear", "patience": None}
ACCURACY = "balanced_accuracy"
ZERO: dict[str, Any] = {"recovery": "zero"}
NO_FUSION_RECOVERY: dict[str, Any] = {"mrec": False}
NO_D: dict[str, Any] = {"adversarial_weight": 0.0}
ONE: dict[str, Any] = {"stages": "one"}
FUSED: dict[str, Any] = {"stages": "fused"}
# IMDer's design on RoHyDR's denoiser: streams drawn by diffusion, one joint loss, no recovery of the fusion. IMDer
# itself, whose U-Nets take several times as long, runs on the headline world.
JOINT: dict[str, Any] = {**ONE, **NO_FUSION_RECOVERY}
REGRESSOR: dict[str, Any] = {"recovery": "regressor"}


def _arm(
    name: str, data: tuple[str, ...], tier: Tier = 1, *, model: str = "rohydr", look: str = "", headline: str = "",
    probe: bool = False, preset: str = "clean", recipe: str = "rohydr", augment: Condition | None = TRAINING,
    conditions: tuple[Condition, ...] = (MR,), **changes: Any,
) -> Arm:  # fmt: skip
    """An arm trained by gradient. look: diagnoses of diagnose.py; headline: more of them, on the headline world alone;
    probe: score validation, one modality left, after every epoch."""
    options = {"diagnose": look.split(), "headline": headline.split(), "probe": probe}
    return Arm(name, model, preset, changes, recipe, LAST, augment, options, tier, data, conditions, EXECUTE)


def _closed(name: str, model: str, data: tuple[str, ...], conditions: tuple[Condition, ...], tier: Tier = 1) -> Arm:
    return Arm(name, model, tier=tier, data=data, conditions=conditions, execute=EXECUTE)


REFERENCE = (
    _arm("rohydr", IN_WORLDS, look="shuffled recovery", headline="audit steps", probe=True, conditions=(MR, CLEAN)),
    _arm("joint", IN_WORLDS, headline="recovery audit", probe=True, **JOINT),
    _arm("imder", HEADLINE, 2, model="imder", probe=True),
    _arm("zero_fill", IN_WORLDS, headline="audit steps", conditions=(MR, HALF), **ZERO, **NO_FUSION_RECOVERY),
    _arm("complete", IN_WORLDS, augment=None, conditions=(MR, CLEAN), **ZERO, **NO_FUSION_RECOVERY, hide=0.0),
    _closed("constant", "constant", IN_WORLDS, (MR, CLEAN)),
    _closed("ridge_recovery", "ridge_recovery", IN_WORLDS, (MR, CLEAN)),
    _closed("linear", "linear", IN_WORLDS, (MR, CLEAN)),
)
MECHANISMS = (
    _arm("no_discriminator", IN_WORLDS, **NO_D),
    _arm("one_stage", IN_WORLDS, headline="gradients", probe=True, **ONE),
    _arm("streams_alone", IN_WORLDS, **NO_FUSION_RECOVERY),
    _arm("fusion_alone", IN_WORLDS, **ZERO),
    _arm("mean_condition", IN_WORLDS, denoiser="dit"),
)
FACTORIAL = (  # with rohydr, streams_alone, one_stage, joint: recovery x fusion recovery x optimisation
    _arm("regressor", HEADLINE, 2, look="recovery steps", **REGRESSOR),
    _arm("regressor_alone", HEADLINE, 2, **REGRESSOR, **NO_FUSION_RECOVERY),
    _arm("one_regressor", HEADLINE, 2, **ONE, **REGRESSOR),
    _arm("one_regressor_alone", HEADLINE, 2, **ONE, **REGRESSOR, **NO_FUSION_RECOVERY),
)
PASSES = (
    _arm("fused", HEADLINE, 2, probe=True, conditions=(MR, HALF), **FUSED),
    _arm("direct", HEADLINE, 2, probe=True, direct=True),
    _arm("no_reuse", HEADLINE, 2, probe=True, reuse="none"),
)
WEIGHTING = (
    _arm("two_stages", HEADLINE, 2, probe=True, stages="two_a"),
    *(
        _arm(name, HEADLINE, 2, probe=True, **FUSED, weighting=name)
        for name in ("uncertainty", "dwa", "gradnorm", "pcgrad")
    ),
)
COUNTED = (  # beside fused and zero_fill, which have three modalities
    _arm("many_recovered", ON_MANY, 2, conditions=(HALF,), **FUSED),
    _arm("many_zero", ON_MANY, 2, conditions=(HALF,), **ZERO, **NO_FUSION_RECOVERY),
)
# As the code of December trains and evaluates: subsets drawn per batch, anew in every stage, a sampler of another
# schedule, gradients through it. Sizes, drop-out, steps of samplers and epochs are the study's.
DECEMBER: dict[str, Any] = {"preset": "author_dec", "augment": None, "conditions": (PER_BATCH, MR), "backprop": 2,
                            "clip": 1.0}  # fmt: skip
PUBLISHED = (
    _arm("published_rohydr", HEADLINE, 2, recipe="rohydr_author", **DECEMBER),
    _arm("published_joint", HEADLINE, 2, **DECEMBER, **JOINT),
)
REAL = (
    _arm("mosei_rohydr", ON_MOSEI, 2, conditions=(MR, CLEAN)),
    _arm("mosei_joint", ON_MOSEI, 2, conditions=(MR, CLEAN), **JOINT),
    _arm("mosei_zero_fill", ON_MOSEI, 2, conditions=(MR, CLEAN), **ZERO, **NO_FUSION_RECOVERY),
    _closed("mosei_ridge_recovery", "ridge_recovery", ON_MOSEI, (MR, CLEAN), 2),
    _closed("mosei_constant", "constant", ON_MOSEI, (MR, CLEAN), 2),
    _arm("swell_rohydr", ON_SWELL, 2, conditions=(CLEAN, HALF)),
    _arm("swell_zero_fill", ON_SWELL, 2, conditions=(CLEAN, HALF), **ZERO, **NO_FUSION_RECOVERY),
    _closed("swell_ridge_recovery", "ridge_recovery", ON_SWELL, (CLEAN, HALF), 2),
    _closed("swell_constant", "constant", ON_SWELL, (CLEAN, HALF), 2),
    _arm("swell_no_posture", names(NO_POSTURE), 2, conditions=(CLEAN, HALF)),
)

# --- sizes

# T = 4 and width 16, not 12 and 32: there, one run of the reference took 76 CPU seconds. A factor is stronger in each
# of the four steps, so that four say about what twelve did. A test sample is drawn from noise of its own, as published:
# one fixed noise for all shifts all predictions together where a stream has 4 x 16 numbers. The estimate of a stream is
# bounded by 5 deviations, as in IMDer's clean preset: the first of two DDIM steps divides the denoiser's error by .006.
# Rate, steps and drop-out were looked at on the headline world, seed 100, which is used for nothing else.
SHORT: dict[str, Any] = {"steps": 4, "gain": [1.4, 0.5, 1.04]}
COMMON: dict[str, Any] = {
    "width": 16, "heads": 2, "layers": 1, "memory_layers": 1, "denoiser_heads": 2, "reconstructor_blocks": 1,
    "reduction": 8, "sampling_steps": 2, "sampling_steps_test": 2, "draws": 1, "clip": 5.0, "text_dropout": 0.1,
    "embed_dropout": 0.1, "output_dropout": 0.1,
}  # fmt: skip
SMALL = COMMON | {
    "denoiser_width": 32, "denoiser_depth": 1, "mrec_hidden": (32, 32), "mrec_dropout": 0.1,
    "discriminator_hidden": (32, 16),
}  # fmt: skip


def _sizes(train: int, valid: int, test: int) -> dict[str, dict[str, Any]]:
    sizes = {"sizes": {"train": train, "valid": valid, "test": test}}
    many = {d.name: sizes | {"change": SHORT | {"modalities": n}} for d, n in zip(MANY, COUNTS)}
    return {d.name: sizes | {"change": SHORT} for d in WORLDS} | many


RECIPE: dict[str, Any] = {"lr": 5e-3, "batch_size": 120}
STUDY = Study(
    name="rohydr",
    question="What is it worth to recover missing streams by diffusion, and their fusion by an adversary, in stages?",
    arms=(*REFERENCE, *MECHANISMS, *REAL, *PUBLISHED, *FACTORIAL, *PASSES, *WEIGHTING, *COUNTED),
    data=(*WORLDS, *MANY, *MOSEI, *SWELL, *NO_POSTURE),
    profiles={
        "smoke": Profile(
            {1: 2, 2: 2}, RECIPE | {"epochs": 1, "batch_size": 60},
            {"rohydr": SMALL | {"sampling_steps": 1}, "imder": COMMON | {"sampling_steps": 1}}, _sizes(60, 192, 192),
        ),
        "standard": Profile(
            {1: 10, 2: 5}, RECIPE | {"epochs": 12}, {"rohydr": SMALL, "imder": COMMON}, _sizes(480, 120, 6000)
        ),
        "full": Profile({1: 20, 2: 10, 3: 5}),
    },
    conditions=(MR,),
    deciding=("mr_0.4", "clean"),
    deciding_data=(*ON_MOSEI, *ON_SWELL),
    drawn=("mosei", "swell"),
)  # fmt: skip
