#!/usr/bin/env python3
"""Puts the same load on several servers that speak llama-server's interface, in turn, and prints one table of medians and ratios.

    serve_load.py -m MODEL.gguf [--rounds 3] [--clients 8] [--scenarios many,beside,turns] [--json FILE] NAME='COMMAND' …

    serve_load.py -m m7b.gguf bise='target/release/bise serve' llama='llama.cpp/bin/llama-server'

To each command are added the model, the threads, a free port, `--parallel` (the clients) and a context of the same size for each of them.
Every round starts every server anew. Prompts are token ids drawn from a fixed seed, other ones for each request and round, so that nothing
is cached unless a scenario is about that. With `--chat` they are words sent to /v1/chat/completions instead of ids to /completion.

Scenarios:
- `many`: first one long prompt alone, which gives the prefill rate; then all clients at once, each with `--requests` requests one after
  the other. Tokens a second are those of prompts and answers (`total`), or of answers (`generated`), from the first request to the last
  token; `share` is `total` as a part of the prefill rate.
- `beside`: one answer is being written when a long prompt arrives (`--long` tokens), and soon after it a short one. The longest gap
  between tokens of the first while the long prompt is read, and the time to the first token of the short and of the long one.
- `turns`: a conversation. Each turn sends what was said so far and some new tokens; `old tokens read again` is the most that any turn after
  the first evaluated beyond its own.

Times to the first token are the client's, from the connection on. Peak memory is the server's own (VmHWM; GB = 1e9 bytes). The ratio is
the first command's number to each other's. Quote ratios and spreads of one run, with nothing else running.
"""
import argparse
import http.client
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

WORDS = "river stone lantern harbour window meadow copper violin thunder orchard saddle ribbon marble falcon ginger cellar".split()
# Rows in which more is better; in the others less is.
MORE_IS_BETTER = {"prefill alone, tokens/s", "total, tokens/s", "generated, tokens/s", "share of prefill", "stream beside, tokens/s"}


class Server:
    """A server of one round."""

    def __init__(self, command, a, n_ctx):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        flags = ["-m", a.model, "-t", str(a.threads), "--host", "127.0.0.1", "--port", str(self.port)]
        flags += ["--parallel", str(a.clients), "-c", str(n_ctx * a.clients)]
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen([*command, *flags], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        while True:
            if self.process.poll() is not None:
                self.log.seek(0)
                sys.exit(f"{' '.join(command)} ended:\n{self.log.read().decode(errors='replace')[-2000:]}")
            try:
                if self.get("/health")[0] == 200:
                    break
            except OSError:
                pass
            time.sleep(0.1)
        self.n_vocab = a.vocab or self.vocabulary()

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path)
        response = connection.getresponse()
        status, body = response.status, response.read()
        connection.close()
        return status, body

    def vocabulary(self):
        meta = json.loads(self.get("/v1/models")[1])["data"][0].get("meta") or {}
        if not meta.get("n_vocab"):
            sys.exit("/v1/models does not say how many tokens the vocabulary has: give --vocab N")
        return meta["n_vocab"]

    def peak(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024 / 1e9

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


class Answer(threading.Thread):
    """One request, and when each piece of its answer came."""

    def __init__(self, server, path, body):
        super().__init__(daemon=True)
        self.server, self.path, self.body = server, path, body
        self.times, self.tokens, self.last, self.failed = [], [], {}, None
        self.started = time.monotonic()
        self.stopping = False

    def run(self):
        try:
            self.read()
        except Exception as error:
            if not self.stopping:
                self.failed = error

    def read(self):
        self.started = time.monotonic()
        connection = self.connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=3600)
        connection.request("POST", self.path, json.dumps({**self.body, "stream": True}), {"Content-Type": "application/json"})
        # The response takes the socket over when it ends with the connection.
        self.socket = connection.sock
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {response.read().decode(errors='replace')}")
        for line in response:
            now = time.monotonic()
            if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                continue
            event = json.loads(line[6:])
            if "error" in event:
                raise RuntimeError(event["error"])
            choices = event.get("choices")
            text = event.get("content") if choices is None else choices and choices[0].get("delta", {}).get("content")
            if text or event.get("tokens"):
                self.times.append(now)
                self.tokens += event.get("tokens") or []
            if event.get("timings") or event.get("usage"):
                self.last = event
        self.ended = time.monotonic()
        connection.close()

    def cancel(self):
        self.stopping = True
        self.socket.shutdown(socket.SHUT_RDWR)
        self.join()

    def first(self):
        return self.times[0] - self.started

    def gaps(self, since=0.0, until=float("inf")):
        """Seconds between pieces, those that end in the given time."""
        pairs = zip(self.times, self.times[1:])
        return [later - sooner for sooner, later in pairs if since < later and sooner < until]

    def n_generated(self):
        usage = self.last.get("usage") or {}
        return self.last.get("tokens_predicted", usage.get("completion_tokens"))

    def n_prompt(self):
        usage = self.last.get("usage") or {}
        return self.last.get("tokens_evaluated", usage.get("prompt_tokens"))


