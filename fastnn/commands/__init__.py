"""What the command ``fastnn`` does, a module for each part; `cli` reads its arguments."""
