"""The networks of the comparison in PyTorch, written the way PyTorch is fastest: fused attention,
fused qkv where the model has it, tied classifier, loss in one call."""

import torch
import torch.nn.functional as F
from torch import nn


class RmsNorm(nn.Module):
    def __init__(self, width, epsilon=1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, self.epsilon)


def rotate(x, cosines, sines):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cosines - b * sines, a * sines + b * cosines), dim=-1)


def rotary_tables(positions, head_dim):
    frequencies = 10000.0 ** (-torch.arange(0, head_dim, 2) / head_dim)
    angles = torch.arange(positions)[:, None] * frequencies
    return angles.cos(), angles.sin()


class LlamaBlock(nn.Module):
    def __init__(self, width, inner, heads, kv_heads):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, width // heads
        linear = lambda i, o: nn.Linear(i, o, bias=False)
        kv = kv_heads * self.head_dim
        self.norm1, self.norm2 = RmsNorm(width), RmsNorm(width)
        self.q, self.k, self.v, self.o = linear(width, width), linear(width, kv), linear(width, kv), linear(width, width)
        self.gate, self.up, self.down = linear(width, inner), linear(width, inner), linear(inner, width)

    def forward(self, x, cosines, sines):
        batch, length, width = x.shape
        split = lambda y, heads: y.view(batch, length, heads, self.head_dim).transpose(1, 2)
        n = self.norm1(x)
        q = rotate(split(self.q(n), self.heads), cosines, sines)
        k = rotate(split(self.k(n), self.kv_heads), cosines, sines)
        v = split(self.v(n), self.kv_heads)
        grouped = self.heads != self.kv_heads
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
        x = x + self.o(attended.transpose(1, 2).reshape(batch, length, width))
        n = self.norm2(x)
        return x + self.down(F.silu(self.gate(n)) * self.up(n))


class Llama(nn.Module):
    def __init__(self, vocab, width, inner, layers, heads, kv_heads, positions):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.blocks = nn.ModuleList(LlamaBlock(width, inner, heads, kv_heads) for _ in range(layers))
        self.norm = RmsNorm(width)
        cosines, sines = rotary_tables(positions, width // heads)
        self.register_buffer("cosines", cosines)
        self.register_buffer("sines", sines)

    def forward(self, tokens, targets):
        length = tokens.shape[1]
        cosines, sines = self.cosines[:length], self.sines[:length]
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, cosines, sines)
        logits = F.linear(self.norm(x), self.embedding.weight)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


class GolfBlock(nn.Module):
    """A block of the parameter-golf baseline."""

    def __init__(self, width, heads, kv_heads):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, width // heads
        linear = lambda i, o: nn.Linear(i, o, bias=False)
        kv = kv_heads * self.head_dim
        self.q, self.k, self.v, self.o = linear(width, width), linear(width, kv), linear(width, kv), linear(width, width)
        self.up, self.down = linear(width, 2 * width), linear(2 * width, width)
        self.gain = nn.Parameter(torch.full((heads,), 1.5))
        self.attention_scale = nn.Parameter(torch.ones(width))
        self.mlp_scale = nn.Parameter(torch.ones(width))
        self.mix = nn.Parameter(torch.stack((torch.ones(width), torch.zeros(width))))

    def forward(self, x, first, cosines, sines):
        x = self.mix[0] * x + self.mix[1] * first
        batch, length, width = x.shape
        split = lambda y, heads: y.view(batch, length, heads, self.head_dim).transpose(1, 2)
        norm = lambda y: F.rms_norm(y, (y.shape[-1],))
        n = norm(x)
        q = rotate(norm(split(self.q(n), self.heads)), cosines, -sines) * self.gain[:, None, None].to(x.dtype)
        k = rotate(norm(split(self.k(n), self.kv_heads)), cosines, -sines)
        v = split(self.v(n), self.kv_heads)
        attended = F.scaled_dot_product_attention(q, k, v.to(q.dtype), is_causal=True, enable_gqa=True)
        x = x + self.attention_scale * self.o(attended.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp_scale * self.down(F.relu(self.up(norm(x))).square())


class GolfBaseline(nn.Module):
    def __init__(self, vocab=1024, width=512, layers=9, heads=8, kv_heads=4, positions=1024):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.blocks = nn.ModuleList(GolfBlock(width, heads, kv_heads) for _ in range(layers))
        self.first = layers // 2
        self.skips = nn.Parameter(torch.ones(self.first, width))
        cosines, sines = rotary_tables(positions, width // heads)
        self.register_buffer("cosines", cosines)
        self.register_buffer("sines", sines)

    def forward(self, tokens, targets):
        length = tokens.shape[1]
        cosines, sines = self.cosines[:length], self.sines[:length]
        norm = lambda y: F.rms_norm(y, (y.shape[-1],))
        first = x = norm(self.embedding(tokens))
        kept = []
        for i, block in enumerate(self.blocks):
            if i >= self.first and kept:
                x = x + self.skips[i - self.first] * kept.pop()
            x = block(x, first, cosines, sines)
            if i < self.first:
                kept.append(x)
        logits = F.linear(norm(x), self.embedding.weight)
        logits = 30.0 * torch.tanh(logits.float() / 30.0)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


class Gpt2Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.o = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        batch, length, width = x.shape
        split = lambda y: y.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
        q, k, v = (split(y) for y in self.qkv(self.norm1(x)).chunk(3, dim=-1))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(attended.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Gpt2(nn.Module):
    def __init__(self, vocab=50257, width=768, layers=12, heads=12, positions=1024):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.positions = nn.Embedding(positions, width)
        self.blocks = nn.ModuleList(Gpt2Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens, targets):
        x = self.embedding(tokens) + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.embedding.weight)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def network(name):
    """The network, and its number of token ids."""
    if name == "stories110m":
        return Llama(32000, 768, 2048, 12, 12, 12, 1024), 32000
    if name == "stories15m":
        return Llama(32000, 288, 768, 6, 6, 6, 256), 32000
    if name == "golfwide":
        return Llama(1024, 512, 1024, 9, 8, 4, 256), 1024
    if name == "golf-baseline":
        return GolfBaseline(), 1024
    if name == "gpt2-124m":
        return Gpt2(), 50257
    raise SystemExit(f"no network {name}")
