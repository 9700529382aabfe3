"""Every model under every stressor by one protocol: nothing is tuned, nothing is claimed, everything is ranked.

Data: the world "recovery" in its headline setting (regression, exact ceiling for every subset of modalities), the world
"imbalance" (six unequal classes, scored by balanced accuracy), CMU-MOSEI and CMU-MOSI as one vector a video or
utterance. Seed s draws its own worlds and is scored on fold s mod 5 of CMU-MOSEI. CMU-MOSI is split so that the test
part's words point elsewhere; "test_iid", whose words are those of training, stands for the clean test (`score.py`).

Every arm: preset `clean` at a reduced size, recipe `small`, the same number of epochs, the epoch chosen on validation
loss. A stressor is a condition of one trained model, so a row of the table costs one training. Sizes are those of the
studies of the five papers where these have one, and otherwise widths of 16 to 32 and one layer. Two further choices are
forced: `gcnet` reads pieces of one utterance, since no set here is a dialogue, and no text has [CLS] and [SEP].
"""

from typing import Any

from affectcore.studies.affect_diff import study as affect_diff
from affectcore.studies.baselines import study as baselines
from affectcore.studies.cider import study as cider
from affectcore.studies.cmir import study as cmir
from affectcore.studies.lddu import study as lddu
from affectcore.studies.rohydr import study as rohydr
from affectcore.studies.spec import Arm, Condition, DataSpec, Options, Profile, Study, Transform

EXECUTE = "affectcore.studies.arena.score:train_and_score"

# --- data

SIZES: dict[str, int] = {"train": 320, "valid": 80, "test": 400}
FOLDS = {"k": 0, "n_folds": 5, "seed": 0, "valid_share": 0.15}  # k is the seed's, see `score.py`
SCALED = (Transform("gaussianise"),)
RECOVERY = DataSpec("recovery", "world", "recovery", {"sizes": SIZES, "change": rohydr.SHORT}, transforms=SCALED)
# four steps, each as telling as three of the headline's twelve
FEW_STEPS = {"steps": 4, "gain": [0.87, 0.69, 0.69]}
IMBALANCE = DataSpec(
    "imbalance", "world", "imbalance", {"sizes": SIZES | {"test": 600}, "change": FEW_STEPS}, transforms=SCALED
)
MOSEI = DataSpec("mosei", "reader", "cmu_mosei_video", {"target": "sentiment"}, resplit=FOLDS, transforms=SCALED)
LEXICAL = {"until": 0.2, "ood": 600, "iid": 600, "valid": 480, "seed": 0}
MOSI = DataSpec("mosi", "reader", "cmu_mosi_utt", {"target": "sentiment", "lexical": LEXICAL}, transforms=SCALED)
DATA = (RECOVERY, IMBALANCE, MOSEI, MOSI)

# --- stressors

CLEAN = Condition()
MODALITIES = ("text", "audio", "vision")
WITHOUT = tuple(Condition(f"no {m}", "missing/without", 1.0, {"absent": [m]}) for m in MODALITIES)
RATES = (0.2, 0.4, 0.6, 0.8)
MISSING = tuple(Condition(f"missing {r:g}", "missing/rmm", r) for r in RATES)
LEVELS = (0.1, 0.5, 2.0)
SHIFTS = (Condition("label shift"), Condition("lexical shift"))  # of the test part, see `score.py`
NOISE = tuple(Condition(f"noise {r:g}", "corruption/gaussian", r, {"scale": "train"}) for r in LEVELS)

# --- arms

