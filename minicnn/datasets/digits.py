"""1,797 real handwritten digits of 8 x 8 pixels, embedded in the package: the quickest honest data set there is.

Source: "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, E. Alpaydin and C. Kaynak, 1998,
https://doi.org/10.24432/C50P49, CC BY 4.0; ``DIGITS-LICENSE.md`` beside this file says what was changed.
"""

import os

import numpy as np

TRAINING = 1297
FILE = os.path.join(os.path.dirname(__file__), "digits.npz")
HOME, LICENCE = "https://doi.org/10.24432/C50P49", "CC BY 4.0"
CITATION = 'E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998'


def load_data():
    """((x, y), (x_test, y_test)): the first 1,297 images for training, the last 500 for testing.

    x: float32 (n, 8, 8, 1), grey values in [0, 1], 0 = paper, 1 = ink (multiples of 1/16).  y: int64 (n,), 0 to 9.
    The split keeps the order of the file, where writers follow one another: other people wrote the test part, as others
    will write new digits.  A random split would give better results.  All four arrays are fresh at every call.
    """
    with np.load(FILE, allow_pickle=False) as file:
        pixels, y = file["x"], file["y"].astype(np.int64)
    # In the file the images stand class after class and pixel after pixel, which is a fifth shorter.
    x = np.empty((len(y), 64), np.float32)
    x[np.argsort(y, kind="stable")] = pixels.T
    x = (x / np.float32(16)).reshape(-1, 8, 8, 1)
    return (x[:TRAINING].copy(), y[:TRAINING].copy()), (x[TRAINING:].copy(), y[TRAINING:].copy())
