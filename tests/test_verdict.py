"""What a report says of the gap and of calibration: rules with numbers on both sides of where they change."""

import math

import numpy as np
import pytest

from minicnn import calibration
from minicnn.cli.verdict import of_calibration, of_gap, standard_error

MANY = {"training": 10_000, "validation": 10_000, "test": 10_000}


def history(training, validation, **more):
    """One epoch with these accuracies."""
    return {"loss": [1.0], "accuracy": [0.1], "clean_accuracy": [training], "val_accuracy": [validation], **more}


def said(*arguments, **options):
    return " ".join(of_gap(*arguments, **options))


def test_without_an_epoch_or_samples_that_were_kept_back_nothing_is_said():
    assert of_gap({}, MANY) == ["No epoch has been trained, so there is no gap to speak of."]
    (text,) = of_gap({"loss": [1.0], "accuracy": [0.9]}, MANY)
    assert "nothing can be said of the gap. --validation 0.2" in text
    assert text.startswith("There is no validation part")
    (text,) = of_gap({"loss": [1.0], "val_accuracy": [0.9]}, MANY)
    assert text.startswith("The accuracy in training is not known")


def test_a_gap_counts_where_it_is_more_than_two_standard_errors():
    assert standard_error(0.5, 10_000) == pytest.approx(0.005)
    assert standard_error(1.0, 100) == pytest.approx(math.sqrt(101 / 102 / 102 / 100))
    error = 2 * math.hypot(standard_error(0.9, 10_000), standard_error(0.892, 10_000))
    assert 0.0082 < error < 0.0088
    text = said(history(0.9, 0.892), MANY)
    assert "Of the samples trained on 90.0 % are right, of the validation part 89.2 %: a gap of 0.8 points." in text
    assert "Undecided: that is within two standard errors, 0.9 points with 10,000 and 10,000 samples" in text
    assert ": overfitting" not in text
    text = said(history(0.9, 0.891), MANY)
    assert "a gap of 0.9 points. That is more than two standard errors, 0.9 points" in text
    assert "overfitting" in text
    assert "Undecided" in said(history(0.9, 0.8), MANY | {"validation": 20})
    assert "It is below 0 by more than two standard errors" in said(history(0.8, 0.9), MANY)


def test_what_could_help_follows_from_where_the_mistakes_are():
    text = said(history(0.99, 0.8), MANY)
    assert "Of 20.0 points of mistakes in the validation part 19.0 points are gap, the larger part: more data" in text
    assert "more data, augmentation or more dropout are what" in text
    assert "more data, more augmentation or dropout are what" in said(history(0.99, 0.8), MANY, causes=["augmentation"])
    text = said(history(0.85, 0.8), MANY)
    assert "5.0 points are gap, and 15.0 points are made on the samples trained on as well, the larger part" in text
    assert "more underfitting than overfitting" in text
    assert "A larger network, more epochs or less dropout are what" in text
    assert "A larger network or more epochs are what" in said(history(0.85, 0.8), MANY, causes=[])


def test_underfitting_is_told_where_the_gap_is_undecided():
    few = MANY | {"training": 200, "validation": 50}
    text = said(history(0.6, 0.55), few)
    assert "a gap of 5.0 points. Undecided" in text
    assert "Of 45.0 points of mistakes in the validation part 5.0 points are gap, and 40.0 points are made on" in text
    assert "the larger part: more underfitting" in text
    assert "Of 30.0 points of mistakes" in said(history(0.6, 0.7), MANY)  # where validation is better, too
    for training, validation in ((0.9, 0.85), (0.99, 0.99), (1.0, 1.0)):
        assert "points of mistakes" not in said(history(training, validation), few)
    assert "undecided which is the larger part" in said(history(0.8, 0.6), few | {"training": 10_000})


def test_what_is_counted_while_the_weights_change_is_no_underfitting():
    numbers = {"loss": [1.0], "accuracy": [0.5], "val_accuracy": [0.4]}
    text = said(numbers, MANY, causes=[])
    assert "are made on the samples trained on as well: undecided which is the larger part" in text
    assert "while the weights changed: the gap" in text
    assert "while the weights changed and with dropout: the gap" in said(numbers, MANY)
    assert "points are gap, the larger part" in said(numbers | {"accuracy": [0.9]}, MANY)


def test_a_network_that_says_the_most_frequent_class_has_perhaps_learned_nothing():
    few = MANY | {"validation": 100}
    text = said(history(0.5, 0.55), few, ("validation", 0.55, 0.5))
    assert (
        "Of the validation part 55.0 % are right; saying its most frequent class always would be right for 50.0 %"
        in text
    )
    assert "that takes two standard errors, 10.0 points, above it" in text
    assert "frequent" not in said(history(0.5, 0.61), few, ("validation", 0.61, 0.5))
    assert "frequent" not in said(history(0.5, 0.5), few, ("validation", 0.5))


def test_what_is_not_known_is_said():
    assert "Undecided: how many samples there were is not known" in said(history(0.9, 0.5), {"training": 100})
    numbers = {"loss": [1.0], "accuracy": [0.9]}
    text = said(numbers, MANY, ("test", 0.8))
    assert "of the test part 80.0 %: a gap of 10.0 points. The first is a mean over the epoch" in text
    assert "that may be how the first number comes about" in said(numbers, MANY, ("test", 0.95))


