"""CmIR: does an invariance learned from Gaussian noise leave shortcuts alone, on a world of known causes and on MOSI?

World: "environments", each seed its own. Regime B (the label causes the spurious factors) in three settings of the
training environments decides claims: `easy` four environments, spurious correlations .8 to -.4; `headline` two, .9 and
.1; `hard` four, .9 to .4. Tests: five environments, .9 to -.9. `interventional` trains where the spurious factors are
untied, `one_environment` where nothing can tell them from causes, `nuisance` redraws what never mattered.
Corpus: CMU-MOSI, one vector an utterance, text (GloVe means) and audio (COVAREP means): `mosi` is the standard split,
`mosi_ood` one whose test words point elsewhere (`shift.lexical_split`; its "test_iid" has the words of training).
These are pooled vectors: they test codes, heads and fusion, no sequence encoder and no fine-tuned language model.

The reference is `architecture`: CmIR's encoders and predictor with all three weights 0, the control that the paper does
not have. Every arm differs from it, or from `cmir`, in what its name says. `cmir` has K = 4 environments, alpha .1 and
the weights .1, .01, .05, between the two published settings of CMU-MOSI, which run under `published`.
"""

from typing import Any, Literal

from affectcore.models.cmir import TABLE_7
from affectcore.studies.spec import Arm, Condition, DataSpec, Options, Profile, Study, Transform

EXECUTE = "affectcore.studies.cmir.diagnose:train_and_diagnose"
SETTINGS = ("easy", "headline", "hard")
REGIMES = ("A", "C", "D")
RATES = (0.1, 0.4, 0.7)
Tier = Literal[1, 2, 3]

# --- data

SIZES = {"train": 800, "valid": 400, "test": 6000}


def _world(label: str, **options: Any) -> DataSpec:
    return DataSpec(label, "world", "environments", {"sizes": SIZES, **options})  # standardised as it is drawn


def _mosi(label: str, **options: Any) -> DataSpec:
    return DataSpec(
        label, "reader", "cmu_mosi_utt", {"target": "sentiment", **options}, transforms=(Transform("gaussianise"),)
    )


WORLDS = tuple(_world(f"environments_{s}", settings=s) for s in SETTINGS)
NUISANCE = tuple(_world(f"nuisance_{s}", settings=s, change={"redrawn": "nuisance"}) for s in SETTINGS)
REGIME = tuple(_world(f"regime_{r}", change={"regime": r}) for r in REGIMES)
INTERVENTIONAL = _world("interventional", change={"train_betas": [0.0, 0.0]})
ONE = _world("one_environment", change={"train_betas": [0.9, 0.9]})
REDRAWN = _world("redrawn", change={"redraws": 4})
MANY = {  # true environments between the same two correlations, and one at their middle
    1: _world("true_1", change={"train_betas": [0.5]}),
    4: _world("true_4", change={"train_betas": [0.9, 0.63, 0.37, 0.1]}),
    8: _world("true_8", change={"train_betas": [0.9, 0.79, 0.67, 0.56, 0.44, 0.33, 0.21, 0.1]}),
}
# until .2: what a word says of the sign differs between training and test twice as much as in random splits
LEXICAL = {"until": 0.2, "ood": 400, "iid": 400, "valid": 229, "seed": 0}
MOSI, OOD = _mosi("mosi"), _mosi("mosi_ood", lexical=LEXICAL)
ALL_WORLDS = (*WORLDS, *NUISANCE, *REGIME, INTERVENTIONAL, ONE, REDRAWN, *MANY.values())


def names(*data: DataSpec) -> tuple[str, ...]:
    """Return the labels of data specs."""
    return tuple(d.name for d in data)


IN_WORLDS, HEADLINE, CORPORA, ON_OOD = names(*WORLDS), ("environments_headline",), names(MOSI, OOD), names(OOD)
EVERYWHERE = (*IN_WORLDS, *CORPORA)
MORE_LAWS = names(*REGIME, ONE)

CLEAN = Condition()
NOISY = Condition("noise 1", "corruption/gaussian", 1.0, {"scale": "train"})  # on the features, of one sd each

# --- sizes

