"""Answers for other programs, over HTTP: beside the pages on their server, or alone under uvicorn.

| module | holds |
|---|---|
| `access.py` | who may ask, and how often |
| `problems.py` | what goes wrong, as `application/problem+json` |
| `upload.py` | a request's body -> a film |
| `answers.py` | a film -> what the models say of it |
| `document.py` | the OpenAPI document |
| `numbers.py` | counts and times for Prometheus |
| `routes.py` | the addresses |
| `server.py` | the server of its own |
"""
