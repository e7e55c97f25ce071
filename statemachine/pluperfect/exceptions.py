"""The errors of `pluperfect.errors`, where Prefect's users look for them."""

from .errors import *  # noqa: F403 - this is `pluperfect.errors` under the name that Prefect's users know
from .errors import __all__ as __all__
