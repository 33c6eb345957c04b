"""Conversations over pipes: the sans-IO core, and one engine for each way to wait.

`call_frames` has the calls and answers and their bytes. `conversation` is the core: which call is open, which answer
belongs to it, what the peer may send now. `frame_lane` moves the bytes and waits, `call_lane` is the blocking engine of
a call lane, `shared_lane` the one that carries many calls at once; `loop_end`, `loop_shared` and `loop_call` do that on
an event loop. What a call means (objects, imports, errors) is not known here; that is `objects` and `guest`.
"""
