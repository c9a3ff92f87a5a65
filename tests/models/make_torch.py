"""`python make_torch.py FOLDER`: a linear model with known weights, as TorchScript, as a state dict and pickled whole."""

import sys

import torch

folder = sys.argv[1]


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(2, 1)
        with torch.no_grad():
            self.fc.weight[:] = torch.tensor([[1.0, 2.0]])
            self.fc.bias[:] = 3.0

    def forward(self, x):
        return self.fc(x)


torch.jit.save(torch.jit.script(Net()), folder + "/model.pt")
torch.save(Net().state_dict(), folder + "/state.pth")
torch.save(Net(), folder + "/whole.pth")
