"""Affect-Diff: what each of its mechanisms does for rare classes, on a world whose truth is known and on real videos.

Worlds: "imbalance" in three settings, each seed its own, so that arms are compared seed by seed. Corpus: CMU-MOSEI, one
vector a video; `mosei_emotions` (label sets, five folds by video, out of fold) is the headline, `mosei_four` the four
frequent emotions as single labels. On a single step the prior's denoiser is an MLP, named so in the arm's settings.

Every arm differs from the reference `no_diffusion` in what its name says. The reference has no prior because a stopped
prior cannot act: `full_apart`, which has one with noise and gradient clipping of its own, is the same classifier bit
for bit; `full` couples both, as published. Losses and augmentation are equal for all but the arms that say otherwise.
"""

from typing import Any, Literal

from affectcore.data.worlds.imbalance import PUBLISHED
from affectcore.studies.own_data import Elsewhere
from affectcore.studies.spec import Arm, Condition, DataSpec, Options, Profile, Study, Transform

EXECUTE = "affectcore.studies.affect_diff.diagnose:train_and_diagnose"
COUNT = "affectcore.studies.affect_diff.label_table:count_label_table"
SETTINGS = ("easy", "headline", "hard")
STRUCTURES = ("fork", "collider", "confounder", "cycle")
FOLDS = 5
Tier = Literal[1, 2, 3]

# --- data

STANDARD, SCALED = (Transform("standardise"),), (Transform("gaussianise"),)
SIZES = {"train": 1956, "valid": 419, "test": 6000}  # as published, but for more test items


def _world(label: str, **options: Any) -> DataSpec:
    return DataSpec(label, "world", "imbalance", {"sizes": SIZES, **options}, transforms=STANDARD)


def _folds(label: str, target: str, **resplit: Any) -> tuple[DataSpec, ...]:
    base = {"n_folds": FOLDS, "seed": 0, "valid_share": 0.15, **resplit}
    return tuple(
        DataSpec(f"{label}/{k}", "reader", "cmu_mosei_video", {"target": target}, (), {"k": k, **base}, SCALED)
        for k in range(FOLDS)
    )


def names(*groups: tuple[DataSpec, ...]) -> tuple[str, ...]:
    """Return the labels of groups of data specs."""
    return tuple(d.name for g in groups for d in g)


WORLDS = tuple(_world(f"imbalance_{s}", settings=s) for s in SETTINGS)
# a perfect generator: true samples fill every class up to half of the largest
ORACLE = tuple(_world(f"oracle_{s}", settings=s) for s in SETTINGS)
WIDE = _world("imbalance_published_size", settings="headline")
GRAPHS = tuple(_world(f"graph_{s}", change={"structure": s}) for s in STRUCTURES)
LABELS = _folds("mosei_emotions", "emotions")
FOUR = _folds("mosei_four", "emotion_four")
RANDOM = _folds("mosei_four_random", "emotion_four", by="sample", stratify=False)
IN_WORLDS, ON_LABELS, ON_FOUR, HEADLINE = names(WORLDS), names(LABELS), names(FOUR), ("imbalance_headline",)
EASY_TOO = ("imbalance_easy", *HEADLINE)  # sweeps of what acts on rare classes, which the headline world may hide

# --- conditions: the nine perturbations of the paper's table

CLEAN = Condition()
PERTURBED = (
    *(Condition(f"no {m}", "missing/without", 1.0, {"absent": [m]}) for m in ("text", "audio", "vision")),
    *(Condition(f"noise {s:g}", "corruption/gaussian", s, {"scale": "train"}) for s in (0.1, 0.5, 2.0)),
    *(Condition(f"mask {p:g}", "missing/frame_mask", p) for p in (0.1, 0.25, 0.5)),
)
NINE = (CLEAN, *PERTURBED)
SWAPPED = tuple(
    Condition(f"swapped {m}", "corruption/swap", 1.0, {"modalities": [m]}) for m in ("text", "audio", "vision")
)
AUGMENTED = Condition("augmentation", "corruption/affect_diff_augmentation", 0.1)

