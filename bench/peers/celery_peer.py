"""Celery 5 on Redis: the application, and (as a program) what pushes to it. Prints one JSON line."""
import json, os, sys, time
from concurrent.futures import ThreadPoolExecutor

import redis
from celery import Celery, group
from celery.signals import worker_ready

URL = os.environ["PEER_REDIS_URL"]
app = Celery("peer", broker=URL)
# Acknowledged after the run: a killed worker's job comes back, as ours does.
app.conf.update(task_ignore_result=True, task_acks_late=True, worker_hijack_root_logger=False)
samples = redis.Redis.from_url(URL)


@worker_ready.connect
def tell(**_):
    print("peer ready", flush=True)


@app.task(name="noop")
def noop(note="", sleep_ms=0):
    if sleep_ms:
        time.sleep(sleep_ms / 1000)


@app.task(name="stamp")
def stamp(called):
    samples.rpush("bench:samples", (time.time() - called) * 1000)


def bulk(count, sleep_ms=0):
    for start in range(0, count, 1000):
        step = min(1000, count - start)
        group(noop.s(str(n), sleep_ms) for n in range(step)).apply_async()


def pace(rate, seconds):
    begin = time.time()
    for n in range(rate * seconds):
        time.sleep(max(0, begin + n / rate - time.time()))
        stamp.delay(time.time())


def main(command, *numbers):
    numbers = [int(n) for n in numbers]
    with app.producer_or_acquire() as producer:
        producer.connection.ensure_connection()
    wall, cpu = time.perf_counter(), time.process_time()
    if command == "push":
        count, threads = numbers
        if threads == 1:
            for n in range(count):
                noop.delay(str(n))
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(lambda n: noop.delay(str(n)), range(count)))
    elif command == "bulk":
        bulk(*numbers)
    elif command == "pace":
        pace(*numbers)
    print(json.dumps({"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}))


if __name__ == "__main__":
    main(*sys.argv[1:])
