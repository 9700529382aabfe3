"""LDDU: do its spreads carry uncertainty, does each part help, and what of the gains is left under clean selection?

World: "ambiguity" in three settings, each seed its own, so that arms are compared seed by seed. Corpora: CMU-MOSEI, one
vector a video, label sets, five folds by video, out of fold (heads and fusion can be tested there, not what works along
a sequence); CREMA-D, percepts of two channels, one split by actor, as a yardstick of raters' disagreement.

Every arm differs from the reference `lddu` (preset "clean": weights of the paper, calibration by error and history,
gate p) in what its name says. The metric is micro F1, epoch and one threshold chosen on validation, or on test in the
arms `published_lddu`, as the logged runs did, and `chosen_on_test`, which is the reference trained bit for bit alike.
"""

from typing import Any, Literal

from affectcore.studies.spec import Arm, DataSpec, Options, Profile, Study, Transform

EXECUTE = "affectcore.studies.lddu.diagnose:train_and_diagnose"
WORLD, SETTINGS = "ambiguity", ("easy", "headline", "hard")
FOLDS = 5
Tier = Literal[1, 2, 3]

# --- data

STANDARD, SCALED = (Transform("standardise"),), (Transform("gaussianise"),)
SIZES = {"train": 800, "valid": 400, "test": 6000}


def _world(label: str, train: int = 800, **options: Any) -> DataSpec:
    return DataSpec(label, "world", WORLD, {"sizes": {**SIZES, "train": train}, **options}, transforms=STANDARD)


def _folds(label: str, dataset: str, target: str, transforms: tuple[Transform, ...]) -> tuple[DataSpec, ...]:
    split = {"n_folds": FOLDS, "seed": 0, "valid_share": 0.15}
    return tuple(
        DataSpec(f"{label}/{k}", "reader", dataset, {"target": target}, (), {"k": k, **split}, transforms)
        for k in range(FOLDS)
    )


def names(*groups: tuple[DataSpec, ...]) -> tuple[str, ...]:
    """Return the labels of groups of data specs."""
    return tuple(d.name for g in groups for d in g)


WORLDS = tuple(_world(f"{WORLD}_{s}", settings=s) for s in SETTINGS)
FEW = (_world("few", 200),)  # a quarter of the training items: what is epistemic should grow
FLIPS = tuple(_world(f"flips_{r:g}", change={"flips": r}) for r in (0.2, 0.4))  # wrong labels: what is aleatoric
SHUFFLED = (_world("intensity_shuffled", change={"intensity": "shuffled"}),)
VIDEOS = _folds("mosei_emotions", "cmu_mosei_video", "emotions", SCALED)
# one split by actor, features as read: the inputs' entropies are needed
VOTES = _folds("crema_labels", "crema_d_votes", "av_labels", ())[:1]
IN_WORLDS, HEADLINE, ON_VIDEOS, ON_VOTES = names(WORLDS), (f"{WORLD}_headline",), names(VIDEOS), names(VOTES)

# --- arms

RECIPE, PUBLISHED_RECIPE = "lddu", "lddu_author"
# CARAT's published command line: one fixed threshold, the epoch chosen on validation
CARAT_RECIPE: Options = {"selection": "valid_threshold", "thresholds": [0.25]}
CLEAN: Options = {"selection": "valid_threshold"}
BRIEF: Options = {**CLEAN, "epochs": 3}  # CREMA-D has six times as many training items as the world
LONG: Options = {**CLEAN, "epochs": 45}  # does short training decide the answer on contrast?
ON_TEST: Options = {"selection": "oracle_test_threshold"}
BLIND: dict[str, Any] = {"unit_spread": True}


def _arm(
    name: str, data: tuple[str, ...], tier: Tier = 2, look: str = "", *, model: str = "lddu", preset: str = "clean",
    recipe: str = RECIPE, selection: Options | None = None, **changes: Any,
) -> Arm:  # fmt: skip
    """An arm; `look`: words of diagnose.py."""
    rule = selection or CLEAN
    options = {"diagnose": look.split()} if look else {}
    return Arm(name, model, preset, changes, recipe, rule, None, options, tier, data, (), EXECUTE)


