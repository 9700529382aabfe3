"""CIDer: what distillation, causal head and counterfactual text do for missing steps and for words that change sides.

World: "lexicon" in three settings, each seed its own; "iid" is its test part, "ood" its `test_ood`, where spurious
words go with other labels. Corpus: CMU-MOSI, words (GloVe) with one audio vector an utterance, signs of sentiment:
`mosi` in its own splits by video, `mosi_lexical` re-split so that the words of test point elsewhere. No vision.

Every arm differs from the reference `cider` (preset clean) in what its name says. Baselines hide steps in training by
the same rule, one rate a sample (LNLN one a modality, half of them spared, as it proposes), and choose their epoch
alike. Conditions are RMFM at growing rates, the same masks for every arm of a seed; what a model says without some
words, or of other inputs, is in the records by `diagnose.py`.
"""

from typing import Any, Literal

from affectcore.studies.spec import Arm, Condition, DataSpec, Options, Profile, Study, Transform

EXECUTE = "affectcore.studies.cider.diagnose:train_and_look"
COUNT = "affectcore.studies.cider.counting:count_words"
TIME = "affectcore.studies.cider.counting:time_steps"
SETTINGS = ("easy", "headline", "hard")
Tier = Literal[1, 2, 3]

# --- data

SCALED = (Transform("standardise"),)
SIZES = {"train": 4000, "valid": 1000, "test": 6000}


def _world(label: str, setting: str, **change: Any) -> DataSpec:
    options = {"settings": setting, "sizes": SIZES, "change": {"steps": 8, **change}}  # utterances of at most 8 words
    return DataSpec(label, "world", "lexicon", options, transforms=SCALED)


def _mosi(label: str, **lexical: Any) -> DataSpec:
    options: dict[str, Any] = {"target": "sentiment_class3", "text": "glove_words", "max_words": 16}
    return DataSpec(
        label, "reader", "cmu_mosi_utt", options | ({"lexical": lexical} if lexical else {}), (), None, SCALED
    )


WORLDS = tuple(_world(f"lexicon_{s}", s) for s in SETTINGS)
FRAMES = (_world("frames_headline", "headline", aligned=False),)  # audio and vision at their own frame rates
MOSI, LEXICAL = _mosi("mosi"), _mosi("mosi_lexical", seed=0, until=0.2)
IN_WORLDS, HEADLINE = tuple(d.name for d in WORLDS), ("lexicon_headline",)
CORPORA = ("mosi", "mosi_lexical")

# --- conditions

CLEAN = Condition()
RMFM = tuple(Condition(f"rmfm {r:g}", "missing/rmfm", r) for r in (0.5, 0.9, 1.0))
RATES = "rmfm 0.5, rmfm 0.9, rmfm 1"  # on worlds: see diagnose.ALSO
MODALITIES_TOO = f"{RATES}, rmm 0.5"
SWEEP = "rmfm 0.1, rmfm 0.3, rmfm 0.5, rmfm 0.7, rmfm 0.9, rmfm 1"

HIDDEN = Condition(
    "hidden", "missing/rmfm_training", 1.0, {"rate_per": "sample"}
)  # for a model without a rule of its own

# --- arms

AFTER: Options = {"epochs": 12}  # a teacher that learns first takes four epochs of its own
ORACLE_EPOCH: Options = {"selection": "oracle_test_epoch"}  # as the first release chose it


def _arm(
    name: str, data: tuple[str, ...], tier: Tier = 1, *, look: str = "", preset: str = "clean",
    recipe: Options | None = None, also: str = RATES, of: str = "iid ood", model: str = "cider",
    augment: Condition | None = None, **changes: Any,
) -> Arm:  # fmt: skip
    """An arm of CIDer, or of another `model`; `look`: words of diagnose.LOOKS, `also`: conditions beside the complete
    samples, on the parts `of`, none if "". On the corpora alone conditions are the study's own, so that predictions are
    kept and intervals span items."""
    corpus = set(data) <= set(CORPORA)
    options: Options = {"look": look.split(), "also": [] if corpus or not of else also.split(", "), "of": of.split()}
    conditions = (CLEAN, *RMFM) if corpus else (CLEAN,)
    return Arm(
        name, model, preset, changes, "cider", recipe or {}, augment, options, tier, data, conditions, EXECUTE
    )  # fmt: skip


