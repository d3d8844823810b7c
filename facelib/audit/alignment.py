"""Whether two pictures are one photograph: compared coarsely in bulk, then, once aligned, in their fine detail.

Aligned faces of different people agree in their broad light and shade, so an ordinary correlation cannot tell them from
copies. Fine detail (a lash, a strand of hair, a highlight) agrees only in copies that are exactly superimposed.
"""

import cv2
import numpy as np

COARSE_PX = 16  # edge of the pictures compared in bulk
DETAIL_PX = 64  # edge of the pictures compared in detail
DETAIL_SIGMA = 1.0  # pixels of DETAIL_PX: what a Gaussian blur of this width takes away is detail
CONTRAST_SIGMA = 4.0  # pixels: the neighbourhood whose contrast the detail is divided by
CONTRAST_FLOOR = 3.0  # grey levels, so that the noise of flat regions is not blown up
MARGIN = DETAIL_PX // 12  # of the detail picture left out: a crop has taken it away
ALIGNED = 0.95  # common detail of pictures that lie upon each other already: a photograph saved or lit again
ECC = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 15, 1e-3)  # steps, and the gain below which it stops
ECC_BLUR = 3  # pixels


def grey_pictures(images: np.ndarray, px: int) -> np.ndarray:
    """Grey float32 pictures (n, px, px), 0 to 255, of uint8 RGB images."""
    kind = cv2.INTER_AREA if px <= images.shape[1] else cv2.INTER_LINEAR
    grey = (cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (px, px), interpolation=kind) for image in images)
    return np.stack(list(grey)).astype(np.float32)


def normalised(pictures: np.ndarray) -> np.ndarray:
    """Pictures (n, px, px) with zero mean and unit length, so that products are correlations; flat ones become 0."""
    centred = pictures - pictures.mean(axis=(1, 2), keepdims=True)
    length = np.linalg.norm(centred, axis=(1, 2), keepdims=True)
    return np.divide(centred, length, out=np.zeros_like(centred), where=length > 1e-3)


def deformation_basis(pictures: np.ndarray) -> np.ndarray:
    """Orthonormal pictures that span each normalised picture and its small shifts and stretches.

    To first order a picture that is shifted and stretched a little along its axes is a sum of itself, its two gradients
    and its gradients times the coordinate (as in Lucas and Kanade, 1981).

    Returns
    -------
    float32 array of shape (n, 5, px * px)
    """
    n, px, _ = pictures.shape
    across, down = np.gradient(pictures, axis=2), np.gradient(pictures, axis=1)
    position = np.linspace(-1, 1, px, dtype=np.float32)
    parts = np.stack([pictures, across, down, across * position, down * position[:, None]], axis=1).reshape(n, 5, -1)
    parts -= parts.mean(axis=2, keepdims=True)
    gram = parts @ parts.transpose(0, 2, 1) + 1e-6 * np.eye(5, dtype=np.float32)  # a flat picture spans nothing
    return np.linalg.solve(np.linalg.cholesky(gram), parts).astype(np.float32)


def coarse_correlation(basis: np.ndarray, pictures: np.ndarray) -> np.ndarray:
    """Highest correlation of each picture with any small shift and stretch of its partner: float (n,), 0 to 1.

    `basis` is from `deformation_basis` of the partners; `pictures` (n, px, px) are normalised.
    """
    return np.linalg.norm(np.einsum("nkp,np->nk", basis, pictures.reshape(basis.shape[0], basis.shape[2])), axis=1)


def _detail(picture: np.ndarray) -> np.ndarray:
    """The fine detail of a picture's inner part, as a row of zero mean and unit length.

    Division by the contrast of the neighbourhood keeps the outlines of eyes and hair, which aligned faces share, from
    outweighing the rest.
    """
    fine = picture - cv2.GaussianBlur(picture, (0, 0), DETAIL_SIGMA)
    fine /= np.sqrt(cv2.GaussianBlur(fine * fine, (0, 0), CONTRAST_SIGMA)) + CONTRAST_FLOOR
    row = fine[MARGIN:-MARGIN, MARGIN:-MARGIN].ravel()
    row = row - row.mean()
    length = np.linalg.norm(row)
    return row / length if length > 1e-3 else np.zeros_like(row)


def detail_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Correlation of the fine detail of two grey pictures, the second one moved onto the first.

    The affine map that aligns them maximises the enhanced correlation coefficient (Evangelidis and Psarakis, PAMI
    2008), which is invariant to brightness and contrast. Pictures with `ALIGNED` in common are not moved.

    Parameters
    ----------
    first, second : float32 arrays of shape (DETAIL_PX, DETAIL_PX)

    Returns
    -------
    float
        -1 to 1; near 1 for copies, far below for different faces that look alike.
    """
    detail = _detail(first)
    unmoved = float(detail @ _detail(second))
    if unmoved >= ALIGNED:
        return unmoved
    moved = second
    try:
        _, warp = cv2.findTransformECC(
            first, second, np.eye(2, 3, dtype=np.float32), cv2.MOTION_AFFINE, ECC, None, ECC_BLUR
        )
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        moved = cv2.warpAffine(second, warp, second.shape, flags=flags, borderMode=cv2.BORDER_REFLECT)
    except cv2.error:
        pass  # a flat picture, or nothing in common: compared unmoved
    return float(detail @ _detail(moved))
