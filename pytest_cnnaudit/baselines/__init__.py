"""What was measured last time, and whether today is worse.

Per test module there is one JSON file that is committed and reviewed (`file`), whose entries keep the value of every
sample compactly (`entry`, `values`), so that two runs are compared sample by sample (`compare`, `chance`). A test's own
baselines are a `Baselines`. Nothing here loads torch.
"""

from pytest_cnnaudit.baselines.file import baseline_path as baseline_path
from pytest_cnnaudit.baselines.kept import Baselines as Baselines

__all__ = ["Baselines", "baseline_path"]
