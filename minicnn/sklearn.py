"""scikit-learn's face: ``CNNClassifier`` and ``CNNRegressor``, for pipelines, cross-validation and grid searches.

Both train a ``Sequential``, which stands in ``model_`` afterwards.  They need ``pip install "minicnn[sklearn]"``.
"""

import contextlib
import copy
import inspect
import weakref

import numpy as np

from minicnn import _check, callbacks, layers, optimizers, targets
from minicnn.model import Sequential
from minicnn.tree import walk

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_random_state, compute_class_weight
    from sklearn.utils.multiclass import check_classification_targets, type_of_target
    from sklearn.utils.validation import check_array, check_is_fitted, check_X_y, column_or_1d, validate_data
except ImportError as error:  # this module can be looked at without it
    _reason = error

    class _Absent:
        def __new__(cls, *args, **kwargs):
            raise ImportError('minicnn.sklearn needs scikit-learn >= 1.6: pip install "minicnn[sklearn]"') from _reason

    BaseEstimator, ClassifierMixin, RegressorMixin = _Absent, type("_", (), {}), type("_", (), {})

__all__ = ["EXPECTED_FAILED_CHECKS", "CNNClassifier", "CNNRegressor"]

EXPECTED_FAILED_CHECKS = {  # the argument of that name of scikit-learn's check_estimator
    "check_sample_weight_equivalence_on_dense_data": "a sample of weight 2 stands in one mini-batch and two samples of "
    "weight 1 in two, so that training is another one"
}
ACTIVATIONS = {"identity": "linear", "logistic": "sigmoid"}  # MLPClassifier's words for them
RATE = 0.001  # learning_rate_init, where nothing is said
LEAST = 1e-38  # probability of which a logarithm is taken
STEPS = 2**20  # a mean in deviations, above which float32, which has 2**23 steps, keeps too little of them
BUILT: weakref.WeakSet = weakref.WeakSet()  # models that ``build`` has given
MADE_OF = (  # what cannot change while one network is trained on
    *("conv_filters", "kernel_size", "hidden_layer_sizes", "dropout", "image_shape", "activation", "optimizer"),
    "build",
)


