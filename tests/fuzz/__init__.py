"""Coverage-guided fuzzing of the reader of radiographs: `python -m tests.fuzz`, see docs/hardening.md."""