def _maci(name: str, backbone: str, data: tuple[str, ...], tier: Tier = 1, *, look: str, **changes: Any) -> Arm:
    """MACI on a backbone: its head on the backbone's joint vector; the counterfactual text is subtracted by a look."""
    settings = [[k, v] for k, v in BACKBONES[backbone].items()]
    return _arm(name, data, tier, look=look, model="maci", backbone=backbone, backbone_settings=settings, **changes)


# Sizes of the standard profile: every width 16, one layer; no special tokens, the words carry no [CLS] and [SEP].
SMALL: dict[str, Any] = {"width": 16, "layers": 1, "heads": 4, "embed_dropout": 0.1, "output_dropout": 0.1}
BACKBONES: dict[str, dict[str, Any]] = {
    "lnln": {
        "width": 16, "heads": 4, "head_width": 4, "tokens": 4, "layers": 1, "cross_layers": 1, "ends": [],
    },
    "emt_dlfr": {
        "width": 16, "layers": 1, "audio_state": 8, "vision_state": 8, "token_inner": 16, "encoded_inner": 16,
        "post_hidden": 16, "ends": [],
    },
}  # fmt: skip
BASELINES = ("lnln", "emt_dlfr")
PUBLISHED: dict[str, Any] = {"preset": "author", "special": None, "recipe": ORACLE_EPOCH}

REFERENCE = (
    _arm("cider", IN_WORLDS, look="tau causal bounds", also=MODALITIES_TOO),
    _arm("cider_corpus", CORPORA, look="tau bounds"),
    _arm("linear", IN_WORLDS, of="ood", head="linear"),  # an ordinary classifier for the mixture
    _arm("zeros", IN_WORLDS, of="iid", encodings="zeros"),  # the mixture without class means
    _arm("position", IN_WORLDS, of="iid", missing="position"),
    _arm("whole", IN_WORLDS, of="iid", missing="whole", also=MODALITIES_TOO),
    _arm("unmasked", IN_WORLDS, of="iid", missing="none", also=MODALITIES_TOO),
    _arm("linear_corpus", CORPORA, 2, look="tau", head="linear"),
    _arm("zeros_corpus", CORPORA, 2, encodings="zeros"),
)
COMPARED = (
    *(_arm(m, IN_WORLDS, model=m) for m in BASELINES),
    *(_arm(f"{m}_corpus", CORPORA, model=m) for m in BASELINES),
    *(_maci(f"{m}_maci", m, IN_WORLDS, look="tau causal", of="") for m in BASELINES),
    *(_maci(f"{m}_zeros", m, HEADLINE, 2, look="tau_all", of="", encodings="zeros") for m in BASELINES),
    _arm("mlp", HEADLINE, 2, model="mlp", augment=HIDDEN),
    _arm("mlp_corpus", CORPORA, 2, model="mlp", augment=HIDDEN),
)
TAKEN_OUT = (  # levels of distillation, attention over subsets, weights shared with the teacher
    _arm("no_feature", IN_WORLDS, feature_weight=0.0),
    _arm("no_attention", IN_WORLDS, attention_weight=0.0),
    _arm("no_joint", IN_WORLDS, joint_weight=0.0),
    _arm("vanilla", IN_WORLDS, composite=False, layers=9),  # at least as many parameters as three composite layers
    _arm("parts", IN_WORLDS, look="parts"),
    _arm("own_teacher", IN_WORLDS, teacher="own"),
)
SECOND = (
    # the reference again, with everything that is read off a trained model
    _arm(
        "looked_at",
        (*HEADLINE, "mosi_lexical"),
        2,
        look="tau_all modes order means grid sensors bounds",
        also=SWEEP,
    ),
    _arm("linear_looked_at", HEADLINE, 2, look="sensors", of="", head="linear"),
    _arm("unmasked_looked_at", HEADLINE, 2, look="modes sensors", of="", missing="none"),
    # what stands in for class means
    *(_arm(f"means_{e}", HEADLINE, 2, of="iid", encodings=e) for e in ("learned", "shuffled")),
    # how steps are hidden in training
    _arm("position_looked_at", HEADLINE, 2, look="modes", of="", missing="position"),
    _arm("fixed", HEADLINE, 2, look="modes", of="", missing="fixed", missing_rate=0.5),
    _arm("modality", HEADLINE, 2, look="modes", of="", missing="modality"),
    _arm("half", HEADLINE, 2, look="modes", of="", missing="half"),
    _arm("whole_looked_at", HEADLINE, 2, look="modes", of="", missing="whole"),
    # order and place
    _arm("positions_batch", HEADLINE, 2, look="order", of="iid", positions="batch"),
    _arm("positions_time", HEADLINE, 2, of="iid", positions="time"),
    _arm("positions_none", HEADLINE, 2, of="iid", positions="none"),
    # teachers
    _arm("average_teacher", HEADLINE, 2, of="iid", teacher="average", teacher_decay=0.9),
    _arm("frozen_teacher", HEADLINE, 2, of="iid", recipe=AFTER, teacher="own", teacher_epochs=4),
    _arm(
        "large_teacher",
        HEADLINE,
        2,
        of="iid",
        recipe=AFTER,
        teacher="own",
        teacher_epochs=4,
        teacher_width=32,
        teacher_layers=2,
    ),
    # alignment of frames
    *(_arm(f"align_{a}", ("frames_headline",), 2, of="iid", alignment=a) for a in ("attention", "chunks")),
)
PUBLISHED_PROTOCOL = (
    _arm("published", HEADLINE, look="tau_all order means", of="", **PUBLISHED),
    _arm("published_corpus", CORPORA, look="tau_all", **PUBLISHED),
    *(_arm(f"published_{m}", HEADLINE, 2, of="", model=m, preset="author", recipe=ORACLE_EPOCH) for m in BASELINES),
    *(_arm(f"published_{m}_corpus", ("mosi",), 2, model=m, preset="author", recipe=ORACLE_EPOCH) for m in BASELINES),
)
COUNTED = (
    Arm("coverage", "constant", tier=2, data=("mosi",), execute=COUNT),
    Arm("step_times", "constant", tier=2, data=("mosi",), options={"samples": 8, "shape": "mosi"}, execute=TIME),
)


