"""Text baseline of retrieval: a ridge regression from words and word pairs to the teacher's feature.

Fitted on the captions of the training classes, it retrieves pictures of unseen classes by their captions. A
speech encoder that understands every word should reach at least this.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from speech2image.metrics.retrieval import Retrieval, centred, picture_features, retrieval


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
        penalty: of the ridge, whose bias it holds, too.
    """
    features = picture_features(teacher)
    fitted, owners = _flat(captions, train)
    queries, targets = _flat(captions, test)
    wanted = centred(features[train], features[train].mean(axis=0))[owners].astype(np.float64)
    predicted = _predict(fitted, wanted, queries, min_count, penalty)
    return retrieval(predicted, features[test], targets, labels[test])


def _predict(
    captions: Sequence[str],
    wanted: NDArray[np.float64],
    queries: Sequence[str],
    min_count: int,
    penalty: float,
) -> NDArray[np.float32]:
    """Features of queries, [queries, size]."""
    from scipy import sparse
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import Ridge

    words = CountVectorizer(token_pattern=r"[a-z']+", ngram_range=(1, 2), binary=True, min_df=min_count)
    terms: list[sparse.csr_matrix] = []
    try:
        terms = [words.fit_transform(captions), words.transform(queries)]
    except ValueError:  # no term is in enough captions: the bias alone
        terms = [sparse.csr_matrix((len(texts), 0)) for texts in (captions, queries)]
    with_bias = [sparse.hstack([own, np.ones((own.shape[0], 1))], format="csr") for own in terms]
    ridge = Ridge(alpha=penalty, fit_intercept=False, solver="cholesky").fit(with_bias[0], wanted)
    return np.asarray(ridge.predict(with_bias[1]), dtype=np.float32)


def _flat(
    captions: Sequence[Sequence[str]], pictures: Int[np.ndarray, " n"]
) -> tuple[list[str], NDArray[np.int64]]:
    """All captions of some pictures, and for each the place of its picture among them."""
    pairs = [(caption, place) for place, i in enumerate(pictures) for caption in captions[i]]
    return [caption for caption, _ in pairs], np.array([place for _, place in pairs])
