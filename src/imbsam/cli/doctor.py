"""State of the machine: versions, devices, optional packages."""

import importlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from imbsam.cli.answer import Answer
from imbsam.runs.tracking.mlflow_run import quiet

REQUIRED = ("imbsam", "torch", "numpy", "scikit-learn", "pandas", "pyarrow", "pillow", "pydantic", "safetensors")
OPTIONAL = {
    "tensorboard": "TensorBoard events of each run: pip install 'imbsam[tensorboard]'",
    "mlflow": "--track mlflow: pip install 'imbsam[mlflow]'",
    "onnxruntime": "imbsam export to ONNX: pip install 'imbsam[onnx]'",
    "openpyxl": "tables in Excel files: pip install 'imbsam[excel]'",
    "optuna": "imbsam tune: pip install 'imbsam[tune]'",
    "distributed": "--backend dask: pip install 'imbsam[dask]'",
    "ray": "--backend ray: pip install 'imbsam[ray]'",
    "torchvision": "models named torchvision:NAME",
    "timm": "models named timm:NAME",
}


def doctor() -> Answer:
    """Report the state of the machine; the exit code is 1 if a required package is missing."""
    packages = {name: _version(name) for name in REQUIRED}
    cuda = (
        [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )
    optional = {name: _state(name) for name in OPTIONAL}
    content = {
        "python": f"{platform.python_version()} on {platform.platform()}",
        "packages": packages,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "bfloat16": _bfloat16(),
        "cuda": cuda,
        "optional": optional,
    }

    def shown() -> None:
        print(f"python        {content['python']}")
        for name, found in packages.items():
            print(f"{name:<13} {found or f'MISSING: pip install {name}'}")
        print(f"threads       {content['threads']} of {content['cores']} cores")
        print(f"cpu           {content['cpu']}; bfloat16 arithmetic: {content['bfloat16']}")
        for index, device in enumerate(cuda):
            print(f"cuda:{index}        {device}")
        if not cuda:
            print("cuda          no device")
        for name, state in optional.items():
            print(f"{name:<13} {state}; gives {OPTIONAL[name]}")

    return Answer(content, shown, code=0 if all(packages.values()) else 1)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _bfloat16() -> str:
    supported = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    plain = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return "AMX tiles" if supported else "AVX-512" if plain else "emulated, slower than float32"


def _state(name: str) -> str:
    try:
        with quiet():
            module = importlib.import_module(name)
    except ImportError:
        return "not installed"
    except Exception as error:
        return f"installed but broken ({type(error).__name__}: {str(error).splitlines()[0]})"
    return str(_version(name) or getattr(module, "__version__", "installed"))
