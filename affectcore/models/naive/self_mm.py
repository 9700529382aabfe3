"""Naive Self-MM: packed `nn.LSTM`, class centres as means over all training samples after every step."""

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from affectcore.data.schema import Batch
from affectcore.models.baselines.self_mm import SelfMM
from affectcore.models.naive import Case, Twin
from affectcore.models.naive.layers import NaiveHead, NaiveLabels, linear

CASES = {"self_mm": Case("self_mm", batch=16), "self_mm_clean": Case("self_mm", batch=16, preset="clean")}
ROWS = 1284
"""Training samples of MOSI, over which the centres are taken."""


class NaiveSelfMM(Twin):
    def __init__(self, model: SelfMM) -> None:
        super().__init__(model)
        self.encoders = nn.ModuleDict()
        for m, e in cast(Any, model.encoders).items():
            rnn = nn.LSTM(self.shape.dims[m], e.rnn.hidden, batch_first=True)
            rnn.load_state_dict(e.rnn.state_dict())
            self.encoders[m] = nn.ModuleList([rnn, linear(e.project)])
        self.heads = nn.ModuleList(NaiveHead(h) for h in model.heads)
        self.fused = NaiveHead(model.fused)
        self.labels = NaiveLabels(model.labels, ROWS)

    def heads_of(self, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
        """Return features and outputs of the fused head and of each modality's."""
        vectors = []
        for m, x in batch.features.items():
            if m not in self.encoders:
                vectors.append(x[:, 0])
                continue
            rnn, project = cast(Any, self.encoders[m])
            packed = pack_padded_sequence(x, batch.lengths[m], batch_first=True, enforce_sorted=False)
            vectors.append(project(rnn(packed)[1][0].squeeze(0)))
        pairs = [self.fused(torch.cat(vectors, 1)), *(h(v) for h, v in zip(self.heads, vectors))]
        return [p[0] for p in pairs], [p[1] for p in pairs]

    def forward(self, batch: Batch) -> Tensor:
        y: Tensor = self.heads_of(batch)[1][0]
        return y.squeeze(1)

    def losses(self, batch: Batch) -> Iterator[Tensor]:
        features, outputs = self.heads_of(batch)
        yield self.labels.losses(outputs, batch)
        self.labels.update([f.detach() for f in features], batch.index)


TWIN = NaiveSelfMM
