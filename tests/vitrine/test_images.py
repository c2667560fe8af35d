import io
import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from vitrine import images
from vitrine.errors import BadInput
from vitrine.images import MAX_BYTES, ImageSpec, Large, decode

SPEC = ImageSpec(height=32, width=32)
RED, WHITE = (255, 0, 0), (255, 255, 255)


def encoded(image, kind="PNG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def halves(left=RED, right=(0, 0, 255), size=(64, 64)):
    image = Image.new("RGB", size, right)
    image.paste(left, (0, 0, size[0] // 2, size[1]))
    return image


def colour(pixels, y, x):
    return tuple(int(value) for value in pixels[y, x])


def test_a_photo_becomes_uint8_of_the_wanted_size():
    pixels = decode(encoded(halves(size=(90, 50)), "JPEG"), ImageSpec(height=24, width=40))
    assert (pixels.shape, pixels.dtype) == ((24, 40, 3), np.uint8)


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down: left and right change places
    pixels = decode(encoded(halves(), "JPEG", exif=exif, quality=95), SPEC)
    assert pixels[16, 4, 2] > 200
    assert pixels[16, 28, 0] > 200


def test_cmyk_is_read_as_colours():
    pixels = decode(encoded(Image.new("RGB", (64, 64), RED).convert("CMYK"), "JPEG", quality=95), SPEC)
    red, green, blue = colour(pixels, 16, 16)
    assert red > 230
    assert max(green, blue) < 30


def test_transparency_is_laid_over_white():
    image = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    assert colour(decode(encoded(image), SPEC), 16, 16) == WHITE


def test_grey_with_alpha_is_laid_over_white():
    assert colour(decode(encoded(Image.new("LA", (64, 64), (0, 0))), SPEC), 16, 16) == WHITE


def test_half_transparent_black_is_grey():
    red, green, blue = colour(decode(encoded(Image.new("RGBA", (64, 64), (0, 0, 0, 128))), SPEC), 16, 16)
    assert red == green == blue
    assert 120 <= red <= 135


def test_a_palette_with_a_transparent_entry_becomes_white():
    image = Image.new("P", (64, 64), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    assert colour(decode(encoded(image, "GIF", transparency=0), SPEC), 16, 16) == WHITE


def test_a_palette_keeps_its_colours():
    image = halves().convert("P", palette=Image.Palette.ADAPTIVE)
    assert colour(decode(encoded(image), SPEC), 16, 4) == RED


def test_sixteen_bit_grey_keeps_its_range():
    image = Image.fromarray(np.full((64, 64), 0x8000, np.uint16))
    assert colour(decode(encoded(image), SPEC), 16, 16) == (128, 128, 128)


def test_one_bit_images_are_black_and_white():
    assert colour(decode(encoded(Image.new("1", (64, 64), 1)), SPEC), 16, 16) == WHITE


def test_only_the_first_frame_of_an_animation_is_read():
    frames = [Image.new("RGB", (64, 64), RED), Image.new("RGB", (64, 64), (0, 255, 0))]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert colour(decode(data, SPEC), 16, 16) == RED


def test_webp_is_read():
    assert colour(decode(encoded(Image.new("RGB", (64, 64), RED), "WEBP", lossless=True), SPEC), 16, 16) == RED


def test_a_single_pixel_is_enough():
    assert colour(decode(encoded(Image.new("RGB", (1, 1), RED)), SPEC), 31, 31) == RED


def test_a_very_long_image_is_cut_from_its_centre():
    image = Image.new("RGB", (1000, 10), WHITE)
    image.paste(RED, (490, 0, 510, 10))
    assert colour(decode(encoded(image), SPEC), 16, 16) == RED


def test_padding_keeps_the_whole_image_and_fills_the_rest():
    spec = ImageSpec(height=32, width=32, resize="pad", fill=7)
    pixels = decode(encoded(Image.new("RGB", (64, 32), RED)), spec)
    assert colour(pixels, 0, 16) == (7, 7, 7)
    assert colour(pixels, 16, 0) == RED


def test_squashing_keeps_both_edges():
    pixels = decode(encoded(halves(size=(200, 20))), ImageSpec(height=32, width=32, resize="squash"))
    assert colour(pixels, 16, 0) == RED
    assert colour(pixels, 16, 31) == (0, 0, 255)


def test_a_crop_fraction_cuts_the_border_away():
    image = Image.new("RGB", (64, 64), WHITE)
    image.paste(RED, (8, 8, 56, 56))
    assert colour(decode(encoded(image), ImageSpec(height=32, width=32, crop_fraction=0.7)), 0, 0) == RED


def test_the_same_bytes_give_the_same_pixels():
    data = encoded(halves(size=(501, 333)), "JPEG")
    np.testing.assert_array_equal(decode(data, SPEC), decode(data, SPEC))


def test_scaled_jpeg_decoding_stays_close_to_a_full_one():
    draw = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    image = Image.fromarray(draw).resize((900, 900), Image.Resampling.BICUBIC)
    fast = decode(encoded(image, "JPEG", quality=95), SPEC).astype(int)
    full = decode(encoded(image), SPEC).astype(int)
    assert np.abs(fast - full).mean() < 2


def test_no_bytes_are_refused():
    with pytest.raises(BadInput, match="empty"):
        decode(b"", SPEC)


def test_too_many_bytes_are_refused_before_reading():
    with pytest.raises(BadInput, match=f"at most {MAX_BYTES} are allowed; resize it first"):
        decode(b"x" * (MAX_BYTES + 1), SPEC)


def test_something_else_than_an_image_is_refused():
    with pytest.raises(BadInput, match="it is none of JPEG, PNG, WEBP, GIF, BMP, TIFF; send one of them"):
        decode(b"%PDF-1.7 no image at all", SPEC)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_truncated_photo_is_refused(kind, share):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, kind)
    with pytest.raises(BadInput, match="cannot be read"):
        decode(data[: int(len(data) * share)], SPEC)


@pytest.mark.parametrize(
    ("side", "said"), [(8_000, "8000x8000, at most 50000000 pixels are allowed"), (20_000, "decompression bomb")]
)
def test_a_decompression_bomb_is_refused_before_its_pixels_are_made(side, said):
    bomb = encoded(Image.new("1", (side, side)))
    assert len(bomb) < 100_000
    with pytest.raises(BadInput, match=said):
        decode(bomb, SPEC)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"height": 0}, "outside 1..4096"),
        ({"width": 5000}, "outside 1..4096"),
        ({"resize": "stretch"}, "none of crop, squash, pad"),
        ({"interpolation": "magic"}, "none of bilinear"),
        ({"crop_fraction": 0.0}, r"outside \(0, 1\]"),
        ({"decoder": "pillow-0"}, "use the release that made the version"),
    ],
)
def test_settings_that_no_decoder_could_follow_are_refused(wrong, said):
    with pytest.raises(BadInput, match=said):
        ImageSpec(**{"height": 32, "width": 32, **wrong})


