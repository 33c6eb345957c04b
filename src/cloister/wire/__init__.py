"""The wire: frames, messages, and values to bytes. The lowest layer; pure, it knows no pipe and no thread.

In the order in which complexity grows: `limits`, `frames`, `messages`, `version`, `packing`, `reference`, `scalars`,
`containers`, `flood`, `registry`, `records`, `encoding`, `decoding`, `values` (the codec), `culprit` (its errors),
`exceptions`. Loaded by `handlers` with the first value that needs them: `times`, `precise`, `paths`, `arrays`, `tables`
with `arrow_stream`, `pandas_frames`. The protocol, byte by byte, is a page of the reference documentation.
"""
