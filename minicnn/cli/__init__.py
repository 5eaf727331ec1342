"""The command line, ``minicnn VERB ...`` or ``python -m minicnn VERB ...``; the verbs stand in parser.py.

Results go to stdout, progress, notes and errors to stderr.  Exit status: 0 done, 1 failed or a file could not be read
(one line says why), 2 wrong usage, 130 after Ctrl-C; what has been trained is saved.

parser.py says what there is to say; each verb is a module with a function of its name.  NumPy and the rest of minicnn
are imported when the words are understood: ``--help`` and a wrong option need neither.  Under mpiexec ``train`` is one
program of several processes (ranks.py).
"""

import importlib
import keyword
import sys

from minicnn.cli import ranks, words
from minicnn.cli.parser import VERBS, parser_of


def main(argv=None):
    """Runs the command line ``argv`` (default: the program's own) and returns the exit status."""
    given, started = [*(sys.argv[1:] if argv is None else argv)], ranks.started_as()
    if started[1] > 1 and given[:1] == ["train"]:
        return ranks.together(given, started, lambda: _options(argv), _run, lambda error: _status_of(error, "train"))
    options = None
    try:
        options = _options(argv)
        return _run(options)
    except BaseException as error:
        return _status_of(error, options and options.verb)


def _run(options, *ranks):
    """What the verb returns, with these ``ranks`` (distributed.py) where they work together."""
    verb = importlib.import_module(VERBS[options.verb])
    if options.threads is not None:
        from minicnn import set_num_threads

        set_num_threads(options.threads)
    status = getattr(verb, f"{options.verb}_" if keyword.iskeyword(options.verb) else options.verb)(options, *ranks)
    if sys.stdout is not None:
        sys.stdout.flush()
    return status or 0


def _status_of(error, verb):
    """The exit status of what has ended a verb; says what was wrong.  Raises what is nobody's fault but ours."""
    if ranks.is_interrupt(error):
        return 130
    if isinstance(error, BrokenPipeError):  # the reader went away, as `| head` does
        words.silence_stdout()
        return 1
    if isinstance(error, words.Usage):
        parser_of().refuse(verb, str(error))
    if isinstance(error, words.FAILURES):
        words.silence_stdout()
        words.note(f"error: {words.sentence(error)}")
        return 1
    raise error


def _options(argv):
    """What the words ask for; they end the program where they ask for help or are wrong."""
    try:
        return parser_of().parse_args(argv)
    except SystemExit:
        if sys.stdout is not None:  # what was said must be gone before Python ends, which would show a closed pipe
            sys.stdout.flush()
        raise
