"""Text baseline of retrieval: a ridge regression from words and word pairs to the teacher's feature.

Fitted on the captions of the training classes, it retrieves pictures of unseen classes by their captions. A
speech encoder that hears every word should reach at least this.
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from speech2image.metrics.retrieval import Retrieval, centred, picture_features, retrieval


def terms(caption: str) -> list[str]:
    """The caption's words and pairs of neighbouring words.

    >>> terms("Bright yellow petals")
    ['bright', 'yellow', 'petals', 'bright yellow', 'yellow petals']
    """
    words = re.findall(r"[a-z']+", caption.lower())
    return words + [f"{first} {second}" for first, second in pairwise(words)]


def vocabulary(captions: Sequence[str], min_count: int) -> dict[str, int]:
    """Terms found in at least `min_count` captions, each with its column."""
    counts = Counter(term for caption in captions for term in set(terms(caption)))
    return {term: i for i, term in enumerate(sorted(t for t, n in counts.items() if n >= min_count))}


def bags(captions: Sequence[str], columns: dict[str, int]) -> sparse.csr_matrix:
    """Which terms each caption holds: a sparse 0/1 matrix with a last column of ones."""
    found = [[*sorted({columns[t] for t in terms(c) if t in columns}), len(columns)] for c in captions]
    indices = np.array([column for row in found for column in row])
    pointers = np.cumsum([0] + [len(row) for row in found])
    return sparse.csr_matrix((np.ones(len(indices)), indices, pointers), (len(captions), len(columns) + 1))


def ridge(
    x: sparse.csr_matrix, y: Float[np.ndarray, "captions size"], penalty: float
) -> Float[np.ndarray, "terms size"]:
    """The weights w that minimise |x w - y|^2 + penalty |w|^2."""
    gram = (x.T @ x).toarray() + penalty * np.eye(x.shape[1])
    return np.linalg.solve(gram, x.T @ y)


def text_baseline(
    captions: Sequence[Sequence[str]],
    teacher: Float[np.ndarray, "n crops size"],
    labels: Int[np.ndarray, " n"],
    train: Int[np.ndarray, " n_train"],
    test: Int[np.ndarray, " n_test"],
    min_count: int = 8,
    penalty: float = 30.0,
) -> Retrieval:
    """Fits on the pictures `train` and retrieves among the pictures `test`, whose classes it has not seen.

    Args:
        captions: the captions of each picture.
        teacher: the teacher's features of each picture's crops.
        labels: each picture's class.
        train: indices of the pictures to fit on.
        test: indices of the gallery; each of their captions is a query.
        min_count: a word or pair has to be in this many training captions.
        penalty: of the ridge.
    """
    features = picture_features(teacher)
    mean = features[train].mean(axis=0)
    fitted, owners = _flat(captions, train)
    columns = vocabulary(fitted, min_count)
    weights = ridge(bags(fitted, columns), centred(features[train], mean)[owners].astype(np.float64), penalty)
    queries, targets = _flat(captions, test)
    answers = (bags(queries, columns) @ weights).astype(np.float32)
    return retrieval(answers, features[test], targets, labels[test])


def _flat(captions: Sequence[Sequence[str]], pictures: Int[np.ndarray, " n"]) -> tuple[list[str], np.ndarray]:
    """All captions of some pictures, and for each the place of its picture among them."""
    pairs = [(caption, place) for place, i in enumerate(pictures) for caption in captions[i]]
    return [caption for caption, _ in pairs], np.array([place for _, place in pairs])
