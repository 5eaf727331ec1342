"""How pictures become numbers like those that a model was trained on."""

import numpy as np

from minicnn import inputs, layers
from minicnn.cli import words


class Scale:
    """How the bytes of pictures become numbers like those that the model was trained on (inputs.py)."""

    def __init__(self, model, invert):
        self.seen, self.invert, self.noted = model.input_range, invert, False
        self.mean = model.input_mean
        self.ends = None if self.seen is None else inputs.picture_range(*self.seen)
        if self.ends is None:
            self.guess = (0, 255) if isinstance(model.layers[0], layers.Rescaling) else (0, 1)

    def of_picture(self, path, image):
        """The uint8 picture as the model wants it."""
        values = inputs.from_bytes(255 - image if self.invert else image, self.ends or self.guess)
        if self.ends is None and not self.noted:
            self.noted = True
            ends = f"0 to {self.guess[1]}"
            words.note(f"note: the range of the model's training inputs is not known: pictures are scaled to {ends}")
        return self._looked_at(path, values)

    def of_pictures(self, paths, images):
        """The same for many of them (N, H, W, C)."""
        found = [self.of_picture(path, image) for path, image in zip(paths, images, strict=True)]
        return np.stack(found).astype(images.dtype if self.ends == (0, 255) else np.float32)

    def of_known(self, x):
        """The images of a known data set as the model was trained on them: a network of one's own that does not begin
        by rescaling got numbers in [0, 1] (building.py)."""
        if x.dtype != np.uint8 or self.ends in (None, (0, 255)):
            return x
        return inputs.from_bytes(x, self.ends).astype(np.float32)

    def _looked_at(self, path, values):
        """The numbers of a picture, with a warning where dark and bright seem to be exchanged."""
        if self.ends and self.mean is not None and values.size:
            mean = float(values.mean(dtype=np.float64))
            if inputs.looks_inverted(mean, self.mean, self.ends):
                fix = "leave out --invert" if self.invert else "try --invert"
                low, high = self.ends
                shares = [f"{100 * (value - low) / (high - low):.0f} %" for value in (mean, self.mean)]
                what = f"its mean brightness is {shares[0]}, that of the training data was {shares[1]}"
                words.note(f"warning: {path}: dark and bright look exchanged: {what}; {fix}")
        return values

    def of_array(self, path, array):
        """The array as it is, but bytes as in pictures where the model was trained on something else."""
        if (
            array.dtype.kind not in "biuf"
            or not array.ndim
            or (found := inputs.look(array, np.dtype("float64"), False)) is None
        ):
            return array
        bytes_ = array.dtype == np.uint8
        low, high = self.seen or (0, 0)
        slack = inputs.TOLERANCE * (high - low)
        inside = low - slack <= found.low and found.high <= high + slack
        if bytes_ and (self.ends == (0, 255) or (self.ends and not inside)):
            if self.ends != (0, 255):
                ends = "{:g} to {:g}".format(*self.ends)
                words.note(
                    f"note: {path}: uint8, scaled like a picture: 0 to 255 become {ends}, as the model was trained"
                )
            return self._looked_at(path, inputs.from_bytes(255 - array if self.invert else array, self.ends))
        if self.invert:
            words.note(f"warning: {path}: taken as it is: --invert is for pictures and their bytes")
        if self.ends is None:
            return array
        wide, narrow = high - low, found.high - found.low
        outside = found.high > high + wide or found.low < low - wide
        if outside or 0 < narrow < inputs.TOLERANCE * wide:
            got, trained = f"{found.low:g} to {found.high:g}", f"{low:g} to {high:g}"
            words.note(f"warning: {path}: holds {got}, taken as it is; the model was trained on {trained}")
        return array
