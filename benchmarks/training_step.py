"""Training images a second of a ResNet-18, in float32 and bfloat16, contiguous and channels-last, side by side.

usage: python -m benchmarks.training_step
"""

import time

import torch

from facelib.models.network import FaceNet
from facelib.models.training import has_fast_bfloat16, multitask_losses

BATCH, STEPS, ROUNDS = 64, 6, 3


def images_per_second(px: int, bfloat16: bool, channels_last: bool) -> float:
    """Speed of a whole step: forward, backward and update."""
    torch.manual_seed(0)
    network = FaceNet()
    images = torch.rand(BATCH, 3, px, px)
    if channels_last:
        network, images = (part.to(memory_format=torch.channels_last) for part in (network, images))
    batch = {"age": torch.rand(BATCH) * 80, "gender": torch.ones(BATCH), "ethnicity": torch.ones(BATCH)}
    optimizer = torch.optim.AdamW(network.parameters())

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = sum(multitask_losses(network(images), batch, 20.0).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    step()
    start = time.perf_counter()
    for _ in range(STEPS):
        step()
    return BATCH * STEPS / (time.perf_counter() - start)


def main() -> None:
    """Print images a second of each variant, all in each round, and the ratio to plain float32."""
    print(f"bfloat16 in hardware: {has_fast_bfloat16()}; {torch.get_num_threads()} threads")
    for px in (64, 96):
        for _ in range(ROUNDS):
            plain = images_per_second(px, bfloat16=False, channels_last=False)
            line = [f"{px} px: float32 {plain:.0f}"]
            for bfloat16, channels_last in ((False, True), (True, False), (True, True)):
                speed = images_per_second(px, bfloat16, channels_last)
                name = f"{'bfloat16' if bfloat16 else 'float32'}{' channels-last' if channels_last else ''}"
                line.append(f"{name} {speed:.0f} (x{speed / plain:.2f})")
            print(", ".join(line))


if __name__ == "__main__":
    main()
