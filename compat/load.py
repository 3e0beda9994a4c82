#!/usr/bin/env python3
"""Loads and mistreats `gogrid serve`, and counts what it leaves behind.

    GOGRID=target/release/gogrid python3 compat/load.py disconnects --count 10000

Commands: disconnects (clients that go away at random moments), slow (clients that hardly read), idle (as many streams
as may wait, and one more), overload (ten times as many requests as places), changes (limits that change ten times a second), ends (SIGTERM
under load), turns (the second turn of a long chat), speed (tokens a second at 1, 4 and 16 clients; with --peer URL
llama-server's in turn). Prints a line of JSON; exits with 1 where a check fails. Nothing but Python's own library."""

import argparse
import asyncio
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
import urllib.request

GOGRID = os.environ.get("GOGRID", "target/release/gogrid")


class Server:
    """A server of its own, and what it holds."""

    def __init__(self, port, *more):
        self.port = port
        command = [GOGRID, "serve", "--listen", f"127.0.0.1:{port}", "--keep-alive", "-1", *more]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if line.startswith("serving "):
                break
        else:
            raise SystemExit(f"{' '.join(command)} ended with {self.process.wait()}")
        # What it says later is read and thrown away.
        self.drain = subprocess.Popen(["cat"], stdin=self.process.stderr, stdout=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.drain.wait()

    def get(self, path):
        url = f"http://127.0.0.1:{self.port}{path}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return json.load(answer)

    def post(self, path, body):
        url = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)

    def held(self):
        """Requests, and bytes leased for keys and values of requests."""
        status = self.get("/gogrid/status")
        models = status["status"]["models"]
        waiting = sum(model["queued"] + model["running"] for model in models)
        lent = sum(model["requests"] or 0 for model in status["models"])
        kv = sum(device["kv_bytes"] for device in status["status"]["devices"])
        return {"requests": waiting, "lent": lent, "kv_bytes": kv}

    def kept(self):
        """Bytes of keys and values that are kept for requests to come, and go before anything is refused."""
        devices = self.get("/gogrid/status")["status"]["devices"]
        return sum(device["prefix_bytes"] for device in devices)

    def resident(self):
        text = open(f"/proc/{self.process.pid}/status").read()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) << 10

    def sockets(self):
        folder = f"/proc/{self.process.pid}/fd"
        return len(os.listdir(folder))

    async def settled(self):
        """What is held once nothing is wanted any more, within a minute."""
        held = self.held()
        for _ in range(600):
            if not any(held.values()):
                break
            await asyncio.sleep(0.1)
            held = self.held()
        return held


def chat(prompt="Tell me a story.", tokens=64, **more):
    message = {"role": "user", "content": prompt}
    return {"messages": [message], "max_tokens": tokens, "stream": True, "ignore_eos": True,
            "stream_options": {"include_usage": True}, **more}


async def opened(port, body, path="/v1/chat/completions", headers=""):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Connection: close\r\nContent-Length: {len(data)}\r\n{headers}\r\n"
    writer.write(head.encode() + data)
    await writer.drain()
    return reader, writer


class Answer:
    """A stream as it was read: when it came, and how it ended."""

    def __init__(self):
        self.status = 0
        self.first = self.last = None
        self.tokens = 0
        self.ended = self.failed = False
        self.text = ""


async def answer(port, body, **more):
    """All of a streamed answer, with the moments of its first and last token."""
    got, began = Answer(), time.perf_counter()
    try:
        reader, writer = await opened(port, body, **more)
    except OSError:
        return got, began
    try:
        line = await reader.readline()
        got.status = int(line.split()[1]) if line else 0
        async for raw in reader:
            line = raw.decode(errors="replace").strip()
            if not line.startswith("data: "):
                continue
            if line == "data: [DONE]":
                continue
            event = json.loads(line[6:])
            got.failed |= "error" in event
            # A piece of text may be of several tokens.
            got.tokens = (event.get("usage") or {}).get("completion_tokens") or got.tokens
            for choice in event.get("choices") or []:
                text = choice.get("delta", {}).get("content")
                if text:
                    got.last = time.perf_counter()
                    got.first = got.first or got.last
                    got.text += text
                got.ended |= choice.get("finish_reason") is not None
    except (OSError, ValueError):
        pass
    writer.close()
    return got, began


