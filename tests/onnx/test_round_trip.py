"""Networks written by fastnn.onnx.export and read by fastnn.onnx.load: the same bits."""

import numpy as np
import pytest

import fastnn
from fastnn import Dense, Sequential, Standardizer
from networks import MORE, moved, rows_of
from onnx_files import fastnn as _  # noqa: F401
from tables import IMAGE_LAYERS, LAYERS
from test_writing import ON_IMAGES
