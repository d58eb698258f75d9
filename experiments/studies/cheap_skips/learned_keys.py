"""The key side's rule `learned`, as screen.py tries it: a ridge regression, one a layer and sequence (or KV
head), of what a key will be worth, from what its judgement knows, fitted as the text goes on on the keys that
stay."""
import torch

EPS, LEAST, RIDGE = 1e-6, 8, 1.0


class LearnedKeys:
    """The fits of one layer. What a key is worth: ln of the root mean change of the outputs of the `horizon`
    queries from its judgement on; until LEAST outcomes are known, ln of the same over the queries so far."""

    def __init__(self, own, horizon, fade):
        self.own, self.horizon, self.fade = own, horizon, fade
        self.likeness = own.likeness()
        self.norms = [own.fold(x.pow(2).sum(-1)).sqrt() for x in (own.keys, own.values)]
        self.waiting = []  # (judged at, first, end, features, sums so far)
        self.size = 9
        parts = (own.keys.shape[0], own.parts)
        self.products = torch.zeros(*parts, self.size, self.size)
        self.moments = torch.zeros(*parts, self.size)
        self.outcomes = 0
        self.scale = None
        self.before = {}

    def features(self, begin, first, end):
        own, of = self.own, slice(first, end)
        last = own.sums["share", "near"] - self.before.get("share", 0)
        age = begin - torch.arange(first, end)
        rows = [
            own.mean("change", "far").sqrt(),
            own.mean("share", "near"),
            last / 32,
            own.distance,
            *self.norms,
        ]
        logs = [(x[:, :, of] + EPS).log() for x in rows]
        more = [self.likeness[:, :, of], (age / 32).expand_as(logs[0]), torch.ones_like(logs[0])]
        return torch.stack([*logs, *more], -1)

    def learn(self, begin, alive):
        """Takes in what came of keys judged `horizon` ago, those that stayed."""
        sums = self.own.sums["change", "near"]
        while self.waiting and self.waiting[0][0] + self.horizon <= begin:
            at, first, end, features, before = self.waiting.pop(0)
            y = ((sums[:, :, first:end] - before) / (begin - at)).clamp_min(0).sqrt().add(EPS).log()
            stays = alive[:, :, first:end].float()
            if self.scale is None:
                mean = features.mean(2, keepdim=True)
                deviation = features.std(2, keepdim=True)
                mean[..., -1], deviation[..., -1] = 0, 1
                self.scale = mean, deviation + 1e-3
            z = (features - self.scale[0]) / self.scale[1]
            self.products = self.fade * self.products + torch.einsum("cpt,cpti,cptj->cpij", stays, z, z)
            self.moments = self.fade * self.moments + torch.einsum("cpt,cpti,cpt->cpi", stays, z, y)
            self.outcomes += int(stays[0, 0].sum())

    def worth(self, begin, first, end, alive):
        """Of the keys [first, end), judged at `begin`; 0 elsewhere."""
        self.learn(begin, alive)
        features = self.features(begin, first, end)
        self.waiting.append((begin, first, end, features, self.own.sums["change", "near"][:, :, first:end].clone()))
        self.before["share"] = self.own.sums["share", "near"].clone()
        if self.outcomes < LEAST or self.scale is None:
            predicted = features[..., 0]
        else:
            weights = torch.linalg.solve(self.products + RIDGE * torch.eye(self.size), self.moments)
            predicted = torch.einsum("cpti,cpi->cpt", (features - self.scale[0]) / self.scale[1], weights)
        all_ = torch.zeros(*alive.shape)
        all_[:, :, first:end] = predicted
        return all_
