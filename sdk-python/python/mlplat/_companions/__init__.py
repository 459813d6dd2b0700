"""What goes along with a run by itself: where it was made, what it printed, what the machine did, a live view in notebooks.

Invariant: none of it holds up the start of a run by more than starting a thread, or fails it; whatever goes wrong is one line
on stderr. All of it can be switched off, by argument or by environment variable. It belongs to the process that began the
run: not to those that joined it or were forked off.
"""

from __future__ import annotations
