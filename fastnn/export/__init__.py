"""Networks as files for other programs: one C99 file (`fastnn.export_c`)."""
