"""npora finetune --task image-classification on drawn shapes, and the commands that know it by its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora.cli import main
from npora.data import ImageProcessor, collate_images, load_image, read_images
from npora.models import ViTConfig, ViTModel
from npora.train.micro_batches import cut
from tests.test_cli_tasks import predicted, summary

SIDES = (8, 12)
KINDS = ("bar", "column", "dot")


def drawn(kind: str, rng: Any) -> Any:
    """uint8 [height, width]: a bar that lies or stands, or a dot, somewhere, bright on a dark and noisy ground."""
    image = rng.integers(0, 60, SIDES)
    y, x = (int(rng.integers(0, side - 1)) for side in SIDES)
    place = {"bar": np.s_[y, :], "column": np.s_[:, x], "dot": np.s_[y : y + 2, x : x + 2]}[kind]
    image[place] = rng.integers(180, 256)
    return image.astype(np.uint8)


def shapes(number: int, seed: int) -> tuple[Any, Any]:
    """Images, and the names of what they show, each kind as often."""
    rng = np.random.default_rng(seed)
    names = np.array(KINDS)[np.arange(number) % 3]
    return np.stack([drawn(kind, rng) for kind in names]), names


def save_vit(directory: Path, **processor: Any) -> str:
    config = ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=32, image_size=list(SIDES),
        patch_size=4, num_channels=1, initializer_range=0.2,
    )  # fmt: skip
    ViTModel(config, rng=0).save_pretrained(directory)
    values = {"size": {"height": SIDES[0], "width": SIDES[1]}, "image_mean": [0.2], "image_std": [0.3], **processor}
    (directory / "preprocessor_config.json").write_text(json.dumps(values))
    return str(directory)


def archive(path: Path, number: int, seed: int) -> str:
    images, names = shapes(number, seed)
    np.savez(path, images=images, labels=names)
    return str(path)


def folder(path: Path, number: int, seed: int) -> str:
    """Of classes, with arrays as files."""
    for i, (image, name) in enumerate(zip(*shapes(number, seed), strict=True)):
        (path / name).mkdir(parents=True, exist_ok=True)
        np.save(path / name / f"{i:03}.npy", image)
    return str(path)


def finetune(model: str, train: str, output: Path, *more: str) -> int:
    return main(
        ["finetune", "--task", "image-classification", "--model", model, "--train", train, "--output", str(output),
         "--target-modules", "all-linear", "--learning-rate", "1e-2", "--lora-dropout", "0", "--logging-steps", "999",
         *more]
    )  # fmt: skip


def test_what_images_show_is_learnt_measured_and_predicted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, train = save_vit(tmp_path / "model"), archive(tmp_path / "train.npz", 90, 1)
    held_out = folder(tmp_path / "held-out", 30, 2)
    assert finetune(model, train, tmp_path / "out", "--eval", held_out, "--epochs", "12") == 0
    printed = summary(capsys)
    accuracy = float(printed["accuracy"])
    assert accuracy > 0.85 and "images per second" in printed and printed["frozen bytes before"]
    taken = ("--model", model, "--adapter", str(tmp_path / "out"))
    assert main(["evaluate", *taken, held_out]) == 0
    assert float(summary(capsys)["accuracy"]) == accuracy
    paths = sorted(map(str, Path(held_out).rglob("*.npy")))
    found = predicted(capsys, *taken, *paths)
    right = [line[0] == Path(path).parent.name for line, path in zip(found, paths, strict=True)]
    assert abs(sum(right) / len(right) - accuracy) < 1e-4 and [line[2] for line in found] == paths
    assert main(["merge", *taken, "--output", str(tmp_path / "merged")]) == 0
    assert predicted(capsys, "--model", str(tmp_path / "merged"), *paths[:4]) == found[:4]
    assert main(["export", "--to", "gguf", *taken, "--output", str(tmp_path / "gguf")]) == 2
    assert "npora writes no vit to GGUF; it writes" in capsys.readouterr().err
    config = json.loads((tmp_path / "out" / "adapter" / "adapter_config.json").read_text())
    assert config["modules_to_save"] == ["classifier"] and config["task_type"] is None


def test_pictures_are_read_and_resized_by_pillow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs the extra `image`")
    model = save_vit(tmp_path / "model")
    for i, (pixels, name) in enumerate(zip(*shapes(6, 1), strict=True)):
        (tmp_path / "train" / name).mkdir(parents=True, exist_ok=True)
        image.fromarray(pixels).resize((20, 9)).save(tmp_path / "train" / name / f"{i}.png")
    assert finetune(model, str(tmp_path / "train"), tmp_path / "out", "--max-steps", "1", "--batch-size", "6") == 0
    path = str(tmp_path / "train" / "bar" / "0.png")
    assert load_image(path).shape == (9, 20)
    image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "colour.png")
    assert load_image(tmp_path / "colour.png").shape == (4, 5, 3)
    assert len(predicted(capsys, "--adapter", str(tmp_path / "out"), path)) == 1
    image.fromarray(np.zeros((4, 5), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(
        ValueError, match=r"deep\.png is no image that can be read: its numbers are those of the mode I"
    ):
        load_image(tmp_path / "deep.png")
    (tmp_path / "train" / "bar" / "1.png").write_text("no picture")
    assert main(["predict", "--adapter", str(tmp_path / "out"), str(tmp_path / "train" / "bar" / "1.png")]) == 2
    assert "1.png is no image that can be read" in capsys.readouterr().err


def test_a_processor_does_what_its_file_says(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (2, 3, 3)).astype(np.uint8)
    said = {"size": {"height": 2, "width": 3}, "rescale_factor": 0.5, "image_mean": [1, 2, 3], "image_std": [2, 4, 8]}
    more = {"image_processor_type": "ViTImageProcessor", "do_center_crop": False, "crop_size": None, "resample": 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**said, **more}))
    processor = ImageProcessor.from_pretrained(tmp_path)
    expected = ((image * 0.5 - [1, 2, 3]) / [2, 4, 8]).transpose(2, 0, 1)
    found = processor([image, image])
    assert found.dtype == np.float32 and found.shape == (2, 3, 2, 3) and processor.resample == 3
    np.testing.assert_allclose(found[1], expected, rtol=1e-6)
    grey = ImageProcessor(size={"height": 2, "width": 3}, do_rescale=False, do_normalize=False)([image[..., 0]])
    assert np.array_equal(grey[0], np.stack([image[..., 0]] * 3))
    usual = ImageProcessor()
    assert usual.sides == (224, 224) and ImageProcessor(size=7).sides == (7, 7)
    assert (usual.resample, usual.rescale_factor, usual.image_mean, usual.image_std) == (2, 1 / 255, 0.5, 0.5)
    assert usual.do_resize and usual.do_rescale and usual.do_normalize
    processor.save_pretrained(tmp_path)
    assert ImageProcessor.from_pretrained(tmp_path) == processor


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"do_center_crop": True}, "do_center_crop=True is not supported; known are do_convert_rgb"),
        ({"data_format": "channels_last"}, "data_format='channels_last' is not supported"),
        ({"size": {"shortest_edge": 224}}, "size must be a height and a width"),
        ({"size": {"height": 0, "width": 3}}, "size must be a height and a width"),
        ({"image_std": [0.5, 0.0, 0.5]}, "image_std divides, and must not be 0"),
        ({"image_mean": "grey"}, "image_mean must be"),
    ],
)
def test_what_a_processor_lacks_is_refused_by_name(values: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError) as caught:
        ImageProcessor.from_pretrained(tmp_path)
    assert message in str(caught.value) and "preprocessor_config.json" in str(caught.value)


def test_what_is_no_image_of_a_processor_is_refused() -> None:
    processor = ImageProcessor(size=3, do_resize=False)
    image = np.zeros((3, 3, 3), np.uint8)
    for given, message in (
        (image.astype(float), "an image must be whole numbers 0 … 255"),
        (image[None], "an image must be whole numbers 0 … 255"),
        (image[..., :2], "an image has 2 channels, and this model reads 3"),
        (image[:2], "an image is 2 × 3, and nothing resizes it"),
    ):
        with pytest.raises(ValueError, match=message):
            processor([given])
    with pytest.raises(ValueError, match="image_mean and image_std have 2 numbers, and this model reads 3 channels"):
        ImageProcessor(size=3, image_mean=[0.5, 0.5])([image])


def test_images_have_the_classes_of_their_folders_or_names(tmp_path: Path) -> None:
    (tmp_path / "folder" / ".hidden").mkdir(parents=True)
    (tmp_path / "folder" / ".hidden" / "x.npy").touch()
    made = read_images(folder(tmp_path / "folder", 6, 1))
    assert made.label2id == {"bar": 0, "column": 1, "dot": 2} and made["label"] == [0, 0, 1, 1, 2, 2]
    assert [Path(path).name for path in made["image"]] == [
        "000.npy",
        "003.npy",
        "001.npy",
        "004.npy",
        "002.npy",
        "005.npy",
    ]
    assert made.where(2) == made["image"][2] and made.fingerprint() == read_images(tmp_path / "folder").fingerprint()
    named = read_images(archive(tmp_path / "a.npz", 6, 1), {"dot": 0, "column": 1, "bar": 2})
    assert named["label"] == [2, 1, 0] * 2 and named.label2id == {"dot": 0, "column": 1, "bar": 2}
    assert np.array_equal(named[1]["image"], load_image(tmp_path / "folder" / "column" / "001.npy"))
    np.savez(tmp_path / "b.npz", images=shapes(4, 1)[0], labels=np.array([3, 0, 1, 1]))
    assert read_images(tmp_path / "b.npz")["label"] == [3, 0, 1, 1] and read_images(tmp_path / "b.npz").label2id is None


def test_what_holds_no_images_is_refused(tmp_path: Path) -> None:
    images = shapes(3, 1)[0]
    (tmp_path / "empty").mkdir()
    (tmp_path / "other" / "bar").mkdir(parents=True)
    (tmp_path / "other" / "bar" / "notes.txt").write_text("")
    (tmp_path / "text.npz").write_text("text")
    np.savez(tmp_path / "lacks.npz", images=images)
    np.savez(tmp_path / "short.npz", images=images, labels=[0, 1])
    np.savez(tmp_path / "below.npz", images=images, labels=[0, -1, 1])
    np.savez(tmp_path / "deep.npz", images=images / 255, labels=[0, 1, 1])
    np.save(tmp_path / "array", images)
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    for name in ("beside", "hollow", "split/train"):
        folder(tmp_path / name, 3, 1)
    np.save(tmp_path / "beside" / "x.npy", images[0])
    (tmp_path / "hollow" / "bar" / "000.npy").unlink()
    for name, message in {
        "empty": "there is no folder of a class with images in it", "other": "notes.txt is none of .png",
        "text.npz": "is no archive of arrays", "lacks.npz": "must hold the arrays images and labels; it has: images",
        "short.npz": r"got shapes \(3, 8, 12\) and \(2,\)", "below.npz": "labels must be numbers from 0 on, or names",
        "x.csv": "images are in a folder with a folder for each class, or in a file .npz",
        "array.npz": "is no archive of arrays", "deep.npz": "deep.npz: an image must be whole numbers 0 … 255",
        "beside": "beside/x.npy is in no folder of a class", "hollow": "hollow/bar: there is no image of this class",
        "split": "split/train/bar is a folder, and images are expected in that of the class 'train'",
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=message):
            read_images(tmp_path / name)
    with pytest.raises(ValueError, match="the class 'column' is none of this model's, which are bar"):
        read_images(archive(tmp_path / "a.npz", 3, 1), {"bar": 0})
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_image(tmp_path / "a.png")


def test_hidden_folders_and_classes_that_are_not_measured_are_no_fault(tmp_path: Path) -> None:
    folder(tmp_path, 6, 1)
    (tmp_path / ".hidden").mkdir()
    np.save(tmp_path / ".hidden" / "x.npy", shapes(1, 1)[0][0])
    (tmp_path / ".x.npy").write_text("")
    known = {"bar": 0, "column": 1, "dot": 2}
    assert read_images(tmp_path).label2id == known
    (tmp_path / "dot" / "002.npy").unlink()
    (tmp_path / "dot" / "005.npy").unlink()
    assert read_images(tmp_path, known)["label"] == [0, 0, 1, 1]


def test_an_image_that_cannot_be_used_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = Path(folder(tmp_path / "train", 6, 1))
    (train / "bar" / "000.npy").write_bytes(b"")
    np.save(train / "dot" / "002.npy", np.zeros((8, 12)))
    assert main(["check-data", "--task", "image-classification", str(train)]) == 1
    said = capsys.readouterr().out.splitlines()
    assert "000.npy is no image that can be read" in said[0] and "got float64 of shape (8, 12)" in said[1]
    assert "2 faults" in said[2] and len(said) == 3
    model, image = save_vit(tmp_path / "model"), tmp_path / "four.npy"
    np.save(image, np.zeros((8, 12, 4), np.uint8))
    assert finetune(model, archive(tmp_path / "a.npz", 6, 1), tmp_path / "out", "--max-steps", "1") == 0
    for path, message in ((image, "four.npy: an image has 4 channels"), (train, "train is a folder, where the file")):
        assert main(["predict", "--adapter", str(tmp_path / "out"), str(path)]) == 2
        assert message in capsys.readouterr().err
    np.savez(tmp_path / "gap.npz", images=shapes(2, 1)[0], labels=[0, 2])
    assert finetune(model, str(tmp_path / "gap.npz"), tmp_path / "other") == 2
    assert "though one has 2: number the classes without a gap, or give them names" in capsys.readouterr().err


def test_a_picture_that_pillow_takes_for_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs the extra `image`")
    image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setattr(image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(ValueError, match=r"a\.png is no image that can be read: .*exceeds limit"):
        load_image(tmp_path / "a.png")


def test_a_batch_of_images_is_stacked() -> None:
    images = np.arange(12.0).reshape(2, 1, 2, 3)
    batch = collate_images(
        [{"pixel_values": images[0], "label": 2}, {"pixel_values": images[1], "label": 0}], {"labels"}
    )
    assert np.array_equal(batch["pixel_values"], images) and batch["labels"].tolist() == [2, 0]
    assert set(collate_images([{"pixel_values": images[0]}], {"labels"})) == {"pixel_values"}
    assert set(collate_images([{"pixel_values": images[0], "label": 1}], {"pixel_values"})) == {"pixel_values"}
    for examples, message in (
        ([{"input_ids": [1]}], "example 7 needs pixel_values; it has: input_ids"),
        (
            [{"pixel_values": images[0]}, {"pixel_values": images[0, :, :1]}],
            r"\(1, 2, 3\) in example 7, and \(1, 1, 3\)",
        ),
        ([{"pixel_values": images[0], "label": 1}, {"pixel_values": images[1]}], "and example 8 has none"),
    ):
        with pytest.raises(ValueError, match=message):
            collate_images(examples, {"labels"}, 0, [7, 8][: len(examples)])


def test_a_batch_of_images_is_cut_by_the_patches_that_they_may_have() -> None:
    batch = {"pixel_values": np.arange(6 * 3 * 32 * 32).reshape(6, 3, 32, 32), "labels": np.arange(6)}  # 4 each
    assert [part["labels"].tolist() for part in cut(batch, 24)] == [[0, 1, 2, 3, 4, 5]]
    assert [part["labels"].tolist() for part in cut(batch, 8)] == [[0], [1], [2, 3], [4], [5]]
    assert len(list(cut({"pixel_values": np.zeros((3, 1, 2, 2))}, 3))) == 1  # a small one counts as one


def test_options_of_texts_and_files_that_do_not_fit_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, train = save_vit(tmp_path / "model"), archive(tmp_path / "train.npz", 6, 1)
    for more, message in (
        (["--max-length", "7"], "--max-length is for texts; this is image-classification"),
        (["--text-column", "a"], "--text-column is for texts"),
        (["--num-labels", "2"], "--num-labels needs --task classification"),
        (["--eval", str(tmp_path / "x.npz")], "there is no file"),
    ):
        assert finetune(model, train, tmp_path / "out", *more) == 2
        assert message in capsys.readouterr().err
    other = save_vit(tmp_path / "other", size={"height": 4, "width": 4})
    assert finetune(other, train, tmp_path / "out") == 2
    assert "makes images (4, 4), and the model reads (8, 12)" in capsys.readouterr().err
    (tmp_path / "other" / "preprocessor_config.json").unlink()
    assert finetune(other, train, tmp_path / "out", "--max-steps", "1") == 0
    assert "has no preprocessor_config.json: images are taken from 0 … 255 to -1 … 1" in capsys.readouterr().err
    assert main(["predict", "--adapter", str(tmp_path / "out"), "--max-length", "3", "a.npy"]) == 2
    assert "--max-length is for texts" in capsys.readouterr().err
    assert main(["check-data", "--task", "image-classification", train]) == 0
    assert "6 examples of 3 classes (bar: 2, column: 2, dot: 2), all good" in capsys.readouterr().out
