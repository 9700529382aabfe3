"""Does fusion help on real data? Seven baselines, alone and fused, on CMU-MOSEI, CMU-MOSI and a world.

CMU-MOSEI (one vector per video): five folds, so that every seed predicts each of the 922 videos once, out of fold.
CMU-MOSI: the standard split; one vector per utterance, or its words as a sequence. The world "recovery" is the control
in which fusion helps by construction. Missing modalities: at test, each is hidden with the stated probability (CIDer's
`rmm`, drawn per sample; all models of a seed see the same). No label-informed column is used anywhere.
"""

from collections.abc import Sequence

from affectcore.evaluation.verdict import Evidence, Part, Scope
from affectcore.studies.claims import Claim, Results
from affectcore.studies.resampling import Resampled, resampled
from affectcore.studies.spec import Arm, Condition, DataSpec, Profile, Study, Transform

FOLDS = 5
RATES = (0.2, 0.4, 0.6, 0.8)
SCALED = (Transform("gaussianise"),)
MODALITIES = ("text", "audio", "vision")


def _mosei(target: str, only: tuple[str, ...] = ()) -> tuple[DataSpec, ...]:
    """One data spec a fold; `pooled` puts their predictions together again."""
    label = "_".join(("mosei", target, *only))
    return tuple(
        DataSpec(
            f"{label}/{k}", "reader", "cmu_mosei_video", {"target": target}, only,
            {"k": k, "n_folds": FOLDS, "seed": 0, "valid_share": 0.15}, SCALED,
        )
        for k in range(FOLDS)
    )  # fmt: skip


def _single(label: str, source: str, dataset: str, **options: object) -> tuple[DataSpec, ...]:
    return (DataSpec(label, source, dataset, options, transforms=SCALED),)  # type: ignore[arg-type]


_MOSI = {"source": "reader", "dataset": "cmu_mosi_utt", "options": {"target": "sentiment"}, "transforms": SCALED}
FUSED = (
    *_mosei("sentiment"),
    *_mosei("emotions"),
    *_single("mosi", "reader", "cmu_mosi_utt", target="sentiment"),
    *_single("mosi_words", "reader", "cmu_mosi_utt", target="sentiment", text="glove_words"),
    *_single("world_recovery", "world", "recovery", sizes={"train": 635, "valid": 150, "test": 6000}),
)
ALONE = (
    *(d for t in ("sentiment", "emotions") for m in MODALITIES for d in _mosei(t, (m,))),
    *(DataSpec(f"mosi_{m}", only=(m,), **_MOSI) for m in ("text", "audio")),  # type: ignore[arg-type]
    *(
        DataSpec(f"world_recovery_{m}", "world", "recovery", FUSED[-1].options, (m,), transforms=SCALED)
        for m in MODALITIES
    ),
)


def _names(data: Sequence[DataSpec]) -> tuple[str, ...]:
    return tuple(d.name for d in data)


EVERYWHERE = _names((*FUSED, *ALONE))
DROPOUT = Condition("modality dropout", "missing/modality_dropout", 0.5)
SMALL = "small"
# from the published sizes: text LSTM 32 of 128, vision 16 of 128, MulT 20 wide of 50, two layers of four, kernel 1 of 5
REDUCED: dict[str, dict[str, object]] = {
    "tfn": {"text_hidden": 32, "audio_hidden": 16, "vision_hidden": 16, "post_hidden": 32},
    "lmf": {"text_hidden": 32, "text_out": 32, "vision_hidden": 16},
    "mult": {"width": 20, "heads": 4, "layers": 2, "memory_layers": 2, "kernel": 1},
}
# Each network had twelve settings (MulT nine) on the validation parts of the official splits: dropout, weight decay,
# learning rate; three other seeds, three corpora. The best mean loss, relative to the best of each corpus, replaced the
# preset where it was half a percent lower; MulT stays with its preset. Not nested: the 86 validation videos of MOSEI's
# official split are test items of one fold or another, which can only flatter the tuned networks.
TENSOR = {"dropout": 0.5, "text_dropout": 0.5}
INPUT = {"input_dropout": 0.2}
DECAY, MILD = {"weight_decay": 1.0}, {"weight_decay": 0.3}
TINY = {d.name: {"sizes": {"train": 64, "valid": 32, "test": 200}} for d in (*FUSED, *ALONE) if d.source == "world"}