# --- arms

RECIPE = "affect_diff"
BALANCED, AREA, PAPER_METRIC = "balanced_accuracy", "auroc_macro", "batch_averaged_macro_recall_64"
APART: dict[str, Any] = {"clip_prefixes": [["unet", 1.0]]}  # the prior's gradients clipped on their own
NO_AUGMENTATION: dict[str, Any] = {
    "frame_mask": 0.0,
    "feature_noise": 0.0,
}  # modality dropout stays on, as in the published code
NO_VAE: dict[str, Any] = {"sampled": False, "kl_weight": 0.0}
NO_GRAPH: dict[str, Any] = {"gate": "none"}
FULL: dict[str, Any] = {
    "prior": "stop",
    "shared_noise": True,
}  # coupled as published: one stream of noise, one clip for all gradients
# n_c / n_max of the published training counts: the KL weighs less where a class is rare
SHARES = tuple(round(n / max(PUBLISHED["train"]), 4) for n in PUBLISHED["train"])


def _arm(
    name: str, data: tuple[str, ...], tier: Tier = 1, *, look: str = "", weights: str | None = "root",
    preset: str = "clean", metric: str = BALANCED, recipe: Options | None = None,
    conditions: tuple[Condition, ...] = (), probe: bool = False, **changes: Any,
) -> Arm:  # fmt: skip
    """An Affect-Diff arm, without prior unless `changes` has one; `look`: diagnoses of diagnose.py, one word each;
    `probe`: look at every epoch as well, for what is said of the choice of the epoch."""
    options = {"weights": weights, "diagnose": look.split(), "probe": probe}
    return Arm(
        name, "affect_diff", preset, {"prior": "off"} | changes, RECIPE, {"metric": metric, **(recipe or {})}, None,
        options, tier, data, conditions, EXECUTE,
    )  # fmt: skip


def _lite(
    name: str, model: str, data: tuple[str, ...], tier: Tier = 1, *, augment: Condition | None = AUGMENTED,
    weights: str | None = "root", gamma: float = 2.0, smoothing: float = 0.1, preset: str = "clean",
    metric: str = BALANCED, conditions: tuple[Condition, ...] = (), probe: bool = False,
) -> Arm:  # fmt: skip
    """A baseline, by default with Affect-Diff's own loss and augmentation: root weights, focal, smoothing."""
    changes = {
        "backbone": f"lite_{model}", "backbone_preset": preset, "gamma": gamma, "smoothing": smoothing,
        "weighting": "root_max" if weights else "none",
    }  # fmt: skip
    options: Options = {"weights": weights, "diagnose": [], "probe": probe}
    return Arm(
        name, "imbalance", "clean", changes, RECIPE, {"metric": metric}, augment, options, tier, data, conditions,
        EXECUTE,
    )  # fmt: skip


