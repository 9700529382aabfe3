"""What wraps a model: an objective, a loss, an ensemble or a text encoder over any gradient model of the registry.

    registry.build("irm", shape, environments=2, backbone="tfn", backbone_settings={"text_hidden": 64})

The wrapped model is the backbone: named by the settings, so that a study carries it as JSON. It keeps its forward pass,
its loss terms with their weights, its stages and its state; a wrapper replaces one term (`Config.term`, the loss of the
prediction) and adds terms of its own beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor

from affectcore.data.schema import AffectData, Batch
from affectcore.errors import ConfigError
from affectcore.models import registry
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape, Stage


def frozen(value: Any) -> Any:
    """Return a value of JSON in hashable form: a mapping as pairs (name, value), a list as a tuple."""
    if isinstance(value, Mapping):
        return tuple((k, frozen(v)) for k, v in value.items())
    return tuple(frozen(v) for v in value) if isinstance(value, list | tuple) else value


@dataclass(frozen=True)
class WrapperConfig:
    backbone: str = "mlp"  # the wrapped model's name in the registry; any gradient model
    backbone_preset: str = "clean"  # its preset
    backbone_settings: Any = ()  # its settings: a mapping, kept as pairs (name, value)
    term: str = "task"  # its loss of the prediction, which the wrapper replaces

    def __post_init__(self) -> None:
        object.__setattr__(self, "backbone_settings", frozen(self.backbone_settings))


class Wrapper(AffectModel):
    """Passes everything to the backbone; subclasses give `replaced` and may change the rest.

    `added`: names of the terms that stand beside the replaced one.
    """

    config: Any
    added: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: WrapperConfig, shape: Shape) -> None:
        super().__init__(config, shape)
        self.backbone = self.built(shape)
        self.check(self.backbone)

    @property
    def label(self) -> str:
        """The wrapper's name in messages."""
        return type(self).__name__.lower()

    def built(self, shape: Shape) -> AffectModel:
        """Return a new backbone for data of a shape."""
        c = self.config
        if registry.entry(c.backbone).kind != "gradient":
            raise ConfigError(f"{self.label}: backbone {c.backbone!r} is an estimator; wrap a model with gradients")
        model: AffectModel = registry.build(c.backbone, shape, c.backbone_preset, **dict(c.backbone_settings))
        return model

    def check(self, backbone: AffectModel) -> None:
        """Raise ConfigError for a backbone that cannot be wrapped so."""
        c = self.config
        if backbone.weights(Progress(0, 0, 1, 1)).get(c.term, 1.0) == 0:
            raise ConfigError(
                f"{self.label}: backbone {c.backbone!r}, preset {c.backbone_preset!r}, gives {c.term!r} no weight"
            )
        if any(s.hands for s in backbone.stages()):
            raise ConfigError(f"{self.label}: backbone {c.backbone!r} hands tensors from stage to stage; wrap another")

    def accept(self, data: AffectData) -> None:
        self.backbone.accept(data)

    def forward(self, batch: Batch, noise: Noise) -> Output:
        output: Output = self.backbone(batch, noise)
        return output

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        terms, memo = self.backbone.losses(output, batch, progress)
        new, own = self.replaced(output, batch, progress)
        return self.merged(terms, new), {**memo, **own}

    def merged(self, terms: dict[str, Tensor], new: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the backbone's terms with the new ones; raises ConfigError where there is nothing to replace."""
        if self.config.term not in terms:
            raise ConfigError(
                f"{self.label}: backbone {self.config.backbone!r} has no loss {self.config.term!r} (setting `term`), "
                f"it has {', '.join(terms)}"
            )
        return {**terms, **new}

    def replaced(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the replaced and the added terms, and detached state of the wrapper's own."""
        return {}, {}

    def stage_losses(
        self, stage: Stage, batch: Batch, noise: Noise, progress: Progress
    ) -> tuple[dict[str, Tensor], Memo]:
        if stage.losses and self.config.term not in stage.losses:  # not our business: the backbone may skip what it can
            return self.backbone.stage_losses(self._inner[stage.name], batch, noise, progress)
        return self.losses(self(batch, noise), batch, progress)

    def weights(self, progress: Progress) -> Mapping[str, float]:
        return self.backbone.weights(progress)

    @property
    def _inner(self) -> dict[str, Stage]:
        return {s.name: s for s in self.backbone.stages()}

    def stages(self) -> tuple[Stage, ...]:
        return tuple(
            replace(
                s,
                parameters=tuple(f"backbone.{p}" for p in s.parameters),
                losses=(*s.losses, *self.added) if self.config.term in s.losses else s.losses,
            )
            for s in self.backbone.stages()
        )

    def remember(self, memo: Memo) -> None:
        self.backbone.remember(memo)


class Quiet:
    """Noise of a pass as in evaluation: no drop-out; what a sampler draws comes from the step's own pool."""

    training = False

    def __init__(self, noise: Noise) -> None:
        self.normal, self.uniform = noise.normal, noise.uniform

    def dropout(self, x: Tensor, p: float) -> Tensor:
        return x
