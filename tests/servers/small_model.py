"""Makes a language model of 420 KB in GGUF, for llama.cpp's server: real tokens, a real template, nonsense for words.

    small_model.py OUT.gguf TEXT...

Its vocabulary is learned from the texts, so that what is like them is read in few tokens.

It has one layer whose weights are all zero, so that what comes next depends on the last token alone: on its class (one
hidden dimension each) and on how common the next token is anyway (a hidden dimension that is always one). Every
embedding has the same length, so the norm before the output is a constant and the logits are what is written here.
Plain random weights would not do: they ramble on where a call may begin.

An answer is a line of words and then, as often as not, tool calls; the server's grammar makes their JSON right. First
letters of tools that wait, take boxes or end the run are rare, so that a run goes on until its budget ends it.

Only Python's standard library is needed.
"""

import collections
import math
import re
import struct
import sys

TEMPLATE = """\
{%- if tools %}<|im_start|>system
{% if messages[0].role == 'system' %}{{ messages[0].content }}

{% endif %}# Tools

The functions that may be called, in <tools></tools>:
<tools>
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
</tools>

Every call is a JSON object in <tool_call></tool_call>:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|im_end|>
{% elif messages[0].role == 'system' %}<|im_start|>system
{{ messages[0].content }}<|im_end|>
{% endif %}
{%- for message in messages %}
{%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% elif message.role == 'assistant' %}<|im_start|>assistant
{%- if message.content %}
{{ message.content }}
{%- endif %}
{%- for call in message.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% elif message.role == 'tool' %}<|im_start|>user
<tool_response>
{{ message.content }}
</tool_response><|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

# The vocabulary: every byte, what is merged of them, and what the template marks with.
MERGES = 1200
END_OF_TEXT, START, END, CALL, CALL_OVER = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>"
CONTROL, USER_DEFINED, NORMAL = 3, 4, 1

WIDTH = 64
INNER = 64
LONGEST = 1 << 20


def byte_names():
    """How the byte-level vocabularies of this family write each byte: printable ones as they are."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    names = {byte: chr(byte) for byte in plain}
    names.update({byte: chr(256 + at) for at, byte in enumerate(others)})
    return [names[byte] for byte in range(256)]


# How text is split into words before anything is merged, near enough for learning.
WORDS = re.compile(r"[^\r\n\w]?[A-Za-z]+|\d| ?[^\s\w]+[\r\n]*|\s*[\r\n]+|\s+|\w")


def learn(texts):
    """The pairs that are merged, the most frequent first."""
    words = collections.Counter(word for text in texts for word in WORDS.findall(text))
    spelled = [[BYTES[byte] for byte in word.encode()] for word in words]
    times = list(words.values())
    pairs, where = collections.Counter(), collections.defaultdict(set)

    def count(at, sign):
        for pair in zip(spelled[at], spelled[at][1:]):
            pairs[pair] += sign * times[at]
            where[pair].add(at)

    for at in range(len(spelled)):
        count(at, 1)
    merges = []
    while len(merges) < MERGES and pairs:
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        if pairs[best] < 2:
            break
        merges.append(best)
        for at in where.pop(best):
            count(at, -1)
            old, new = spelled[at], []
            while old:
                size = 2 if tuple(old[:2]) == best else 1
                new.append("".join(old[:size]))
                old = old[size:]
            spelled[at] = new
            count(at, 1)
        del pairs[best]
    return [" ".join(pair) for pair in merges]


BYTES = byte_names()
PAIRS = learn([open(path, encoding="utf-8").read() for path in sys.argv[2:]]) or ["t h"]
SPECIAL = [END_OF_TEXT, START, END, CALL, CALL_OVER]
TOKENS = BYTES + [pair.replace(" ", "") for pair in PAIRS] + SPECIAL
KINDS = [NORMAL] * (len(TOKENS) - len(SPECIAL)) + [CONTROL, CONTROL, CONTROL, USER_DEFINED, USER_DEFINED]
NUMBER = {token: at for at, token in enumerate(TOKENS)}

# The classes of a last token; the first is all others.
DIGIT = "a digit"
CLASSES = [None, BYTES[ord("\n")], CALL, CALL_OVER, DIGIT]
NEVER = -16.0


def logits(last):
    """How likely each token is after one of this class, as logits."""
    scores = dict.fromkeys(TOKENS, NEVER)
    for letter in "abcdefghijklmnopqrstuvwxyz":
        scores[letter] = 0.0
    for letter in "acfw":
        scores[letter] = -6.0
    scores["s"] = 1.5
    for digit in "0123456789":
        scores[digit] = -2.0
    for other in "{}:,._-/=":
        scores[other] = -4.0
    scores[BYTES[ord(" ")]] = 1.8
    scores['"'] = 1.2
    scores[END] = -0.5
    # Where the grammar wants either mark, its letters are possible too, and never end what is begun.
    scores[CALL] = scores[CALL_OVER] = -5.0
    if last == BYTES[ord("\n")]:
        scores[CALL] = 6.5
    elif last == CALL:
        scores[BYTES[ord("\n")]] = 12.0
    elif last == CALL_OVER:
        scores[END], scores[BYTES[ord("\n")]] = 12.0, 9.5
    elif last == DIGIT:
        # Numbers stay short and whole: no exponent that no machine can hold, no wait for a century.
        scores["e"] = scores["E"] = scores["."] = NEVER
        for digit in "0123456789":
            scores[digit] = -6.0
    return [scores[token] for token in TOKENS]


