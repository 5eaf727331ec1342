"""Many networks, one answer: what several networks, or one network with many masks of dropout, say together.

``Prediction`` is that answer: mean, spread, votes, uncertainty.  ``Ensemble`` trains several networks and asks them
all; ``predict_mc`` asks one network again and again, every time with other units dropped.
"""

import contextlib
import copy
import functools
import inspect
import warnings

import numpy as np

from minicnn import _check, processes, training
from minicnn.losses import class_numbers
from minicnn.model import Sequential
from minicnn.outputs import of as outputs_of
from minicnn.settings import Values

KINDS = {  # what the outputs of a member are
    "classes": "probabilities of the classes, along the last axis",
    "binary": "one probability, of the answer yes (class 1)",
    "labels": "several probabilities, each of a yes by itself",
    "values": "no probabilities",
}


class Prediction:
    """What T members say about N samples.  With p_t the output of member t for a sample, K classes and
    H[p] = -sum_k p_k log p_k, where 0 log 0 = 0:

    =======================  =================================  ========================================================
    ``mean``                 m = (1/T) sum_t p_t                (N, *out) float64
    ``std``                  sqrt((1/T) sum_t (p_t - m)^2)      (N, *out) float64; of the population: by T, not T - 1
    ``votes``                [k = argmax p_t], summed over t    (N, K) int64; of equal outputs the first counts
    ``predictive_entropy``   H[m]                               (N,) float64, nats; at most log K
    ``mutual_information``   H[m] - (1/T) sum_t H[p_t]          (N,) float64, nats, >= 0: their disagreement
    ``classes``              argmax of ``mean``, or of votes    (N,) int64; of equal ones the first
    =======================  =================================  ========================================================

    A ``how`` of "mean" or "vote" says what ``classes`` and ``np.asarray(prediction)`` go by: the mean, or the shares of
    the votes, in the shape of the mean.  ``samples`` are the members' outputs (T, N, *out), or None where they were not
    kept; ``members`` is T; ``len(prediction)`` is N.

    ``kind`` says what the outputs are.  "classes": probabilities along the last axis.  "binary": one probability a
    sample, (N, 1) or (N,); it votes for class 1 if above 0.5, and H is that of the pair (1 - p, p).  For "labels",
    several yes-or-no outputs a sample, and for "values", which are no probabilities, there are ``mean`` and ``std``
    only: the others raise AttributeError, so that ``hasattr`` says whether they are there.

    NaN: mean, std and both entropies are NaN, the member that says it does not vote, and the class is -1 where the mean
    is NaN or nobody votes.  All sums are in float64 and go member by member, so that the bits of a sample's row do not
    depend on the other samples; where all members are equal, std and mutual information are exactly 0.

    ``Prediction(samples, kind, how)`` makes one of any outputs (T, N, *out), T >= 1.  ValueError for shapes that do not
    fit the kind, and for probabilities outside [0, 1]; TypeError for what are no numbers.

    Source of the mutual information: Houlsby et al., "Bayesian Active Learning for Classification and Preference
    Learning", 2011, equation 2.
    """

    def __init__(self, samples, kind="classes", how="mean"):
        self.kind = _check.choice("Prediction", "kind", kind, tuple(KINDS))
        self.how = _check_how("Prediction", how, kind)
        self.samples = _checked_samples(samples, kind)
        self.members = len(self.samples)
        rows = _check.contiguous(self.samples, np.dtype(np.float64))
        with np.errstate(invalid="ignore", over="ignore"):  # infinities among the outputs: NaN is the answer
            self.mean = _mean(rows)
            self.std = np.sqrt(_mean((rows - self.mean) ** 2))
        self._votes = self._predictive_entropy = self._mutual_information = None
        if kind in ("classes", "binary"):
            p = self._over_classes(rows)
            self._votes = _votes(p).sum(0)
            self._predictive_entropy = _entropy(self._over_classes(self.mean))
            self._mutual_information = np.maximum(self._predictive_entropy - _mean(_entropy(p)), 0.0)

    @classmethod
    def _of(cls, blocks, empty, kind, how, keep):
        """The Prediction for blocks (T, n, *out) of samples, one after the other; ``empty`` is one of no samples."""
        parts = []
        for block in blocks:
            parts.append(cls(block, kind, how))
            parts[-1].samples = block.copy() if keep else None  # the next block may be in the same memory
        parts = parts or [cls(empty, kind, how)]
        whole = copy.copy(parts[0])
        for name in ("mean", "std", "_votes", "_predictive_entropy", "_mutual_information"):
            if getattr(whole, name) is not None:
                setattr(whole, name, np.concatenate([getattr(part, name) for part in parts]))
        whole.samples = np.concatenate([part.samples for part in parts], axis=1) if keep else None
        return whole

    def _over_classes(self, p):
        """Probabilities (..., N, *out) as (..., N, K)."""
        if self.kind == "classes":
            return p
        yes = p[..., 0] if self.mean.ndim == 2 else p
        return np.stack([1 - yes, yes], -1)

    def _of_classes(self, name):
        value = getattr(self, f"_{name}")
        if value is None:
            required = f"Prediction.{name}: the outputs must be probabilities of classes, or of one yes or no"
            raise AttributeError(f"{required}; got {KINDS[self.kind]}")
        return value

    @property
    def votes(self):
        """How many members vote for each class: (N, K) int64."""
        return self._of_classes("votes")

    @property
    def predictive_entropy(self):
        """The entropy of the mean in nats: (N,), all uncertainty there is."""
        return self._of_classes("predictive_entropy")

    @property
    def mutual_information(self):
        """The part of the entropy that is disagreement among the members, in nats: (N,)."""
        return self._of_classes("mutual_information")

    @property
    def classes(self):
        """The class of each sample by ``how``: (N,) int64, -1 where there is none."""
        votes = self.votes
        if self.how == "vote":
            return np.where(votes.any(-1), votes.argmax(-1), -1)
        mean = self._over_classes(self.mean)
        return np.where(np.isnan(mean).any(-1), -1, mean.argmax(-1))

    def __array__(self, dtype=None, copy=None):
        array = self.mean
        if self.how == "vote":
            shares = self.votes / self.members
            array = shares if self.kind == "classes" else shares[:, 1].reshape(self.mean.shape)
        return np.array(array, dtype, copy=copy)

    def __len__(self):
        return len(self.mean)

    def __repr__(self):
        outputs = f"{self.votes.shape[-1]} classes" if hasattr(self, "votes") else f"outputs {self.mean.shape[1:]}"
        return f"<Prediction: {len(self)} samples, {outputs}, {self.how} of {self.members} members>"