def test_real_photos_decode():
    root = Path(os.environ.get("VITRINE_DATA", "../shared/data"))
    photos = sorted(root.glob("grocery-store/dataset/train/**/*.jpg"))[:20]
    if not photos:
        pytest.skip(f"no real photos under {root}; set VITRINE_DATA")
    for path in photos:
        pixels = decode(path.read_bytes(), ImageSpec(height=96, width=96))
        assert pixels.shape == (96, 96, 3)
        assert pixels.std() > 1


def test_a_format_outside_the_list_is_refused_without_trying_it():
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    with pytest.raises(BadInput, match="cannot be read"):
        decode(eps, ImageSpec(8, 8))


def test_each_exif_orientation_gives_the_upright_photo():
    upright = Image.fromarray(np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8))
    upright = upright.resize((64, 48), Image.Resampling.NEAREST)
    # What a camera stores for each orientation: the inverse of the turn that the tag asks for (EXIF 2.32, 4.6.4).
    stored = {
        1: upright,
        2: upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: upright.transpose(Image.Transpose.ROTATE_180),
        4: upright.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: upright.transpose(Image.Transpose.TRANSPOSE),
        6: upright.transpose(Image.Transpose.ROTATE_90),
        7: upright.transpose(Image.Transpose.TRANSVERSE),
        8: upright.transpose(Image.Transpose.ROTATE_270),
    }
    spec = ImageSpec(height=48, width=64, interpolation="nearest")
    for orientation, image in stored.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        np.testing.assert_array_equal(decode(encoded(image, "PNG", exif=exif), spec), np.asarray(upright))


