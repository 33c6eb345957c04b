"""One domain: create, call, run, unload, events. `domain` has the interface, `life` what happens behind it."""
