"""The command line, ``minicnn VERB ...`` or ``python -m minicnn VERB ...``; the verbs stand in parser.py.

Results go to stdout, progress, notes and errors to stderr.  Exit status: 0 done, 1 failed or a file could not be read
(one line says why), 2 wrong usage, 130 after Ctrl-C; what has been trained is saved.

parser.py says what there is to say; each verb is a module with a function of its name.  NumPy and the rest of minicnn
are imported when the words are understood: ``--help`` and a wrong option need neither.
"""

import importlib
import keyword
import sys

from minicnn.cli import words
from minicnn.cli.parser import VERBS, parser_of


def main(argv=None):
    """Runs the command line ``argv`` (default: the program's own) and returns the exit status."""
    try:
        options = _options(argv)
        verb = importlib.import_module(VERBS[options.verb])
        if options.threads is not None:
            from minicnn import set_num_threads

            set_num_threads(options.threads)
        status = getattr(verb, f"{options.verb}_" if keyword.iskeyword(options.verb) else options.verb)(options)
        if sys.stdout is not None:
            sys.stdout.flush()
        return status or 0
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader went away, as `| head` does
        words.silence_stdout()
        return 1
    except words.Usage as error:
        parser_of().refuse(options.verb, str(error))
    except words.FAILURES as error:
        words.silence_stdout()
        words.note(f"error: {words.sentence(error)}")
        return 1


def _options(argv):
    """What the words ask for; they end the program where they ask for help or are wrong."""
    try:
        return parser_of().parse_args(argv)
    except SystemExit:
        if sys.stdout is not None:  # what was said must be gone before Python ends, which would show a closed pipe
            sys.stdout.flush()
        raise
