"""From whole data sets to what a training step takes: batches, splits, features for networks."""

from fastnn.data.batching import batches
from fastnn.data.images import to_nhwc
from fastnn.data.splitting import stratified_split
from fastnn.data.standardizer import Standardizer
from fastnn.data.table import TableEncoder

__all__ = ["Standardizer", "TableEncoder", "batches", "stratified_split", "to_nhwc"]
