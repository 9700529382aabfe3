"""The models by name: configuration, presets, switches, citation. Files are imported when a model is built or asked.

    model = build("mlp", Shape.of(data), dropout=0.3)
    print(cite("tfn"))

To add a model: one file with `Config`, `PRESETS` and the class, one `Entry` here, one BibTeX entry in `cite.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from affectcore.errors import ConfigError
from affectcore.models.cite import BIBTEX

if TYPE_CHECKING:
    from affectcore.models.contract import Shape


@dataclass(frozen=True)
class Entry:
    """One model. kind: "gradient" (an AffectModel) or "estimator" (fit and predict, no gradients).

    location: "module:Class"; the module also holds `Config` and `PRESETS`, or the class does where a module has several
    models. references: keys of `cite.BIBTEX`.
    shape: a name of `affectcore.models.shapes`, where the published configuration's parameters are counted.
    """

    name: str
    kind: Literal["gradient", "estimator"]
    location: str
    summary: str
    references: tuple[str, ...] = ()
    shape: str = "mosi"

    @property
    def _module(self) -> Any:
        return import_module(self.location.partition(":")[0])

    @property
    def _home(self) -> Any:
        cls = getattr(self._module, self.location.partition(":")[2])
        return cls if hasattr(cls, "PRESETS") else self._module

    @property
    def config(self) -> type[Any]:
        """The frozen dataclass of the model's settings."""
        config: type[Any] = self._home.Config
        return config

    @property
    def presets(self) -> Mapping[str, Any]:
        """Named configurations; "clean" is the one behind every headline."""
        presets: Mapping[str, Any] = self._home.PRESETS
        return presets

    @property
    def switches(self) -> tuple[str, ...]:
        """Names of the settings."""
        return tuple(f.name for f in fields(self.config))

    @property
    def citation(self) -> str:
        """BibTeX, "" where there is nothing to cite."""
        return "\n\n".join(BIBTEX[k] for k in self.references)

    def build(self, config: Any, shape: "Shape") -> Any:
        """Return the model for a configuration and a shape."""
        return getattr(self._module, self.location.partition(":")[2])(config, shape)


def _paper(name: str, cls: str, summary: str, *references: str, shape: str = "mosi") -> Entry:
    return Entry(name, "gradient", f"affectcore.models.{name}:{cls}", summary, references, shape)


def _baseline(
    name: str,
    cls: str,
    summary: str,
    *references: str,
    kind: Literal["gradient", "estimator"] = "gradient",
    shape: str = "mosi",
) -> Entry:
    return Entry(name, kind, f"affectcore.models.baselines.{name}:{cls}", summary, references, shape)


def _lite(name: str, cls: str, summary: str) -> Entry:
    location = f"affectcore.models.baselines.lite:{cls}"
    return Entry(f"lite_{name}", "gradient", location, summary, ("affectdiff",), "mosei_classes")


def _wrapper(name: str, location: str, summary: str, *references: str) -> Entry:
    return Entry(name, "gradient", f"affectcore.models.{location}", summary, references)


