"""InfoNCE of several processes: the loss and the gradients are those of one process with all their rows."""

import pytest

torch = pytest.importorskip("torch")
import torch.multiprocessing as multiprocessing  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.parallel import DistributedDataParallel  # noqa: E402

from speech2image.losses.distillation import ContrastiveWeights, contrastive_loss  # noqa: E402

ROWS, EXTRA, SIZE = 4, 3, 16


class Student(nn.Module):
    """A layer, a temperature and the loss, as the speech encoder's training has them in one module."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer = nn.Linear(5, SIZE)
        self.log_temperature = nn.Parameter(torch.tensor(-2.0))

    def forward(self, speech, image, labels, pictures):
        weights = ContrastiveWeights(same_class=0.3, regression=0.5)
        mean = torch.full((SIZE,), 0.1)
        return contrastive_loss(
            self.layer(speech), image, mean, labels, pictures, weights, self.log_temperature
        )


def material(processes: int) -> list[tuple]:
    """A batch for each process: speech, features of its pictures and of further ones, classes, pictures."""
    generator = torch.Generator().manual_seed(0)
    parts = []
    for rank in range(processes):
        pictures = torch.arange(ROWS + EXTRA) + 5 * rank  # some pictures of one are those of the next
        features = torch.randn(ROWS + EXTRA, SIZE, generator=generator)
        parts.append((torch.randn(ROWS, 5, generator=generator), features, pictures % 3, pictures))
    return parts


def as_one(parts: list[tuple]) -> tuple:
    def ordered(which: int):
        return torch.cat([p[which][:ROWS] for p in parts] + [p[which][ROWS:] for p in parts])

    return torch.cat([p[0] for p in parts]), ordered(1), ordered(2), ordered(3)


def one_of_several(rank: int, processes: int, folder: str) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=processes
    )
    student = Student()
    wrapped = DistributedDataParallel(student)
    loss, items = wrapped(*material(processes)[rank])
    loss.backward()
    found = {name: p.grad for name, p in student.named_parameters()}
    torch.save((loss.detach(), items, found), f"{folder}/found-{rank}")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("processes", [2])
def test_several_processes_step_as_one_with_all_rows(processes, tmp_path):
    multiprocessing.spawn(one_of_several, (processes, str(tmp_path)), nprocs=processes)
    student = Student()
    loss, items = student(*as_one(material(processes)))
    loss.backward()
    alone, _ = Student()(*material(1)[0])
    assert abs(alone.item() - loss.item()) > 0.01  # the others' rows do count
    for rank in range(processes):
        their_loss, their_items, gradients = torch.load(tmp_path / f"found-{rank}")
        torch.testing.assert_close(their_loss, loss.detach())
        torch.testing.assert_close(their_items, items)
        for name, parameter in student.named_parameters():
            torch.testing.assert_close(gradients[name], parameter.grad, msg=f"rank {rank}: {name}")