def _check_how(where, how, kind):
    how = _check.choice(where, "how", how, ("mean", "vote"))
    if how == "vote" and kind in ("labels", "values"):
        required = "voting needs probabilities of classes, or of one yes or no"
        raise ValueError(_check.message(where, required, _check.Shown(KINDS[kind])))
    return how


def _checked_samples(samples, kind):
    samples = _check.numeric_array("Prediction", "samples", samples)
    out = samples.shape[2:]
    fits = {"classes": len(out) >= 1 and out[-1:] != (0,), "binary": out in ((), (1,))}
    if samples.ndim < 2 or not len(samples) or not fits.get(kind, True):
        axes = {"classes": "T, N, K", "binary": "T, N, 1"}.get(kind, "T, N, ...")
        required = f"samples must have shape ({axes}) with at least one member"
        raise ValueError(_check.message("Prediction", required, _check.shape_of(samples)))
    if kind != "values" and samples.size and ((samples < 0) | (samples > 1 + 1e-5)).any():
        got = _check.Shown(f"numbers from {samples.min()} to {samples.max()}")
        raise ValueError(_check.message("Prediction", "probabilities must be in [0, 1]", got))
    return samples


# ---- the reduction ----


def _mean(rows):
    """The mean over the first axis, one row after the other: no bit depends on the other axes.

    The mean of equal numbers is that number, since rounding may not carry it out of their range.
    """
    total = np.cumsum(rows, axis=0)[-1]  # in order, where np.sum may add in pairs
    return np.clip(total / len(rows), rows.min(0), rows.max(0)) + 0.0  # + 0.0: of 0 and -0 min may take either


