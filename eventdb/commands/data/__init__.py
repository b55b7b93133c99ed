"""data: commands on the values of keys, one data type per file or family of files."""
