"""Every operation of fastnn in plain NumPy: the readable specification that the tests compare with.

Formulas only, no speed.  Functions compute in the type of their arguments: float64, or long double
where the kernel under test computes in float64.
"""

# ruff: noqa: F403
from reference.activations import *
from reference.averages import *
from reference.dropout import *
from reference.embedding import *
from reference.initializers import *
from reference.losses import *
from reference.normalization import *
from reference.optimizers import *
from reference.periodic import *
from reference.products import *
from reference.windows import *
