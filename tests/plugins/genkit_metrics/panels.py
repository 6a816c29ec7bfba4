"""Reads pictures of the plane: where the frame of a panel is, and what colour is where."""


def frame(half):
    """The columns and rows of the axes' frame."""
    dark = half.amax(0) < 0.3
    columns = (dark.sum(0) > 0.5 * dark.shape[0]).nonzero().flatten()
    rows = (dark.sum(1) > 0.5 * dark.shape[1]).nonzero().flatten()
    return columns.min().item(), columns.max().item(), rows.min().item(), rows.max().item()


def blue(half, least=0.15):
    """Where the picture is blue."""
    return half[2] - half[0] > least


def halves(picture):
    """The panels of a picture."""
    middle = picture.image.shape[2] // 2
    return picture.image[:, :, :middle], picture.image[:, :, middle:]


def colour_at(half, point, extent):
    """The colour at a point of the plane, of a panel that shows an extent, as (low, high) in each dimension."""
    left, right, top, bottom = frame(half)
    (x_low, x_high), (y_low, y_high) = extent
    column = round(left + (point[0] - x_low) / (x_high - x_low) * (right - left))
    row = round(bottom - (point[1] - y_low) / (y_high - y_low) * (bottom - top))
    return half[:, row, column].tolist()