def matrices():
    """The embeddings and the output's weights, one row per token."""
    # Each embedding is a one in dimension 0 and a one in that of its class; divided by its root mean square.
    scale = math.sqrt(WIDTH / 2)
    common = logits(None)
    by_class = [logits(last) for last in CLASSES]
    embeddings, output = [], []
    for at, token in enumerate(TOKENS):
        row = [0.0] * WIDTH
        kind = DIGIT if token in list("0123456789") else token
        row[0] = row[1 + (CLASSES.index(kind) if kind in CLASSES else 0)] = 1.0
        embeddings.append(row)
        row = [0.0] * WIDTH
        row[0] = common[at] / scale
        for number, scores in enumerate(by_class):
            row[1 + number] = (scores[at] - common[at]) / scale
        output.append(row)
    return embeddings, output


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9


def value(kind, data):
    """A typed value; a list becomes an array."""
    if isinstance(data, list):
        return struct.pack("<IIQ", ARRAY, kind, len(data)) + b"".join(value(kind, one)[4:] for one in data)
    if kind == STRING:
        return struct.pack("<I", kind) + string(data)
    return struct.pack("<I" + {U32: "I", I32: "i", F32: "f", BOOL: "?"}[kind], kind, data)


def facts():
    number = lambda name, count: ("qwen2." + name, U32, count)
    of_tokens = lambda name, kind, data: ("tokenizer." + name, kind, data)
    return [
        ("general.architecture", STRING, "qwen2"),
        ("general.name", STRING, "small-nonsense"),
        ("general.file_type", U32, 1),
        number("context_length", LONGEST),
        number("embedding_length", WIDTH),
        number("block_count", 1),
        number("feed_forward_length", INNER),
        number("attention.head_count", 1),
        number("attention.head_count_kv", 1),
        number("vocab_size", len(TOKENS)),
        ("qwen2.attention.layer_norm_rms_epsilon", F32, 1e-6),
        ("qwen2.rope.freq_base", F32, 1e6),
        of_tokens("ggml.model", STRING, "gpt2"),
        of_tokens("ggml.pre", STRING, "qwen2"),
        of_tokens("ggml.tokens", STRING, TOKENS),
        of_tokens("ggml.token_type", I32, KINDS),
        of_tokens("ggml.merges", STRING, PAIRS),
        of_tokens("ggml.bos_token_id", U32, NUMBER[END_OF_TEXT]),
        of_tokens("ggml.eos_token_id", U32, NUMBER[END]),
        of_tokens("ggml.padding_token_id", U32, NUMBER[END_OF_TEXT]),
        of_tokens("ggml.add_bos_token", BOOL, False),
        of_tokens("chat_template", STRING, TEMPLATE),
    ]


def tensors():
    """Name, dimensions with the fastest first, rows."""
    embeddings, output = matrices()
    zeros = lambda rows, width: [[0.0] * width for _ in range(rows)]
    ones = [[1.0] * WIDTH]
    yield "token_embd.weight", (WIDTH, len(TOKENS)), embeddings
    yield "output.weight", (WIDTH, len(TOKENS)), output
    yield "output_norm.weight", (WIDTH,), ones
    for name in ("attn_norm", "ffn_norm"):
        yield f"blk.0.{name}.weight", (WIDTH,), ones
    for name in ("attn_q", "attn_k", "attn_v"):
        yield f"blk.0.{name}.weight", (WIDTH, WIDTH), zeros(WIDTH, WIDTH)
        yield f"blk.0.{name}.bias", (WIDTH,), zeros(1, WIDTH)
    yield "blk.0.attn_output.weight", (WIDTH, WIDTH), zeros(WIDTH, WIDTH)
    for name in ("ffn_gate", "ffn_up"):
        yield f"blk.0.{name}.weight", (WIDTH, INNER), zeros(INNER, WIDTH)
    yield "blk.0.ffn_down.weight", (INNER, WIDTH), zeros(WIDTH, INNER)


def padded(data, alignment=32):
    return data + b"\0" * (-len(data) % alignment)


def main(out):
    known = facts()
    infos, body, count = b"", b"", 0
    for name, dimensions, rows in tensors():
        half = len(dimensions) == 2
        infos += string(name) + struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions)
        infos += struct.pack("<IQ", 1 if half else 0, len(body))
        flat = [number for row in rows for number in row]
        body += padded(struct.pack(f"<{len(flat)}{'e' if half else 'f'}", *flat))
        count += 1
    head = b"GGUF" + struct.pack("<IQQ", 3, count, len(known))
    head += b"".join(string(name) + value(kind, data) for name, kind, data in known)
    with open(out, "wb") as file:
        file.write(padded(head + infos) + body)


if __name__ == "__main__":
    main(sys.argv[1])
