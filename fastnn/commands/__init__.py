"""What the command ``fastnn`` does, a module for each part; `fastnn.cli` reads its arguments."""