def _sizes(train: int, valid: int, test: int) -> dict[str, dict[str, Any]]:
    return {d.name: {"sizes": {"train": train, "valid": valid, "test": test}} for d in (*WORLDS, *FRAMES)}


# One setting for all: no search. That every model learns with it was seen on the validation parts of seed 100, which is
# used for nothing else.
RECIPE: Options = {"epochs": 8, "patience": None, "batch_size": 64, "lr": 5e-3, "metric": "accuracy"}

STUDY = Study(
    name="cider",
    question="What do CIDer's self-distillation, causal head and counterfactual text do when steps are missing and "
    "words change sides?",
    arms=(*REFERENCE, *COMPARED, *TAKEN_OUT, *SECOND, *PUBLISHED_PROTOCOL, *COUNTED),
    data=(*WORLDS, *FRAMES, MOSI, LEXICAL),
    profiles={
        "smoke": Profile(
            {1: 2, 2: 2},
            {**RECIPE, "epochs": 1},
            {"cider": {**SMALL, "width": 8}, **BACKBONES},
            _sizes(64, 48, 96)
            | {LEXICAL.name: {"lexical": {**LEXICAL.options["lexical"], "ood": 64, "iid": 64, "valid": 20}}},
        ),
        "standard": Profile({1: 10, 2: 5}, RECIPE, {"cider": SMALL, **BACKBONES}, _sizes(480, 300, 6000)),
        "full": Profile({1: 20, 2: 10}),
    },
    conditions=(CLEAN,),
    metrics=("accuracy", "macro_f1", "balanced_accuracy"),
    deciding=("clean",),
    deciding_data=CORPORA,
    drawn=CORPORA,
)