REFERENCE = (
    _arm("lddu", IN_WORLDS, 1, "spread latent gate posterior"),
    _arm("no_contrast", IN_WORLDS, 1, "spread latent", scl_weight=0.0),
    _arm("no_calibration", IN_WORLDS, 1, "spread", ocl_weight=0.0),
    _arm("squared_error", IN_WORLDS, 1, "spread", calibration="mse"),
    _arm("carat", IN_WORLDS, 1, model="carat"),
    _arm("half", IN_WORLDS, gate="half"),
    _arm("points", IN_WORLDS, family="point"),
    _arm("no_queue", IN_WORLDS, queue=0),
    _arm("chosen_on_test", IN_WORLDS, selection=ON_TEST),
    _arm("long", HEADLINE, selection=LONG),
    _arm("long_no_contrast", HEADLINE, selection=LONG, scl_weight=0.0),
)
ABLATIONS = (
    _arm("no_direct", HEADLINE, dir_weight=0.0),
    _arm("centre_alone", HEADLINE, look="corruption", gate="mu"),
    _arm("spread_alone", HEADLINE, gate="sigma"),
    _arm("no_latent", HEADLINE, family="none"),
    _arm("mean_pooling", HEADLINE, label_pooling="mean"),
    _arm("entropy_gate", HEADLINE, gate="entropy"),
    _arm("error_alone", HEADLINE, look="spread", calibration="error"),
    _arm("history_alone", HEADLINE, look="spread", calibration="history"),
    _arm("as_in_code", HEADLINE, look="spread", calibration="code"),
)
FACTORIAL = (  # with lddu, no_calibration and no_queue: spread x queue x calibration
    _arm("no_queue_no_calibration", HEADLINE, queue=0, ocl_weight=0.0),
    _arm("unit", HEADLINE, **BLIND),
    _arm("unit_no_queue", HEADLINE, queue=0, **BLIND),
    _arm("unit_no_calibration", HEADLINE, ocl_weight=0.0, **BLIND),
    _arm("unit_no_queue_no_calibration", HEADLINE, queue=0, ocl_weight=0.0, **BLIND),
)
OPEN = (
    _arm("probed", (*HEADLINE, *names(FEW), *names(FLIPS)), 2, "spread corruption dropout intensity"),
    _arm("ordinal", (*HEADLINE, *names(SHUFFLED)), 2, "intensity", ordinal_weight=0.3),
    _arm("ranked", (*HEADLINE, *names(SHUFFLED)), 2, "intensity spread", rank_weight=0.1),
    _arm("weighed_pairs", HEADLINE, 2, "intensity", intensity_pairs=True),
    _arm("mixture", HEADLINE, 2, "intensity", family="mixture"),
    _arm("student", HEADLINE, 2, "intensity", family="student"),
    _arm("directions", HEADLINE, 2, "intensity", family="vmf"),
    _arm("merged", HEADLINE, 2, "latent", scheme=12),
    _arm("present_alone", HEADLINE, 2, "latent", scheme=18),
)
PUBLISHED = (
    _arm("published_lddu", HEADLINE, 2, "spread latent", preset="author", recipe=PUBLISHED_RECIPE, selection=ON_TEST),
    _arm("published_carat", HEADLINE, model="carat", preset="author", recipe=PUBLISHED_RECIPE, selection=CARAT_RECIPE),
    _arm("paper", HEADLINE, 2, "spread", preset="paper"),
)
COMPARED = (
    Arm("constant", "constant", data=(*IN_WORLDS, *ON_VIDEOS)),
    Arm("linear", "linear", tier=2, data=(*HEADLINE, *ON_VIDEOS)),
    _arm("mlp", HEADLINE, model="mlp"),
    _arm("tailor", HEADLINE, model="tailor"),
    _arm("hhmpn", HEADLINE, model="hhmpn"),
)
ON_CORPORA = (
    _arm("videos_lddu", ON_VIDEOS, 2, "spread draws latent"),
    _arm("videos_carat", ON_VIDEOS, 2, "draws", model="carat"),
    _arm("videos_no_contrast", ON_VIDEOS, 2, "draws latent", scl_weight=0.0),
    _arm("videos_no_calibration", ON_VIDEOS, 2, "spread draws", ocl_weight=0.0),
    _arm("votes_lddu", ON_VOTES, 1, "spread draws votes", selection=BRIEF),
)

