"""``cloister demo``: an intake server that reads a folder of files, good and bad, and lives through all of them.

Read it in this order: `kinds` says which module reads which file, `modules` holds those (one small file each, bad ones
among them), `desk` is one domain for one kind, made anew when it dies, `intake` is the server. `material` makes the
files, `screen` and `summary` show what happens, `page` writes it as HTML, `one_process` is the same without domains,
`leftovers` looks for what was not cleared away, and `command` puts it together.
"""
