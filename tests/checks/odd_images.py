"""Encoded images of every kind that a data set can hold, and the RGB pixels they mean."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

SIDE = 32


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    image.save(file := io.BytesIO(), kind, **options)
    return file.getvalue()


def two_halves(left: int = 0, right: int = 255) -> Image.Image:
    """Grey ``left`` on the left half, ``right`` on the right one."""
    image = Image.new("L", (2 * SIDE, SIDE), right)
    image.paste(left, (0, 0, SIDE, SIDE))
    return image


def rotated() -> bytes:
    """JPEG that is to be turned by 90 degrees (EXIF orientation 6): upright, its black half is on top."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(two_halves().convert("RGB"), "JPEG", quality=100, exif=exif)


def see_through(mode: str) -> bytes:
    """PNG with a black half on the left and a fully transparent black half on the right."""
    alpha = two_halves(255, 0)
    if mode == "P":
        image = two_halves(0, 1).convert("P")
        image.putpalette([0, 0, 0, 0, 0, 0])
        return encoded(image, "PNG", transparency=1)
    image = Image.new("L", alpha.size, 0).convert(mode)
    image.putalpha(alpha)
    return encoded(image, "PNG")


def sixteen_bits(kind: str) -> bytes:
    """Grey of 16 bits: 0 left, 0x8080 right, which is 128 of 255."""
    samples = np.array(two_halves(0, 1)).astype(np.uint16) * 0x8080
    return encoded(Image.fromarray(samples), kind)


def one_colour_see_through(bits: int, channels: int = 1) -> bytes:
    """PNG of grey or RGB: black left; right one colour, from the middle of ``bits``, that tRNS makes transparent."""
    key = 2 ** (bits - 1)
    row = ("0" * bits * channels * SIDE) + f"{key:0{bits}b}" * channels * SIDE
    line = b"\0" + int(row, 2).to_bytes(len(row) // 8, "big")
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", 2 * SIDE, SIDE, bits, 2 if channels == 3 else 0, 0, 0, 0),
        b"tRNS": struct.pack(">H", key) * channels,
        b"IDAT": zlib.compress(line * SIDE),
        b"IEND": b"",
    }
    framed = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks.items()
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def animated(kind: str) -> bytes:
    """Two frames: the second is all white."""
    frames = [two_halves().convert("RGB"), Image.new("RGB", (2 * SIDE, SIDE), "white")]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


HALVES = np.array(two_halves())
# name -> file, grey value of each pixel, allowed difference (lossy formats)
ODD_IMAGES = {
    "cmyk": (encoded(two_halves().convert("RGB").convert("CMYK"), "JPEG", quality=100), HALVES, 4),
    "palette": (encoded(two_halves().convert("P"), "PNG"), HALVES, 0),
    "bilevel": (encoded(two_halves().convert("1"), "PNG"), HALVES, 0),
    "alpha": (see_through("RGB"), HALVES, 0),
    "grey_alpha": (see_through("L"), HALVES, 0),
    "palette_alpha": (see_through("P"), HALVES, 0),
    "sixteen_bit_png": (sixteen_bits("PNG"), HALVES // 255 * 128, 0),
    "sixteen_bit_tiff": (sixteen_bits("TIFF"), HALVES // 255 * 128, 0),
    "sixteen_bit_ppm": (sixteen_bits("PPM"), HALVES // 255 * 128, 0),
    **{f"one_colour_of_{bits}_bits": (one_colour_see_through(bits), HALVES, 0) for bits in (1, 2, 4, 8, 16)},
    **{f"one_colour_of_rgb_{bits}": (one_colour_see_through(bits, 3), HALVES, 0) for bits in (8, 16)},
    "animated_gif": (animated("GIF"), HALVES, 0),
    "animated_webp": (animated("WEBP"), HALVES, 8),
    "exif_rotated": (rotated(), np.rot90(HALVES, -1), 4),
}

NOT_RGB = {
    "floating_point": encoded(Image.fromarray(np.ones((8, 8), np.float32)), "TIFF"),
    "lab": encoded(Image.new("LAB", (8, 8), (112, 192, 175)), "TIFF"),
    "thirty_two_bits": encoded(Image.fromarray(np.full((8, 8), 70_000, np.int32)), "TIFF"),
    "no_pixels": b"GIF89a" + struct.pack("<HHBBB", 0, 0, 0, 0, 0) + b";",
}
