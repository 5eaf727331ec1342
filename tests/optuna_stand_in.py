"""What examples/optuna_rates.py uses of Optuna, for machines without it: rates by a plain draw, medians for pruning."""

import random
import statistics
from types import SimpleNamespace


class TrialPruned(Exception):
    pass


class Trial:
    def __init__(self, study):
        self.study, self.params, self.reported = study, {}, {}

    def suggest_float(self, name, low, high):
        return self.params.setdefault(name, self.study.sampler.uniform(low, high))

    def report(self, value, step):
        self.reported[step] = value

    def should_prune(self):
        step = max(self.reported)
        others = [one.reported[step] for one in self.study.trials if step in one.reported]
        return len(others) >= self.study.first and self.reported[step] > statistics.median(others)


class Study:
    def __init__(self, sampler, first):
        self.sampler, self.first, self.trials = sampler, first, []

    def optimize(self, objective, n_trials):
        for _ in range(n_trials):
            trial = Trial(self)
            try:
                trial.value, state = objective(trial), "COMPLETE"
            except TrialPruned:
                state = "PRUNED"
            trial.state = SimpleNamespace(name=state)
            self.trials.append(trial)
        best = min((one for one in self.trials if one.state.name == "COMPLETE"), key=lambda one: one.value)
        self.best_params, self.best_value = best.params, best.value


samplers = SimpleNamespace(TPESampler=lambda seed: random.Random(seed))
pruners = SimpleNamespace(MedianPruner=lambda n_startup_trials: n_startup_trials)


def create_study(direction, sampler, pruner):
    assert direction == "minimize"
    return Study(sampler, pruner)
