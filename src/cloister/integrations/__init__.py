"""How cloister fits into other programs. Nothing here is imported by cloister itself."""
