"""Marks around arguments."""

from ..authoring.annotations import NotSet, allow_failure, freeze, opaque, quote, unmapped

__all__ = ["NotSet", "allow_failure", "freeze", "opaque", "quote", "unmapped"]
