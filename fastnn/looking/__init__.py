"""What goes on in a network, in numbers: `inspect` and `learning_rate_range`; fastnn.plot draws
them."""