def test_the_first_frame_of_an_animated_webp_is_read():
    frames = [Image.new("RGB", (64, 64), RED), Image.new("RGB", (64, 64), (0, 255, 0))]
    data = encoded(frames[0], "WEBP", lossless=True, save_all=True, append_images=frames[1:])
    assert colour(decode(data, SPEC), 16, 16) == RED


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF"])
def test_a_truncated_file_of_a_rarer_format_is_refused(kind):
    data = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)), kind)
    with pytest.raises(BadInput, match="cannot be read"):
        decode(data[: len(data) // 2], SPEC)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_damaged_bytes_give_pixels_or_bad_input_and_nothing_else(kind, data):
    whole = bytearray(encoded(halves(size=(40, 30)), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with suppress(BadInput):
        assert decode(bytes(whole[: data.draw(st.integers(1, len(whole)))]), SPEC).shape == (32, 32, 3)


@settings(max_examples=30, deadline=None)
@given(
    width=st.integers(1, 700),
    height=st.integers(1, 700),
    grey=st.booleans(),
    turned=st.integers(1, 8),
    resize=st.sampled_from(["crop", "squash", "pad"]),
)
def test_a_photo_is_the_same_as_by_the_plain_steps_one_after_another(width, height, grey, turned, resize):
    """The slow twin: copies at every step, Pillow's own functions."""
    noise = np.random.default_rng(width).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).convert("L" if grey else "RGB")
    exif = Image.Exif()
    exif[0x0112] = turned
    data = encoded(image, "JPEG", exif=exif)
    with Image.open(io.BytesIO(data)) as opened:
        opened.draft("RGB", (64, 64))
        plain = ImageOps.exif_transpose(opened.copy()).convert("RGB")
    if resize == "squash":
        plain = plain.resize((32, 32), Image.Resampling.BICUBIC)
    elif resize == "pad":
        plain = ImageOps.pad(plain, (32, 32), Image.Resampling.BICUBIC, color=(255, 255, 255))
    else:
        scale = max(32 / plain.height, 32 / plain.width)
        plain = plain.resize((max(32, round(plain.width * scale)), max(32, round(plain.height * scale))))
        left, top = (plain.width - 32) // 2, (plain.height - 32) // 2
        plain = plain.crop((left, top, left + 32, top + 32))
    np.testing.assert_array_equal(decode(data, ImageSpec(32, 32, resize=resize)), np.asarray(plain))


def test_threads_that_decode_leave_the_warning_filters_as_they_were():
    large = encoded(Image.new("1", (9_500, 9_500)))  # Pillow would warn of it
    before = list(warnings.filters)

    def refused(_: int) -> bool:
        try:
            decode(large, SPEC)
        except BadInput:
            return True
        return False

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(refused, range(64)))
    assert list(warnings.filters) == before


def noise(mode, size=(64, 48)):
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), np.uint8)
    if mode == "I;16":
        return Image.fromarray(values[..., 0].astype(np.uint16) * 257)
    return Image.fromarray(values, "RGBA").convert(mode)