def _votes(p):
    """One for the largest of (..., K), the first of equal ones; none where there is a NaN."""
    chosen = np.arange(p.shape[-1]) == p.argmax(-1)[..., None]
    return (chosen & ~np.isnan(p).any(-1)[..., None]).astype(np.int64)


def _entropy(p):
    """-sum_k p_k log p_k over the last axis, in nats."""
    return np.maximum(0.0 - (p * np.log(np.where(p > 0, p, 1))).sum(-1), 0.0)


# ---- Monte-Carlo dropout ----


def _read(model, kind, outputs):
    return outputs if kind == "values" else model.as_probabilities(outputs)


def predict_mc(model, x, n_samples=50, seed=None, batch_size=None, return_samples=False):
    """``Sequential.predict_mc``, which see."""
    where = "Sequential.predict_mc"
    n_samples = _check.integer(where, "n_samples", n_samples, 1)
    seed = None if seed is None else _check.integer(where, "seed", seed, 0, 2**64 - 1)
    batch_size = None if batch_size is None else _check.integer(where, "batch_size", batch_size, 1)
    keep = _check.boolean(where, "return_samples", return_samples)
    x = model._inputs("predict_mc", x)
    kind = model.output_kind
    found = model._monte_carlo(x, n_samples, seed, batch_size)
    blocks = (_read(model, kind, outputs) for _, outputs in found)
    empty = np.empty((n_samples, 0, *model.output_shape), model.dtype)
    prediction = Prediction._of(blocks, empty, kind, "mean", keep)
    if n_samples > 1 and len(x) and not prediction.std.any():
        text = f"{where}: all {n_samples} samples are equal; has the model a dropout layer with a rate above 0?"
        warnings.warn(text, stacklevel=3)
    return prediction


# ---- several networks ----


