#!/usr/bin/env python3
"""Says what Hugging Face's tokenizers makes of texts, for small tokenizers of kinds that Orion reads
itself and of kinds that it reads through that library with the feature `tokenizers`:
`crates/tokenizer/tests/suite/hugging_face.rs` reads the same files and compares.

    tokenizer_files.py > results/tokenizers.json

Needs tokenizers. The text that vocabularies are made of is written here.
"""
import json
import random
import sys

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                        pre_tokenizers, processors, trainers)

WORDS = """the a one little old cat dog bird house river tree and or but sees finds likes loves
runs sings walks talks to from under over 12 345 1999 don't it's we'll Été naïve über façade""".split()
TEXTS = [
    "", " ", "Hello world", "the cat sees a dog, and the dog sees 12 birds.", "don't we'll IT'S",
    "  two  spaces  ", "line\nbreak\r\n\ttab", "1234567890 12,345.67", "naïve Été façade E\u0301te\u0301",
    "日本語のテキスト", "🙂👍🏽 emoji", "<s> </s> <|im_start|> [CLS] <extra>", "ﬁ ligature ① ½ ²",
    "camelCaseWord snake_case http://a.b/c?d=e", "\u00a0\u3000 wide spaces", "ÀÉÎ àéî ßẞ", "a\u200bb",
    "नमस्ते दुनिया", "!?!? ... --- (x) [y] {z}", "x" * 70,
]


def texts():
    chance = random.Random(5)
    pool = WORDS + list(" \n.,!?'\"-0123456789éüßλж中🙂") + ["<extra>", " ", " "]
    return TEXTS + ["".join(chance.choice(pool) for _ in range(12)) for _ in range(12)]


def corpus():
    chance = random.Random(3)
    return [" ".join(chance.choice(WORDS) for _ in range(14)) + "." for _ in range(400)]


def entry(name, tokenizer, own=False):
    again = Tokenizer.from_str(tokenizer.to_str())
    cases = []
    for text in texts():
        # Names of special tokens are text, as in Orion's `encode`.
        again.encode_special_tokens = True
        ids = again.encode(text, add_special_tokens=False).ids
        again.encode_special_tokens = False
        special = again.encode(text, add_special_tokens=False).ids
        cases.append({"text": text, "ids": ids, "special_ids": special,
                      "decoded": again.decode(ids, skip_special_tokens=True)})
    return {"name": name, "own": own, "tokenizer": json.loads(tokenizer.to_str()), "cases": cases}


def wordpiece():
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer(lowercase=True)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.decoder = decoders.WordPiece()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    t.train_from_iterator(corpus(), trainers.WordPieceTrainer(vocab_size=160, special_tokens=names, show_progress=False))
    t.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(n, t.token_to_id(n)) for n in ("[CLS]", "[SEP]")])
    return t


def unigram():
    t = Tokenizer(models.Unigram())
    t.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    t.pre_tokenizer = pre_tokenizers.Metaspace()
    t.decoder = decoders.Metaspace()
    t.train_from_iterator(corpus(), trainers.UnigramTrainer(
        vocab_size=120, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False))
    return t


def bpe(pre, normalizer=None, decoder=None, names=("<|endoftext|>", "<|im_start|>", "<|im_end|>"), **model):
    t = Tokenizer(models.BPE(**model))
    t.normalizer, t.pre_tokenizer, t.decoder = normalizer, pre, decoder
    alphabet = [] if model else pre_tokenizers.ByteLevel.alphabet()
    t.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=330, special_tokens=list(names), initial_alphabet=alphabet, show_progress=False))
    return t


def byte_fallback():
    # As the files of Llama 2.
    bytes_ = [f"<0x{b:02X}>" for b in range(256)]
    t = bpe(None, normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
            decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                               decoders.Strip(" ", 1, 0)]),
            names=["<unk>", "<s>", "</s>"] + bytes_, unk_token="<unk>", byte_fallback=True,
            fuse_unk=True)
    file = json.loads(t.to_str())
    # Bytes are pieces of text there, and not special.
    file["added_tokens"] = [a for a in file["added_tokens"] if a["content"] not in bytes_]
    t = Tokenizer.from_str(json.dumps(file))
    t.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)])
    return t


def added():
    t = bpe(pre_tokenizers.ByteLevel(add_prefix_space=True), decoder=decoders.ByteLevel())
    t.add_tokens([AddedToken("<extra>", lstrip=True, rstrip=True, normalized=False)])
    return t


def split(pattern, behavior="isolated"):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), behavior), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


# Of the Llama 3 family, with another number of digits.
FOUR_DIGITS = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,4}"
               r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DIGITS = pre_tokenizers.Sequence([
    pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
out = [
    entry("byte-level, GPT-2's rule", bpe(pre_tokenizers.ByteLevel(add_prefix_space=False), decoder=decoders.ByteLevel()), own=True),
    entry("byte-level, digits apart", bpe(DIGITS, decoder=decoders.ByteLevel()), own=True),
    entry("byte-level, four digits", bpe(split(FOUR_DIGITS), decoder=decoders.ByteLevel())),
    entry("byte-level, a space before, an added token", added()),
    entry("BPE with byte fallback", byte_fallback()),
    entry("unigram", unigram()),
    entry("WordPiece", wordpiece()),
]
json.dump(out, sys.stdout, ensure_ascii=False, separators=(",", ":"))
print()
