"""What a page holds inline: pictures as data URIs, and the digests by which its policy names scripts and styles."""

import base64
import hashlib
import io

from PIL import Image

QUALITY = 80  # of JPEGs


def digest(text: str) -> str:
    """How a Content-Security-Policy names an inline script or style.

    Examples
    --------
    >>> digest("")
    'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='
    """
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def data_uri(content: bytes, kind: str) -> str:
    """Bytes of a media type such as image/svg+xml as an address."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def jpeg_uri(picture: Image.Image) -> str:
    """A picture as the address of a JPEG."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY)
    return data_uri(buffer.getvalue(), "image/jpeg")