BASELINES = ("tfn", "mult", "misa", "mmim", "tetfn")
AS_PUBLISHED: dict[str, Any] = {"augment": None, "weights": None, "gamma": 0.0}  # how the paper trained them
REFERENCE = (
    _arm("no_diffusion", IN_WORLDS, look="graph latent reconstruction", probe=True, conditions=(CLEAN, *PERTURBED[:2])),
    _arm("full", IN_WORLDS, look="graph latent prior", probe=True, **FULL),
    _arm("joint", IN_WORLDS, look="latent prior joint", prior="joint"),
    _arm("oracle_data", names(ORACLE), look="latent"),
)
GATES = (
    _arm("no_graph", IN_WORLDS, **NO_GRAPH),
    _arm("uniform", IN_WORLDS, gate="uniform"),
    _arm("h_off", IN_WORLDS, look="graph", penalty="none"),
    _arm("attention", HEADLINE, 2, gate="attention"),
    _arm("gumbel", HEADLINE, 2, look="graph", gate="gumbel"),
    _arm("softmax", HEADLINE, 2, gate="softmax"),
    _arm("mlp_gate", HEADLINE, 2, gate="mlp"),
    *(
        _arm(f"{name}_scaled", HEADLINE, 2, gate=gate, gate_scaled=True)
        for name, gate in (("graph", "graph"), ("softmax", "softmax"), ("mlp_gate", "mlp"), ("attention", "attention"))
    ),
    _arm("l1_off", HEADLINE, 2, look="graph", sparsity=0.0),
    _arm("penalty_off", HEADLINE, 2, look="graph", causal_weight=0.0),
    *(_arm(f"causal_{w:g}", HEADLINE, 2, look="graph", causal_weight=w) for w in (0.5, 5.0, 50.0)),
    _arm("row_sums", HEADLINE, 2, look="graph", strength="out"),
    _arm("lagrangian", (*HEADLINE, *names(GRAPHS)), 2, look="graph", gate="lagrangian"),
    _arm("graph", names(GRAPHS), 2, look="graph"),
)
LATENT = (
    _arm("no_vae", IN_WORLDS, look="latent reconstruction", **NO_VAE),
    _arm("noise_only", IN_WORLDS, look="latent", kl_weight=0.0),
    _arm("kl_only", HEADLINE, 2, look="latent", sampled=False),
    _arm("kl_linear", HEADLINE, 2, look="latent", kl_schedule="linear"),
    _arm("kl_constant", IN_WORLDS, look="latent", kl_schedule="constant"),
    _arm("free_bits_0.25", IN_WORLDS, look="latent", free_bits=0.25),
    *(_arm(f"free_bits_{b:g}", HEADLINE, 2, look="latent", free_bits=b) for b in (0.05, 1.0)),
    *(_arm(f"beta_{b:g}", EASY_TOO, 2, look="latent", kl_weight=b) for b in (0.001, 0.01, 0.03, 0.3, 1.0)),
    _arm("kl_by_class", HEADLINE, 2, look="latent", kl_class_scale=SHARES),
    *(
        _arm(f"decoder_{w:g}", HEADLINE, 2, look="latent reconstruction", decoder=True, reconstruction_weight=w)
        for w in (0.05, 0.5)
    ),
)
FACTORIAL = (  # with no_diffusion, no_graph and no_vae: graph x latent x augmentation, and with the inert prior 2^4
    _arm("no_augmentation", IN_WORLDS, **NO_AUGMENTATION),
    _arm("no_graph_no_vae", IN_WORLDS, **NO_GRAPH, **NO_VAE),
    _arm("no_graph_no_augmentation", IN_WORLDS, **NO_GRAPH, **NO_AUGMENTATION),
    _arm("no_vae_no_augmentation", IN_WORLDS, **NO_VAE, **NO_AUGMENTATION),
    _arm("classifier_only", IN_WORLDS, look="latent", **NO_GRAPH, **NO_VAE, **NO_AUGMENTATION),
    _arm("no_modality_dropout", HEADLINE, 2, modality_dropout=0.0),
)
LOSSES = (
    _arm("ce", IN_WORLDS, weights=None, focal="none"),
    _arm("focal", IN_WORLDS, weights=None),
    _arm("ce_weights", EASY_TOO, 2, focal="none"),
    _arm("focal_author", HEADLINE, 2, focal="loss"),
    _arm("no_smoothing", HEADLINE, 2, label_smoothing=0.0),
)
PRIORS = (
    _arm("full_apart", HEADLINE, 2, probe=True, recipe=APART, prior="stop"),
    _arm("full_clip", HEADLINE, 2, probe=True, prior="stop"),
    _arm("full_noise", HEADLINE, 2, probe=True, recipe=APART, **FULL),
    *(
        _arm(f"joint_{w:g}", HEADLINE, 2, look="prior joint", prior="joint", diffusion_weight=w)
        for w in (0.01, 0.5, 5.0)
    ),
    _arm("joint_at_once", HEADLINE, 2, prior="joint", diffusion_start=0, diffusion_epochs=1),
    _arm("joint_late", HEADLINE, 2, prior="joint", diffusion_start=8),
    _arm("no_condition", HEADLINE, 2, look="prior", condition="ones", **FULL),
    _arm("no_guidance", HEADLINE, 2, look="prior", label_dropout=0.0, guidance=1.0, **FULL),
    _arm("replay", HEADLINE, 2, prior="stop", replay=6),
    _arm("ratio", HEADLINE, 2, prior="stop", inference="prior"),
)
COMPARED = (
    Arm("label_table", "constant", tier=2, data=ON_LABELS[:1], execute=COUNT),
    Arm("constant", "constant", data=(*IN_WORLDS, *ON_LABELS, *ON_FOUR)),
    Arm("linear", "linear", data=IN_WORLDS),
    *(_lite(m, m, IN_WORLDS, probe=True) for m in BASELINES),
    *(_lite(f"{m}_published_loss", m, HEADLINE, 2, **AS_PUBLISHED) for m in BASELINES),
    *(_lite(f"{m}_weights", m, HEADLINE, 2, gamma=0.0) for m in BASELINES),
    *(_lite(f"{m}_focal", m, HEADLINE, 2, weights=None) for m in BASELINES),
    *(_lite(f"{m}_no_augmentation", m, HEADLINE, 2, augment=None) for m in BASELINES),
    *(_lite(f"{m}_ce", m, HEADLINE, 2, weights=None, gamma=0.0) for m in BASELINES),
)
PERTURBED_ARMS = (  # the same arms again, scored under the nine perturbations as well
    _arm("perturbed_no_diffusion", HEADLINE, 2, conditions=NINE),
    _arm("perturbed_no_vae", HEADLINE, 2, conditions=NINE, **NO_VAE),
    _arm("perturbed_classifier_only", HEADLINE, 2, conditions=NINE, **NO_GRAPH, **NO_VAE, **NO_AUGMENTATION),
    *(_lite(f"perturbed_{m}", m, HEADLINE, 2, conditions=NINE) for m in BASELINES),
)
PUBLISHED_PROTOCOL = (  # padding encoded, epoch chosen by the paper's metric, baselines trained without its loss
    _arm(
        "published_full",
        HEADLINE,
        look="graph",
        preset="author",
        metric=PAPER_METRIC,
        prior="stop",
        probe=True,
        conditions=(*NINE, *SWAPPED),
    ),
    _arm("published_no_diffusion", HEADLINE, look="graph", preset="author", metric=PAPER_METRIC, probe=True),
    *(
        _lite(f"published_{m}", m, HEADLINE, preset="author", metric=PAPER_METRIC, probe=True, **AS_PUBLISHED)
        for m in BASELINES
    ),
    *(
        _arm(f"selected_{name}", (*ON_FOUR, *names(RANDOM)), 2, metric=metric, probe=True)
        for name, metric in (("paper", PAPER_METRIC), ("true", BALANCED))
    ),
)

