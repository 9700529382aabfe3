"""How far a weighted graph is from having no cycle, and the augmented Lagrangian that drives it there.

`weights` is (..., d, d), entry [i, j] the edge i -> j. Every penalty is a function of B = W o W >= 0, is 0 exactly
where the graph has no cycle, and counts closed walks: with c_k = tr B^k, the weighted number of those of k steps,

    exponential  sum over k >= 1 of c_k / k!            Zheng et al. (2018), NOTEARS
    polynomial   sum over k of binom(d, k) c_k / d^k    Yu et al. (2019), DAG-GNN, with alpha = 1 / d
    log_det      sum over k >= 1 of c_k / (k s^k)       Bello et al. (2022), DAGMA
"""

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affectcore.errors import ConfigError

Penalty = Literal["exponential", "polynomial", "log_det"]


def exponential(weights: Tensor) -> Tensor:
    """Return tr exp(W o W) - d, (...)."""
    return torch.matrix_exp(weights * weights).diagonal(dim1=-2, dim2=-1).sum(-1) - weights.shape[-1]


def polynomial(weights: Tensor) -> Tensor:
    """Return tr (I + W o W / d)^d - d, (...)."""
    d = weights.shape[-1]
    eye = torch.eye(d, dtype=weights.dtype, device=weights.device)
    power = torch.linalg.matrix_power(eye + weights * weights / d, d)
    return power.diagonal(dim1=-2, dim2=-1).sum(-1) - d


def log_det(weights: Tensor, s: float = 1.0) -> Tensor:
    """Return -log det(s I - W o W) + d log s, (...); NaN or infinite beyond the boundary of its domain.

    The domain is the graphs for which the largest eigenvalue of W o W is below s; weights in [0, 1] without diagonal
    lie in it for s = d.
    """
    d = weights.shape[-1]
    eye = torch.eye(d, dtype=weights.dtype, device=weights.device)
    return d * math.log(s) - torch.logdet(s * eye - weights * weights)


def acyclicity(weights: Tensor, penalty: Penalty = "exponential") -> Tensor:
    """Return a penalty by name, (...); log_det with s = d."""
    if penalty == "exponential":
        return exponential(weights)
    if penalty == "polynomial":
        return polynomial(weights)
    if penalty == "log_det":
        return log_det(weights, float(weights.shape[-1]))
    raise ConfigError(f"acyclicity: penalty {penalty!r} must be exponential, polynomial or log_det")


def augmented(h: Tensor, alpha: Tensor, rho: Tensor) -> Tensor:
    """Return alpha h + rho h^2 / 2."""
    return alpha * h + 0.5 * rho * h * h


def multipliers(
    h: Tensor, best: Tensor, alpha: Tensor, rho: Tensor, share: float = 0.25, most: float = 1e16
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the next (best, alpha, rho) after the inner problem was solved to h.

    Where h fell to `share` of `best`, the last accepted one, or rho has reached `most`: accept, alpha grows by rho h.
    Elsewhere rho grows tenfold and the inner problem is to be solved again. The rule of xunzheng/notears.
    """
    accept = (h <= share * best) | (rho >= most)
    return (
        torch.where(accept, h, best),
        torch.where(accept, alpha + rho * h, alpha),
        torch.where(accept, rho, (10 * rho).clamp(max=most)),
    )


def notears(
    x: NDArray[np.floating],
    sparsity: float = 0.1,
    threshold: float = 0.3,
    rounds: int = 100,
    tolerance: float = 1e-8,
    most: float = 1e16,
) -> NDArray[np.float64]:
    """Return the weights (d, d) of the linear acyclic model X = X W + noise that NOTEARS finds in samples x (N, d).

    Minimises |X - X W|^2 / 2N + sparsity |W|_1 under `exponential(W)` = 0 (Zheng et al. 2018, algorithm 1; columns are
    centred); entries below `threshold` in size become 0. Inner problems by L-BFGS-B on positive and negative part.
    Raises ConfigError unless x is (N, d) with two columns or more and finite.
    """
    from scipy.linalg import expm
    from scipy.optimize import minimize

    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] < 2 or not np.isfinite(x).all():
        raise ConfigError(f"notears: x of shape {x.shape} must hold finite numbers (samples, two variables or more)")
    n, d = x.shape
    x = x - x.mean(0)
    covariance, eye = x.T @ x / n, np.eye(d)

    def objective(parts: NDArray[np.float64], alpha: float, rho: float) -> tuple[float, NDArray[np.float64]]:
        w = (parts[: d * d] - parts[d * d :]).reshape(d, d)
        e = expm(w * w)
        h, rest = np.trace(e) - d, eye - w
        smooth = 0.5 * np.trace(rest.T @ covariance @ rest) + alpha * h + 0.5 * rho * h * h
        gradient = (-covariance @ rest + (alpha + rho * h) * e.T * w * 2).ravel()
        return smooth + sparsity * parts.sum(), np.concatenate([gradient + sparsity, sparsity - gradient])

    bounds = [(0, 0) if i == j else (0, None) for _ in range(2) for i in range(d) for j in range(d)]
    parts, best, alpha, rho = np.zeros(2 * d * d), np.inf, 0.0, 1.0
    for _ in range(rounds):
        while True:
            found = minimize(objective, parts, (alpha, rho), "L-BFGS-B", jac=True, bounds=bounds).x
            w = (found[: d * d] - found[d * d :]).reshape(d, d)
            h = np.trace(expm(w * w)) - d
            if h <= 0.25 * best or rho >= most:
                break
            rho *= 10
        parts, best, alpha = found, h, alpha + rho * h
        if h <= tolerance or rho >= most:
            break
    return np.where(np.abs(w) < threshold, 0.0, w)