async def disconnects(arguments):
    dice = random.Random(arguments.seed)
    with Server(arguments.port, "--mode", "aggressive") as server:
        await answer(server.port, chat(tokens=4))
        before, sockets = server.resident(), server.sockets()
        places, seen = asyncio.Semaphore(32), {"nothing": 0, "waiting": 0, "tokens": 0, "refused": 0}

        async def one(number):
            async with places:
                prompt = " ".join(f"{number} {word}" for word in range(dice.choice([1, 1, 4, 100])))
                try:
                    reader, writer = await opened(server.port, chat(prompt, dice.choice([1, 16, 500])))
                    await asyncio.sleep(dice.choice([0, 0.001, 0.01, 0.1, 0.3, 1]))
                    got = bytes(reader._buffer)
                    seen["nothing" if not got else "refused" if b" 200 " not in got[:20] else
                         "tokens" if got.count(b"data: ") > 1 else "waiting"] += 1
                    writer.transport.abort()
                except OSError:
                    pass

        async def pauses(over):
            while not over.is_set():
                await asyncio.sleep(dice.uniform(0.5, 2))
                await asyncio.to_thread(server.post, "/gogrid/pause", {})
                await asyncio.sleep(dice.uniform(0, 0.3))
                await asyncio.to_thread(server.post, "/gogrid/resume", {})

        over = asyncio.Event()
        pausing = asyncio.create_task(pauses(over))
        await asyncio.gather(*(one(number) for number in range(arguments.count)))
        over.set()
        await pausing
        held = await server.settled()
        got, _ = await answer(server.port, chat(tokens=4))
        left = server.sockets() - sockets
        ok = not any(held.values()) and got.ended and left <= 2
        return ok, {"disconnects": arguments.count, "when": seen, "held": held, "sockets_more": left,
                    "resident_more_mib": round((server.resident() - server.kept() - before) / 2**20, 1)}


async def slow(arguments):
    with Server(arguments.port, "--mode", "aggressive") as server:
        await answer(server.port, chat(tokens=4))
        before = server.resident()
        waiting = []
        for number in range(arguments.count):
            try:
                reader, writer = await opened(server.port, chat(f"{number}", 2))
                # Nothing of it is read.
                reader._transport.pause_reading()
                waiting.append(writer)
            except OSError:
                pass
            if len(waiting) >= 1000:
                waiting.pop(0).transport.abort()
        began = time.perf_counter()
        got, _ = await answer(server.port, chat(tokens=4))
        while got.status == 429:
            # As many as may wait do; none of them is slow in the queue.
            await asyncio.sleep(0.2)
            got, _ = await answer(server.port, chat(tokens=4))
        took = time.perf_counter() - began
        more = server.resident() - server.kept() - before
        for writer in waiting:
            writer.transport.abort()
        held = await server.settled()
        ok = got.ended and not any(held.values())
        return ok, {"slow_clients": arguments.count, "another_took_s": round(took, 2),
                    "held": held, "resident_more_mib": round(more / 2**20, 1)}


async def idle(arguments):
    with Server(arguments.port, "--mode", "aggressive") as server:
        await answer(server.port, chat(tokens=4))
        server.post("/gogrid/pause", {})
        before = server.resident()
        streams = [await opened(server.port, chat("Hello", 2)) for _ in range(arguments.count)]
        first = await asyncio.gather(*(reader.readline() for reader, _ in streams))
        # Signs of life have gone to each of them.
        await asyncio.sleep(12)
        more = server.resident() - before
        admitted = sum(line.split()[1] == b"200" for line in first if line)
        # As many as may wait do: how soon one more is refused.
        refused = []
        for number in range(50):
            sent = time.perf_counter()
            got, _ = await answer(server.port, chat(f"one more {number}", 2))
            refused.append(time.perf_counter() - sent if got.status == 429 else 60)
        for _, writer in streams:
            writer.transport.abort()
        server.post("/gogrid/resume", {})
        held = await server.settled()
        ok = admitted == arguments.count and more <= 64 << 20 and max(refused) <= 0.05 and not any(held.values())
        return ok, {"idle_streams": admitted, "resident_more_mib": round(more / 2**20, 1),
                    "refused_p50_ms": round(1e3 * statistics.median(refused), 2),
                    "refused_max_ms": round(1e3 * max(refused), 2), "held": held}