MODELS: dict[str, Entry] = {
    e.name: e
    for e in (
        # the five papers
        _paper(
            "affect_diff",
            "AffectDiff",
            "variational fusion gated by a graph over modalities, a diffusion prior on its latent",
            "affectdiff",
            shape="mosei_classes",
        ),
        _paper(
            "lddu",
            "LDDU",
            "a latent distribution per modality and label, mean and spread both classify, contrast with a queue",
            "lddu",
            shape="mosei_emotions",
        ),
        _paper(
            "cmir",
            "CmIR",
            "codes alike in all environments, decorrelated from a rest and, with it, rebuilding the input",
            "cmir",
            shape="mosi_mag",
        ),
        _paper(
            "cider",
            "CIDer",
            "complete and masked view of one network made to agree, a head that mixes over classes",
            "cider",
            shape="cider",
        ),
        _paper(
            "rohydr",
            "RoHyDR",
            "missing streams drawn by diffusion from those at hand, their fusion repaired adversarially",
            "rohydr",
        ),
        # floors
        _baseline("constant", "Constant", "best prediction without features: median or class shares", kind="estimator"),
        _baseline("linear", "Linear", "logistic or ridge regression on pooled features", kind="estimator"),
        _baseline("mlp", "MLP", "early fusion: one hidden layer on pooled features"),
        _baseline("late_fusion", "LateFusion", "one network per modality, outputs averaged over those present"),
        # fusion
        _baseline("tfn", "TFN", "outer product of all modalities' vectors", "zadeh2017tensor"),
        _baseline("lmf", "LMF", "outer product read by a weight tensor of low rank", "liu2018efficient"),
        _baseline("mult", "MulT", "every modality attends to every other, step by step", "tsai2019multimodal"),
        _baseline("misa", "MISA", "one space shared by all modalities, one of its own for each", "hazarika2020misa"),
        _baseline("self_mm", "SelfMM", "late fusion and a task per modality whose labels it makes", "yu2021learning"),
        _baseline("mmim", "MMIM", "mutual information of modalities and their fusion kept high", "han2021improving"),
        _baseline("tetfn", "TETFN", "MulT whose other modalities meet by way of the text", "wang2023tetfn"),
        _lite("tfn", "LiteTFN", "TFN as run by Affect-Diff: product of pooled vectors of 16"),
        _lite("mult", "LiteMulT", "MulT as run by Affect-Diff: one layer of attention for every pair"),
        _lite("misa", "LiteMISA", "MISA as run by Affect-Diff: shared and private codes of pooled features"),
        _lite("mmim", "LiteMMIM", "MMIM as run by Affect-Diff: fusion contrasted with every modality"),
        _lite("tetfn", "LiteTETFN", "TETFN as run by Affect-Diff: convolutions, attention to text and to all"),
        _baseline(
            "c_mib",
            "CMIB",
            "noisy codes of every modality and of their fusion, kept small",
            "mai2022mib",
            shape="mosi_mag",
        ),
        _baseline(
            "ithp",
            "ITHP",
            "text through two bottlenecks that must foretell the other modalities",
            "xiao2024neuro",
            shape="mosi_mag",
        ),
        _baseline(
            "dlf", "DLF", "shared and specific steps, the other modalities' specific serving text", "wang2025dlf"
        ),
        # incomplete and noisy input
        _baseline(
            "imder",
            "IMDer",
            "missing streams drawn by a score-based diffusion from those at hand, one joint loss",
            "wang2023incomplete",
        ),
        _baseline(
            "dicmor",
            "DiCMoR",
            "missing streams from those at hand by normalising flows that meet in one normal per class",
            "wang2023distribution",
        ),
        _baseline(
            "mctn",
            "MCTN",
            "reads one modality that was trained by translating it into the others and back",
            "pham2019found",
        ),
        _baseline(
            "mmin",
            "MMIN",
            "imagines the embeddings of missing modalities by a cascade of residual autoencoders",
            "zhao2021missing",
            shape="mosi_utterances",
        ),
        _baseline(
            "gcnet",
            "GCNet",
            "completes utterances from their neighbours over a temporal and a speaker graph",
            "lian2023gcnet",
            shape="mosi_videos",
        ),
        _baseline(
            "ridge_recovery",
            "RidgeRecovery",
            "missing modalities by ridge regression from those present, then a linear model",
            kind="estimator",
        ),
        _baseline(
            "tfr_net",
            "TFRNet",
            "attention within and across incomplete sequences, hidden steps rebuilt",
            "yuan2021transformer",
            shape="mosi_unaligned",
        ),
        _baseline(
            "emt_dlfr",
            "EMTDLFR",
            "global tokens and sequences promote each other, views of a sample attract",
            "sun2023efficient",
            shape="mosi_unaligned",
        ),
        _baseline("niat", "NIAT", "noisy copies fused, judged and restored like clean ones", "yuan2023noise"),
        _baseline(
            "lnln",
            "LNLN",
            "the dominant modality is mended by a proxy where it is incomplete",
            "zhang2024towards",
            shape="mosi_unaligned",
        ),
        _baseline(
            "mplmm", "MPLMM", "prompts generate missing modalities and tell what is missing", "guo2024multimodal"
        ),
        # several labels
        _baseline(
            "hhmpn",
            "HHMPN",
            "messages between modalities, from their steps to labels, and among labels",
            "zhang2021hhmpn",
            shape="mosei_emotions_glove",
        ),
        _baseline(
            "tailor",
            "Tailor",
            "private and shared parts of every modality, told apart by an adversary, read by label queries",
            "zhang2022tailor",
            shape="mosei_emotions_glove",
        ),
        _baseline(
            "carat",
            "Carat",
            "each modality rebuilt from the others and from prototypes, label slots shuffled, contrast with a queue",
            "peng2024carat",
            shape="mosei_emotions_glove",
        ),
        # language bias
        _baseline("clue", "CLUE", "any model beside a text branch whose direct effect is subtracted", "sun2022clue"),
        _baseline(
            "gear",
            "GEAR",
            "any model on robust features, samples that biased ones explain weigh little",
            "sun2023gear",
            shape="mosi_unaligned",
        ),
        # wrappers: an objective, a loss or an ensemble over any other model
        _baseline("maci", "MACI", "any model, CIDer's causal head on its joint vector, counterfactual passes", "cider"),
        _baseline("modality_dropout", "ModalityDropout", "any model, trained with modalities hidden at random"),
        _wrapper("erm", "objectives:ERM", "objective: mean risk over samples or environments", "vapnik1998statistical"),
        _wrapper("irm", "objectives:IRM", "objective: IRMv1, one classifier best everywhere", "arjovsky2019invariant"),
        _wrapper("vrex", "objectives:VREx", "objective: equal risks in all environments", "krueger2021out"),
        _wrapper(
            "ib_irm", "objectives:IBIRM", "objective: IRMv1 with an information bottleneck", "ahuja2021invariance"
        ),
        _wrapper(
            "groupdro", "objectives:GroupDRO", "objective: worst environment's risk", "sagawa2020distributionally"
        ),
        _wrapper("coral", "objectives:CORAL", "objective: equal covariances of representations", "sun2016deep"),
        _wrapper(
            "eiil",
            "objectives:EIIL",
            "objective: environments inferred from a reference model, then IRMv1",
            "creager2021environment",
            "arjovsky2019invariant",
        ),
        _wrapper("mixup", "objectives:Mixup", "objective: samples and targets mixed in pairs", "zhang2018mixup"),
        _wrapper("rdrop", "objectives:RDrop", "objective: two passes of drop-out that agree", "liang2021rdrop"),
        Entry(
            "imbalance",
            "gradient",
            "affectcore.models.imbalance:Imbalance",
            "loss for rare classes: weights, focal, adjusted logits, balanced softmax, smoothing",
            ("lin2017focal", "menon2021longtail", "ren2020balanced", "szegedy2016rethinking"),
            "mosei_classes",
        ),
        _wrapper("ensemble", "uncertainty:Ensemble", "mean of members trained apart", "lakshminarayanan2017simple"),
        _wrapper("mc_dropout", "uncertainty:MCDropout", "mean of passes with drop-out on", "gal2016dropout"),
    )
}


