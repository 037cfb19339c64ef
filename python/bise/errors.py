"""The exceptions of bise. Those of Python itself are raised where they say it best: ``FileNotFoundError``, ``MemoryError``,
``TypeError``, ``ValueError``."""

__all__ = [
    "BiseError",
    "BusyError",
    "CancelledError",
    "ChatTemplateError",
    "ClosedError",
    "ContextFullError",
    "ModelError",
    "SessionFileError",
]


class BiseError(Exception):
    """The base of all exceptions of bise."""


class ModelError(BiseError, ValueError):
    """The file is damaged, is no GGUF model, or holds a model that is not supported."""


class SessionFileError(BiseError, ValueError):
    """The file is no saved session, is damaged, or belongs to another model or version."""


class ContextFullError(BiseError, ValueError):
    """More tokens than the context has room for."""


class ChatTemplateError(BiseError, ValueError):
    """There is no chat template, it is not valid, or it refuses the conversation."""


class ClosedError(BiseError, ValueError):
    """The model or session was closed."""


class BusyError(BiseError, RuntimeError):
    """Another thread is using the session."""


class CancelledError(BiseError):
    """The pass was ended by ``cancel()``."""
