"""Models behind one face: what the engine asks, whichever devices answer."""

from runtime.asking import Answer, Ask, Gather, ModelEvent, OnAnswer, OnEvent
from runtime.direct import DirectInference

__all__ = ["Answer", "Ask", "DirectInference", "Gather", "ModelEvent", "OnAnswer", "OnEvent"]
