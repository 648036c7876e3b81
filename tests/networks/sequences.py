"""Networks with recurrent layers inside: a CRNN that reads a line of text, a translator with attention, a tagger.

Each factory returns the module and its example inputs; its weights are random (edgekit seeds torch with 0).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class Crnn(nn.Module):
    """Convolutions, then a bidirectional LSTM along the width (Shi et al., 2015): characters of a line, for CTC."""

    def __init__(self, width: int = 16, hidden: int = 24, layers: int = 2, classes: int = 37) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.MaxPool2d((2, 1))),
        )
        self.rnn = nn.LSTM(8 * 2 * width, hidden, layers, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden, classes)

    def forward(self, line: Tensor) -> Tensor:
        """(B, 1, 32, W) -> (B, W/2, classes) log-probabilities"""
        x = self.features(line)  # (B, C, 8, W/2)
        x = x.permute(0, 3, 1, 2).flatten(2)  # (B, W/2, 8C)
        return self.head(self.rnn(x)[0]).log_softmax(-1)


class Attention(nn.Module):
    """Additive attention (Bahdanau et al., 2015)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(hidden, hidden), nn.Linear(2 * hidden, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, state: Tensor, memory: Tensor) -> Tensor:
        """(B, H), (B, S, 2H) -> (B, 2H)"""
        energy = self.score(torch.tanh(self.query(state).unsqueeze(1) + self.key(memory)))  # (B, S, 1)
        return (energy.softmax(1) * memory).sum(1)


class Translator(nn.Module):
    """GRU to GRU with attention (Bahdanau et al., 2015), decoded greedily for a fixed number of steps."""

    def __init__(self, words: int = 50, width: int = 16, hidden: int = 24, steps: int = 6) -> None:
        super().__init__()
        self.steps = steps
        self.embed, self.say = nn.Embedding(words, width), nn.Embedding(words, width)
        self.encoder = nn.GRU(width, hidden, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(hidden, hidden)
        self.attention = Attention(hidden)
        self.decoder = nn.GRUCell(width + 2 * hidden, hidden)
        self.head = nn.Linear(hidden, words)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, S) integers -> (B, steps, words) logits; word 0 begins the sentence."""
        memory, last = self.encoder(self.embed(tokens))  # (B, S, 2H), (2, B, H)
        state = torch.tanh(self.bridge(last[1]))
        word = torch.zeros_like(tokens[:, 0])
        logits: list[Tensor] = []
        for _ in range(self.steps):
            state = self.decoder(torch.cat([self.say(word), self.attention(state, memory)], -1), state)
            logits.append(self.head(state))
            word = logits[-1].argmax(-1)
        return torch.stack(logits, 1)


def crnn() -> tuple[nn.Module, Tensor]:
    return Crnn(), torch.randn(1, 1, 32, 64)


def seq2seq() -> tuple[nn.Module, Tensor]:
    return Translator(), torch.randint(1, 50, (1, 9))


class Tagger(nn.Module):
    """A label for each word (Huang et al., 2015): two bidirectional LSTM layers over packed sentences of any length."""

    def __init__(self, words: int = 50, width: int = 24, hidden: int = 32, labels: int = 9) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width, padding_idx=0)
        self.lstm = nn.LSTM(width, hidden, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden, labels)

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        """(B, T), (B,) -> (B, T, labels)"""
        packed = pack_padded_sequence(self.embed(words), lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=words.shape[1])
        return self.head(states)


def tagger() -> tuple[nn.Module, dict[str, Tensor]]:
    return Tagger(), {"words": torch.randint(1, 50, (4, 20)), "lengths": torch.tensor([20, 7, 13, 2])}


def bert_with_boolean_masks() -> tuple[nn.Module, dict[str, Tensor]]:
    """BERT-tiny (Turc et al., 2019) as a user makes it: torch's own attention, whose mask is boolean."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512)
    mask = torch.ones(1, 32, dtype=torch.int64)
    mask[:, 24:] = 0
    return BertForSequenceClassification(config), {
        "input_ids": torch.randint(0, config.vocab_size, (1, 32)),
        "attention_mask": mask,
    }