# Chosen on worlds of seeds 100 and 101, which are used for nothing else, for the reference alone: with 800 samples and
# 15 epochs the interventional control comes within .05 of the ceiling's .265 and the reference fails as it should
# (squared error .9 where the correlation is turned round); 2,000 samples or a third of the rate move neither.
SMALL: dict[str, Any] = {"width": 16, "hidden": 64, "sequence": "linear", "heads": 4, "count": 4}
TINY = {"width": 8, "hidden": 16}
# the baselines of their published sizes, made small in the same way
REDUCED: dict[str, dict[str, Any]] = {
    "c_mib": {"width": 20, "hidden": 64, "layers": 1}, "ithp": {"hidden": 64, "sizes": [32, 16]},
    "misa": {"width": 32, "feedforward": 64}, "clue": {"text_hidden": 32, "hidden": 32},
    "gear": {"feedforward": 64, "fused": 32}, "self_mm": {"fusion_features": 32},
}  # fmt: skip

# --- arms

RECIPE = "cmir"
OFF: dict[str, Any] = {"invariance_weight": 0.0, "decorrelation_weight": 0.0, "reconstruction_weight": 0.0}
ON: dict[str, Any] = {"invariance_weight": 0.1, "decorrelation_weight": 0.01, "reconstruction_weight": 0.05}
TERMS = tuple(ON)
AUGMENTED: dict[str, Any] = {**OFF, "perturbed_prediction": True}
PAIRS: dict[str, Any] = {**ON, "environments": "oracle", "count": 1, "invariance_weight": 10.0}
STRONG: dict[str, Any] = {"invariance_weight": 1.0, "alpha": 0.3}
TRUE: dict[str, Any] = {**ON, "environments": "true", "invariance_weight": 10.0}


def _arm(
    name: str, data: tuple[str, ...], tier: Tier = 1, *, look: str = "", preset: str = "clean",
    recipe: Options | None = None, conditions: tuple[Condition, ...] = (), **changes: Any,
) -> Arm:  # fmt: skip
    """A CmIR arm; `look`: words of diagnose.py."""
    return Arm(
        name, "cmir", preset, changes, RECIPE, recipe or {}, None, {"look": look.split()}, tier, data, conditions,
        EXECUTE,
    )  # fmt: skip


def _over(
    name: str, model: str, data: tuple[str, ...], tier: Tier = 1, *, look: str = "", settings: Options | None = None,
    conditions: tuple[Condition, ...] = (), **changes: Any,
) -> Arm:  # fmt: skip
    """An objective over the reference's network."""
    wrapped = {"backbone": "cmir", "backbone_settings": {**SMALL, **OFF, **(settings or {})}, **changes}
    return Arm(name, model, "clean", wrapped, RECIPE, {}, None, {"look": look.split()}, tier, data, conditions, EXECUTE)


def _baseline(name: str, model: str, data: tuple[str, ...] = CORPORA, tier: Tier = 1, **changes: Any) -> Arm:
    return Arm(name, model, "clean", changes, RECIPE, {}, None, {}, tier, data, (), EXECUTE)