class Ensemble:
    """Several networks that are trained for themselves and asked together.

    - ``members``: a list of at least one of: a model; or a builder, a function that returns a compiled model, called
      here and now.  A builder that takes an argument ``seed`` gets ``seed=`` the ensemble's seed + its place in the
      list, so ``Ensemble([build] * 5)`` makes five different networks (unless functools.partial has fixed the seed).
    - ``seed``: 0 <= seed, seed + len(members) <= 2^64; for the builders and for the draws of ``bootstrap``.

    What members differ in is up to them: initial values, order and masks (seed), layers, optimisers.  Attributes:
    ``members``, the models; ``seed``.  ``copy.deepcopy`` and pickle copy all members.

    Raises TypeError for what is neither model nor builder, ValueError for no members and for a model that is in the
    list twice.  What goes wrong in one member is raised with its number.

    Source: Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles",
    NeurIPS 2017, section 2.4 (random initial values and orders, one training set, the mean of the probabilities).
    """

    def __init__(self, members, seed=0):
        if not isinstance(members, list | tuple):
            required = "members must be a list of models and of functions that build one"
            raise TypeError(_check.message("Ensemble", required, _check.kind(members)))
        if not members:
            raise ValueError(_check.message("Ensemble", "members must have at least one entry", members))
        self.seed = _check.integer("Ensemble", "seed", seed, 0, 2**64 - len(members))
        self.members = []
        for number, member in enumerate(members):
            model = member if isinstance(member, Sequential) else _build(number, member, self.seed + number)
            if any(model is other for other in self.members):
                required = f"every member must be a model of its own; member {number} is there twice"
                raise ValueError(_check.message("Ensemble", required, model, "Make a new one"))
            self.members.append(model)

    def fit(self, x, y, n_jobs=1, bootstrap=False, **arguments):
        """Trains every member on x, y and returns their ``History`` objects as a list.

        - ``n_jobs``: how many members are trained at the same time, each in a process of its own that gets its share of
          the threads; -1 for one on every CPU.  The bits are those of ``n_jobs=1``, also of whatever is trained or
          drawn afterwards.  More than one needs joblib (``pip install "minicnn[tune]"``) and takes no ``callbacks``,
          which would run where nobody sees them; it says nothing while it trains unless ``verbose`` is given.
        - ``bootstrap``: each member is trained on N samples drawn with replacement, a function of the ensemble's seed
          and the member's number (bagging: Breiman, Machine Learning 24, 1996); then not with ``validation_split``,
          whose samples could be among those trained on.
        - ``arguments``: those of ``Sequential.fit``.

        Warns where two members are the same network and so would learn the same.  Raises RuntimeError for a member that
        is not compiled, ImportError without joblib, and otherwise as ``Sequential.fit``, with the number of the member:
        the members before it are then trained, with ``n_jobs`` above 1 none is.
        """
        where = "Ensemble.fit"
        _check.keywords(where, functools.partial(Sequential.fit, None), arguments)
        x = _check.numeric_array(where, "x", x)
        if _check.boolean(where, "bootstrap", bootstrap) and arguments.get("validation_split"):
            required = "bootstrap needs validation_data in the place of validation_split"
            raise ValueError(_check.message(where, required, arguments["validation_split"]))
        count, _ = processes.how_many(where, n_jobs, len(self.members))
        if count > 1 and arguments.get("callbacks"):
            raise ValueError(_check.message(where, "callbacks need n_jobs=1", n_jobs))
        for number, member in enumerate(self.members):
            if member.optimizer is None:
                raise RuntimeError(f"{where}: member {number} needs compile(optimizer, loss) before it")
            with _naming(where, number):
                # Of wrong ones no member learns; and it is built.
                names = "sample_weight", "class_weight", "validation_split", "validation_data"
                given = {name: arguments[name] for name in names if name in arguments}
                (trained_on, *_), *_ = training.samples(member, x, y, **given)
                sizes = {name: arguments[name] for name in ("batch_size", "drop_last") if name in arguments}
                training.slices(member, len(trained_on), **sizes)
        if not bootstrap:
            self._warn_of_twins()
        tasks = []
        for number, member in enumerate(self.members):
            rng = np.random.default_rng([self.seed, number])
            drawn = rng.integers(0, len(x), len(x)) if bootstrap else None
            tasks.append((number, member, x, y, drawn, arguments))
        return [_fit(*task) for task in tasks] if count == 1 else _fit_in_processes(n_jobs, tasks)

    def _warn_of_twins(self):
        seen = {}
        for number, member in enumerate(self.members):
            look = repr((member, member.optimizer, member.loss_function, member.fingerprint()))
            if seen.setdefault(look, number) != number:
                text = f"members {seen[look]} and {number} are the same network and will learn the same"
                warnings.warn(f"Ensemble.fit: {text}: give them different seeds", stacklevel=3)

    def predict(self, x, how="mean", batch_size=None, return_samples=False):
        """The ``Prediction`` of all members for x, with nothing dropped.

        - ``how``: "mean" of the members' outputs, or "vote", where every member has one.
        - ``batch_size``: samples at a time, None for 256; the result does not depend on it.
        - ``return_samples``: whether the members' outputs (T, N, *out) are kept.

        Outputs are probabilities where a model gives them, and are made so where it was compiled with a cross-entropy
        (``Sequential.output_kind``); all others are taken as they are.  ValueError where the members'
        outputs do not have one shape and meaning.
        """
        where = "Ensemble.predict"
        step = 256 if batch_size is None else _check.integer(where, "batch_size", batch_size, 1)
        keep = _check.boolean(where, "return_samples", return_samples)
        inputs = []
        for number, member in enumerate(self.members):
            with _naming(where, number):
                inputs.append(member._inputs("predict", x))
        kind, n = self._kind(where), len(inputs[0])
        _check_how(where, how, kind)

        def outputs(part):
            for member, whole in zip(self.members, inputs, strict=True):
                yield _read(member, kind, member.predict(whole[part], step))

        blocks = (np.stack([*outputs(slice(start, start + step))]) for start in range(0, n, step))
        dtype = np.result_type(*(member.dtype for member in self.members))
        empty = np.empty((len(self), 0, *self.members[0].output_shape), dtype)
        return Prediction._of(blocks, empty, kind, how, keep)

    def evaluate(self, x, y, batch_size=None):
        """{"loss": ..., metrics ...} of the members' mean over x, y, as the first member was compiled.

        RuntimeError if it was not; otherwise raises like ``predict`` and like the loss.
        """
        first = self.members[0]
        if first.optimizer is None:
            raise RuntimeError("Ensemble.evaluate: member 0 needs compile(optimizer, loss) before it")
        prediction = self.predict(x, batch_size=batch_size)
        reading = outputs_of(first).once_read()
        means = training._Means(first, reading)
        loss, _ = reading.compute_loss(prediction.mean, y)
        means.update(loss, prediction.mean, y, None)
        return means.result()

    def _kind(self, where):
        """What the outputs of all members are; ValueError where they are not alike."""
        looks = [(member.output_shape, member.output_kind) for member in self.members]
        for number, look in enumerate(looks):
            if look != looks[0]:
                required = f"all members must give outputs of shape {looks[0][0]} that are {KINDS[looks[0][1]]}"
                got = _check.Shown(f"{look[0]}, {KINDS[look[1]]}, from member {number}")
                raise ValueError(_check.message(where, required, got))
        return looks[0][1]

    def __len__(self):
        return len(self.members)

    def __repr__(self):
        return f"<Ensemble of {len(self)} members, seed {self.seed}>"