# The reference and what is left when its mechanisms are out, at the published sizes and training counts: does the
# reduced size decide the answer? The rate is the best of 5e-4, 1e-3 and 2e-3 on validation, seeds 100 and 101.
PUBLISHED_SIZE: dict[str, Any] = {
    "width": 128, "heads": 8, "layers": 2, "latent": 128, "unet_width": 64, "dropout": 0.3, "classifier_dropout": 0.4,
}  # fmt: skip
AT_PUBLISHED_SIZE = tuple(
    _arm(f"wide_{name}", (WIDE.name,), 2, recipe={"lr": 1e-3}, **PUBLISHED_SIZE, **changes)
    for name, changes in (
        ("no_diffusion", {}),
        ("no_vae", NO_VAE),
        ("classifier_only", {**NO_GRAPH, **NO_VAE, **NO_AUGMENTATION}),
    )
)


def _on_labels() -> tuple[Arm, ...]:
    """The corpus: label sets, so neither class weights nor smoothing; the epoch is chosen by the area under the ROC."""

    def arm(name: str, **changes: Any) -> Arm:
        return _arm(f"labels_{name}", ON_LABELS, metric=AREA, weights=None, **changes)

    prior = {"denoiser": "mlp", **FULL}
    return (
        arm("no_diffusion", look="graph"),
        arm("full", **prior),
        arm("joint", **prior | {"prior": "joint"}),
        arm("no_graph", **NO_GRAPH),
        arm("uniform", gate="uniform"),
        arm("no_vae", **NO_VAE),
        arm("no_augmentation", **NO_AUGMENTATION),
        arm("classifier_only", **NO_GRAPH, **NO_VAE, **NO_AUGMENTATION),
        *(
            _lite(f"labels_{m}", m, ON_LABELS, weights=None, gamma=0.0, smoothing=0.0, metric=AREA)
            for m in ("mmim", "tetfn")
        ),
    )  # fmt: skip