async def overload(arguments):
    """Ten times as many requests as there are places, at once."""
    with Server(arguments.port, "--mode", "aggressive") as server:
        await answer(server.port, chat(tokens=4))
        alone = [await answer(server.port, chat(str(number), 32)) for number in range(16)]
        # What it makes with as many clients as advance at once, and nobody else.
        began = time.perf_counter()
        calm = await asyncio.gather(*(answer(server.port, chat(f"calm {n}", 32)) for n in range(160)))
        calm_rate = sum(got.tokens for got, _ in calm) / (time.perf_counter() - began)
        began, refused, good = time.perf_counter(), [], []

        async def one(number):
            sent = time.perf_counter()
            got, _ = await answer(server.port, chat(f"{number}", 32))
            if got.status == 429:
                refused.append(time.perf_counter() - sent)
            elif got.ended and not got.failed:
                good.append(got)

        waves = [asyncio.create_task(one(number)) for number in range(arguments.count)]
        await asyncio.gather(*waves)
        rate = sum(got.tokens for got in good) / (time.perf_counter() - began)
        refused.sort()
        late = refused[int(len(refused) * 0.99)] if refused else None
        share = rate / calm_rate
        del alone
        return share >= 0.9, {"requests": arguments.count, "answered": len(good), "refused": len(refused),
                              "refused_p50_ms": round(1e3 * statistics.median(refused), 1) if refused else None,
                              "refused_p99_ms": round(1e3 * late, 1) if late else None,
                              "goodput": round(share, 3)}


async def changes(arguments):
    """The same seeds with limits that change ten times a second, and without."""
    dice = random.Random(arguments.seed)
    bodies = [chat(f"Question {n}", 48, seed=n, temperature=1) for n in range(arguments.count)]
    with Server(arguments.port, "--mode", "aggressive") as server:
        calm = await asyncio.gather(*(answer(server.port, body) for body in bodies))

        async def change(over):
            made = 0
            while not over.is_set():
                limits = {"max_compute_usage_percent": round(dice.uniform(0.3, 0.95), 2),
                          "max_batch_size": dice.randint(1, 16),
                          "max_vram_usage_percent": round(dice.uniform(0.3, 0.95), 2)}
                body = {"limits": limits, "away": limits}
                await asyncio.to_thread(server.post, "/gogrid/settings", body)
                made += 1
                await asyncio.sleep(0.1)
            return made

        over = asyncio.Event()
        changing = asyncio.create_task(change(over))
        restless = await asyncio.gather(*(answer(server.port, body) for body in bodies))
        over.set()
        made = await changing
        same = sum(a.text == b.text and b.ended for (a, _), (b, _) in zip(calm, restless))
        return same == len(bodies), {"requests": len(bodies), "changes": made, "same": same}


async def ends(arguments):
    """SIGTERM while streams run: each ends with a finish reason or an error event."""
    dice = random.Random(arguments.seed)
    finished = told = silent = 0
    for number in range(arguments.count):
        server = Server(arguments.port, "--mode", "aggressive", "--drain", str(dice.choice([0, 0.2, 1])))
        streams = [asyncio.create_task(answer(server.port, chat(f"{n}", dice.choice([8, 64, 900]))))
                   for n in range(8)]
        await asyncio.sleep(dice.uniform(0, 0.5))
        server.process.send_signal(signal.SIGTERM)
        for got, _ in await asyncio.gather(*streams):
            if got.status == 0 or got.status == 503:
                told += 1
            elif got.failed:
                told += 1
            elif got.ended:
                finished += 1
            else:
                silent += 1
        code = await asyncio.to_thread(server.process.wait, 30)
        server.drain.wait()
        if code != 0:
            return False, {"round": number, "exit_code": code}
    return silent == 0, {"ends": arguments.count, "streams_finished": finished, "told": told, "silent": silent}


