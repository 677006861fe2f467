"""The exponential average of a series, and Standardizer's mean and deviation."""

import numpy as np


def exponential_average(values, beta):
    """v = β v + (1-β) x from v = 0, divided by 1 - β^t."""
    v, averages = 0.0, []
    for t, x in enumerate(values, start=1):
        v = beta * v + (1 - beta) * x
        averages.append(v / (1 - beta**t))
    return averages


def standardize(train, x):
    """(x - mean) / deviation of the training set; a constant feature is only centred."""
    deviation = train.std(axis=0)
    return (x - train.mean(axis=0)) / np.where(deviation == 0, 1, deviation)
