"""`python make_torch.py FOLDER`: a model trained to y = x0 + 2 x1 + 3, as TorchScript, as a state dict and pickled whole."""

import sys

import torch

folder = sys.argv[1]


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(2, 1)

    def forward(self, x):
        return self.fc(x)


def trained():
    """Weights are kept to three digits, so that tests can say what is answered."""
    torch.manual_seed(0)
    net = Net()
    x = torch.rand(64, 2)
    y = x[:, :1] + 2 * x[:, 1:] + 3
    optimizer = torch.optim.LBFGS(net.parameters(), lr=1.0, max_iter=100, tolerance_grad=1e-12, tolerance_change=1e-14)

    def loss():
        optimizer.zero_grad()
        error = torch.nn.functional.mse_loss(net(x), y)
        error.backward()
        return error

    optimizer.step(loss)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.round(parameter, decimals=3))
    return net


net = trained()
torch.jit.save(torch.jit.script(net), folder + "/model.pt")
torch.save(net.state_dict(), folder + "/state.pth")
torch.save(net, folder + "/whole.pth")
