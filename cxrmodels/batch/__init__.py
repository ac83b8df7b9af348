"""Many films through several models: decoding and networks on all cores, one row a film, gone on with after a stop.

| module | holds |
|---|---|
| `films.py` | the films of files, folders and archives, not read yet |
| `reading.py` | what models say of them |
| `table.py` | the table: written row by row, gone on with, read again |
| `labels.py` | what films are labelled, and from that the models' predictions as the comparison takes them |
| `jobs.py`, `worker.py` | a table in the making as a folder with a process at it |
| `uploads.py` | films that somebody dropped, in memory that outlives the page |
| `on_ray.py` | the same on a Ray cluster |
"""
