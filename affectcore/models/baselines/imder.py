"""IMDer, Incomplete Multimodality-Diffused emotion recognition: score-based recovery, one loss [wang2023incomplete].

The recovery is RoHyDR's of May 2025, which took it from here: for every missing modality a score U-Net conditioned on
those at hand, a sampler, a reconstructor; then MulT's fusion and one residual head. See `affectcore.models.rohydr` for
the symbols, for how targets reach training (`Batch.complete`) and for the settings that both share.

    loss = task + 0.1 (sum of score losses + sum of reconstruction errors)

Differences from the published code (mdswyz/IMDer, commit 1901a92), with its switch, off in `clean`:
1. `condition_noise`: the target's own noise is added to the condition in training, fresh noise in sampling.
2. `summed`, `standardise`: the score loss is a sum over features and steps of streams that are not scaled.
3. `padded`, `same_length`, `future_mask`, `skip_zero`: padding is read, the extractor's convolution drops the kernel's
   margin, the fusion looks ahead no further than |S - T| steps, steps whose first feature is 0 have no position.
4. `extractor`: never trained, loaded from a model of complete data; clean trains it by the task's loss.
5. `hide_by_batch`: one draw of the missing modalities for all samples of a batch.
6. `draws`: one draw at test; clean starts from one fixed noise.
7. `sampler`: Euler-Maruyama, whose last step, 1/100 long at t = .001, is ten times what is stable there and turns every
   error of x into minus nine: with the exact score of a single point its 100 steps end .95 from it (root mean square;
   1000 steps: 1e-4), DDIM's on it. `clip`: before its networks are trained a sample is as large as the start noise,
   9.8 deviations, and a step of plain gradient descent on its reconstruction overflows; clean bounds what DDIM takes
   for x_0.
Both have 13,001,425 parameters at the MOSI shape. On the same weights and start noise the code's predictions with
whole modalities missing and those of `author` differ by at most 1.3e-7 (10 sampler steps, float64; the code's time grid
and its positions are float32). Positions are on, as published: RoHyDR's import lost them.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal, cast

from torch import Tensor

from affectcore.data.schema import Batch
from affectcore.models import rohydr
from affectcore.models.contract import AffectModel, Memo, Noise, Output, Progress, Shape, Stage
from affectcore.models.rohydr import RoHyDR, RoHyDROutput


@dataclass(frozen=True)
class Config:
    width: int = 32  # d; code: 32
    kernel: int = 3  # of the extractor along time; code: 3
    same_length: bool = True  # difference 3
    padded: bool = False  # difference 3
    extractor: Literal["frozen", "trained"] = "trained"  # difference 4
    noisy_targets: bool = False  # text drop-out reaches the targets; code: yes, of nothing
    text_dropout: float = 0.0  # code: 0
    hide: float = 0.5  # probability that the model hides a modality of a training batch that remembers nothing
    hide_by_batch: bool = False  # difference 5
    recoverable: tuple[str, ...] = ()  # modalities that may be missing; () = all
    denoiser_heads: int = 8  # of the U-Net's attention; code: 8
    denoiser_groups: int = 4  # difference 8
    condition_noise: Literal["none", "shared", "independent"] = "none"  # difference 1
    sampler: Literal["ddpm", "ddim", "euler", "dpm"] = "ddim"  # difference 7
    sampling_steps: int = 20  # in training; code: 100
    sampling_steps_test: int = 50  # code: 100
    clip: float | None = 5.0  # of x_0 in deviations, positive; None: no bound. Difference 7; not read by "euler"
    summed: bool = False  # difference 2
    standardise: bool = True  # difference 2
    draws: int = 0  # difference 6
    reconstructor_blocks: int = 20  # code: 20
    reduction: int = 16  # code: 16
    heads: int = 8  # code: 8
    layers: int = 4  # code: 4 (MOSI), 6 (MOSEI)
    memory_layers: int = 4  # code: the larger of 3 and `layers`
    positions: bool = True  # code: yes
    future_mask: bool = False  # difference 3
    skip_zero: bool = False  # difference 3
    embed_dropout: float = 0.2  # code: 0.2 (MOSI), 0 (MOSEI)
    attention_dropout: float = 0.0  # code: 0
    attention_dropout_audio: float = 0.0  # of attention to audio; code: 0.2 (MOSI), 0 (MOSEI)
    output_dropout: float = 0.0  # code: 0
    recovery_weight: float = 0.1  # of both recovery losses; code: 0.1


class IMDer(RoHyDR):
    def __init__(self, config: Config, shape: Shape) -> None:
        own = asdict(config)
        audio, recovery_weight = own.pop("attention_dropout_audio"), own.pop("recovery_weight")
        super().__init__(rohydr.Config(denoiser="unet", process="exploding", mrec=False, **own), shape)
        each = tuple(audio if m == "audio" else config.attention_dropout for m in shape.modalities)
        self.fusion.settings = replace(self.fusion.settings, attention_dropout=each)
        self.recovery_weight: float = recovery_weight

    def stages(self) -> tuple[Stage, ...]:
        return (Stage(),)

    def stage_losses(
        self, stage: Stage, batch: Batch, noise: Noise, progress: Progress
    ) -> tuple[dict[str, Tensor], Memo]:
        return AffectModel.stage_losses(self, stage, batch, noise, progress)

    def forward(self, batch: Batch, noise: Noise) -> RoHyDROutput:
        if noise.training:
            return self._pass(batch, noise, ("diffusion", "reconstruction", "prediction"))
        return super().forward(batch, noise)

    def losses(self, output: Output, batch: Batch, progress: Progress) -> tuple[dict[str, Tensor], Memo]:
        o = cast(RoHyDROutput, output)
        terms, memo = self._terms(o, batch, ("generator",))
        task, _ = AffectModel.losses(self, output, batch, progress)
        return {**task, **terms}, {**o.memo, **memo}

    def weights(self, progress: Progress) -> Mapping[str, float]:
        return dict.fromkeys(("diffusion", "reconstruction"), self.recovery_weight)


CLEAN = Config()
AUTHOR = replace(
    CLEAN,
    extractor="frozen",
    padded=True,
    same_length=False,
    noisy_targets=True,
    denoiser_groups=32,
    condition_noise="shared",
    summed=True,
    standardise=False,
    hide_by_batch=True,
    sampler="euler",
    sampling_steps=100,
    sampling_steps_test=100,
    clip=None,
    future_mask=True,
    skip_zero=True,
    attention_dropout_audio=0.2,
    draws=1,
)
PRESETS = {"clean": CLEAN, "author": AUTHOR}
