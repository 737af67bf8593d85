"""The errors a user can cause and mend. Their text is shown as it is, without a traceback."""


class ReproError(Exception):
    """Something failed that the user can act on: the message names the thing and the remedy (exit code 1)."""

    exit_code = 1


class WrongUse(ReproError):
    """The command, a parameter or a file of the user's is wrong; nothing was started (exit code 2)."""

    exit_code = 2
