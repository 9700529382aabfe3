"""What TFN and LMF share: one encoder per modality, an LSTM for a sequence or three layers for pooled features."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from affectcore.data.schema import Batch
from affectcore.models.contract import Memo, Noise, Output, Shape
from affectcore.nn.normalisation import BatchNorm
from affectcore.nn.pooling import masked_mean
from affectcore.nn.recurrent import LSTM


@dataclass(frozen=True)
class EncoderConfig:
    """Settings of the encoders; the published code's values are those of its MOSI configuration."""

    sequential: tuple[str, ...] = ("text",)  # modalities read by an LSTM, all others are averaged over time
    text_hidden: int = 128  # state of the LSTM; code 128
    text_out: int = 32  # vector of a sequential modality; code: TFN 32, LMF 64
    audio_hidden: int = 32  # vector of audio; code: TFN 32, LMF 16
    vision_hidden: int = 128  # vector of vision; code 128
    other_hidden: int = 32  # vector of a modality by another name
    text_dropout: float = 0.3  # of the LSTM's state; code 0
    dropout: float = 0.3  # of pooled features; code 0.3
    padded_state: bool = False  # difference 1: the LSTM runs over the padding
    padded_mean: bool = False  # difference 2: the mean counts the padding
    batch_norm: bool = False  # difference 3: pooled features are normalised by batch


@dataclass(frozen=True)
class FusionOutput(Output):
    """vectors[m]: (B, H_m) before fusion; statistics: of batch normalisation, by modality."""

    vectors: Mapping[str, Tensor]
    statistics: Memo


class SequenceEncoder(nn.Module):
    """LSTM over the steps, last state through a linear layer: (B, T, D) to (B, out); zero if nothing is observed.

    padded: run over the padding too and take the state after it, as the published code does.
    """

    def __init__(self, features: int, hidden: int, out: int, dropout: float, padded: bool) -> None:
        super().__init__()
        self.rnn = LSTM(features, hidden)
        self.project = nn.Linear(hidden, out)
        self.features, self.dropout, self.padded = features, dropout, padded

    def forward(self, x: Tensor, observed: Tensor, noise: Noise) -> Tensor:
        _, last = self.rnn(x, None if self.padded else observed)  # (B, hidden)
        h: Tensor = self.project(noise.dropout(last, self.dropout))
        return h if self.padded else h.masked_fill(~observed.any(-1, keepdim=True), 0)


class PooledEncoder(nn.Module):
    """Mean over the steps through three ReLU layers: (B, T, D) to (B, hidden), zero where nothing is observed.

    padded: divide by the padded length, as the published code does. batch_norm: normalise the pooled features by batch.
    """

    def __init__(self, features: int, hidden: int, dropout: float, padded: bool, batch_norm: bool) -> None:
        super().__init__()
        self.norm = BatchNorm(features) if batch_norm else None
        self.layers = nn.ModuleList([nn.Linear(features if i == 0 else hidden, hidden) for i in range(3)])
        self.dropout, self.padded = dropout, padded

    def forward(self, x: Tensor, observed: Tensor, noise: Noise) -> tuple[Tensor, Tensor | None]:
        """Return the representation and the statistics of batch normalisation, if any."""
        h, statistics = x.mean(-2) if self.padded else masked_mean(x, observed), None
        if self.norm is not None:
            h, statistics = self.norm(h, noise.training)
        h = noise.dropout(h, self.dropout)
        for layer in self.layers:
            h = F.relu(layer(h))
        return h if self.padded else h.masked_fill(~observed.any(-1, keepdim=True), 0), statistics


class Encoders(nn.Module):
    """One encoder per modality; `sizes` are the lengths of their vectors."""

    def __init__(self, config: EncoderConfig, shape: Shape) -> None:
        super().__init__()
        widths = {"audio": config.audio_hidden, "vision": config.vision_hidden}
        self.modalities = shape.modalities
        self.sizes: list[int] = []
        self.each = nn.ModuleList()
        for m, d in shape.dims.items():
            if m in config.sequential:
                self.sizes.append(config.text_out)
                args = (config.text_hidden, config.text_out, config.text_dropout, config.padded_state)
                self.each.append(SequenceEncoder(d, *args))
            else:
                self.sizes.append(widths.get(m, config.other_hidden))
                flags = (config.dropout, config.padded_mean, config.batch_norm)
                self.each.append(PooledEncoder(d, self.sizes[-1], *flags))

    def forward(self, batch: Batch, noise: Noise) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        vectors: dict[str, Tensor] = {}
        statistics: dict[str, Tensor] = {}
        for m, encoder in zip(self.modalities, self.each):
            h = encoder(batch.features[m], batch.observed[m], noise)
            if isinstance(encoder, PooledEncoder):
                h, s = h
                if s is not None:
                    statistics[m] = s
            vectors[m] = h
        return vectors, statistics

    def remember(self, memo: Memo) -> None:
        for m, encoder in zip(self.modalities, self.each):
            if isinstance(encoder, PooledEncoder) and encoder.norm is not None and m in memo:
                encoder.norm.remember(memo[m])