BOTH = (CLEAN, NOISY)
REFERENCE = (
    _arm(
        "architecture",
        (*EVERYWHERE, "interventional", *MORE_LAWS),
        look="use codes dependence scale laws",
        conditions=BOTH,
        **OFF,
    ),
    _arm(
        "vanilla",
        EVERYWHERE,
        look="use",
        conditions=BOTH,
        codes=False,
        **OFF,
    ),
    _arm("cmir", (*EVERYWHERE, *MORE_LAWS), look="use codes dependence scale laws", conditions=BOTH, **ON),
    _arm(
        "cmir_strong",
        IN_WORLDS,
        look="use codes scale",
        conditions=BOTH,
        **ON | STRONG,
    ),
    _arm("cmir_prediction", (*HEADLINE, *CORPORA), look="use codes", conditions=BOTH, invariance="prediction", **ON),
    _arm("noise_augmentation", EVERYWHERE, look="use", conditions=BOTH, **AUGMENTED),
    _arm("oracle_pairs", (*IN_WORLDS, *MORE_LAWS), look="use codes", conditions=BOTH, **PAIRS),
    _arm("nuisance_pairs", names(*NUISANCE), look="use", **PAIRS),
)
FACTORIAL = tuple(  # with architecture (none) and cmir (all): 2^3
    _arm(name, (*HEADLINE, *CORPORA), look="use codes dependence" if name == "only_dec" else "use codes",
         **OFF | {k: ON[k] for k in kept})
    for name, kept in {
        "only_inv": TERMS[:1], "only_dec": TERMS[1:2], "only_rec": TERMS[2:],
        "no_inv": TERMS[1:], "no_dec": TERMS[::2], "no_rec": TERMS[:2],
    }.items()
)  # fmt: skip
# Strengths, on the world of seed 100, where the tie is turned round: V-REx 10 of 10, 100, 1000 (squared error .62, .65,
# .83; reference .87); IRM, IB-IRM and CORAL one third and less of what made them worse there; the others' first value.
OBJECTIVES = (
    _over("vrex", "vrex", (*IN_WORLDS, *MORE_LAWS), look="use", conditions=BOTH, weight=10.0),
    _over("irm", "irm", IN_WORLDS, 2, look="use", conditions=BOTH, weight=1.0),
    _over("ib_irm", "ib_irm", IN_WORLDS, 2, look="use", conditions=BOTH, weight=1.0, bottleneck=0.1),
    _over("groupdro", "groupdro", IN_WORLDS, look="use", conditions=BOTH, eta=0.1),
    _over("coral", "coral", IN_WORLDS, 2, look="use", conditions=BOTH, weight=1.0),
    _over("eiil", "eiil", IN_WORLDS, 2, look="use", conditions=BOTH, weight=1.0),
    _arm("true_prediction", IN_WORLDS, 2, look="use", conditions=BOTH, invariance="prediction", **TRUE),
    _arm("true_coral", IN_WORLDS, 2, look="use", conditions=BOTH, invariance="coral", **TRUE),
)
GENERIC = (  # regularisers that know of no cause, over the reference
    _arm("noise_0.5", (*HEADLINE, *ON_OOD), look="use", alpha=0.5, **AUGMENTED),
    _arm("jacobian", (*HEADLINE, *ON_OOD), look="use", jacobian_weight=0.1, **OFF),
    _arm("dropout", (*HEADLINE, *ON_OOD), look="use", dropout=0.3, **OFF),
    _arm("decay", (*HEADLINE, *ON_OOD), look="use", recipe={"weight_decay": 1.0}, **OFF),
    _over("mixup", "mixup", (*HEADLINE, *ON_OOD), look="use"),
    _over("rdrop", "rdrop", (*HEADLINE, *ON_OOD), look="use", settings={"dropout": 0.3}),
)
WAYS: dict[str, dict[str, Any]] = {  # to add environments: as published; at one weight; at one largest noise as well
    "": {}, "_mean": {"pairs": "mean"}, "_last": {"pairs": "mean", "alpha_of": "last", "alpha": 0.4},
}  # fmt: skip
COUNTS = (  # with cmir (K = 4, as published) and no_inv (K = 0)
    _arm("count_1", (*HEADLINE, *ON_OOD), 2, look="use scale", **ON | {"count": 1}),
    *(
        _arm(f"count_{k}{name}", (*HEADLINE, *ON_OOD) if not name else HEADLINE, 2, look="use scale",
             **ON | {"count": k} | how)
        for k in (2, 4, 8)
        for name, how in WAYS.items()
        if (k, name) != (4, "")
    ),
    _arm("redrawn_pairs", names(REDRAWN), 2, look="use", **PAIRS | {"count": 4, "pairs": "mean"}),
    *(
        arm
        for k, d in MANY.items()
        for arm in (
            _over(f"vrex_{k}", "vrex", names(d), 2, look="use", weight=10.0),
            _arm(f"architecture_{k}", names(d), 2, look="use", **OFF),
        )
    ),
)  # fmt: skip
SWEEPS = (  # Fig. 5 and Table 12, and far beyond them
    *(
        _arm(f"{short}_{v:g}", ON_OOD if v < 1 else (*HEADLINE, *ON_OOD), 1 if v == 1e-6 else 2,
             look="use codes scale" if v >= 1 else "", **ON | {term: v})
        for short, term in zip(("lambda1", "lambda2", "lambda3"), TERMS)
        for v in (1e-6, 1e-4, 1e-2, 1.0)
        if v != ON[term]
    ),
    *(
        _arm(f"lambda1_{v:g}", HEADLINE, 2, look="use codes scale", **ON | {"invariance_weight": v})
        for v in (10.0, 100.0)
    ),
    *(
        _arm(f"all_{v:g}", HEADLINE, 2, look="use codes scale dependence", **OFF | dict.fromkeys(TERMS, v))
        for v in (1.0, 100.0, 10000.0)
    ),
    _arm("alpha_1e-08", ON_OOD, 1, **ON | {"alpha": 1e-8}),
    *(
        _arm(f"alpha_{v:g}", (*HEADLINE, *ON_OOD), 2, look="use scale", **ON | {"alpha": v})
        for v in (1e-6, 1e-4, 1e-2, 1.0)
    ),
)  # fmt: skip
STAND_INS: dict[str, dict[str, Any]] = {  # for the mutual information, each with a weight
    "dec_published_1": {"decorrelation_weight": 1.0},
    "dec_by_features_1": {"decorrelation_weight": 1.0, "standardise": "features"},
    "dec_cross_0.1": {"decorrelation_weight": 0.1, "decorrelation": "features", "cross_estimate": "corrected"},
    "dec_misa_1": {"decorrelation_weight": 1.0, "decorrelation": "misa"},
    "dec_hsic_1": {"decorrelation_weight": 1.0, "decorrelation": "hsic"},
    "dec_club_0.1": {"decorrelation_weight": 0.1, "decorrelation": "club"},
    "dec_adversary_1": {"decorrelation_weight": 1.0, "decorrelation": "adversary"},
}
DEPENDENCE = tuple(_arm(k, HEADLINE, 2, look="use codes dependence", **OFF | how) for k, how in STAND_INS.items())


