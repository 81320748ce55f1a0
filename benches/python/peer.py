"""Measures one case of a suite with CPython's own multiprocessing, in the way that suits it best.

python3 peer.py CASE [--quick], prints `value NUMBER` and perhaps `note TEXT`, as the measuring programs beside it do.
"""

import mmap
import multiprocessing
import os
import statistics
import sys
import time
from multiprocessing import shared_memory

QUICK = "--quick" in sys.argv
BUDGET = 0.3 if QUICK else 1.0
# The fastest start method of CPython on Linux.
CONTEXT = multiprocessing.get_context("fork")
MILLION = 1_000_000
BIG = 256 << 20


def sample(call):
    """The median of the values of calls, at least three, that follow one or two which warm up."""
    start = time.perf_counter()
    call()
    if time.perf_counter() - start < BUDGET / 8:
        call()
    values, end = [], time.perf_counter() + BUDGET
    while len(values) < 3 or time.perf_counter() < end:
        values.append(call())
    return statistics.median(values)


def microseconds(call):
    def timed():
        start = time.perf_counter()
        call()
        return (time.perf_counter() - start) * 1e6

    return sample(timed)


def nothing():
    pass


def start_join():
    def call():
        child = CONTEXT.Process(target=nothing)
        child.start()
        child.join()
        assert child.exitcode == 0

    return microseconds(call)


def start_join_1gib():
    memory = mmap.mmap(-1, 1 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    for offset in range(0, 1 << 30, 4096):
        memory[offset] = 1
    return start_join()


def trivial(number):
    return (number * 3) ^ 0x55


def create():
    def call():
        pool = CONTEXT.Pool(2)
        assert pool.apply(trivial, (1,)) == trivial(1)
        pool.close()
        pool.join()

    return microseconds(call)


def map_in_chunks(chunk, count):
    if count != MILLION:
        print(f"note {count} tasks a call, not 1 M: it is too slow")
    numbers = range(count)
    expected = [trivial(number) for number in numbers]
    with CONTEXT.Pool(2) as pool:

        def call():
            start = time.perf_counter()
            results = pool.map(trivial, numbers, chunksize=chunk)
            seconds = time.perf_counter() - start
            assert results == expected
            return count / seconds

        return sample(call)


def check_bytes(value):
    return len(value), value[123_456_789]


def arg_256mib():
    value = bytearray(b"\x07") * BIG
    with CONTEXT.Pool(2) as pool:

        def call():
            assert pool.apply(check_bytes, (value,)) == (BIG, 7)

        return microseconds(call)


def check_segment(name):
    segment = shared_memory.SharedMemory(name=name)
    try:
        return len(segment.buf), segment.buf[123_456_789]
    finally:
        segment.close()


def inplace_256mib():
    segment = shared_memory.SharedMemory(create=True, size=BIG)
    try:
        segment.buf[:] = bytes([7]) * BIG
        with CONTEXT.Pool(2) as pool:

            def call():
                assert pool.apply(check_segment, (segment.name,)) == (BIG, 7)

            return microseconds(call)
    finally:
        segment.close()
        segment.unlink()


def proportional_size(pid):
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        return next(int(line.split()[1]) / 1024 for line in rollup if line.startswith("Pss:"))


def process_number(_):
    # Long enough that each worker takes one.
    time.sleep(0.05)
    return os.getpid()


def worker_memory():
    with CONTEXT.Pool(4) as pool:
        workers = set(pool.map(process_number, range(8), chunksize=1))
        assert len(workers) == 4, workers
        return statistics.mean(proportional_size(worker) for worker in workers)


# A message is its number and a tail that is the same in all; an empty one ends.
END = b""


def pinned(which):
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpus[which % len(cpus)]})


def produce(which, queue, tail, turns, stop, total):
    pinned(which)
    for turn in iter(turns.get, None):
        number = 0
        while stop.value < turn:
            # Written anew for each message, as a Rust producer writes its own.
            queue.put(number.to_bytes(8, "little") + tail)
            number += 1
        queue.put(END)
        total.put((number, number * (number - 1) // 2))


def consume(which, queue, tail, turns, total):
    pinned(which)
    for _ in iter(turns.get, None):
        count, numbers = 0, 0
        for message in iter(queue.get, END):
            # Compares every byte.
            assert len(message) == 8 + len(tail) and message.endswith(tail)
            numbers += int.from_bytes(message[:8], "little")
            count += 1
        total.put((count, numbers, time.perf_counter()))


def queue_rate(pairs, size, capacity):
    queue = CONTEXT.Queue(capacity)
    tail = b"\x07" * (size - 8)
    stop = CONTEXT.Value("q", 0, lock=False)
    turns = [CONTEXT.SimpleQueue() for _ in range(2 * pairs)]
    sent, received = CONTEXT.SimpleQueue(), CONTEXT.SimpleQueue()
    children = [
        CONTEXT.Process(target=produce, args=(which, queue, tail, turns[which], stop, sent)) for which in range(pairs)
    ]
    children += [
        CONTEXT.Process(target=consume, args=(which, queue, tail, turns[which], received))
        for which in range(pairs, 2 * pairs)
    ]
    for child in children:
        child.start()
    windows, length = (4, 0.025) if QUICK else (8, 0.06)
    rates = []
    for window in range(1, windows + 2):
        start = time.perf_counter()
        for turn in turns:
            turn.put(window)
        time.sleep(length)
        stop.value = window
        ours = [sent.get() for _ in range(pairs)]
        theirs = [received.get() for _ in range(pairs)]
        count = sum(result[0] for result in theirs)
        assert count == sum(result[0] for result in ours)
        assert sum(result[1] for result in theirs) == sum(result[1] for result in ours)
        # The first window warms up.
        if window > 1:
            rates.append(count / (max(result[2] for result in theirs) - start))
    for turn in turns:
        turn.put(None)
    for child in children:
        child.join()
        assert child.exitcode == 0
    return statistics.median(rates)


def create_queue():
    def call():
        for _ in range(20):
            queue = CONTEXT.Queue(100)
            queue.close()
            queue.join_thread()

    return microseconds(call) / 20


def queue_memory():
    queues, count = [], 100
    before = proportional_size("self")
    for number in range(count):
        queue = CONTEXT.Queue(100)
        queue.put(number)
        assert queue.get() == number
        queues.append(queue)
    return (proportional_size("self") - before) / count


RATES = {
    f"queue/{pairs}x{pairs}/{name}": (pairs, size, capacity)
    for pairs in (1, 2, 4)
    for name, size, capacity in (("8B", 8, 1024), ("64B", 64, 1024), ("4KiB", 4096, 1024), ("1MiB", 1 << 20, 8))
}

CASES = {
    "process/start_join": start_join,
    "process/start_join_1gib": start_join_1gib,
    "pool/create": create,
    "pool/map_chunk1": lambda: map_in_chunks(1, 10_000 if QUICK else 50_000),
    "pool/map_chunk16": lambda: map_in_chunks(16, 100_000 if QUICK else 500_000),
    "pool/map_default": lambda: map_in_chunks(None, MILLION),
    "value/arg_256MiB": arg_256mib,
    "value/inplace_256MiB": inplace_256mib,
    "queue/create": create_queue,
    "memory/worker": worker_memory,
    "memory/queue": queue_memory,
}
CASES.update((name, lambda shape=shape: queue_rate(*shape)) for name, shape in RATES.items())

if __name__ == "__main__":
    print("value", CASES[sys.argv[1]]())
