"""Folders of images as people have them: what is taken, what is said of it, what is refused."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from hostile import Case, check
from PIL import Image

from dietjax import data
from dietjax.data import images

COLOUR = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
GREY, DEEP = COLOUR[..., 0], COLOUR[..., 0] * np.uint16(257)
CLEAR = np.dstack([COLOUR, GREY])
FIRST, TEST = "train/cat/0.png", "test/dog/1.png"


def png(pixels, suffix=".png"):
    return cv2.imencode(suffix, pixels)[1].tobytes()


def saved(pixels, kind, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def turned():
    exif = Image.Exif()
    exif[274] = 6
    return saved(COLOUR, "PNG", exif=exif)


def claims(height, width):
    """A PNG whose header says so; its pixels are those of a small one."""
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return images.PNG + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0" * 99)) + chunk(b"IEND", b"")


def folder(path, content=None, splits=("train", "test"), classes=("cat", "dog"), count=2, suffix=".png", **changes):
    """`content` in every file; then `changes`, {file: content} with None for no such file."""
    for split in splits:
        for name in classes:
            (path / split / name).mkdir(parents=True)
            for i in range(count):
                (path / split / name / f"{i}{suffix}").write_bytes(content or png(COLOUR + np.uint8(i)))
    for file, other in changes.pop("files", {}).items():
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        (path / file).unlink(missing_ok=True)
        if other is not None:
            (path / file).write_bytes(other)
    return path


def opened(*arguments, loaded=None, **made):
    """Makes a folder and loads it -> what came, in a line."""
    def attempt(path):
        return described(folder(path, *arguments, **made), **(loaded or {}))

    return attempt


def described(path, **settings):
    found = data.load(f"folder:{path}", threads=1, **settings)
    pixels, _ = next(found.train.batches(99))
    return (f"{found.train.num_examples} training and {found.test.num_examples} test images of {found.image_shape}, "
            f"{pixels.min()}..{pixels.max()}")


def after(change, **settings):
    """Makes a folder, changes it, loads it."""
    def attempt(path):
        change(folder(path))
        return described(path, **settings)

    return attempt


def linked(path):
    (path / FIRST).unlink()
    (path / FIRST).symlink_to(path / "gone.png")


JPEG = cv2.imencode(".jpg", COLOUR)[1].tobytes()
CUT = png(COLOUR)[:-30]
SKIP = {"skip_corrupt": True}
LITTER = {f"{where}{name}": b"x" for where in ("", "train/", "train/cat/")
          for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "._0.png")}
EIGHT, TWELVE = (CLEAR.astype(np.uint16) * 16)[..., :3].clip(0, 255), COLOUR.astype(np.uint16) * 16

CASES = [
    Case("val, no test", opened(splits=("train", "val")),
         ("warning", "has no test", "val stands in its place", "4 test")),
    Case("validation, no test", opened(splits=("train", "validation")), ("warning", "validation stands in its place")),
    Case("test and val", opened(splits=("train", "test", "val")), ("warning", "val is not used", "test", "4 training")),
    Case("train alone", opened(splits=("train",)), ("error", "test is no directory, nor val", "data.holdout 0.1")),
    Case("no splits", opened(splits=("",)), ("error", "train is no directory", "cat, dog", "data.holdout 0.1")),
    Case("no splits, a holdout", opened(splits=("",), count=4, loaded={"holdout": 0.25}),
         ("taken", "6 training and 2 test images")),
    Case("train alone, a holdout", opened(splits=("train",), count=4, loaded={"holdout": 0.5}),
         ("taken", "4 training and 4 test")),
    Case("a holdout beside a test folder", opened(loaded={"holdout": 0.1}),
         ("error", "has test", "leave out data.holdout", "move")),
    Case("a holdout of a class of one image", opened(splits=("",), count=1, loaded={"holdout": 0.1}),
         ("error", "class cat has 1 image", "too few")),
    Case("a holdout of a set that is no folder", lambda path: data.load("npz:x.npz", holdout=0.1),
         ("error", "data.holdout", "npz:x.npz is no folder", "leave it out")),
    Case("classes in classes", opened(classes=("cat", "dog/small", "dog/large")),
         ("error", "dog/large is a folder in class folder PATH/train/dog", "not nested", "move its images")),
    Case("a folder too high", lambda path: described(folder(path / "pets").parent),
         ("error", "train is no directory", "did you mean folder:PATH/pets?")),
    Case("Test in the place of test", opened(splits=("train", "Test")), ("error", "rename PATH/Test")),
    Case("all held out", lambda path: data.load(f"folder:{path}", holdout=1.0), ("error", "data.holdout", "1.0")),
    Case("less than none held out", lambda path: data.load(f"folder:{path}", holdout=-0.1), ("error", "-0.1")),
    Case("a share that is none", lambda path: data.load(f"folder:{path}", holdout="a"), ("error", "data.holdout")),
    Case("a set without a name", lambda _: data.load(""), ("error", "name of a set", "''")),
    Case("None for a name", lambda _: data.load(None), ("error", "name of a set", "None")),
    *(Case(f"an image size of {size!r}", lambda path, size=size: data.load(f"folder:{path}", image_size=size),
           ("error", "data.image_size is one number, or height and width", repr(size)))
      for size in (0, -1, 2.5, (0, 5), (48,), (48.0, 96), "x", True)),
    Case("Training in the place of train", opened(splits=("Training", "test")), ("error", "rename PATH/Training")),
    Case("no such folder", lambda path: described(path / "gone"), ("error", "gone is no directory", "folder:PATH")),
    Case("a file, not a folder", lambda path: described(folder(path) / FIRST), ("error", "0.png is no directory")),
    Case("an empty folder", described, ("error", "train is no directory", "it holds no folders")),
    Case("a class without images", after(lambda path: (path / "train/emu").mkdir()), ("error", "emu holds no images")),
    Case("a class that only train has", opened(files={"train/emu/0.png": png(COLOUR)}),
         ("error", "train has 3 classes, test has 2", "only in train: emu")),
    Case("one class", opened(classes=("cat",)), ("error", "all of one class, cat", "add images of other classes")),
    Case("an image beside the classes", opened(files={"train/0.png": png(COLOUR)}),
         ("error", "train/0.png lies beside the class folders", "move it")),
    Case("a text among the images", opened(files={"train/cat/notes.txt": b"x"}), ("error", "notes.txt is no image")),
    Case("what systems leave in folders", opened(files=LITTER), ("taken", "4 training and 4 test")),
    Case("__MACOSX beside the classes", opened(files={"train/__MACOSX/._cat": b"x"}), ("taken", "4 training")),
    Case("endings in capitals", opened(JPEG, suffix=".JPEG"), ("taken", "(8, 12, 3)")),
    Case("names with spaces, dots and accents", opened(classes=("a cat.1", "chien à poil")), ("taken", "4 training")),
    *(Case(f"{suffix} files", opened(png(COLOUR, suffix), suffix=suffix), ("taken", "(8, 12, 3)"))
      for suffix in (".webp", ".bmp", ".tif", ".tiff")),
    Case("GIF files", opened(saved(GREY, "GIF"), suffix=".gif"), ("error", "0.gif is no image", ".png")),
    Case("a PNG called .jpg", opened(suffix=".jpg"), ("taken", "(8, 12, 3)")),
    Case("a TIFF of two pages", opened(files={FIRST: saved(COLOUR, "TIFF", save_all=True, append_images=[
        Image.fromarray(GREY)])}), ("error", "0.png has 2 pages", "save each")),
    *(Case(f"an animation, {kind}", opened(files={FIRST: saved(COLOUR, kind, save_all=True, append_images=[
        Image.fromarray(COLOUR[::-1])])}), ("error", "0.png is an animation", "save")) for kind in ("PNG", "WEBP")),
    Case("a TIFF of floats", opened(files={FIRST: png(np.float32(GREY), ".tiff")}),
         ("error", "0.png has pixels of float32", "convert it")),
    Case("a TIFF of floats, resized", opened(files={FIRST: png(np.float32(GREY), ".tiff")}, loaded={"image_size": 4}),
         ("error", "0.png has pixels of float32")),
    Case("a TIFF with transparency", opened(files={FIRST: saved(CLEAR, "TIFF")}),
         ("error", "TIFF file with transparency", "save it without")),
    Case("turned by EXIF", opened(turned()), ("taken", "(12, 8, 3)")),
    Case("one turned by EXIF", opened(files={"train/dog/1.png": turned()}),
         ("error", "dog/1.png has shape (12, 8, 3), others have (8, 12, 3)", "data.image_size")),
    Case("16 bits, grey", opened(png(DEEP), files={FIRST: png(np.full((8, 12), 65535, np.uint16))}),
         ("warning", "8 of 8 images are of 16 bits and reach 65535", "read as 16 bits", "(8, 12, 1)", "..255")),
    Case("16 bits of which 12 are used", opened(png(TWELVE), files={FIRST: png(np.full((8, 12, 3), 4095, np.uint16))}),
         ("warning", "reach 4095", "read as 12 bits, 0..4095 scaled to 0..255", "..255")),
    Case("16 bits of which 8 are used", opened(png(EIGHT)), ("warning", "read as 8 bits, 0..255 scaled", "..255")),
    Case("one of 16 bits", opened(files={"train/dog/1.png": png(COLOUR * np.uint16(257))}),
         ("warning", "1 of 8 images are of 16 bits", "read as 16 bits")),
    Case("16 bits, TIFF, resized", opened(png(TWELVE, ".tiff"), suffix=".tiff", loaded={"image_size": (4, 6)}),
         ("warning", "read as 12 bits", "(4, 6, 3)")),
    Case("transparency", opened(png(CLEAR)), ("warning", "0.png has transparency, which is dropped", "(8, 12, 3)")),
    Case("transparency of grey", opened(saved(CLEAR[..., 2:], "PNG")), ("warning", "is dropped", "(8, 12, 1)")),
    Case("one transparent colour", opened(saved(GREY, "PNG", transparency=3)), ("warning", "transparency, which is")),
    Case("transparency, WebP", opened(saved(CLEAR, "WEBP", lossless=True)), ("warning", "transparency, which is")),
    Case("one grey file", opened(files={"train/dog/1.png": png(GREY)}),
         ("error", "dog/1.png is grey, others are in colour: grey are 1 of 4 images (PATH/train/dog/1.png)",
          "data.channels 3")),
    Case("one grey file, channels 3", opened(files={"train/dog/1.png": png(GREY)}, loaded={"channels": 3}),
         ("taken", "(8, 12, 3)")),
    Case("one file in colour, channels 1", opened(png(GREY), files={"train/dog/1.png": png(COLOUR)},
                                                  loaded={"channels": 1}), ("taken", "(8, 12, 1)")),
    Case("the first file grey", opened(files={FIRST: png(GREY)}),
         ("error", "is in colour, others are grey", "1 of 4", FIRST, "data.channels 3")),
    Case("sizes that differ", opened(files={TEST: png(COLOUR[:5])}),
         ("error", "dog/1.png has shape (5, 12, 3)", "data.image_size")),
    Case("sizes that differ, resized", opened(files={TEST: png(COLOUR[:5])}, loaded={"image_size": (48, 96)}),
         ("taken", "(48, 96, 3)")),
    Case("an empty file", opened(files={FIRST: b""}), ("error", "0.png is corrupt: 0 bytes", "--data.skip-corrupt")),
    Case("a page of HTML called .png", opened(files={FIRST: b"<html>404</html>"}),
         ("error", "0.png is corrupt: 16 by")),
    Case("a file that is cut off", opened(files={FIRST: CUT}), ("error", "0.png is corrupt", "--data.skip-corrupt")),
    Case("one that is cut off, skipped", opened(files={FIRST: CUT}, loaded=SKIP),
         ("warning", "cat/0.png is corrupt", "in its place: PATH/train/cat/1.png", "4 training")),
    Case("a test image that is cut off", opened(files={TEST: CUT}, loaded=SKIP),
         ("error", "test/dog/1.png is corrupt", "test images are never skipped")),
    Case("a held-out image that is cut off", opened(CUT, splits=("",), loaded=SKIP | {"holdout": 0.5, "image_size": 4}),
         ("error", "is corrupt", "test images are never skipped")),
    Case("every training image cut off, resized", opened(CUT, loaded=SKIP | {"image_size": 4}, files={
        f"test/{name}/{i}.png": png(COLOUR) for name in ("cat", "dog") for i in range(2)}),
         ("error", "is corrupt", "no other image of the split can be read either")),
    Case("cut off, resized, skipped while statistics are measured", opened(files={FIRST: CUT},
         loaded=SKIP | {"image_size": 4}), ("warning", "in its place", "(4, 4, 3)")),
    Case("every file cut off", opened(CUT, loaded=SKIP),
         ("error", "none of 4 images can be decoded, from PATH/train/cat/0.png")),
    Case("60,000 x 60,000 pixels", opened(files={FIRST: claims(60_000, 60_000)}),
         ("error", "cat/0.png is corrupt, or larger", "--data.skip-corrupt")),
    Case("60,000 x 60,000 pixels, skipped", opened(files={FIRST: claims(60_000, 60_000)}, loaded=SKIP),
         ("warning", "cat/0.png is corrupt, or larger", "in its place")),
    Case("60,000 x 60,000 pixels, skipped, resized", opened(files={FIRST: claims(60_000, 60_000)},
         loaded=SKIP | {"image_size": 4}), ("warning", "in its place", "(4, 4, 3)")),
    Case("60,000 x 60,000 pixels, a test image", opened(files={TEST: claims(60_000, 60_000)}, loaded=SKIP),
         ("error", "is corrupt, or larger", "test images are never skipped")),
    Case("a header that claims more pixels than there are", opened(files={FIRST: claims(8, 12)}),
         ("error", "0.png is corrupt")),
    Case("a JPEG without its end marker", opened(JPEG, suffix=".jpg", files={"train/dog/1.jpg": JPEG[:-2]}),
         ("warning", "dog/1.jpg lacks the end marker of a JPEG; its pixels are complete", "4 training")),
    Case("a JPEG without its last pixels", opened(JPEG, suffix=".jpg", files={"train/dog/1.jpg": JPEG[:-20]}),
         ("error", "dog/1.jpg is corrupt")),
    Case("a link that leads nowhere", after(linked, **SKIP), ("error", "0.png cannot be read: No such file")),
    Case("image_size of three numbers", opened(loaded={"image_size": (4, 4, 3)}),
         ("error", "image_size", "(4, 4, 3)")),
    Case("channels of an npz", lambda path: npz_with(path, channels=3), ("error", "arrays of 1 channels", "leave out")),
]


def npz_with(path, **settings):
    np.savez(path / "a.npz", train_images=np.stack([GREY] * 2), train_labels=[0, 1], test_images=GREY[None],
             test_labels=[0])
    return data.load(f"npz:{path}/a.npz", **settings)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_said(case, tmp_path):
    check(case, tmp_path)