class _Network(BaseEstimator):
    """What both have in common."""

    def __init__(
        self,
        conv_filters=(16, 32),
        kernel_size=3,
        hidden_layer_sizes=(128,),
        dropout=0.5,
        image_shape=None,
        activation="relu",
        optimizer="adam",
        learning_rate_init=RATE,
        batch_size=32,
        max_iter=50,
        early_stopping=False,
        validation_fraction=0.1,
        warm_start=False,
        random_state=None,
        verbose=0,
        build=None,
        tol=1e-4,
        n_iter_no_change=10,
    ):
        self.conv_filters = conv_filters
        self.kernel_size = kernel_size
        self.hidden_layer_sizes = hidden_layer_sizes
        self.dropout = dropout
        self.image_shape = image_shape
        self.activation = activation
        self.optimizer = optimizer
        self.learning_rate_init = learning_rate_init
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self.build = build
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    @property
    def _where(self):
        return type(self).__name__

    # ---- training ----

    def fit(self, X, y, sample_weight=None):
        """Trains ``max_iter`` epochs: a new network, or with ``warm_start`` the one that is there.

        X: (N, features), or pictures (N, H, W) or (N, H, W, C), of any numbers.  ``sample_weight``: (N,), >= 0; their
        proportions count, and samples of weight 0 are left out.
        """
        goes_on = _check.boolean(self._where, "warm_start", self.warm_start) and hasattr(self, "model_")
        return self._fit(X, y, sample_weight, not goes_on)

    def _partial_fit(self, X, y, sample_weight, *more):
        if self.early_stopping:
            required = "partial_fit goes without early_stopping, for there is nothing to stop"
            raise ValueError(_check.message(self._where, required, self.early_stopping))
        return self._fit(X, y, sample_weight, not hasattr(self, "model_"), 1, *more)

    def _fit(self, *arguments):
        """``_trained``; where that fails or is interrupted, the network that was there stays with its classes and
        scales (and, if it was being trained on, with what it has learned until then)."""
        before = dict(vars(self))
        try:
            return self._trained(*arguments)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    def _trained(self, X, y, weights, fresh, epochs=None, *more):
        """``epochs`` or ``max_iter`` epochs of a ``fresh`` network or of the one that is there; ``more`` is for
        ``_targets``."""
        where = self._where
        batch_size = _check.integer(where, "batch_size", self.batch_size, 1)
        epochs = epochs or _check.integer(where, "max_iter", self.max_iter, 1)
        early = _check.boolean(where, "early_stopping", self.early_stopping)
        fraction = _check.number(where, "validation_fraction", self.validation_fraction, 0, 1, True, True)
        tol = _check.number(where, "tol", self.tol, 0)
        patience = _check.integer(where, "n_iter_no_change", self.n_iter_no_change, 1)
        if not fresh:
            self._require_same_network()
        X, y = self._checked(X, y, fresh=fresh)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if weights is not None:
            weights = self._weighed(targets.sample_weights(where, weights, len(X)))
        y, weights = self._targets(y, weights, fresh, *more)
        if weights is not None:
            weights = self._weighed(weights)
            X, y, weights = (one if weights.all() else one[weights > 0] for one in (X, y, weights))
        model, done = (self._new_model(X), 0) if fresh else (self.model_, self.n_iter_)
        best = None
        if early:
            (X, y, weights), held_out = self._split(fraction, X, y, weights)
            best = _Best(lambda: self._quality(model, *held_out), tol, patience)
        history = model.fit(
            X,
            y,
            batch_size,
            done + epochs,
            int(self.verbose) if isinstance(self.verbose, bool) else self.verbose,
            best,
            sample_weight=None if weights is None else weights / weights.mean(),
            initial_epoch=done,
        )
        if best is not None:
            model.set_weights(best.weights)
        self.model_ = model
        self.loss_curve_ = [*(() if fresh else self.loss_curve_), *history.history["loss"]]
        self.n_iter_, self.loss_ = len(self.loss_curve_), self.loss_curve_[-1]
        self.best_loss_ = None if early else min(self.loss_curve_)
        self.validation_scores_, self.best_validation_score_ = (best.scores, best.best) if early else (None, None)
        return self

    def _weighed(self, weights):
        """The weights, of which the proportions count: the largest between 1/2 and 1, so that their sum is finite."""
        if not weights.min() >= 0 or not weights.any() or np.isinf(weights.max()):
            required = "the weights of samples and classes must be finite and >= 0, and not all zero"
            raise ValueError(_check.message(self._where, required, float(weights.min())))
        return weights / _power_of_two(weights.max())

    def _require_same_network(self):
        """Takes over the learning rate; ValueError where an argument that the network is made of has changed."""
        for name, before in self._made_of.items():
            now = getattr(self, name)
            if now is not before and not np.array_equal(np.asarray(now, object), np.asarray(before, object)):
                required = f"{name} must stay {before!r}, of which the network is made that is trained on"
                raise ValueError(_check.message(self._where, required, now, "Make a new estimator"))
        if self.build is None:
            self._set_rate(self.model_.optimizer)

    def _split(self, fraction, *arrays):
        """The arrays to train on, and those to validate on."""
        from sklearn.model_selection import train_test_split  # here: it takes long to import

        X, y, _ = arrays
        labels = y if isinstance(self, ClassifierMixin) and y.ndim == 1 else None
        try:
            parts = train_test_split(
                np.arange(len(X)), test_size=fraction, random_state=self._seed % 2**32, stratify=labels
            )
        except ValueError as error:
            required = "validation_fraction must leave samples of each class to train and to validate on"
            got = _check.Shown(f"{fraction} of {len(X)} samples ({error})")
            raise ValueError(_check.message(self._where, required, got, "Or set early_stopping=False")) from error
        if len(parts[1]) < 2:
            required = "validation_fraction must leave at least 2 samples to validate on"
            raise ValueError(_check.message(self._where, required, _check.Shown(f"{fraction} of {len(X)}")))
        return ([None if array is None else array[part] for array in arrays] for part in parts)

    # ---- the network ----

    def _new_model(self, X):
        """A compiled network for samples like those of X."""
        where, shape, outputs = self._where, X.shape[1:], self.n_outputs_
        seed = self.random_state
        drawn = check_random_state(seed)  # raises for what is none
        self._seed = seed = int(seed if isinstance(seed, int | np.integer) else drawn.randint(2**31))
        ending, loss = self._ending
        if self.build is None:
            normalization = layers.Normalization()
            normalization.adapt(X)
            model = Sequential([normalization, *self._layers(shape, ending)], seed)
            model.checked_inputs("fit", X)  # builds it
            variance = normalization.state["variance"]
            self._warn_of_scales(normalization.state["mean"], np.sqrt(variance))
            variance[variance == 0] = 1  # a feature that was constant is not divided by next to nothing later
        else:
            offered = {"input_shape": shape, "outputs": outputs, "classes": outputs, "dropout": self.dropout}
            model = _built(where, self.build, {**offered, "seed": seed})
            if model in BUILT:  # whose weights know other samples, in a cross-validation those of other folds
                required = "build must return a new model whenever it is called"
                raise ValueError(_check.message(where, required, _check.Shown("one that it has returned before")))
            BUILT.add(model)
            model.checked_inputs("fit", X)
        if model.output_shape == (1,) and outputs == 2 and ending == "softmax":
            loss = "binary_crossentropy"
        elif model.output_shape != (outputs,):
            required = f"build must give a network with {outputs} outputs"
            raise ValueError(_check.message(where, required, _check.Shown(f"one with {model.output_shape}")))
        if model.optimizer is None:
            optimizer = copy.deepcopy(optimizers.get(self.optimizer))
            self._set_rate(optimizer)
            model.compile(optimizer, loss)
        self._made_of = {name: getattr(self, name) for name in MADE_OF}
        return model

    def _warn_of_scales(self, mean, deviation):
        """UserWarning for features of which float32 or ``Normalization``, which divides by 1e-7 at least, leaves
        nothing; where float64 holds no more of them either, they are constant but for rounding."""
        lost = (deviation < 1e-7) | (deviation * STEPS < np.abs(mean))
        lost &= (deviation > 0) & (deviation * 2**40 > np.abs(mean))
        if lost.any():
            first = int(np.flatnonzero(lost)[0])
            required = "the features of X should vary by more than 1e-7 and a millionth of their mean"
            got = _check.Shown(f"mean {mean[first]:.3g} and deviation {deviation[first]:.3g} in feature {first}")
            _check.warn(_check.message(self._where, required, got, "Scale X first"))

    def _set_rate(self, optimizer):
        """``learning_rate_init``, for an optimiser that was given by name."""
        if isinstance(self.optimizer, str):
            optimizer.learning_rate = copy.deepcopy(self.learning_rate_init)
        elif self.learning_rate_init != RATE:
            required = "learning_rate_init goes with the name of an optimizer"
            raise ValueError(_check.message(self._where, required, self.learning_rate_init, "Set it in the optimizer"))

    def _layers(self, shape, ending):
        """Convolutions with poolings, dense layers with dropout, and the layer that answers."""
        filters, units = (self._sizes(name) for name in ("conv_filters", "hidden_layer_sizes"))
        activation = self.activation
        if isinstance(activation, str):
            activation = ACTIVATIONS.get(activation, activation)
        chain = []
        if len(shape) == 3:
            side = min(shape[:2])
            for count in filters:
                chain.append(layers.Conv2D(count, self.kernel_size, padding="same", activation=activation))
                if side > 1:
                    chain.append(layers.MaxPooling2D(2))
                    side //= 2
            chain.append(layers.Flatten())
        for count in units:
            chain += [layers.Dense(count, activation=activation), layers.Dropout(self.dropout)]
        if not units:
            chain.append(layers.Dropout(self.dropout))
        return [*chain, layers.Dense(self.n_outputs_, activation=ending)]

    def _sizes(self, name):
        """An argument that is a list of whole numbers >= 1, an array of them, or one of them, as a tuple."""
        sizes = getattr(self, name)
        sizes = sizes.tolist() if isinstance(sizes, np.ndarray | np.generic) else sizes
        sizes = sizes if isinstance(sizes, list | tuple) else [sizes]
        return _check.each(self._where, name, sizes, f"every one of {name}", _check.integer, 1)

    # ---- samples ----

    def _pictures(self, X):
        """X as the network takes it: (N, features) or (N, H, W, C)."""
        _check.numeric_array(self._where, "X", X)  # scikit-learn takes dates
        if X.ndim == 2 and self.image_shape is None:
            return X
        shape = X.shape[1:] if self.image_shape is None else self._sizes("image_shape")
        if len(shape) == 2:
            shape = *shape, 1
        if len(shape) != 3 or 0 in shape:
            required = "X must be (N, features), (N, H, W) or (N, H, W, C), and image_shape (H, W) or (H, W, C)"
            got = _check.Shown(f"X of shape {X.shape} and image_shape={self.image_shape!r}")
            raise ValueError(_check.message(self._where, required, got))
        if X[:1].size != np.prod(shape) or (X.ndim > 2 and (*X.shape[1:], 1)[:3] != shape):
            required = (
                f"X must have samples of image_shape, {self.image_shape}, or flat ones of {np.prod(shape)} numbers"
            )
            raise ValueError(_check.message(self._where, required, _check.shape_of(X)))
        return X.reshape(-1, *shape)

    def _checked(self, X, *y, fresh=False):
        """(X for the network, y if it is given); not ``fresh``: for the one that is there."""
        checks = {"allow_nd": True}
        if y:
            checks |= {"multi_output": True, "y_numeric": isinstance(self, RegressorMixin)}
        _refuse_masked(self._where, **dict(zip("Xy", (X, *y), strict=False)))
        if fresh or (self._of_rows and getattr(X, "ndim", 2) == 2):
            found = validate_data(self, X, *y, reset=fresh, **checks)
        elif y:  # the rows of pictures are no features
            found = check_X_y(X, *y, estimator=self, **checks)
        else:
            found = check_array(X, estimator=self, input_name="X", **checks)
        X, *y = found if y else [found]
        of_rows, X = X.ndim == 2, self._pictures(X)
        if fresh:
            self._of_rows, self._shape = of_rows, X.shape[1:]
        elif X.shape[1:] != self._shape:
            required = f"X must have samples of shape {self._shape}, as it had in fit"
            fix = "Flat ones are pictures by image_shape" if of_rows and not self._of_rows else ""
            raise ValueError(_check.message(self._where, required, _check.Shown(f"{X.shape[1:]}"), fix))
        return X, *y

    def _asked(self, X):
        """X, checked, for a network that is there."""
        check_is_fitted(self, "model_")
        return self._checked(X)[0]

    def _finite(self, outputs):
        """The outputs; ValueError where numbers became too large on the way to them."""
        wrong = ~np.isfinite(outputs).all(axis=1)
        if wrong.any():
            required = f"X must have numbers that a network of {outputs.dtype} can take"
            got = _check.Shown(f"an output that is not finite for sample {wrong.argmax()}")
            raise ValueError(_check.message(self._where, required, got, "Or its weights are too large: it diverged"))
        return outputs

    # ---- pickles ----

    def __getstate__(self):
        """Without gradients, and without what the optimizer keeps of former steps unless ``warm_start``."""
        state = dict(super().__getstate__())
        if "model_" in state:
            state["model_"] = _slim(self.model_, self.warm_start)
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        if "model_" in state:
            self.model_ = _whole(*state["model_"])

    def __deepcopy__(self, memo):
        made = memo[id(self)] = type(self).__new__(type(self))
        vars(made).update(copy.deepcopy(vars(self), memo))
        return made


