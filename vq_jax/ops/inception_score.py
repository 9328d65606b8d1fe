"""The Inception score, on the host in float64."""

import numpy as np
from scipy.special import log_softmax, logsumexp


def inception_score(logits: np.ndarray, splits: int = 1) -> np.ndarray:
    """How sure a classifier is of each sample, and how evenly it sees the classes over all of them.

    Salimans et al. 2016 (arXiv:1606.03498), section 4: `exp(E_x KL(p(y|x) || p(y)))`. The paper takes
    50,000 samples in 10 splits, and gives mean and standard deviation of their scores.

    Args:
        logits: of the classes [n k].
        splits: parts of equal size, but for one, in which the samples are scored in the order they come.

    Returns:
        The score of each part, from 1 to k, float64 [splits].
    """
    logits = np.asarray(logits, np.float64)
    if not 1 <= splits <= len(logits):
        raise ValueError(f'{len(logits)} samples cannot be scored in {splits} splits.')
    return np.array([_score(part) for part in np.array_split(logits, splits)])


def _score(logits: np.ndarray) -> float:
    conditional = log_softmax(logits, axis=1)
    # The log of the mean of p(y|x), finite for classes that no sample is taken for too.
    marginal = logsumexp(conditional, axis=0) - np.log(len(logits))
    return float(np.exp(np.mean(np.sum(np.exp(conditional) * (conditional - marginal), axis=1))))