def _build(number, builder, seed):
    """The model that a builder returns."""
    required = f"member {number} must be a Sequential or a function that returns one"
    if not callable(builder) or isinstance(builder, type):
        raise TypeError(_check.message("Ensemble", required, _check.kind(builder)))
    fixed = isinstance(builder, functools.partial) and "seed" in builder.keywords
    takes_seed = _takes_seed(builder) and not fixed
    with _naming("Ensemble", number):
        model = builder(seed=seed) if takes_seed else builder()
    if not isinstance(model, Sequential):
        raise TypeError(_check.message("Ensemble", required, _check.kind(model)))
    return model


def _takes_seed(builder):
    try:
        seed = inspect.signature(builder).parameters.get("seed")
    except (TypeError, ValueError):  # a callable that has no signature to look at
        return False
    return seed is not None and seed.kind is not seed.POSITIONAL_ONLY


@contextlib.contextmanager
def _naming(where, number):
    """Adds the number of the member to an error."""
    try:
        yield
    except Exception as error:
        if type(error) in (TypeError, ValueError, RuntimeError, FloatingPointError):
            raise type(error)(f"{where}: member {number}: {error}") from error
        error.add_note(f"{where}: this was member {number}")
        raise


# ---- training the members, here or in other processes ----


def _fit(number, member, x, y, drawn, arguments):
    """Trains one member, on the samples with the numbers ``drawn`` if they are given, and returns its History."""
    with _naming("Ensemble.fit", number):
        if drawn is not None:
            x, y = x[drawn], np.asanyarray(y)[drawn]
            if arguments.get("sample_weight") is not None:
                arguments = {**arguments, "sample_weight": np.asarray(arguments["sample_weight"])[drawn]}
            if arguments.get("class_weight") is not None:  # of a class that was not drawn nobody need be warned
                present = set(class_numbers("Ensemble.fit", y).tolist())
                weights = {key: weight for key, weight in arguments["class_weight"].items() if key in present}
                arguments = {**arguments, "class_weight": weights}
        return member.fit(x, y, **arguments)


def _fit_in_processes(n_jobs, tasks):
    with contextlib.ExitStack() as stack:
        for number, member, *_ in tasks:
            with _naming("Ensemble.fit", number):
                stack.enter_context(member._exclusive("fit"))
        trained = dict(processes.run_all("Ensemble.fit", _fit_copy, tasks, n_jobs))
        for number, member, *_ in tasks:
            _become(member, trained[number])
    return [member.history for _, member, *_ in tasks]


def _fit_copy(task):
    """In the other process: trains the copy that arrived there and sends it back."""
    number, member, x, y, drawn, arguments = task
    _fit(number, member, x, y, drawn, {"verbose": 0, **arguments})
    return number, member


def _become(member, trained):
    """Makes ``member`` what its copy has become; it, its layers, optimiser and parameters stay the same objects."""
    for mine, its in zip(member.layers, trained.layers, strict=True):
        for name, value in vars(its).items():
            if isinstance(value, Values):
                getattr(mine, name).update(value)  # into the arrays where they have always been
            else:
                vars(mine)[name] = value
    vars(member.optimizer).update(vars(trained.optimizer))
    member._put(history=trained.history, stop_training=trained.stop_training)
    member._seen = trained._seen
    member._forget_plans()  # they point to arrays that the layers had before
    member._bind()
