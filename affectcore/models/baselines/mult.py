"""MulT, Multimodal Transformer: every modality's steps attend to every other's, unaligned [tsai2019multimodal].

| symbol | name | shape |
|---|---|---|
| X_m | `batch.features[m]` | (B, T_m, D_m) |
| X^_m | convolution of X_m along time | (B, T_m, d) |
| Z_{b->a} | `cross[a][b]`, steps of a that attended to b | (B, T_a, d) |
| Z_a | `memory[a]` over the concatenation of Z_{b->a}, b != a | (B, T_a, (M - 1) d) |
| | `hidden`, one step of each Z_a | (B, M (M - 1) d) |

Two or more modalities, of equal or different lengths (ConfigError for one). A missing modality is hidden from the
others, and its own part of `hidden` is zero.

Differences from the published code (thuiar/MMSA, commit a94e65d), each with its switch, on in `author`, off in `clean`:
1. `padded`: the padding is attended to and the last padded step is read; clean hides what is not observed and reads the
   last observed step.
2. `positions`: the paper adds sinusoidal positions, the code leaves them out (its encoder's default).
3. `future_mask`: the code hides key j from query i where j - i > |S - T|, without regard to padding; in clean
   every step sees every observed step.
4. `same_length`: the code's convolution drops the kernel's margin; clean pads, so that a single step is enough.
5. `attention_dropout`: clean draws none, since (T, S) numbers for every head, layer and pair cost more time than the
   attention itself; `embed_dropout` drops parts of the memory already.
Without a switch: keys and values share one drop-out mask, and so do all readers of a modality (the code draws for each
key and each value; the values without drop-out are the same). A modality that already has d features is convolved too.
On the same weights, `author` and the published code differ by at most 6e-7 in the outputs (float32; MOSI shape,
aligned and unaligned), by 6e-7 of the largest entry in the gradient of the text convolution; both have 2,571,551
parameters.
What saves time and changes no value: the normalised memory is computed once per modality and its affine map folded into
the projections of all layers that read it; the last memory layer is evaluated at the one step that is read.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.models.contract import AffectModel, Noise, Output, Shape
from affectcore.nn.crossmodal import PreNormStack, Rates, future, normalise, place
from affectcore.nn.losses import as_prediction
from affectcore.nn.pooling import hide, last_observed


@dataclass(frozen=True)
class Config:
    width: int = 50  # d, features of every modality after the convolution; code, MOSI: 50
    heads: int = 10  # code, MOSI: 10
    layers: int = 4  # of each cross-modal stack; code, MOSI: 4
    memory_layers: int = 4  # of each memory stack; code: the larger of 3 and `layers`
    kernel: int = 5  # of the convolution along time; code, MOSI: 5
    text_dropout: float = 0.5  # of text features before the convolution; code, MOSI: 0.5
    embed_dropout: float = 0.2  # of the embedded steps; code, MOSI: 0.2
    attention_dropout: float = 0.0  # of attention to text, to others and of memories; code, MOSI: 0.3
    attention_dropout_audio: float = 0.0  # of attention to audio; code, MOSI: 0.2
    attention_dropout_vision: float = 0.0  # of attention to vision; code, MOSI: 0
    output_dropout: float = 0.5  # of the last residual block; code, MOSI: 0.5
    padded: bool = False  # difference 1
    positions: bool = True  # difference 2
    future_mask: bool = False  # difference 3
    same_length: bool = True  # difference 4


@dataclass(frozen=True)
class MulTOutput(Output):
    """hidden: (B, M (M - 1) d), the fused representation."""

    hidden: Tensor


class MulT(AffectModel):
    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__(config, shape)
        names, d, k = shape.modalities, config.width, config.kernel
        if len(names) < 2:
            raise ConfigError(f"mult: needs two modalities or more to attend across, got {', '.join(names)} alone")
        if config.same_length and k % 2 == 0:
            raise ConfigError(f"mult: kernel {k} must be odd to keep the length of a sequence")
        for m, t in shape.steps.items():
            if not config.same_length and t < k:
                raise ConfigError(f"mult: {m} has {t} steps, fewer than the kernel {k}; set same_length")
        margin = k // 2 if config.same_length else 0
        self.project = nn.ModuleList([nn.Conv1d(n, d, k, padding=margin, bias=False) for n in shape.dims.values()])
        n = len(names)
        self.pairs = [(i, j) for i in range(n) for j in range(n) if i != j]  # modality i attends to modality j
        self.cross = nn.ModuleList(PreNormStack(d, config.heads, config.layers) for _ in self.pairs)
        wide = (len(names) - 1) * d
        self.memory = nn.ModuleList(PreNormStack(wide, config.heads, config.memory_layers) for _ in names)
        total = len(names) * wide
        self.first, self.second = nn.Linear(total, total), nn.Linear(total, total)
        self.last = nn.Linear(total, shape.task.outputs)

    def _embed(self, i: int, m: str, batch: Batch, noise: Noise) -> Tensor:
        """Return the steps of a modality as (B, T, d), zero where hidden."""
        config, x = self.config, batch.features[m]
        x = x if config.padded else hide(x, batch.observed[m])
        if m == "text":
            x = noise.dropout(x, config.text_dropout)
        x = self.project[i](x.transpose(-1, -2)).transpose(-1, -2)
        x = self._place(x, noise)
        return x if config.padded else hide(x, batch.observed[m])

    def _place(self, x: Tensor, noise: Noise) -> Tensor:
        """Return the input of a stack: x (B, T, D) scaled by the root of D, positions added, some of it dropped."""
        return noise.dropout(place(x, self.config.positions), self.config.embed_dropout)

    def forward(self, batch: Batch, noise: Noise) -> MulTOutput:
        config, names = self.config, self.shape.modalities
        rates = {"audio": config.attention_dropout_audio, "vision": config.attention_dropout_vision}
        drops = [Rates(rates.get(m, config.attention_dropout)) for m in names]
        own = Rates(config.attention_dropout)  # of a memory, whatever its modality
        masks = [None if config.padded else batch.observed[m] for m in names]
        x = [self._embed(i, m, batch, noise) for i, m in enumerate(names)]  # (B, T_m, d)
        memory = [normalise(v) for v in x]
        z: list[list[Tensor]] = [[] for _ in names]
        for (i, j), stack in zip(self.pairs, self.cross):  # steps of i that attended to j, (B, T_i, d)
            z[i].append(stack(x[i], memory[j], masks[j], self._future(x[i], x[j]), noise, drops[j]))
        hidden = []
        for i, m in enumerate(names):
            mask = masks[i]
            end = torch.full_like(batch.lengths[m], x[i].shape[-2] - 1) if mask is None else last_observed(mask)
            h = self.memory[i](
                self._place(torch.cat(z[i], -1), noise), None, mask, self._future(x[i], x[i]), noise, own, end
            ).squeeze(-2)  # (B, (M - 1) d)
            hidden.append(h if mask is None else h * mask.any(-1, keepdim=True).to(h.dtype))
        h = torch.cat(hidden, -1)
        out = h + self.second(noise.dropout(F.relu(self.first(h)), config.output_dropout))
        return MulTOutput(as_prediction(self.shape.task, self.last(out)), h, representation=out)

    def _future(self, x: Tensor, memory: Tensor) -> Tensor | None:
        """(T, S) bool, True where key j comes more than |S - T| steps after query i; None if the mask is off."""
        return future(x, memory) if self.config.future_mask else None


CLEAN = Config()
AUTHOR = replace(
    CLEAN,
    padded=True,
    positions=False,
    future_mask=True,
    same_length=False,
    attention_dropout=0.3,
    attention_dropout_audio=0.2,
)
PRESETS = {"clean": CLEAN, "author": AUTHOR}
