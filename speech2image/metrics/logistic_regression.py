"""Multinomial logistic regression with an L2 penalty, by L-BFGS."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize


def fit(
    features: NDArray[np.float32], targets: NDArray[np.float32], penalty: float, steps: int
) -> NDArray[np.float32]:
    """Weights [features, classes] whose softmax(features @ weights) comes near the targets.

    Minimises mean cross-entropy + penalty / 2 * sum of squared weights, from zero.

    Args:
        features: [n, features]; add a column of ones for a bias.
        targets: shares of each class, rows sum to 1, [n, classes].
        penalty: weight of the L2 penalty.
        steps: iterations at most.
    """
    shape = (features.shape[1], targets.shape[1])

    def loss_and_gradient(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        log_shares = log_softmax(features @ flat.reshape(shape).astype(np.float32))
        loss = -(targets * log_shares).sum() / len(features) + penalty / 2 * (flat**2).sum()
        gradient = features.T @ (np.exp(log_shares) - targets) / len(features)
        return float(loss), gradient.ravel().astype(np.float64) + penalty * flat

    start = np.zeros(shape[0] * shape[1])
    best = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options={"maxiter": steps})
    return np.asarray(best.x, dtype=np.float32).reshape(shape)


def log_softmax(scores: NDArray[np.floating]) -> NDArray[np.floating]:
    """Logarithm of each row's softmax."""
    scores = scores - scores.max(1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(1, keepdims=True))
