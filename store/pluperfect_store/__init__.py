"""Where histories are kept: one log protocol, one LMDB file, and a memory store that behaves alike."""