STUDY = Study(
    name="baselines",
    question="Does fusing modalities beat text alone, on real data and under missing modalities?",
    arms=(
        Arm("constant", "constant", data=_names(FUSED)),
        Arm("linear", "linear", data=EVERYWHERE),
        Arm("mlp", "mlp", recipe=SMALL, data=EVERYWHERE, overrides=INPUT, recipe_overrides=DECAY),
        Arm("late_fusion", "late_fusion", recipe=SMALL, data=_names(FUSED), overrides=INPUT, recipe_overrides=MILD),
        Arm("tfn", "tfn", recipe=SMALL, data=_names(FUSED), overrides=TENSOR, recipe_overrides=DECAY),
        Arm("lmf", "lmf", recipe=SMALL, data=_names(FUSED), overrides=TENSOR, recipe_overrides=DECAY),
        Arm("mult", "mult", recipe=SMALL, data=_names(FUSED)),
        Arm(
            "mlp_dropout",
            "mlp",
            recipe=SMALL,
            augment=DROPOUT,
            data=_names(FUSED),
            overrides=INPUT,
            recipe_overrides=DECAY,
        ),
    ),
    data=(*FUSED, *ALONE),
    conditions=(Condition(), *(Condition(f"missing {r}", "missing/rmm", r) for r in RATES)),
    profiles={
        "smoke": Profile(
            {1: 2}, recipe={"epochs": 2, "patience": None, "batch_size": 64}, overrides=REDUCED, data=TINY
        ),
        "standard": Profile({1: 10}, recipe={"epochs": 30, "patience": 6, "batch_size": 64}, overrides=REDUCED),
        "full": Profile({1: 20}, recipe={"epochs": 50, "patience": 10}),
    },
    deciding=("clean",),
    deciding_data=tuple(d.name for d in (*FUSED, *ALONE) if d.source == "reader"),
)

# --- what the claims compare; see claims.toml ----------------------------------------------------------------------

Side = tuple[str, str]  # arm, data label without its fold


def _evidence(claim: Claim, results: Results, better: Side, worse: Side, condition: str = "clean") -> list[Evidence]:
    """One piece of evidence per scope of the claim: `better` minus `worse`, oriented by the metric."""
    made = []
    for scope in claim.scope:
        kind, _, name = scope.partition(": ")
        found: Resampled = resampled(results)
        a, b = ((arm, label.format(data=name)) for arm, label in (better, worse))
        effect = found.compare(a, b, condition)
        part = Part("headline", effect, n_items=effect.n_items)
        made.append(Evidence(claim.id, Scope(kind, name), claim.least, (part,), claim.about))  # type: ignore[arg-type]
    return made


def fusion_beats_text(claim: Claim, results: Results) -> list[Evidence]:
    """Early fusion against the same network on text alone."""
    return _evidence(claim, results, ("mlp", "{data}"), ("mlp", "{data}_text"))


def linear_fusion_beats_text(claim: Claim, results: Results) -> list[Evidence]:
    """Linear model of all modalities against that of text."""
    return _evidence(claim, results, ("linear", "{data}"), ("linear", "{data}_text"))


def late_beats_early(claim: Claim, results: Results) -> list[Evidence]:
    return _evidence(claim, results, ("late_fusion", "{data}"), ("mlp", "{data}"))


def network_beats_linear(claim: Claim, results: Results) -> list[Evidence]:
    return _evidence(claim, results, ("mlp", "{data}"), ("linear", "{data}"))


def tfn_beats_early(claim: Claim, results: Results) -> list[Evidence]:
    return _evidence(claim, results, ("tfn", "{data}"), ("mlp", "{data}"))


def lmf_beats_early(claim: Claim, results: Results) -> list[Evidence]:
    return _evidence(claim, results, ("lmf", "{data}"), ("mlp", "{data}"))


def mult_beats_early(claim: Claim, results: Results) -> list[Evidence]:
    return _evidence(claim, results, ("mult", "{data}"), ("mlp", "{data}"))


def words_beat_their_mean(claim: Claim, results: Results) -> list[Evidence]:
    """The best-known sequence model on words against the network on their mean vector."""
    return _evidence(claim, results, ("mult", "{data}_words"), ("mlp", "{data}"))


def dropout_helps_when_missing(claim: Claim, results: Results) -> list[Evidence]:
    """Modality dropout in training against none, six of ten modalities missing at test."""
    return _evidence(claim, results, ("mlp_dropout", "{data}"), ("mlp", "{data}"), "missing 0.6")
