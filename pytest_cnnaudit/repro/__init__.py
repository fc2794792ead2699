"""What a failed audit leaves behind, so that its failure can be shown again without the rest of the suite.

A bundle is a folder of the report: `bundle.json` says what was measured how, `samples.npz` holds the samples that did
worst and what attacks made of them, `baselines.json` what they are compared with, and `README.txt` the command that
runs the test on these samples alone. Every draw follows from the seed, the test's id and the sample's id, and a bundle
keeps all three: so the same perturbations come out.
"""

from pytest_cnnaudit.repro.bundle import Bundle, ReproError, read_bundle
from pytest_cnnaudit.repro.write import write_bundle

__all__ = ["Bundle", "ReproError", "read_bundle", "write_bundle"]