# --- sizes

# Drop-out (published .3 and .4 at width 128) and rate were chosen on the validation parts of the easy and the headline
# world, seeds 100 and 101, which are used for nothing else: 3 x 2 settings for the reference, 2 x 2 for each baseline.
SMALL: dict[str, Any] = {
    "width": 32, "heads": 4, "layers": 1, "latent": 32, "unet_width": 16, "dropout": 0.1, "classifier_dropout": 0.1,
}  # fmt: skip
# the published 100 epochs with their schedules, scaled to 15
SCHEDULE: dict[str, Any] = {
    "kl_epochs": 3, "diffusion_start": 1, "diffusion_epochs": 3, "lagrangian_steps": 20, "ema_decay": 0.98,
}  # fmt: skip
TINY = {"width": 16, "heads": 2, "latent": 16, "unet_width": 8}
LITE = {"backbone_settings": {"width": 32, "small": 8, "dropout": 0.1}}


def _sizes(train: int, valid: int, test: int, extra: tuple[int, ...]) -> dict[str, dict[str, Any]]:
    sizes = {"sizes": {"train": train, "valid": valid, "test": test}}
    plain = {d.name: dict(sizes) for d in (*WORLDS, *GRAPHS)}
    return plain | {d.name: sizes | {"change": {"extra": list(extra)}} for d in ORACLE}


STUDY = Study(
    name="affect_diff",
    question="What do Affect-Diff's graph, latent noise, prior and losses do for rare emotions?",
    arms=(
        *REFERENCE, *GATES, *LATENT, *FACTORIAL, *LOSSES, *PRIORS, *COMPARED, *PERTURBED_ARMS, *PUBLISHED_PROTOCOL,
        *AT_PUBLISHED_SIZE, *_on_labels(),
    ),
    data=(*WORLDS, *ORACLE, WIDE, *GRAPHS, *LABELS, *FOUR, *RANDOM),
    profiles={
        "smoke": Profile(
            {1: 2, 2: 2}, {"epochs": 1, "patience": None, "lr": 5e-3},
            {"affect_diff": SMALL | SCHEDULE | TINY, "imbalance": LITE},
            _sizes(48, 48, 96, (0, 0, 0, 4, 4, 4)) | {WIDE.name: {"sizes": {"train": 48, "valid": 48, "test": 96}}},
        ),
        "standard": Profile(
            {1: 10, 2: 5}, {"epochs": 15, "patience": None, "lr": 5e-3},
            {"affect_diff": SMALL | SCHEDULE, "imbalance": LITE}, _sizes(800, 400, 6000, (0, 0, 0, 130, 130, 120)),
        ),
        "full": Profile({1: 20, 2: 10, 3: 5}),
    },
    conditions=(CLEAN,),
    deciding=("clean",),
    deciding_data=ON_LABELS,
    drawn=("mosei_emotions",),
)  # fmt: skip

# segments of the whole CMU-MOSEI, which are not here: word-aligned .csd files or tensors with one emotion each
ELSEWHERE = {"mosei": Elsewhere("imbalance_headline", {"target": "emotion", "nonfinite": "skip"}, STANDARD)}
