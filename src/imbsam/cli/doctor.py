"""What this machine has: versions, devices, optional packages."""

import importlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version

import torch

REQUIRED = ("imbsam", "torch", "numpy", "scikit-learn", "pandas", "pyarrow", "pillow", "pydantic", "safetensors")
OPTIONAL = {
    "tensorboard": "TensorBoard events of each run: pip install 'imbsam[tensorboard]'",
    "onnxruntime": "imbsam export to ONNX: pip install 'imbsam[onnx]'",
    "torchvision": "models named torchvision:NAME",
    "timm": "models named timm:NAME",
}


def doctor() -> int:
    """Print the state of the machine; 1 if a required package is missing."""
    print(f"python        {platform.python_version()} on {platform.platform()}")
    missing = 0
    for name in REQUIRED:
        try:
            print(f"{name:<13} {version(name)}")
        except PackageNotFoundError:
            missing += 1
            print(f"{name:<13} MISSING: pip install {name}")
    print(f"threads       {torch.get_num_threads()} of {os.cpu_count()} cores")
    capability = torch.backends.cpu.get_cpu_capability()
    print(f"cpu           {capability}; bfloat16 arithmetic: {_bfloat16()}")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            print(f"cuda:{index}        {torch.cuda.get_device_name(index)}")
    else:
        print("cuda          no device")
    for name, gives in OPTIONAL.items():
        print(f"{name:<13} {_state(name)}; gives {gives}")
    return 1 if missing else 0


def _bfloat16() -> str:
    supported = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    plain = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return "AMX tiles" if supported else "AVX-512" if plain else "emulated, slower than float32"


def _state(name: str) -> str:
    try:
        importlib.import_module(name)
    except ImportError:
        return "not installed"
    except Exception as error:
        return f"installed but broken ({type(error).__name__}: {str(error).splitlines()[0]})"
    return f"{version(name)}"
