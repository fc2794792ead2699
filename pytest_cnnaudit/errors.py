"""The one exception a user meets when something they gave does not fit."""


class AuditError(Exception):
    """Bad input to an audit: one sentence that names the thing, the value found, and what to do.

    A model that *falls short* is not an error: that is an `AssertionError`, as everywhere in pytest.
    """