MLP: dict[str, Any] = {"backbone": "mlp"}
# setting, by model: the five papers' studies', or widths of 16 to 32 and one layer
REDUCED: dict[str, Options] = {
    # the five papers
    "affect_diff": affect_diff.SMALL | affect_diff.SCHEDULE, "lddu": lddu.SMALL, "cmir": cmir.SMALL,
    "cider": cider.SMALL, "rohydr": rohydr.SMALL | {"sampling_steps": 1},  # in training; two in evaluation, as there
    # floors and plain fusion
    "constant": {}, "linear": {}, "mlp": {}, "late_fusion": {},
    # fusion
    **baselines.REDUCED,
    **{m: cmir.REDUCED[m] for m in ("misa", "self_mm", "c_mib", "ithp")},
    "mmim": {"fused": 32},
    "tetfn": {"width": 16, "heads": 2, "layers": 1, "vision_hidden": 16, "fusion_features": 32},
    **{f"lite_{m}": {"width": 32, "small": 8} for m in ("tfn", "mult", "misa", "mmim", "tetfn")},
    # incomplete and noisy input
    "dicmor": {"width": 16, "kernel": 1, "heads": 2, "layers": 1, "memory_layers": 1, "couplings": 4,
               "coupling_width": 16, "reconstructor_blocks": 1, "reduction": 8, "text_dropout": 0.1},
    "mctn": {"hidden": 16},
    "mmin": {"embedding": 32, "hidden": [32], "cascade": [32, 16], "blocks": 2, "dropout": 0.1},
    "gcnet": {"hidden": 16, "conversation": False, "dropout": 0.1},
    "ridge_recovery": {},
    "tfr_net": {"width": 16, "heads": 2, "layers": 1, "temporal_heads": 1, "gru_layers": 1, "text_hidden": 16,
                "audio_hidden": 8, "vision_hidden": 16, "class_hidden": 32, "ends": []},
    "emt_dlfr": cider.BACKBONES["emt_dlfr"], "lnln": cider.BACKBONES["lnln"],
    "niat": {"text_width": 16, "audio_width": 8, "vision_width": 8, "vision_kernel": 3, "heads": 2, "layers": 1,
             "decoder_first": 32, "decoder_second": 32, "discriminator_first": 32, "discriminator_second": 16,
             "class_hidden": 32, "ends": []},
    "mplmm": {"width": 16, "heads": 2, "layers": 1, "prompt_length": 4},
    # several labels
    "hhmpn": lddu.HHMPN, "tailor": lddu.TAILOR, "carat": lddu.CARAT,
    # wrappers, around the plain network
    "clue": cmir.REDUCED["clue"] | MLP | {"alpha": 0.25}, "gear": cmir.REDUCED["gear"], "maci": MLP,
    "modality_dropout": MLP, "eiil": MLP, "mixup": MLP, "rdrop": MLP, "ensemble": MLP | {"members": 3},
    "mc_dropout": MLP | {"draws": 5},
}  # fmt: skip
CLOSED = ("constant", "linear", "ridge_recovery")  # fitted in closed form
LEFT_OUT = {
    "erm": "without environments it is the network it wraps, `mlp`",
    **dict.fromkeys(
        ("irm", "vrex", "ib_irm", "groupdro", "coral"), "needs environments that the data declare; these sets have none"
    ),
    "imder": "by cost: three million parameters even here, and a run takes more than twice what RoHyDR's takes",
    "dlf": "by cost: of the rest only RoHyDR is slower, and it is no model for incomplete input",
    "imbalance": "a loss for classes: three of the four sets have none",
}


def _arm(model: str) -> Arm:
    # the constant carries the ceiling of every condition, which no model enters
    options = {"ceiling": True} if model == "constant" else {}
    return Arm(
        model, model, recipe=None if model in CLOSED else "small", options=options, overrides=REDUCED[model],
        tier=2, execute=EXECUTE,
    )  # fmt: skip


RECIPE: dict[str, Any] = {"lr": 5e-3, "patience": None, "batch_size": 80}
STUDY = Study(
    name="arena",
    question="How do all models rank when each is asked the same, clean and under every stressor?",
    arms=tuple(_arm(m) for m in REDUCED),  # of tier 2: no claim rests on them, so no prediction is kept
    data=DATA,
    drawn=("mosi",),  # of which no test predictions are kept, so nothing is drawn
    conditions=(CLEAN, *WITHOUT, *MISSING, *NOISE, *SHIFTS),
    profiles={
        "smoke": Profile(
            {2: 2}, RECIPE | {"epochs": 1},
            data={d.name: {"sizes": {"train": 48, "valid": 32, "test": 96}} for d in (RECOVERY, IMBALANCE)}
            | {MOSI.name: {"lexical": LEXICAL | {"ood": 40, "iid": 40, "valid": 20}}},
        ),
        "standard": Profile({2: 10}, RECIPE | {"epochs": 8}),
        "full": Profile(  # more seeds, samples and epochs; the models keep their size
            {2: 20}, RECIPE | {"epochs": 40},
            data={d.name: {"sizes": {"train": 2000, "valid": 500, "test": 6000}} for d in (RECOVERY, IMBALANCE)},
        ),
    },
)  # fmt: skip
