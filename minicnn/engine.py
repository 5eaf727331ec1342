"""What a model has once its layers are built: their parameters in flat vectors, the plans and their memory, the lock.

One object, which ``Sequential`` makes when it is built and which is never copied: a copy of a model makes its own.
"""

import contextlib
import threading

import numpy as np

from minicnn import _check, chain
from minicnn._ext.machinery.runtime import Exclusive
from minicnn.layer import in_python, output_of
from minicnn.montecarlo import Sampler
from minicnn.parameters import Parameters
from minicnn.plan import Workspace
from minicnn.recording import collect_penalties, mean_penalty


class Engine:
    """Runs the built ``layers`` of a model, forward and backward, by plans or by hand.

    ``parameters``: their ``Parameters``; ``optimizer``: what is bound to them, or None.
    """

    def __init__(self, layers, input_shape, output_shape, dtype, optimizer=None):
        self.layers, self.input_shape, self.output_shape, self.dtype = layers, input_shape, output_shape, dtype
        self.parameters, self.optimizer = Parameters(layers, dtype), optimizer
        self.ranks, self.reading = None, None  # of ``distribute``; (loss, changes, Outputs): Sequential.reading
        self._training_lock, self._settling = Exclusive(), threading.RLock()  # a signal handler may predict, too
        self.settled, self._penalties = None, None  # ``Parameters.changes`` that ``settle`` has taken in
        self._latest = threading.local()  # .penalty: (samples, penalty of the outputs) of this thread's last forward
        self.forget_plans()
        self.settle()

    def forget_plans(self):
        """Records all plans again when they are next needed: the layers may have other arrays than before."""
        self._training_plans, self._idle = Workspace(training=True), []
        self.shared, self.parts = Workspace(training=True), {}  # of a model that is distributed (distributed.py)
        self._idle_samplers = {False: [], True: []}  # by whether they augment
        self._plans_by_hand = Workspace(training=True, by_hand=True)
        self._pending = None  # the plan whose forward ran in a training loop that the user wrote

    def hold(self, method, again=False):
        """Holds the model for training: RuntimeError for another thread and, unless ``again``, for a callback too."""
        by = "thread" if again else "thread or callback"
        text = f"Sequential.{method}: the model is being trained already, by another {by}"
        return self._training_lock.held_or(text, again)

    # ---- what governs the parameters ----

    def settle(self):
        """Takes in what has been made trainable, regularised or constrained since it was last looked at."""
        changes = self.parameters.changes()
        if changes == self.settled:
            return
        with self._settling:  # several threads may evaluate
            if self.parameters.rules():
                self._penalties = self.parameters.penalties() or None
                self.bind()
        self.settled = changes

    def bind(self):
        """Ties the optimiser to the parameters as they are governed now."""
        if self.optimizer is not None:
            parameters, constrained = self.parameters, self.parameters.governed_by("constraint")
            vectors = parameters.values, parameters.gradients
            self.optimizer.bind(*vectors, parameters.segments, self.settle, constrained)

    def penalty(self):
        """What the regularisers of the parameters add to the loss, with the parameters as they are now."""
        return self._penalties.value() if self._penalties else 0.0

    def add_penalty_gradients(self):
        """To the gradients of the data, which every backward overwrites: so they are never added twice."""
        if self._penalties:
            self._penalties.add_gradients()

    # ---- plans ----

    def evaluation(self, n):
        """Lends a plan for n samples in eval mode; threads that evaluate at the same time get different ones."""
        return _Lent(self, n)

    def lend(self):
        """(a workspace for evaluation, the list it goes back to, also if ``forget_plans`` has made a new one since)."""
        self.settle()
        idle = self._idle
        try:
            return idle.pop(), idle
        except IndexError:
            return Workspace(training=False), idle

    @contextlib.contextmanager
    def sampler(self, augmenting=False):
        """Lends a ``Sampler``, of Monte-Carlo samples or of augmented ones, in the same way."""
        self.settle()
        idle = self._idle_samplers[augmenting]
        try:
            sampler = idle.pop()
        except IndexError:
            sampler = Sampler(self, augmenting)
        try:
            yield sampler
        finally:
            idle.append(sampler)

    def training(self, n):
        """The plan for training steps of n samples."""
        self.settle()
        part = None if self.ranks is None else self.ranks.part(self, n)
        return self._training_plans.plan(self, n) if part is None else part

    # ---- by hand: forward and backward in a training loop that the user wrote ----

    def forward(self, x, training):
        """The outputs for x, an array of samples not yet cast; for the thread that has the model, if ``training``."""
        self._pending = None
        if not len(x) or (training and any(map(in_python, self.layers))):
            return self._forward_without_plan(x, training)
        if not training:
            with self.evaluation(len(x)) as plan:
                return self._forward(plan, x)
        self.settle()
        plan = self._plans_by_hand.plan(self, len(x))
        outputs = self._forward(plan, x)
        plan.hand_over()
        self._pending = plan
        return outputs

    def _forward(self, plan, x):
        plan.take(x)
        outputs = plan.forward().copy()
        self._latest.penalty = len(x), plan.activity_penalty()
        return outputs

    def _forward_without_plan(self, x, training):
        x = _check.contiguous(x, self.dtype).copy()  # layers keep it, and the caller may write into the array
        with collect_penalties() as found:
            outputs = chain.forward(self.layers, x, lambda layer, x: output_of(layer, x, training))
        self._latest.penalty = len(x), mean_penalty(found, len(x))
        return outputs.copy()  # the last layer may have kept them

    def backward(self, dy, at_outputs, input_gradient):
        """Fills the gradients; returns dL/dx, or None unless ``input_gradient``."""
        plan, self._pending = self._pending, None
        fits = plan is not None and not at_outputs and np.shape(dy) == plan.dy.shape
        if fits and isinstance(dy, np.ndarray) and dy.dtype == self.dtype and plan.take_back():
            plan.dy[...] = dy
            dx = plan.backward(input_gradient)
            dx = None if dx is None else dx.copy()
        else:
            at_logits = not at_outputs and chain.enters_at_softmax(self.layers)
            dx = chain.backward(self.layers, dy, at_logits, input_gradient)
        self.settle()
        self.add_penalty_gradients()
        return dx

    def activity_penalty(self, n):
        """What the layers' outputs add to the loss, of this thread's latest forward: over n samples, or RuntimeError
        where there is such a penalty."""
        samples, penalty = getattr(self._latest, "penalty", (None, 0.0))
        if samples == n:
            return penalty
        layers = self.parameters.tree.values()
        if any(getattr(layer, "activity_regularizer", None) is not None for layer in layers):
            what = "needs forward over the same samples before it, in this thread: a layer penalises its outputs"
            raise RuntimeError(f"Sequential.loss: {what}")
        return 0.0


class _Lent:
    """What ``Engine.evaluation`` gives: a context, and no generator, for it is entered for every single image."""

    def __init__(self, engine, n):
        self.engine, self.n = engine, n

    def __enter__(self):
        self.workspace, self.idle = self.engine.lend()
        try:
            return self.workspace.plan(self.engine, self.n)
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *error):
        self.idle.append(self.workspace)
