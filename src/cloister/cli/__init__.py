"""The command line: ``cloister``. `command` reads the words; each sub-command is a module or package beside it."""
