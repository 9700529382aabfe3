"""Which loss teaches which part of a model: the gradient of every term on every part, or that there is no path.

    gradient_table(model, batch, Progress(0, 0, 1, 1), {"encoders": ("encoders",), "prior": ("unet",), ...})

A norm of 0 and no path at all are two findings. A zero may come from the batch at hand; where autograd finds no path,
no batch, weight or learning rate can make the term move that part. The table says None there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd
import torch

from affectcore.data.schema import Batch
from affectcore.errors import ConfigError
from affectcore.models.contract import AffectModel, Progress
from affectcore.nn.noise import Pool, Tape, fill
from affectcore.training.optimise import members, under


def gradient_table(
    model: AffectModel, batch: Batch, progress: Progress, parts: Mapping[str, Sequence[str]], seed: int = 0
) -> pd.DataFrame:
    """Return the norm of the gradient of every unweighted loss term (rows) on every part (columns), None for no path.

    parts: name -> prefixes of parameter names; every trainable parameter must lie in exactly one part, so that no path
    stays unseen. A model of several stages has one row a stage and term, "stage.term", with the parameters that the
    stage moves. The noise is that of (seed, "audit", stage). Raises ConfigError for parts that leave out, repeat or
    miss parameters. The model and its gradients stay as they are.
    """
    trainable = {n: p for n, p in model.named_parameters() if p.requires_grad}
    place = _places(list(trainable), parts)
    like = next(iter(trainable.values())).detach().new_zeros(())
    stages, table = model.stages(), {}
    for i, stage in enumerate(stages):
        tape = Tape(like)
        with torch.no_grad():
            model.stage_losses(stage, batch, tape, progress)
        pool = Pool(fill([seed], tape.words, like.device, "audit", i)[0], like)
        terms, memo = model.stage_losses(stage, batch, pool, progress)
        mine = members(trainable, stage.parameters, f"stage {stage.name!r}")
        for term in stage.losses or terms:
            row = term if len(stages) == 1 else f"{stage.name}.{term}"
            table[row] = _norms(terms[term], {n: trainable[n] for n in mine}, place, parts)
        handed = {k: memo[k].detach() for k in stage.hands}
        batch = replace(batch, extras={**batch.extras, **handed})
    return pd.DataFrame.from_dict(table, orient="index", columns=list(parts), dtype=object)


def _places(names: Sequence[str], parts: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the part of every parameter."""
    found: dict[str, str] = {}
    for part, prefixes in parts.items():
        for p in prefixes:
            members(names, [p], f"gradient_table: part {part!r}")  # refuses a prefix that names nothing
        for n in (n for n in names if any(under(n, p) for p in prefixes)):
            if n in found:
                raise ConfigError(f"gradient_table: {n!r} lies in the parts {found[n]!r} and {part!r}")
            found[n] = part
    left = [n for n in names if n not in found]
    if left:
        raise ConfigError(f"gradient_table: no part holds {', '.join(left[:5])}")
    return found


def _norms(
    loss: torch.Tensor, leaves: Mapping[str, torch.Tensor], place: Mapping[str, str], parts: Mapping[str, Sequence[str]]
) -> list[float | None]:
    """Return the norm of the loss's gradient on every part."""
    squares: dict[str, torch.Tensor] = {}
    if loss.requires_grad:
        found = torch.autograd.grad(loss, list(leaves.values()), retain_graph=True, allow_unused=True)
        for n, g in zip(leaves, found):
            if g is not None:
                squares[place[n]] = squares.get(place[n], 0) + g.detach().double().square().sum()
    return [float(squares[p].sqrt()) if p in squares else None for p in parts]
