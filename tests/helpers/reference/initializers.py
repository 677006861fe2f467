"""How parameters begin: the standard deviation (or the limit) for `fan_in` inputs."""

import math

STANDARD_DEVIATION = {
    "zeros": lambda fan_in: 0.0,
    "normal": lambda fan_in: 0.01,
    "xavier": lambda fan_in: math.sqrt(1 / fan_in),
    "he": lambda fan_in: math.sqrt(2 / fan_in),
    # uniform in [-limit, limit] with limit sqrt(3/n), sqrt(6/n): the same deviations
    "xavier_uniform": lambda fan_in: math.sqrt(1 / fan_in),
    "he_uniform": lambda fan_in: math.sqrt(2 / fan_in),
}
LIMIT = {
    "xavier_uniform": lambda fan_in: math.sqrt(3 / fan_in),
    "he_uniform": lambda fan_in: math.sqrt(6 / fan_in),
}
