"""Cache keys of judgements and embeddings: digests of everything that can change an answer."""

import hashlib

from medreward.engines.judge import Inquiry

KEY_BYTES = 16


def inquiry_key(identity: str, inquiry: Inquiry, namespace: str = "") -> bytes:
    """Compute the key of a judgement by the engine *identity*, for callers who share *namespace*."""
    return _digest(
        "judgement",
        namespace,
        identity,
        inquiry.template.sha,
        inquiry.view,
        # A question that the prompt does not show cannot change the answer. Not `Template.shown`,
        # since this is done for each sample.
        inquiry.question if inquiry.template.shows_question else None,
        inquiry.criterion,
        inquiry.reference,
        inquiry.answer,
        # Keys of before it was there stay what they were.
        *(() if inquiry.second is None else (inquiry.second,)),
    )


def text_key(identity: str, text: str, namespace: str = "") -> bytes:
    """Compute the key of an embedding by the engine *identity*, for callers who share *namespace*."""
    return _digest("embedding", namespace, identity, text)


def _digest(*parts: str | None) -> bytes:
    # Lengths separate the parts: ("ab", "c") and ("a", "bc") have different digests.
    content = "".join(["-" if part is None else f"{len(part)}:{part}" for part in parts])
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).digest()[:KEY_BYTES]
