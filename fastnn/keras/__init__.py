"""Networks from Keras: the files that Keras 3 writes, without Keras.

`load_weights` reads the weights of a ``.weights.h5`` or ``.keras`` file into a model, `load` makes
the model of a ``.keras`` file.  Keras' weights and images lie as fastnn's do, channels last:
nothing is turned.  Needs h5py (``pip install h5py``).
"""

from fastnn.keras.loading import load, load_weights

__all__ = ["load", "load_weights"]
