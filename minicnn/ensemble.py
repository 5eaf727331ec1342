"""Many networks, one answer: ``Ensemble`` trains several networks and asks them all; the answer is a ``Prediction``."""

import contextlib
import functools
import inspect
import itertools
import warnings

import numpy as np

from minicnn import _check, intake, processes
from minicnn.model import Sequential
from minicnn.prediction import KINDS, Prediction, check_how, read
from minicnn.targets import class_numbers
from minicnn.training import Means

__all__ = ["Ensemble", "Prediction"]


class Ensemble:
    """Several networks that are trained separately and asked together.

    - ``members``: a list of at least one of: a model; or a builder, a function that returns a compiled model, called
      at once.  A builder that takes an argument ``seed`` gets ``seed=`` the ensemble's seed + its place in the
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
                required = f"member {number} must not be a model that is a member already"
                raise ValueError(_check.message("Ensemble", required, model, "Make a new one"))
            self.members.append(model)

    def fit(self, x, y=None, n_jobs=None, bootstrap=False, **arguments):
        """Trains every member on x, y and returns their ``History`` objects as a list.

        x and y are arrays, or ``datasets.Pictures`` stand in the place of both.  Data that give batches are not taken:
        give them to ``fit`` of each of the ``members``.

        - ``n_jobs``: how many members are trained at the same time, each in its own process with its share of the
          threads; -1 for one on every CPU.  None: as many as joblib's active backend has been told, such as the workers
          of a cluster (docs/clusters.md), and 1 where there is none.  The bits are those of ``n_jobs=1``, also in later
          training and draws.  More than one needs joblib (``pip install "minicnn[tune]"``) and takes no ``callbacks``,
          which would run in the other processes; it is silent while it trains unless ``verbose`` is given.
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
        x, y = intake.unpacked(where, x, y)
        fix = "For data that give batches call fit of each of the members"
        intake.require_arrays(where, fix, x=x, y=y)
        x = _check.numeric_array(where, "x", x)
        if _check.boolean(where, "bootstrap", bootstrap) and arguments.get("validation_split"):
            required = "bootstrap needs validation_data instead of validation_split"
            raise ValueError(_check.message(where, required, arguments["validation_split"]))
        _, backend = processes.how_many(where, n_jobs, len(self.members))
        if backend is not None and arguments.get("callbacks"):
            raise ValueError(_check.message(where, "callbacks need n_jobs=1", n_jobs))
        of_members = []
        for number, member in enumerate(self.members):
            if member.optimizer is None:
                raise RuntimeError(f"{where}: member {number} needs compile(optimizer, loss) before it")
            with _naming(where, number):
                # Wrong arguments stop all members before the first one trains; and each member is built.
                names = "sample_weight", "class_weight", "validation_split", "validation_data"
                weights = intake.weights_by_number(where, member, arguments.get("class_weight"))
                of_members.append(arguments | {"class_weight": weights})
                given = {name: of_members[-1][name] for name in names if name in of_members[-1]}
                (trained_on, *_), *_ = intake.of_fit(member, x, y, **given)
                sizes = {name: arguments[name] for name in ("batch_size", "drop_last") if name in arguments}
                intake.slices(member, len(trained_on), **sizes)
        if not bootstrap:
            self._warn_of_twins()
        drawn = [None] * len(self)
        if bootstrap:
            rngs = [np.random.default_rng([self.seed, number]) for number in range(len(self))]
            drawn = [rng.integers(0, len(x), len(x)) for rng in rngs]
        tasks, shared = [*zip(itertools.count(), self.members, drawn, strict=False)], (x, y, of_members)
        return [_fit(*shared, *task) for task in tasks] if backend is None else _fit_elsewhere(n_jobs, shared, tasks)

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
        return_samples = _check.boolean(where, "return_samples", return_samples)
        inputs = []
        for number, member in enumerate(self.members):
            with _naming(where, number):
                inputs.append(member.checked_inputs("predict", x))
        kind, n = self._kind(where), len(inputs[0])
        check_how(where, how, kind)

        def outputs(part):
            for member, whole in zip(self.members, inputs, strict=True):
                yield read(member, kind, member.predict(whole[part], step))

        blocks = (np.stack([*outputs(slice(start, start + step))]) for start in range(0, n, step))
        dtype = np.result_type(*(member.dtype for member in self.members))
        empty = np.empty((len(self), 0, *self.members[0].output_shape), dtype)
        return Prediction.of_blocks(blocks, empty, kind, how, return_samples)

    def evaluate(self, x, y, batch_size=None):
        """{"loss": ..., metrics ...} of the members' mean over x, y, as the first member was compiled.

        RuntimeError if it was not; otherwise raises like ``predict`` and like the loss.
        """
        first = self.members[0]
        if first.optimizer is None:
            raise RuntimeError("Ensemble.evaluate: member 0 needs compile(optimizer, loss) before it")
        prediction = self.predict(x, batch_size=batch_size)
        reading = first.reading.once_read()
        means = Means(first, reading)
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
    except (TypeError, ValueError):  # a callable without a signature
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
        _check.note(error, "member", f"{where}: this was member {number}")
        raise


# ---- training the members, here or in other processes ----


def _fit(x, y, of_members, number, member, drawn):
    """Trains one member, on the samples with the numbers ``drawn`` if they are given, and returns its History."""
    arguments = of_members[number]
    with _naming("Ensemble.fit", number):
        if drawn is not None:
            x, y = x[drawn], np.asanyarray(y)[drawn]
            if arguments.get("sample_weight") is not None:
                arguments = {**arguments, "sample_weight": np.asarray(arguments["sample_weight"])[drawn]}
            if arguments.get("class_weight") is not None:  # no warning of a class that was not drawn
                present = set(class_numbers("Ensemble.fit", y).tolist())
                weights = {key: weight for key, weight in arguments["class_weight"].items() if key in present}
                arguments = {**arguments, "class_weight": weights}
        return member.fit(x, y, **arguments)


def _fit_elsewhere(n_jobs, shared, tasks):
    with contextlib.ExitStack() as stack:
        for number, member, _ in tasks:
            with _naming("Ensemble.fit", number):
                stack.enter_context(member.engine.hold("fit"))
        x, y, of_members = shared
        shared = x, y, [{"verbose": 0, **arguments} for arguments in of_members]
        sent = {f"member {number}": member for number, member, _ in tasks}
        copies = [processes.copied("Ensemble.fit", *one) for one in sent.items()]  # for threads of this process
        tasks = [(number, member, drawn) for (number, _, drawn), member in zip(tasks, copies, strict=True)]
        trained = dict(processes.run_all("Ensemble.fit", _fit_copy, tasks, n_jobs, sent, shared=shared))
        for member, found in zip(sent.values(), map(trained.get, range(len(tasks))), strict=True):
            member.become(found)
    return [member.history for member in sent.values()]


def _fit_copy(x, y, of_members, task):
    """In the other process: trains the copy that arrived there and sends it back."""
    number, member, _ = task
    _fit(x, y, of_members, *task)
    return number, member