def test_the_loss_with_and_without_dropout():
    text = said(history(0.9, 0.9, clean_loss=[0.25]), MANY)
    assert "while training was 1, a mean over the epoch with units dropped" in text
    assert "it was 0.25. The 0.75 between them" in text
    assert "between them" not in said(history(0.9, 0.9, clean_loss=[1.5]), MANY)


def test_no_word_of_dropout_where_there_is_none():
    numbers = history(0.9, 0.5, clean_loss=[0.25])
    text = said(numbers, MANY, causes=[])
    assert "was 1, a mean over the epoch; on the same samples after the epoch it was 0.25. The 0.75" in text
    assert "is what the weights of earlier steps add" in text
    assert "drop" not in text.replace("augmentation or dropout are what can help", "")
    text = said(numbers, MANY, causes=["dropout", "augmentation", "the statistics of batches"])
    assert "with units dropped and images changed; on the same samples" in text
    assert "after the epoch, with nothing dropped or changed, it was 0.25" in text
    assert "is what dropout, augmentation, the statistics of batches and the weights of earlier steps add" in text


def test_a_loss_that_is_not_finite():
    numbers = {
        "loss": [1.0, None, math.nan],
        "accuracy": [0.1] * 3,
        "val_accuracy": [0.1] * 3,
        "val_loss": [1, 2, None],
    }
    first, *others = of_gap(numbers, MANY)
    assert first == "The loss was not finite in 2 of 3 epochs, first in epoch 2: the learning rate may be too large."
    assert "all of its numbers finite" in others[-1]


COURSES = {  # validation loss, training loss -> what is said
    "rises": ([1, 0.5, 0.4, 0.45, 0.55, 0.6, 0.65], [1, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05], ": overfitting in time"),
    "both rise": ([1, 0.5, 0.4, 0.45, 0.55, 0.6, 0.65], [1, 0.5, 0.4, 0.5, 0.6, 0.7, 0.8], "no overfitting"),
    "falls": ([1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.35, 0.15], [1] * 8, "It fell by 0.35 in the last 2 epochs"),
    "falls ever less": (
        [1, 0.7, 0.5, 0.4, 0.35],
        [1] * 5,
        "It fell from epoch to epoch in all of the last 5, by chance",
    ),
    "falls but once": ([0.9, 1, 0.7, 0.5, 0.4, 0.35, 0.36], [1] * 7, "Undecided: neither"),
    "rises slowly": ([1, 0.4, 0.46, 0.52, 0.58, 0.64], [1, 0.5, 0.4, 0.3, 0.2, 0.1], ": overfitting in time"),
    "level": ([1, 0.5, 0.4, 0.41, 0.4, 0.41, 0.41], [1, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05], "Undecided: neither"),
    "one bad epoch": ([1, 0.5, 0.4, 0.41, 0.4, 0.41, 0.9], [1, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05], "Undecided: neither"),
    "short": ([1, 0.5, 0.9, 2], [1, 0.5, 0.4, 0.3], "needs 5 epochs"),
    "partly known": ([1, 0.5, 0.4, 0.45, 0.55, 0.6, 0.65], [0.1], "Undecided: what the loss in training did"),
}


@pytest.mark.parametrize("course", COURSES)
def test_the_course_of_the_validation_loss(course):
    losses, trained, expected = COURSES[course]
    numbers = {"loss": trained, "clean_loss": trained, "val_loss": losses}
    text = of_gap(numbers, MANY)[-1]
    assert expected in text
    assert {other for *_, other in COURSES.values() if other in text} == {expected}
    if course == "rises":
        assert "smallest in epoch 3 of 7, 0.4, and at least 0.55 in the last 3: a rise of more than 0.1, twice" in text
        assert "went from 0.4 to 0.1, the median of the last 3: overfitting" in text
        assert text.endswith("--early-stopping keeps the weights of the best epoch.")
        assert of_gap(numbers, MANY, restored=True)[-1].endswith("The weights of the best epoch were put back.")


def test_where_the_best_weights_were_put_back_its_numbers_count():
    numbers = {
        "loss": [3.0, 2.0, 1.0],
        "val_loss": [None, 0.5, 0.9],
        "clean_accuracy": [0.1, 0.6, 1.0],
        "val_accuracy": [0.2, 0.55, 0.3],
    }
    assert "trained on 60.0 % are right, of the validation part 55.0 %" in said(numbers, MANY, restored=True)
    assert "trained on 100.0 % are right, of the validation part 30.0 %" in said(numbers, MANY)


def curve(confidence, right, n):
    p = np.tile([confidence, 1 - confidence], (n, 1))
    y = (np.arange(n) >= right).astype(int)
    return calibration.reliability_curve(y, p)


def test_calibration():
    (text,) = of_calibration(curve(0.8, 80, 100))
    assert "is 0.0 %. A perfectly calibrated network would have about 3.2 % with 100 samples. Undecided" in text
    assert math.sqrt(2 * 0.8 * 0.2 / math.pi / 100) == pytest.approx(0.0319, abs=1e-4)
    (text,) = of_calibration(curve(0.8, 74, 100))
    assert "is 6.0 %" in text
    assert "Undecided" in text
    (text,) = of_calibration(curve(0.8, 73, 100))
    assert "surer than it is right, by 7.0 %" in text
    (text,) = of_calibration(curve(0.8, 95, 100))
    assert "right more often than it says, by 15.0 %" in text