def _noisy(kind: str, rates: tuple[float, ...], data: tuple[str, ...], tier: Tier, **how: Any) -> list[Arm]:
    """Noise on the pooled vectors of all samples (Eq. 14), in training and test."""
    models = {"vanilla": {**OFF, "codes": False}, "cmir": ON, **({"architecture": OFF} if kind == "unseen" else {})}
    return [
        _arm(f"{kind}_{m}_{r:g}", data, tier, look="scale" if kind != "unseen" else "classes", noise_rate=r,
             **settings | how)
        for m, settings in models.items() for r in rates
    ]  # fmt: skip


NOISE = (
    *_noisy("gaussian", RATES, (*HEADLINE, "mosi"), 2),
    *_noisy("normed", RATES, (*HEADLINE, "mosi"), 1, representation_norm="layer"),
    *_noisy("unseen", (0.4,), (*IN_WORLDS, "mosi"), 1, test_noise="laplace_or_erase"),
    *_noisy("unseen", (0.1, 0.7), ("mosi",), 2, test_noise="laplace_or_erase"),
    *(
        _arm(f"stopped_cmir_{r:g}", ("mosi",), 2, look="scale", noise_rate=r, stop_target=True, **ON)
        for r in (0.1, 0.7)
    ),
)
BASELINES = ("c_mib", "ithp", "self_mm", "misa", "clue", "gear")
COMPARED = (
    Arm("constant", "constant", data=(*EVERYWHERE, "interventional"), execute=EXECUTE),
    Arm("linear", "linear", data=EVERYWHERE, execute=EXECUTE),
    *(_baseline(m, m) for m in BASELINES if m != "clue"),
    _baseline("clue", "clue", alpha=0.25),  # of 0, .25, .5, .75 the best on validation, seed 100
)
PUBLISHED_PROTOCOL = (  # the text taken literally, the published weights of each split; and an epoch chosen on test
    _arm("published_cmir", ("mosi",), preset="paper", **{k: TABLE_7["mosi"][k] for k in (*TERMS, "count")}),
    _arm("published_cmir_ood", ON_OOD, preset="paper", **{k: TABLE_7["mosi_ood"][k] for k in (*TERMS, "count")}),
    _arm("selected_on_test", ON_OOD, recipe={"selection": "oracle_test_epoch"}, **ON),
)

STUDY = Study(
    name="cmir",
    question="Does invariance to Gaussian noise make CmIR's prediction rest on causes?",
    arms=(
        *REFERENCE, *FACTORIAL, *OBJECTIVES, *GENERIC, *COUNTS, *SWEEPS, *DEPENDENCE, *NOISE, *COMPARED,
        *PUBLISHED_PROTOCOL,
    ),
    data=(*ALL_WORLDS, MOSI, OOD),
    profiles={
        "smoke": Profile(
            {1: 2, 2: 2}, {"epochs": 1, "patience": None, "lr": 3e-3}, REDUCED | {"cmir": SMALL | TINY},
            {d.name: {"sizes": {"train": 48, "valid": 24, "test": 96}} for d in ALL_WORLDS}
            | {OOD.name: {"lexical": LEXICAL | {"ood": 40, "iid": 40, "valid": 20}}},
        ),
        "standard": Profile({1: 10, 2: 5}, {"epochs": 15, "patience": None, "lr": 3e-3}, REDUCED | {"cmir": SMALL}),
        "full": Profile({1: 20, 2: 10, 3: 5}),
    },
    conditions=(CLEAN,),
    metrics=("mae", "pearson", "acc2_non_zero", "acc2_has_zero", "f1_non_zero", "acc7"),
    deciding=("clean",),
    deciding_data=CORPORA,
    drawn=CORPORA,
)  # fmt: skip
