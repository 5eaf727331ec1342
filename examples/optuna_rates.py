"""Optuna picks the dropout rates of a network: one behind the convolution, one behind the dense layer. Trials that are
worse than the others at the same epoch are pruned, by a callback. Needs optuna (pip install optuna)."""

import argparse

import minicnn as mc
from minicnn import layers
from minicnn.callbacks import Callback


def network(conv, dense, seed=0):
    model = mc.Sequential([
        layers.Conv2D(16, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(2),
        layers.Dropout(conv),
        layers.Flatten(),
        layers.Dense(64, activation="relu"),
        layers.Dropout(dense),
        layers.Dense(10, activation="softmax"),
    ], seed=seed)  # fmt: skip
    model.compile(mc.optimizers.SGD(0.05, momentum=0.9), "sparse_categorical_crossentropy", ["accuracy"])
    return model


class Prune(Callback):
    """Tells Optuna the validation loss of every epoch, and ends training when Optuna has seen enough."""

    def __init__(self, trial):
        self.trial = trial

    def on_epoch_end(self, epoch, logs=None):
        import optuna

        self.trial.report(logs["val_loss"], epoch)
        if self.trial.should_prune():
            raise optuna.TrialPruned(f"after epoch {epoch + 1}")  # leaves fit; the model is whole, and thrown away


def objective(trial, x, y, epochs):
    """The validation loss of a network with the rates that the trial suggests; every trial has the same seed."""
    model = network(trial.suggest_float("conv", 0.0, 0.6), trial.suggest_float("dense", 0.0, 0.8))
    history = model.fit(x, y, 64, epochs, verbose=0, validation_split=0.25, callbacks=[Prune(trial)])
    return history.history["val_loss"][-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="8 trials of 4 epochs instead of 40 of 20")
    options = parser.parse_args()
    try:
        import optuna
    except ImportError:
        parser.exit(1, "this example needs Optuna: pip install optuna\n")

    trials, epochs = (8, 4) if options.quick else (40, 20)
    (x, y), (x_test, y_test) = mc.datasets.digits.load_data()
    sampler, pruner = optuna.samplers.TPESampler(seed=0), optuna.pruners.MedianPruner(n_startup_trials=3)
    study = optuna.create_study(direction="minimize", sampler=sampler, pruner=pruner)
    study.optimize(lambda trial: objective(trial, x, y, epochs), n_trials=trials)

    pruned = sum(trial.state.name == "PRUNED" for trial in study.trials)
    best = {name: round(rate, 2) for name, rate in study.best_params.items()}
    print(f"{len(study.trials)} trials, {pruned} pruned; best validation loss {study.best_value:.4f} at {best}")
    for name, rates in (("no dropout", {"conv": 0.0, "dense": 0.0}), ("the best rates", study.best_params)):
        model = network(**rates)
        model.fit(x, y, 64, epochs, verbose=0)
        loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
        print(f"{name:<15} test loss {loss:.4f}, test accuracy {100 * accuracy:.1f} %")


if __name__ == "__main__":
    main()
