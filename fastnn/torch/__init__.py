"""Networks from PyTorch and for it.

`load_state_dict` and `state_dict` take and give weights, as dicts or files, without PyTorch;
`from_module` and `to_module` whole networks, an `nn.Sequential`, where PyTorch is installed.

fastnn's models take images (batch, height, width, channels) and sequences (batch, length,
channels); PyTorch's have the channels behind the batch.  `fastnn.to_nhwc` turns images.  Weights
are turned here, also those of a dense layer behind a flattened image, whose numbers PyTorch has in
another order.  Nothing is guessed: what is not certain is refused.

Training differs in one thing: of a batch norm's running variance PyTorch takes the unbiased one.
"""

from fastnn.torch.modules import from_module, to_module
from fastnn.torch.state import load_state_dict, state_dict

__all__ = ["from_module", "load_state_dict", "state_dict", "to_module"]
