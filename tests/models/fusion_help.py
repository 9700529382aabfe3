"""Small models and batches of the fusion baselines for their tests, in float64 and without drop-out."""

import torch
from small_data import make
from traits import traits

from affectcore.data.schema import Batch
from affectcore.models import registry
from affectcore.models.contract import Progress, Shape
from affectcore.nn.noise import Pool

SILENT = Pool(torch.zeros(0, dtype=torch.int16), torch.zeros(()), training=False)
START = Progress(0, 0, 1, 1)


def built(name, preset="clean", kind="regression", size="unaligned", **settings):
    """Return a model away from its trivial start and its training batch."""
    data = make(size, kind)
    torch.manual_seed(0)
    model = registry.build(name, Shape.of(data), preset, **traits(name).small | settings).double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model, data.split("train").to("cpu", torch.float64)


def terms_of(model, batch, progress=START):
    return model.losses(model(batch, SILENT), batch, progress)


def total(model, terms):
    return sum(model.weights(START).get(k, 1.0) * v for k, v in terms.items())


def whole(batch: Batch) -> Batch:
    """Return the samples in which every modality is observed."""
    there = torch.stack([batch.observed[m].any(1) for m in batch.modalities], 1).all(1)
    return batch.rows(there.nonzero()[:, 0])