@pytest.mark.parametrize(
    ("mode", "kind"), [("RGBA", "PNG"), ("LA", "PNG"), ("I;16", "PNG"), ("L", "PNG"), ("CMYK", "TIFF")]
)
def test_a_large_image_brought_to_rgb_in_bands_is_the_same(mode, kind, monkeypatch):
    data = encoded(noise(mode), kind)
    whole = decode(data, SPEC)
    monkeypatch.setattr(images, "_BAND_PIXELS", 64 * 5)  # does not divide the 48 rows
    np.testing.assert_array_equal(decode(data, SPEC), whole)


def test_a_palette_with_a_transparent_entry_in_bands_is_the_same(monkeypatch):
    data = encoded(noise("P"), "PNG", transparency=7)
    whole = decode(data, SPEC)
    monkeypatch.setattr(images, "_BAND_PIXELS", 64 * 5)
    np.testing.assert_array_equal(decode(data, SPEC), whole)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [(64, 48), (200, 31), (31, 200), (500, 3)])
def test_resizing_only_what_is_kept_gives_the_same_pixels(size, interpolation, monkeypatch):
    soft = noise("RGB", (4, 4)).resize(size, Image.Resampling.BILINEAR)  # of noise, overshoots would be cut off
    data, spec = encoded(soft), ImageSpec(32, 32, crop_fraction=0.9, interpolation=interpolation)
    cut = decode(data, spec)
    monkeypatch.setattr(images, "_MOST_RESIZED", 0)
    kept = decode(data, spec)
    assert np.abs(kept.astype(int) - cut).mean() < 0.5  # Pillow rounds after whichever axis it resizes first
    assert np.abs(np.roll(kept, 1, axis=(0, 1)).astype(int) - cut).mean() > 1  # one pixel off would be seen


_PEAK = """
import io, resource, sys
from PIL import Image
from vitrine.images import ImageSpec, decode
out = io.BytesIO()
Image.new("RGB", (int(sys.argv[1]), int(sys.argv[2]))).save(out, "PNG")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
decode(out.getvalue(), ImageSpec(224, 224))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("size", [("20000", "1"), ("1", "20000")])
def test_a_line_of_pixels_takes_megabytes_and_not_gigabytes(size):
    done = subprocess.run([sys.executable, "-c", _PEAK, *size], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100


def test_more_pixels_than_the_caller_allowed_for_are_not_decoded():
    data = encoded(halves(size=(300, 200)))
    with pytest.raises(Large):
        decode(data, SPEC, most_pixels=59_999)
    assert decode(data, SPEC, most_pixels=60_000).shape == (32, 32, 3)


def test_a_jpeg_counts_as_it_is_scaled_down_while_it_is_read():
    data = encoded(halves(size=(1600, 1200)), "JPEG")
    assert decode(data, SPEC, most_pixels=100_000).shape == (32, 32, 3)


def test_a_progressive_jpeg_counts_whole():
    data = encoded(halves(size=(1600, 1200)), "JPEG", progressive=True)
    with pytest.raises(Large):
        decode(data, SPEC, most_pixels=100_000)


def test_a_damaged_exif_field_costs_nobody_the_photo():
    exif = Image.Exif()
    exif[0x0112], exif[0x011A] = 3, 72.0  # upside down; a resolution, as a rational number
    data = encoded(halves(), "JPEG", exif=exif, quality=95)
    entry = data.index(b"\x01\x1a\x00\x05") if b"\x01\x1a\x00\x05" in data else data.index(b"\x1a\x01\x05\x00")
    text = bytes([data[entry + 2] and 2, data[entry + 3] and 2])  # now said to be text
    damaged = data[: entry + 2] + text + data[entry + 4 :]

    with Image.open(io.BytesIO(damaged)) as image, pytest.raises(TypeError):
        ImageOps.exif_transpose(image)
    np.testing.assert_array_equal(decode(damaged, SPEC), decode(data, SPEC))