def entry(name: str) -> Entry:
    """Return the entry of a model; raises ConfigError that lists the names if there is none."""
    if name not in MODELS:
        raise ConfigError(f"model {name!r} is unknown: use {', '.join(MODELS)}")
    return MODELS[name]


def config(name: str, preset: str = "clean", **overrides: Any) -> Any:
    """Return a model's configuration: a preset with some settings replaced. Raises ConfigError for unknown names."""
    e = entry(name)
    if preset not in e.presets:
        raise ConfigError(f"{name}: preset {preset!r} is unknown, it has {', '.join(e.presets)}")
    for key in overrides:
        if key not in e.switches:
            raise ConfigError(f"{name}: setting {key!r} is unknown, it has {', '.join(e.switches)}")
    return replace(e.presets[preset], **overrides)


def modules(name: str, preset: str = "clean", **overrides: Any) -> tuple[str, ...]:
    """Return the modules of a configured model: its own, and those of the models it wraps."""
    own, c = entry(name).location.partition(":")[0], config(name, preset, **overrides)
    if not getattr(c, "backbone", ""):  # "": a fusion of the wrapper's own
        return (own,)
    return (own, *modules(c.backbone, c.backbone_preset, **dict(c.backbone_settings)))


def build(name: str, shape: "Shape", preset: str = "clean", **overrides: Any) -> Any:
    """Return the model `name` for data of a shape: an AffectModel or an estimator with fit and predict."""
    return entry(name).build(config(name, preset, **overrides), shape)


def cite(name: str) -> str:
    """Return the BibTeX of a model's sources ("" where there is none)."""
    return entry(name).citation


def parameters(name: str, preset: str = "clean", shape: "Shape | None" = None) -> int:
    """Return the number of trainable numbers, by default at the entry's published shape; 0 for an estimator."""
    if entry(name).kind == "estimator":
        return 0
    import torch

    from affectcore.models.shapes import SHAPES

    with torch.device("meta"):  # counted, never drawn: the largest has 1.5 GB
        model = build(name, shape or SHAPES[entry(name).shape], preset)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
