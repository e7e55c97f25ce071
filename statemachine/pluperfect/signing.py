"""
Signatures of checkpoints: Ed25519, with keys and notes as C2SP writes them (``signed-note``).

Needs the extra ``sign``; nothing else of the library does.
"""

from __future__ import annotations

import base64
import binascii
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from .errors import BadCheckpoint, SigningUnavailable
from .evidence import Checkpoint

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = ["checked", "new_key", "sign"]

_PRIVATE: Final = "PRIVATE+KEY+"
_ED25519: Final = b"\1"


def _ed25519() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise SigningUnavailable(
            "Signatures need the package cryptography, which is not installed: pip install 'pluperfect[sign]'. Checkpoints without"
            " a signature need nothing."
        ) from error
    return ed25519


def new_key(name: str) -> tuple[str, str]:
    """
    Make a key.

    Args:
        name: Whose it is, without spaces and plus signs.

    Returns:
        The private key, and the public one that others check with; one line each.

    Raises:
        ValueError: The name cannot be one.
        SigningUnavailable: The extra ``sign`` is not installed.
    """
    if not name or "+" in name or any(letter.isspace() for letter in name):
        raise ValueError(f"The name of a key has no spaces and no plus signs, and is not empty: not {name!r}.")
    key: Ed25519PrivateKey = _ed25519().Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    told = _told(name, public).hex()
    return (
        f"{_PRIVATE}{name}+{told}+{base64.b64encode(_ED25519 + key.private_bytes_raw()).decode()}",
        f"{name}+{told}+{base64.b64encode(_ED25519 + public).decode()}",
    )


def sign(checkpoint: Checkpoint, key: str) -> Checkpoint:
    """
    The checkpoint with one signature more.

    Raises:
        BadCheckpoint: This is no private key.
        SigningUnavailable: The extra ``sign`` is not installed.
    """
    if not key.startswith(_PRIVATE):
        raise BadCheckpoint(
            f"This is no private key: it does not begin with {_PRIVATE}. `pluperfect checkpoint --new-key FILE` makes one."
        )
    name, told, secret = _parts(key.strip()[len(_PRIVATE) :])
    private: Ed25519PrivateKey = _ed25519().Ed25519PrivateKey.from_private_bytes(secret)
    if _told(name, private.public_key().public_bytes_raw()) != told:
        raise BadCheckpoint("This private key was altered: its parts contradict each other. Take another copy of it.")
    return replace(
        checkpoint, signatures=(*checkpoint.signatures, (name, told + private.sign(checkpoint.body.encode())))
    )


def checked(checkpoint: Checkpoint, key: str) -> str:
    """
    What is wrong with the signature of this key's owner; empty where it is good.

    Args:
        checkpoint: The checkpoint.
        key: The public key.

    Raises:
        BadCheckpoint: This is no public key.
        SigningUnavailable: The extra ``sign`` is not installed.
    """
    if key.startswith(_PRIVATE):
        raise BadCheckpoint(
            "This is the private key; signatures are checked with the public one, in the file beside it."
        )
    name, told, public = _parts(key.strip())
    if _told(name, public) != told:
        raise BadCheckpoint("This public key was altered: its parts contradict each other. Take another copy of it.")
    found = [sig for signer, sig in checkpoint.signatures if signer == name and sig[:4] == told]
    if not found:
        return f"the checkpoint has no signature of {name} ({told.hex()})"
    verifier: Ed25519PublicKey = _ed25519().Ed25519PublicKey.from_public_bytes(public)
    from cryptography.exceptions import InvalidSignature

    for sig in found:
        try:
            verifier.verify(sig[4:], checkpoint.body.encode())
        except InvalidSignature:
            return f"the signature of {name} ({told.hex()}) does not fit the checkpoint"
    return ""


def _told(name: str, public: bytes) -> bytes:
    """Four bytes by which a key is known."""
    return sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:4]


def _parts(text: str) -> tuple[str, bytes, bytes]:
    try:
        name, told, data = text.split("+", 2)
        raw = base64.b64decode(data, validate=True)
        if raw[:1] != _ED25519 or len(raw) != 33 or len(told) != 8:
            raise ValueError("it is no Ed25519 key")
        return name, bytes.fromhex(told), raw[1:]
    except (ValueError, binascii.Error) as error:
        raise BadCheckpoint(
            f"This is no key: {error}. `pluperfect checkpoint --new-key FILE` makes one, and its public half in FILE.pub."
        ) from error
