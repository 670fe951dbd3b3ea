"""How much of a task needs no time: what a linear classifier makes of counts alone."""

import numpy as np

from experiments.data.sequences import Recordings


def accuracy_of_counts(train: Recordings, test: Recordings) -> float:
    """Test accuracy of logistic regression on what each unit is given over all steps together, in [0, 1]."""
    return accuracy_of_sums(_counts(train), train.labels, _counts(test), test.labels)


def accuracy_of_sums(train: np.ndarray, train_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray) -> float:
    """Test accuracy of logistic regression on numbers [N, units], in [0, 1]."""
    # scikit-learn takes a second to import, and only this needs it.
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    classifier.fit(train, train_labels)
    return float(classifier.score(test, test_labels))


def _counts(recordings: Recordings) -> np.ndarray:
    begins = np.cumsum(recordings.lengths) - recordings.lengths
    values = recordings.values.reshape(len(recordings.values), -1)
    return np.add.reduceat(values, begins, axis=0, dtype=np.float64)
