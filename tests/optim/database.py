"""torch's database of optimizers, without the rest of its test machinery.

That freezes torch's global flags, loads a profile of hypothesis, and needs a package of its own.
"""

import sys
from unittest import mock

MACHINERY = ("common_device_type", "common_methods_invocations", "common_utils")

_stand_ins = {f"torch.testing._internal.{name}": mock.MagicMock(_TestParametrizer=object) for name in MACHINERY}
with mock.patch.dict(sys.modules, _stand_ins):
    from torch.testing._internal import common_optimizers

OptimizerInfo = common_optimizers.OptimizerInfo
OptimizerInput = common_optimizers.OptimizerInput
optim_db = common_optimizers.optim_db
