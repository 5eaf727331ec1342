"""The exceptions of the loaders."""


class DataError(ValueError):
    """A data file is damaged, is of another kind, or does not fit the others; the message names the file.

    A file that is not there stays a FileNotFoundError, one that may not be read a PermissionError.  ``what`` is the
    message without the file's name.
    """

    def __init__(self, path, what):
        super().__init__(f"{path}: {what}")
        self.what = what


class DownloadError(FileNotFoundError):
    """Data are not here and could not be downloaded; the message says of every address what was wrong there."""
