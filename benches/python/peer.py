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


def process_number(_):
    # Long enough that each worker takes one.
    time.sleep(0.05)
    return os.getpid()


def worker_memory():
    with CONTEXT.Pool(4) as pool:
        workers = set(pool.map(process_number, range(8), chunksize=1))
        assert len(workers) == 4, workers
        sizes = []
        for worker in workers:
            with open(f"/proc/{worker}/smaps_rollup") as rollup:
                sizes += [int(line.split()[1]) / 1024 for line in rollup if line.startswith("Pss:")]
        assert len(sizes) == 4
        return statistics.mean(sizes)


CASES = {
    "process/start_join": start_join,
    "process/start_join_1gib": start_join_1gib,
    "pool/create": create,
    "pool/map_chunk1": lambda: map_in_chunks(1, 10_000 if QUICK else 50_000),
    "pool/map_chunk16": lambda: map_in_chunks(16, 100_000 if QUICK else 500_000),
    "pool/map_default": lambda: map_in_chunks(None, MILLION),
    "value/arg_256MiB": arg_256mib,
    "value/inplace_256MiB": inplace_256mib,
    "memory/worker": worker_memory,
}

if __name__ == "__main__":
    print("value", CASES[sys.argv[1]]())
