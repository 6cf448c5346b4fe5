"""The one error type that users are meant to read.

Whatever a user can get wrong (a path, a file's content, a configuration value) raises `LabError` with one line that
says what is wrong, where (file and line) and what to do. Command lines print that line and exit with a code other
than 0; anything else that is raised is a defect of the project and keeps its traceback.
"""


class LabError(Exception):
    """A user's mistake or a damaged file, told in one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