class CNNClassifier(ClassifierMixin, _Network):
    """A convolutional network with dropout that tells classes apart, as an estimator of scikit-learn's.

    X: pictures (N, H, W, C) or (N, H, W), or flat samples (N, features), which are pictures by ``image_shape``, (H, W)
    or (H, W, C).  Flat ones without it have no convolutions.  y: labels of any kind, or rows of 0 and 1 for several
    labels a sample.  The network is

        Normalization, then for each of ``conv_filters`` Conv2D(filters, kernel_size, padding="same") and, while there
        are 2 pixels, MaxPooling2D(2); Flatten; for each of ``hidden_layer_sizes`` Dense and Dropout(dropout), without
        any of them one Dropout; Dense with softmax, or with sigmoid for several labels

    - ``activation``: of the hidden layers, also in MLPClassifier's words.
    - ``optimizer``: a name, with ``learning_rate_init``, a number or a schedule; or an Optimizer, with its own rate.
    - ``max_iter``: epochs; with ``early_stopping`` training ends before, when for ``n_iter_no_change`` epochs the score
      of a share ``validation_fraction`` of the samples, which are not trained on, has not risen by ``tol``; the weights
      of the best epoch are kept.
    - ``warm_start``: ``fit`` goes on with the network that is there.  In pieces it gives the bits of one ``fit``.
    - ``class_weight``: {label: weight}, those left out weigh 1; "balanced"; None.
    - ``random_state``: an int is the seed of the network; None or a RandomState draw one.
    - ``verbose``: as of ``Sequential.fit``, or False and True.
    - ``build``: a function that returns a model, or a list of layers, instead of this network; by name it gets what it
      has parameters for: ``input_shape``, ``classes`` or ``outputs``, ``dropout``, ``seed``.  A model that it compiles
      keeps its optimizer and loss.  Nothing is normalised.

    Attributes: ``model_``, the Sequential; ``classes_``; ``n_features_in_`` (the height of pictures); ``n_outputs_``;
    ``n_iter_``, the epochs so far, and ``loss_curve_``, ``loss_``, ``best_loss_`` (None with ``early_stopping``);
    ``validation_scores_``, ``best_validation_score_`` (None without).

    A pickle is slim: to go on with the bits of a ``partial_fit`` that was never pickled it needs ``warm_start=True``.
    """

    def __init__(
        self,
        conv_filters=(16, 32),
        kernel_size=3,
        hidden_layer_sizes=(128,),
        dropout=0.5,
        image_shape=None,
        activation="relu",
        optimizer="adam",
        learning_rate_init=RATE,
        batch_size=32,
        max_iter=50,
        early_stopping=False,
        validation_fraction=0.1,
        warm_start=False,
        class_weight=None,
        random_state=None,
        verbose=0,
        build=None,
        tol=1e-4,
        n_iter_no_change=10,
    ):
        super().__init__(
            conv_filters,
            kernel_size,
            hidden_layer_sizes,
            dropout,
            image_shape,
            activation,
            optimizer,
            learning_rate_init,
            batch_size,
            max_iter,
            early_stopping,
            validation_fraction,
            warm_start,
            random_state,
            verbose,
            build,
            tol,
            n_iter_no_change,
        )
        self.class_weight = class_weight

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """One more epoch, over these samples.  ``classes``: all there will ever be; the first call needs them.

        The first samples decide how inputs are normalised.
        """
        if classes is None and not hasattr(self, "model_"):
            required = "the first partial_fit needs classes, all that there will ever be"
            raise ValueError(_check.message(self._where, required, classes))
        if isinstance(self.class_weight, str):
            required = "class_weight must be a dictionary or None for partial_fit, which does not see all labels"
            raise ValueError(_check.message(self._where, required, self.class_weight))
        return self._partial_fit(X, y, sample_weight, classes)

    def _targets(self, y, weights, fresh, classes=None):
        """Class numbers, or rows of labels, and the weights with those of the classes."""
        given = self.class_weight
        if not (given is None or isinstance(given, dict) or (isinstance(given, str) and given == "balanced")):
            required = 'class_weight must be a dictionary, {label: weight}, "balanced" or None'
            raise ValueError(_check.message(self._where, required, given))
        check_classification_targets(y)
        rows = y.ndim == 2
        if rows and type_of_target(y) != "multilabel-indicator":
            required = "y must be one label for each sample, or rows of 0 and 1"
            raise ValueError(_check.message(self._where, required, _check.shape_of(y)))
        if fresh:
            found = np.arange(y.shape[1]) if rows else np.unique(y)
            self.classes_ = found if classes is None else np.unique(classes)
            if len(self.classes_) < 2:
                required = "y must have at least 2 classes"
                raise ValueError(_check.message(self._where, required, _check.Shown(f"1 class, {self.classes_}")))
            self.n_outputs_ = len(self.classes_)
            self._ending = (
                ("sigmoid", "binary_crossentropy") if rows else ("softmax", "sparse_categorical_crossentropy")
            )
        elif classes is not None and not np.array_equal(self.classes_, np.unique(classes)):
            required = f"classes must stay {self.classes_}"
            raise ValueError(_check.message(self._where, required, classes))
        several = self._ending[0] == "sigmoid"
        if rows != several or (rows and y.shape[1] != self.n_outputs_):
            labels = f"rows of 0 and 1 for {self.n_outputs_} labels" if several else "one label for each sample"
            required = f"y must be {labels}, as in the first call"
            raise ValueError(_check.message(self._where, required, _check.shape_of(y)))
        if several:
            if self.class_weight is not None:
                required = "class_weight goes with one label for each sample"
                raise ValueError(_check.message(self._where, required, self.class_weight))
            return y.toarray() if hasattr(y, "toarray") else y, weights
        numbers = np.searchsorted(self.classes_, y).clip(max=self.n_outputs_ - 1)
        wrong = self.classes_[numbers] != y
        if wrong.any():
            required = f"y must have the classes {self.classes_} alone"
            raise ValueError(_check.message(self._where, required, y[wrong][0]))
        if self.class_weight is not None:
            of_classes = self._weights_of_classes(numbers, weights)[numbers]
            weights = of_classes if weights is None else weights * of_classes
        return numbers, weights

    def _weights_of_classes(self, numbers, weights):
        """(classes,): with "balanced" the weights of the samples of each class have the same sum."""
        if isinstance(self.class_weight, str):
            sums = np.bincount(numbers, weights, self.n_outputs_)
            return np.divide(1, sums, out=np.zeros(self.n_outputs_), where=sums > 0)
        for label, weight in self.class_weight.items():
            _check.number(self._where, f"class_weight[{label!r}]", weight, 0)
        return compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_)

    def _new_model(self, X):
        model = super()._new_model(X)
        if model.class_names is None:
            with contextlib.suppress(ValueError):  # labels that cannot be printed
                model.class_names = [str(label) for label in self.classes_]
        return model

    def _quality(self, model, X, y, weights):
        """The share of samples that are right in all."""
        right = self._picked(self._probabilities(model, X)) == y
        return float(np.average(right if y.ndim == 1 else right.all(axis=1), weights=weights))

    def predict_proba(self, X):
        """(N, classes) in float64: probabilities that sum to 1; with several labels each is that of its own."""
        X = self._asked(X)  # first: it says so where nothing is fitted
        return self._probabilities(self.model_, X)

    def predict_log_proba(self, X):
        """The logarithm of ``predict_proba``."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def decision_function(self, X):
        """The network's logits, of which those of classes are known up to a number for each sample: log p; of the
        second of two classes, and of every one of several labels, log p / (1 - p)."""
        p = self.predict_proba(X)
        scores = np.log(p.clip(LEAST))
        if self.n_outputs_ > 2 and self._ending[0] == "softmax":
            return scores
        odds = scores - np.log((1 - p).clip(LEAST))
        return odds if self._ending[0] == "sigmoid" else odds[:, 1]

    def predict(self, X):
        """The most probable label; with several, rows of 1 where the probability is above 0.5, else 0."""
        picked = self._picked(self.predict_proba(X))
        return self.classes_[picked] if picked.ndim == 1 else picked

    def _probabilities(self, model, X):
        p = self._finite(model.predict_proba(X)).astype(np.float64)
        if self._ending[0] == "sigmoid":
            return p
        p = np.hstack([1 - p, p]) if p.shape[1] == 1 else p
        return p / p.sum(axis=1, keepdims=True)  # in float32 it was 1

    def _picked(self, p):
        return p.argmax(axis=1) if self._ending[0] == "softmax" else (p > 0.5).astype(int)


class CNNRegressor(RegressorMixin, _Network):
    """A convolutional network with dropout that gives numbers: ``CNNClassifier``, which see, with other ends.

    y: (N,) or (N, outputs).  The network learns (y - mean) / deviation of each output by the mean squared error,
    ``predict`` gives y; scores are R^2.  There is no ``class_weight``; ``build`` gets ``outputs``, and what it compiles
    must fit targets of mean 0 and deviation 1.
    """

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def partial_fit(self, X, y, sample_weight=None):
        """One more epoch, over these samples.  The first decide how inputs and targets are normalised."""
        return self._partial_fit(X, y, sample_weight)

    def _targets(self, y, weights, fresh):
        """(N, outputs) of mean 0 and deviation 1, and the weights."""
        _check.numeric_array(self._where, "y", y)  # scikit-learn takes dates
        y, flat = y.reshape(len(y), -1).astype(np.float64), y.ndim == 1
        if fresh:
            self._flat, self.n_outputs_, self._ending = flat, y.shape[1], (None, "mse")
            self._mean = np.average(y, axis=0, weights=weights)
            with np.errstate(over="ignore", invalid="ignore"):
                unit = _power_of_two(np.abs(y - self._mean).max(axis=0))  # of which squares neither vanish nor overflow
                scale = unit * np.sqrt(np.average(((y - self._mean) / unit) ** 2, axis=0, weights=weights))
            if not np.isfinite(scale).all():
                required = "y must have a deviation that float64 holds"
                raise ValueError(_check.message(self._where, required, _check.Shown("an overflow")))
            self._scale = np.where(scale > 0, scale, 1)
        if flat != self._flat or y.shape[1] != self.n_outputs_:
            required = f"y must have {self.n_outputs_} outputs"
            raise ValueError(_check.message(self._where, required, _check.shape_of(y)))
        return (y - self._mean) / self._scale, weights

    def _quality(self, model, X, y, weights):
        from sklearn.metrics import r2_score

        return float(r2_score(y, self._finite(model.predict(X)), sample_weight=weights))

    def predict(self, X):
        """(N,) or (N, outputs) in float64."""
        X = self._asked(X)
        y = self._finite(self.model_.predict(X)) * self._scale + self._mean
        return y[:, 0] if self._flat else y


class _Best(callbacks.Callback):
    """Keeps the weights of the best epoch, and ends training as MLPClassifier does: where ``score`` has not risen by
    ``tol`` for ``patience`` epochs."""

    def __init__(self, score, tol, patience):
        self.score, self.tol, self.patience = score, tol, patience
        self.scores, self.best, self.weights, self.waited = [], -np.inf, None, 0

    def on_epoch_end(self, epoch, logs=None):
        score = self.score()
        self.waited = 0 if score >= self.best + self.tol else self.waited + 1
        if score > self.best or self.weights is None:
            self.best, self.weights = score, self.model.get_weights()
        self.scores.append(score)
        self.model.stop_training = self.waited >= self.patience


def _power_of_two(numbers):
    """That above each of the numbers: a division by it changes no digit."""
    return np.ldexp(1.0, np.frexp(numbers)[1])


def _refuse_masked(where, **arrays):
    for name, array in arrays.items():
        if np.ma.is_masked(array):
            required = f"{name} must have no masked entries"
            raise TypeError(_check.message(where, required, _check.Shown("a masked array"), "Fill it first"))


def _built(where, build, offered):
    """The model of the function, which gets those of the arguments on offer that it has parameters for."""
    required = "build must be a function that returns a model or a list of layers"
    if not callable(build):
        raise TypeError(_check.message(where, required, _check.kind(build)))
    taken = inspect.signature(build).parameters.values()
    taken = [one for one in taken if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    for one in taken:
        if one.name not in offered and one.default is one.empty:
            names = f"the parameters of build may be {', '.join(offered)}"
            raise TypeError(_check.message(where, names, _check.Shown(str(one))))
    built = build(**{one.name: offered[one.name] for one in taken if one.name in offered})
    if isinstance(built, Sequential):
        return built
    if not isinstance(built, list | tuple):
        raise TypeError(_check.message(where, required, _check.kind(built)))
    return Sequential(built, offered["seed"])


def _slim(model, moments):
    """(class, state) for ``_whole``: a copy of the model without gradients, and without the ``moments`` of its
    optimiser unless they are asked for."""
    left = {id(array): 0 for _, layer in walk(model.layers) for array in layer.grads.values()}
    if not moments and optimizers.to_config(model.optimizer) is not None:
        left[id(model.optimizer)] = type(model.optimizer).from_config(model.optimizer.get_config())
    return type(model), copy.deepcopy(model.__getstate__(), left)


def _whole(cls, state):
    """The model of ``_slim``."""
    for _, layer in walk(state["layers"]):
        for name, values in layer.params.items():
            layer.grads[name] = np.zeros_like(values)
    model = cls.__new__(cls)
    model.__setstate__(state)
    return model