async def turns(arguments):
    with Server(arguments.port, "--mode", "aggressive") as server:
        ratios, times = [], []
        for number in range(arguments.count):
            words = " ".join(f"w{number}x{n % 97}" for n in range(380))
            messages = [{"role": "user", "content": f"{words}\nWhat is this about?"}]

            async def turn():
                body = {"messages": messages, "max_tokens": 24, "stream": True, "temperature": 0}
                got, began = await answer(server.port, body)
                return got, got.first - began

            first, took = await turn()
            messages += [{"role": "assistant", "content": first.text}, {"role": "user", "content": "And then?"}]
            _, again = await turn()
            whole = server.post("/v1/chat/completions", {"messages": messages, "max_tokens": 1})
            times.append((took, again, whole["usage"]["prompt_tokens"]))
            ratios.append(again / took)
        ratio = statistics.median(ratios)
        return ratio <= 0.1, {"prompt_tokens": times[0][2], "second_over_first": round(ratio, 4),
                              "first_s": round(statistics.median(t[0] for t in times), 4),
                              "second_s": round(statistics.median(t[1] for t in times), 4)}


def a_prompt(tokens, number):
    """Some words, another each time, so that nothing of it is known."""
    return " ".join([f"n{number}"] + ["word"] * max(1, tokens - 8))


async def at_once(port, clients, tokens, number):
    bodies = [chat(a_prompt(tokens, f"{number}c{c}"), 64, temperature=0) for c in range(clients)]
    began = time.perf_counter()
    got = await asyncio.gather(*(answer(port, body) for body in bodies))
    firsts = [one.first - sent for one, sent in got if one.first]
    made = sum(one.tokens for one, _ in got)
    return made / (time.perf_counter() - began), statistics.median(firsts)


async def speed(arguments):
    found = {}
    with Server(arguments.port, "--mode", "aggressive") as server:
        ports = {"gogrid": server.port}
        if arguments.peer:
            ports["peer"] = int(arguments.peer.rsplit(":", 1)[1].strip("/"))
        for port in ports.values():
            await at_once(port, 1, 16, "warm")
        for clients in [1, 4, 16]:
            for tokens in [16, 512]:
                rows = {name: [] for name in ports}
                for number in range(arguments.count):
                    for name, port in ports.items():
                        rows[name].append(await at_once(port, clients, tokens, f"{number}x{clients}x{tokens}"))
                row = {name: {"tok_s": rounded(statistics.median(r for r, _ in all_)),
                              "first_s": rounded(statistics.median(f for _, f in all_), 4)}
                       for name, all_ in rows.items()}
                if arguments.peer:
                    pairs = list(zip(rows["gogrid"], rows["peer"]))
                    row["tok_s_ratio"] = rounded(statistics.median(a[0] / b[0] for a, b in pairs), 3)
                    row["first_ratio"] = rounded(statistics.median(a[1] / b[1] for a, b in pairs), 3)
                found[f"{clients} clients, {tokens} tokens"] = row
    return True, found


def rounded(value, digits=1):
    return round(value, digits)


COMMANDS = {"disconnects": (disconnects, 10_000), "slow": (slow, 5_000), "idle": (idle, 1_024),
            "overload": (overload, 11_000), "changes": (changes, 64), "ends": (ends, 500),
            "turns": (turns, 5), "speed": (speed, 3)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--count", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--port", type=int, default=18800)
    parser.add_argument("--peer", help="llama-server's address, http://127.0.0.1:PORT")
    arguments = parser.parse_args()
    run, count = COMMANDS[arguments.command]
    arguments.count = arguments.count or count
    began = time.perf_counter()
    ok, found = asyncio.run(run(arguments))
    found["seconds"] = round(time.perf_counter() - began, 1)
    print(json.dumps({"ok": ok, "check": arguments.command, **found}))
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