# --- sizes

# Drop-out (published .3) and rate were looked at on the headline world of seed 100, which no arm uses: five runs with
# rates 3e-3 and 5e-3 and batches of 32, 40 and 64 ended between .54 and .61 in micro F1 on validation (floor .46,
# ceiling .72), one without contrast highest. No search went further. The published queue holds 2.8 % of the rows of an
# epoch (8,192 of 16,326 x 18), this one 3.6 % (512 of 800 x 18).
SMALL: dict[str, Any] = {
    "width": 32, "heads": 4, "layers": 1, "feedforward": 32, "latent": 16, "head_width": 32, "dropout": 0.1,
    "queue": 512, "history_rows": 8000, "positions": 16,
}  # fmt: skip
CARAT = {k: SMALL[k] for k in ("width", "heads", "layers", "feedforward", "latent", "dropout", "queue", "positions")}
CARAT |= {"layers_text": 1, "positions_text": 16}
TAILOR = {k: SMALL[k] for k in ("width", "heads", "layers", "feedforward", "dropout", "positions")}
TAILOR |= {"layers_text": 1, "joint_layers": 1, "shared_dropout": 0.1, "joint_positions": 64}
HHMPN = {
    "width": 32, "heads": 4, "layers": 1, "label_heads": 4, "label_layers": 1, "label_feedforward": 32,
    "embed_dropout": 0.1, "graph_dropout": 0.1, "label_dropout": 0.1,
}  # fmt: skip
MLP = {"hidden": 64, "input_dropout": 0.2}
SIZED: dict[str, Options] = {"lddu": SMALL, "carat": CARAT, "tailor": TAILOR, "hhmpn": HHMPN, "mlp": MLP}
TINY = {
    "lddu": {"width": 16, "latent": 8, "head_width": 8, "queue": 64},
    "carat": {"width": 16, "latent": 8, "queue": 64},
}


def _sizes(train: int, valid: int, test: int) -> dict[str, dict[str, Any]]:
    worlds = (*WORLDS, *FEW, *FLIPS, *SHUFFLED)
    few = {"few": max(2, train // 4)}
    return {d.name: {"sizes": {"train": few.get(d.name, train), "valid": valid, "test": test}} for d in worlds}


STUDY = Study(
    name="lddu",
    question="Do LDDU's spreads carry uncertainty, does each part help, and what is left under clean selection?",
    arms=(*REFERENCE, *ABLATIONS, *FACTORIAL, *OPEN, *PUBLISHED, *COMPARED, *ON_CORPORA),
    data=(*WORLDS, *FEW, *FLIPS, *SHUFFLED, *VIDEOS, *VOTES),
    profiles={
        "smoke": Profile(
            {1: 2, 2: 2}, {"epochs": 2, "patience": None, "lr": 3e-3, "batch_size": 16},
            {k: {**v, **TINY.get(k, {})} for k, v in SIZED.items()}, _sizes(48, 32, 60),
        ),
        "standard": Profile(
            {1: 10, 2: 5}, {"epochs": 15, "patience": None, "lr": 3e-3}, SIZED, _sizes(800, 400, 6000)
        ),
        "full": Profile({1: 20, 2: 10, 3: 5}, data=_sizes(4000, 1000, 6000)),
    },
    deciding=("clean",),
    deciding_data=ON_VIDEOS,
    drawn=("mosei_emotions",),
)  # fmt: skip
