"""MACI on any model: CIDer's causal head on the joint vector of a backbone, and its counterfactual passes [cider].

| symbol | name | shape |
|---|---|---|
| h | `joint`, a field of the backbone's output | (B, F) |
| P(Y given do(L)) | `affectcore.models.cider.CausalHead` on h | (B, C) |
| | `counterfactuals`, predictions of `paths`, subtracted in evaluation | (B, C) each |

The backbone's own head is left unread where `joint` lies before it; its other losses stay. Arms of a comparison: head
alone (`paths` empty), counterfactual alone (`replace_head` False), both, and as controls `encodings` "zeros" or
"random" (a mixture of as many experts that knows no class means), a path ("", "prior", tau) (logit adjustment) and a
path ("text", "zeros", tau) (a pass without text). There is no author preset: the published code has no such wrapper.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.models.cider import CausalConfig, CausalHead, ClassMeans, causal_loss, check_causal, effect, replaced
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape
from affectcore.nn.noise import Tape

FIELDS = ("joint", "hidden", "fused", "vectors", "prediction")


@dataclass(frozen=True)
class Config(CausalConfig):
    backbone: str = "mlp"  # name of a gradient model with one optimisation stage
    backbone_preset: str = "clean"
    backbone_settings: tuple[tuple[str, Any], ...] = ()  # that differ from its preset, (name, value) pairs
    joint: str = ""  # field of the backbone's output, (B, F) or a mapping of such; "": the first known one, see FIELDS
    replace_head: bool = True  # off: the backbone's own prediction, counterfactual passes alone
    width: int = 32  # of each encoded class mean


@dataclass(frozen=True)
class MACIOutput(Output):
    """inner: the backbone's output; joint: (B, F); counterfactuals: predictions of the paths, in evaluation."""

    inner: Output
    joint: Tensor
    counterfactuals: tuple[Tensor, ...] = ()


class MACI(AffectModel):
    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        check_causal("maci", config, shape)
        if registry.entry(config.backbone).kind != "gradient":
            raise ConfigError(f"maci: backbone {config.backbone!r} is not trained by gradients")
        self.backbone: AffectModel = registry.build(
            config.backbone, shape, config.backbone_preset, **dict(config.backbone_settings)
        )
        if len(self.backbone.stages()) > 1:
            raise ConfigError(f"maci: backbone {config.backbone!r} has several optimisation stages, one is needed")
        self.classes = ClassMeans(config, shape)
        output = self._dry_run()
        self.field = config.joint or next(f for f in FIELDS if hasattr(output, f))
        if not hasattr(output, self.field):
            raise ConfigError(f"maci: the output of {config.backbone!r} has no field {self.field!r}")
        if config.replace_head:
            self.head = CausalHead(config, shape, self._joint(output).shape[-1], config.width)

    def _dry_run(self) -> Output:
        """Return the backbone's output for two samples of zeros."""
        x = {m: torch.zeros(2, self.shape.steps[m], d) for m, d in self.shape.dims.items()}
        lengths = {m: torch.full((2,), v.shape[1]) for m, v in x.items()}
        rows, task = torch.arange(2), self.shape.task
        target = {"single_label": torch.zeros(2, dtype=torch.int64), "regression": torch.zeros(2)}.get(
            task.kind, torch.zeros(2, task.outputs)
        )
        observed = {m: torch.ones(v.shape[:2], dtype=torch.bool) for m, v in x.items()}
        with torch.no_grad():
            out: Output = self.backbone(
                Batch(x, lengths, observed, target, rows, rows), Tape(torch.zeros(()), training=False)
            )
        return out

    def _joint(self, output: Output) -> Tensor:
        value = getattr(output, self.field)
        if isinstance(value, Mapping):
            value = torch.cat(list(value.values()), -1)
        joint = cast(Tensor, value)
        return joint.unsqueeze(-1) if joint.ndim == 1 else joint

    def forward(self, batch: Batch, noise: Noise) -> MACIOutput:
        inner, joint, factual = self._pass(batch, noise)
        if noise.training:
            return MACIOutput(factual, inner, joint)
        others = tuple(self._other(batch, noise, m, kind, factual) for m, kind, _ in self.config.paths)
        return MACIOutput(effect(self.config, self.shape.task, factual, others), inner, joint, others)

    def _pass(self, batch: Batch, noise: Noise) -> tuple[Output, Tensor, Tensor]:
        inner: Output = self.backbone(batch, noise)
        joint = self._joint(inner)
        if not self.config.replace_head:
            return inner, joint, inner.prediction
        return inner, joint, self.head(joint, self.classes, noise.training)

    def _other(self, batch: Batch, noise: Noise, modality: str, kind: str, factual: Tensor) -> Tensor:
        """Return the prediction of one counterfactual path; deleted steps and a blanked modality are not observed."""
        if kind == "prior":
            return self.classes.shares().clamp(min=1e-12).log().expand_as(factual)
        new, kept = replaced(batch, modality, kind, self.config, self.classes)
        seen = batch.observed[modality]
        if kind == "mean":
            seen = batch.valid(modality)
        seen = torch.zeros_like(seen) if kind == "zeros" else seen if kept is None else seen & kept
        changed = replace(
            batch, features={**batch.features, modality: new}, observed={**batch.observed, modality: seen}
        )
        return self._pass(changed, noise)[2]

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        o = cast(MACIOutput, output)
        terms, memo = self.backbone.losses(o.inner, batch, progress)
        if self.config.replace_head:
            terms = {**terms, "task": causal_loss(self.config, self.shape.task, o.prediction, batch.target)}
        return terms, {**memo, **self.classes.gather(batch, progress)}

    def weights(self, progress: Progress) -> Mapping[str, float]:
        return self.backbone.weights(progress)

    @torch.no_grad()
    def remember(self, memo: Memo) -> None:
        if "class_total" in memo:
            self.classes.remember(memo)
        self.backbone.remember({k: v for k, v in memo.items() if not k.startswith("class_")})


CLEAN = Config()
PRESETS = {"clean": CLEAN}
