import gzip
import math
import struct

import numpy as np
import pytest
import torch

from spikeloop.data import read_idx, rotate, rotation, shift, shifting, shrink
from spikeloop.errors import DataError, OutOfRange


def idx(array: np.ndarray, code: int) -> bytes:
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


class TestIdx:
    @pytest.mark.parametrize(
        ("kind", "code"), [(">u1", 8), (">i1", 9), (">i2", 11), (">i4", 12), (">f4", 13), (">f8", 14)]
    )
    @pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
    def test_reads_what_was_written(self, tmp_path, kind, code, pack):
        array = np.arange(2 * 3 * 4).reshape(2, 3, 4).astype(kind)
        (tmp_path / "a").write_bytes(pack(idx(array, code)))
        found = read_idx(tmp_path / "a")
        assert np.array_equal(found, array)
        assert found.dtype.isnative
        assert found.flags.writeable

    def test_truncated_at_any_byte(self, tmp_path):
        path, whole = tmp_path / "a", idx(np.arange(6, dtype=np.uint8).reshape(2, 3), 8)
        for data in (whole, gzip.compress(whole)):
            for length in range(len(data)):
                path.write_bytes(data[:length])
                with pytest.raises(DataError, match=str(path)):
                    read_idx(path)

    @pytest.mark.parametrize(
        "data", [b"\x89PNG\r\n\x1a\n" * 4, b"\0\0\x07\x01\0\0\0\0", idx(np.zeros(3, np.uint8), 8) + b"x"]
    )
    def test_foreign_or_too_long(self, tmp_path, data):
        (tmp_path / "a").write_bytes(data)
        with pytest.raises(DataError):
            read_idx(tmp_path / "a")

    def test_missing(self, tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            read_idx(tmp_path / "nothing")


class TestShrink:
    def test_is_the_mean_over_the_area(self):
        """24 pixels to 16: through a grid of 48, which both divide."""
        images = torch.rand(3, 28, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        fine = images[:, 2:-2, 2:-2].repeat_interleave(2, 1).repeat_interleave(2, 2)
        wanted = fine.view(3, 16, 3, 16, 3).mean((2, 4))
        assert torch.allclose(shrink(images, 2, 16).double(), wanted, atol=1e-6)

    def test_identity_and_border(self):
        images = torch.rand(2, 6, 6)
        assert torch.equal(shrink(images, 0, 6), images)
        images[:, 1:-1, 1:-1] = 0
        assert shrink(images, 1, 2).sum() == 0


class TestRotate:
    def test_nothing_turns_by_zero(self):
        images = torch.rand(4, 9, 9)
        assert torch.allclose(rotate(images, 0.0), images, atol=1e-5)

    def test_a_dot_turns_by_the_drawn_angle(self):
        images = torch.zeros(200, 41, 41)
        images[:, 20, 32] = 1.0  # 12 pixels to the right of the centre
        turned = rotate(images, 30.0, torch.Generator().manual_seed(2))
        away = torch.arange(41.0) - 20
        x, y = (turned.sum(1) * away).sum(1) / turned.sum((1, 2)), (turned.sum(2) * away).sum(1) / turned.sum((1, 2))
        assert torch.allclose(torch.hypot(x, y), torch.tensor(12.0), atol=0.3)
        angle = torch.atan2(-y, x) * 180 / math.pi
        drawn = (2 * torch.rand(200, generator=torch.Generator().manual_seed(2)) - 1) * 30
        assert torch.allclose(angle.abs(), drawn.abs(), atol=1.5)
        assert torch.corrcoef(torch.stack([angle, drawn]))[0, 1].abs() > 0.999
        assert turned.sum((1, 2)).mean().item() == pytest.approx(1.0, abs=0.05)

    def test_oblong_images_are_not_sheared(self):
        images = torch.zeros(50, 21, 61)
        images[:, 10, 38] = 1.0
        turned = rotate(images, 40.0, torch.Generator().manual_seed(2))
        x = (turned.sum(1) * (torch.arange(61.0) - 30)).sum(1) / turned.sum((1, 2))
        y = (turned.sum(2) * (torch.arange(21.0) - 10)).sum(1) / turned.sum((1, 2))
        assert torch.allclose(torch.hypot(x, y), torch.tensor(8.0), atol=0.3)

    def test_the_generator_decides(self):
        images = torch.rand(3, 8, 8)
        one, two, three = (rotate(images, 15.0, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
        assert torch.equal(one, two)
        assert not torch.equal(one, three)
        assert torch.equal(rotation(15.0)(images, torch.Generator().manual_seed(1)), one)
        assert rotate(images[:0], 15.0).shape == (0, 8, 8)

    def test_bad_angle(self):
        with pytest.raises(OutOfRange, match="0 to 180"):
            rotation(-1.0)


class TestShift:
    def test_moves_each_image_by_whole_pixels(self):
        image = torch.arange(1.0, 37.0).view(6, 6)
        padded = torch.nn.functional.pad(image, (2, 2, 2, 2))
        crops = {(i, j): padded[i : i + 6, j : j + 6] for i in range(5) for j in range(5)}
        moved = shift(image.expand(300, 1, 6, 6), 2, torch.Generator().manual_seed(0))
        found = [next(at for at, crop in crops.items() if crop.equal(each[0])) for each in moved]
        assert set(found) == set(crops)
        assert torch.equal(shift(image[None], 0), image[None])

    def test_same_seed_same_result(self):
        images = torch.rand(4, 8, 7)
        one, two, three = (shift(images, 3, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
        assert torch.equal(one, two)
        assert not torch.equal(one, three)
        assert torch.equal(shifting(3)(images, torch.Generator().manual_seed(1)), one)
        assert shift(images[:0], 3).shape == (0, 8, 7)

    def test_bad_distance(self):
        with pytest.raises(OutOfRange, match="0 pixels or more"):
            shifting(-1)
