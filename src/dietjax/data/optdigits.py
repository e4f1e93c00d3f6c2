"""scikit-learn's digits: 1,797 real images, 8x8 grey, and which of them are held out.

Optical recognition of handwritten digits, the 1,797 test images of E. Alpaydin and C. Kaynak (1998), UCI Machine
Learning Repository, doi:10.24432/C50P49, as bundled with scikit-learn.
"""

import numpy as np

CLASSES = 10
LARGEST = 16
"""A pixel is a count of 0..16."""
TEST_FRACTION = 0.2


def read() -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """(Counts [1797, 8, 8], labels [1797], {"train", "test": which of them}, 20 % held out, stratified by class)."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    counts, labels = load_digits(return_X_y=True)
    train, test = train_test_split(np.arange(len(labels)), test_size=TEST_FRACTION, stratify=labels, random_state=0)
    return counts.reshape(-1, 8, 8), labels, {"train": np.sort(train), "test": np.sort(test)}
