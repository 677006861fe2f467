"""One file per peer.  A function per table of cases.py takes a row and returns the step to time.

``finish``, where a peer has it, waits for the last step's result.
"""
