"""JSONL, ledgers, manifests, content hashes: nothing half-written, nothing lost. Imports no other folder."""
