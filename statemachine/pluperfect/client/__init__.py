"""There is no server and no client; the words of its objects stand here."""
