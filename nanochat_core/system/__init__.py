"""Files, child processes, threads and names of folders: what the operating system gives."""
