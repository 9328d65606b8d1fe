"""The one exception that stands for a mistake a user can mend."""


class UserError(ValueError):
    """Something in the config, the data or the command line is wrong.

    The message is one clear sentence that says what is wrong and what to do. Commands print it
    without a traceback and exit with status 2.
    """