def request(server, rng, n_prompt, n_predict, a):
    """A request that nobody has made before."""
    common = {"temperature": 0, "ignore_eos": True, "timings_per_token": False}
    if a.chat:
        text = " ".join(rng.choice(WORDS) for _ in range(n_prompt))
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": n_predict}
        return Answer(server, "/v1/chat/completions", {**common, **body, "stream_options": {"include_usage": True}})
    return Answer(server, "/completion", {**common, "prompt": ids(server, rng, n_prompt), "n_predict": n_predict})


def ids(server, rng, n):
    """Tokens that are no control tokens in any vocabulary: those are at its ends."""
    return [rng.randrange(server.n_vocab // 4, server.n_vocab * 3 // 4) for _ in range(n)]


def done(*answers):
    for answer in answers:
        answer.join()
        if answer.failed:
            sys.exit(f"a request failed: {answer.failed}")
    return answers[0]


def many(server, rng, a):
    alone = request(server, rng, a.long, 1, a)
    alone.start()
    done(alone)
    rate = alone.n_prompt() / first_or_end(alone)
    answers, lock = [], threading.Lock()
    queues = [[request(server, rng, a.prompt, a.predict, a) for _ in range(a.requests)] for _ in range(a.clients)]

    def client(queue):
        for answer in queue:
            answer.start()
            answer.join()
            with lock:
                answers.append(answer)

    clients = [threading.Thread(target=client, args=[queue]) for queue in queues]
    start = time.monotonic()
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    done(*answers)
    seconds = max(answer.ended for answer in answers) - start
    n_generated = sum(answer.n_generated() for answer in answers)
    n_total = sum(answer.n_prompt() for answer in answers) + n_generated
    firsts = [first_or_end(answer) for answer in answers]
    return {
        "prefill alone, tokens/s": rate,
        "total, tokens/s": n_total / seconds,
        "generated, tokens/s": n_generated / seconds,
        "share of prefill": n_total / seconds / rate,
        "first token, median s": statistics.median(firsts),
        "first token, max s": max(firsts),
        "longest gap, s": max((gap for answer in answers for gap in answer.gaps()), default=0.0),
    }


def first_or_end(answer):
    """Seconds to the first token; where that had no text, to the end."""
    return answer.first() if answer.times else answer.ended - answer.started


def beside(server, rng, a):
    stream = request(server, rng, 16, a.context - 128, a)
    stream.start()
    while len(stream.times) < 16:
        if stream.failed or not stream.is_alive():
            done(stream)
            sys.exit("the running answer ended early")
        time.sleep(0.01)
    long = request(server, rng, a.long, 4, a)
    short = request(server, rng, 24, 4, a)
    long.start()
    time.sleep(0.5)
    short.start()
    done(long, short)
    if not stream.is_alive():
        sys.exit("the running answer ended before the long prompt was read: give a larger --context")
    until = long.started + first_or_end(long)
    gaps = stream.gaps(long.started, until)
    stream.cancel()
    return {
        "stream alone, longest gap, s": max(stream.gaps(until=long.started)),
        "stream beside, longest gap, s": max(gaps),
        "stream beside, tokens/s": len(gaps) / sum(gaps),
        "short request's first token, s": first_or_end(short),
        "long request's first token, s": first_or_end(long),
    }


def turns(server, rng, a):
    said, seen = [], []
    for _ in range(a.turns):
        new = ids(server, rng, a.turn)
        said += new
        body = {"prompt": said, "n_predict": a.turn, "temperature": 0, "ignore_eos": True, "return_tokens": True}
        answer = Answer(server, "/completion", body)
        answer.start()
        done(answer)
        n_cached = answer.last["timings"]["cache_n"]
        # The last token of an answer is chosen, and read only now.
        own = len(new) + (1 if seen else 0)
        seen.append({"prompt": len(said), "cached": n_cached, "again": len(said) - n_cached - own, "first": first_or_end(answer)})
        # Where an answer has tokens without text, one may have been left out of the last piece.
        said = said + answer.tokens
    later = seen[1:]
    return {
        "old tokens read again, max": max(turn["again"] for turn in later),
        "first turn's first token, s": seen[0]["first"],
        "last turn's first token, s": later[-1]["first"],
        "last turn's prompt, tokens": later[-1]["prompt"],
        "last turn's cached, tokens": later[-1]["cached"],
    }


SCENARIOS = {"many": many, "beside": beside, "turns": turns}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("-m", "--model", required=True)
    ap.add_argument("-t", "--threads", type=int, default=len(os.sched_getaffinity(0)))
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--clients", type=int, default=8)
    ap.add_argument("--requests", type=int, default=1, help="requests of each client")
    ap.add_argument("--prompt", type=int, default=256, help="tokens of a client's prompt")
    ap.add_argument("--predict", type=int, default=64, help="tokens of a client's answer")
    ap.add_argument("--long", type=int, default=2000, help="tokens of a long prompt")
    ap.add_argument("--turns", type=int, default=4, help="turns of a conversation")
    ap.add_argument("--turn", type=int, default=100, help="tokens of a turn, and of the answer to it")
    ap.add_argument("--context", type=int, help="tokens of each client's context (default: as many as are needed, and at least 4096)")
    ap.add_argument("--vocab", type=int, help="tokens of the vocabulary (default: as /v1/models says)")
    ap.add_argument("--chat", action="store_true", help="chats rather than completions, but for `turns`")
    ap.add_argument("--scenarios", default="many,beside,turns", type=lambda text: text.split(","))
    ap.add_argument("--json", help="a file for all that was measured")
    ap.add_argument("command", nargs="+", metavar="NAME='COMMAND'")
    a = ap.parse_args()
    unknown = [name for name in a.scenarios if name not in SCENARIOS]
    if unknown:
        ap.error(f"no scenario {unknown[0]}: there are {', '.join(SCENARIOS)}")
    # Words of a chat may take several tokens each, and have a template around them.
    factor = 4 if a.chat else 1
    needed = [4096, factor * a.long + 64, factor * a.prompt + a.predict + 64, 2 * a.turns * a.turn + 64]
    a.context = a.context or -(-max(needed) // 256) * 256
    commands = {}
    for command in a.command:
        name, _, words = command.partition("=")
        commands[name] = [os.path.expanduser(word) for word in words.split()]
    seen = {scenario: {name: [] for name in commands} for scenario in a.scenarios}
    peaks = {name: [] for name in commands}
    for i in range(a.rounds):
        for name, command in commands.items():
            server = Server(command, a, a.context)
            try:
                rng = random.Random(f"warm {i}")
                warm = request(server, rng, 64, 8, a)
                warm.start()
                done(warm)
                for scenario in a.scenarios:
                    # The same prompts for every server of a round.
                    found = SCENARIOS[scenario](server, random.Random(f"{scenario} {i}"), a)
                    seen[scenario][name].append(found)
                peaks[name].append(server.peak())
            finally:
                server.stop()
            print(f"round {i + 1}: {name} done", file=sys.stderr)
    if a.json:
        with open(a.json, "w") as file:
            json.dump({"arguments": vars(a), "measured": seen, "peak_gb": peaks}, file, indent=1)
    report(commands, seen, peaks)


def report(commands, seen, peaks):
    first = next(iter(commands))
    print(f"| scenario | measure | program | median | min | max | {first} / it |\n|---|---|---|---:|---:|---:|---:|")
    for scenario, by_name in seen.items():
        for measure in by_name[first][0]:
            for name, rounds in by_name.items():
                numbers = [found[measure] for found in rounds]
                median = statistics.median(numbers)
                ours = statistics.median(found[measure] for found in by_name[first])
                ratio = f"{ours / median:.2f}" if median else ""
                better = " ↑" if measure in MORE_IS_BETTER else ""
                print(f"| {scenario} | {measure}{better} | {name} | {median:.2f} | {min(numbers):.2f} | {max(numbers):.2f} | {ratio} |")
    for name, numbers in peaks.items():
        print(f"| all | peak memory, GB | {name} | {statistics.median(numbers):.2f} | {min(numbers):.2f} | {max(numbers):.2f} | |")


main()
