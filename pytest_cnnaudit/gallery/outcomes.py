"""What the outcomes of a test are called, for people."""

WORDS = {  # what needs attention comes first
    "failed": "fell short",
    "error": "error",
    "crashed": "crashed",
    "xpassed": "passed unexpectedly",
    "xfailed": "fell short as expected",
    "passed": "passed",
    "skipped": "skipped",
}
